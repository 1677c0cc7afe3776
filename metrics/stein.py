"""Kernel Stein discrepancy: needs the score of the target and no truth draws, and hardly sees mode weights."""

from torch import Tensor

from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_points, known, squared_distances, upper_tiles

SPACINGS = (
    10  # c of `ksd` in units of the truth's nearest-neighbour spacing: wide enough to see, narrow enough to judge
)
BLIND_TO = "weights of separated modes, lost modes"


def squared_ksd(x: Tensor, score: Tensor, *, c: float) -> float:
    """Unbiased estimate of the squared kernel Stein discrepancy, inverse multiquadric kernel (a U-statistic).

    With k(x, y) = (c^2 + |x - y|^2)^(-1/2), q = c^2 + |x - y|^2, s the score at x and t the score at y, the Stein
    kernel is q^(-1/2) s.t + q^(-3/2) [(s - t).(x - y) + dim] - 3 q^(-5/2) |x - y|^2.

    Args:
        x: samples of shape ``(n, dim)``; not modified. Memory stays O(n).
        score: gradient of the target's ``log_prob`` at ``x``, same shape.
        c: width of the kernel, in the unit of ``x``.
    Returns:
        Estimate in the unit 1 / x^3; zero in expectation when ``x`` has the target's law, and it may be negative.
    Raises:
        ValueError: if the shapes differ, there are fewer than 2 rows, something is not finite, or c is not positive.
    Reference: Gorham and Mackey, Measuring sample quality with kernels, ICML 2017.
    """
    x, score = as_points(x, "x"), as_points(score, "score")
    if x.shape != score.shape:
        raise ValueError(f"score must have the shape of x, {tuple(x.shape)}, got {tuple(score.shape)}")
    if not c > 0:
        raise ValueError(f"c must be positive, got {c}")
    n, dim = x.shape
    x = x - x.median(0).values
    own = (score * x).sum(-1)
    total = 0.0
    for rows, columns in upper_tiles(n):
        squared = squared_distances(x[rows], x[columns])
        products = score[rows] @ score[columns].T
        slopes = own[rows, None] + own[columns] - score[rows] @ x[columns].T - x[rows] @ score[columns].T
        inverse = (squared + c**2).reciprocal_()
        stein = inverse.sqrt() * (products + inverse * (slopes + dim - 3 * squared * inverse))
        if rows == columns:
            stein.fill_diagonal_(0.0)
        total += stein.sum().item() * (1 if rows == columns else 2)  # the Stein kernel is symmetric
    return total / (n * (n - 1))


@register_metric("ksd", version=1, needs=("score", "spacing"), unit="1 / x^3", blind_to=BLIND_TO, null="centred")
def ksd(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Squared kernel Stein discrepancy, inverse multiquadric of width 10 nearest-neighbour spacings of the truth."""
    return {"ksd": _squared_ksd(draws, truth, c=SPACINGS * known(truth.spacing, "spacing"))}


@register_metric("ksd_paper", version=1, needs=("score",), unit="1 / x^3", blind_to=BLIND_TO, null="centred")
def ksd_paper(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Squared kernel Stein discrepancy, inverse multiquadric of width 1, as published for neural samplers."""
    return {"ksd_paper": _squared_ksd(draws, truth, c=1.0)}


def _squared_ksd(draws: Draws, truth: Truth, *, c: float) -> float:
    x = as_points(draws.samples, "draws")
    return squared_ksd(x, known(truth.score, "score")(x), c=c)
