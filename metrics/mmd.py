"""Maximum mean discrepancy with Gaussian kernels of seven widths."""

from torch import Tensor

from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_two_samples, both_in_view, known, squared_distances, tiles, upper_tiles

N_BANDWIDTHS = 7  # 2^-6, ..., 1/2, 1 of the widest


def squared_mmd(x: Tensor, y: Tensor, *, bandwidth: float, n_bandwidths: int = N_BANDWIDTHS) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy (a U-statistic; it may be negative).

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), where k is the mean over j of exp(-|a - b|^2 / (2 h_j^2)),
    h_j = 2^-j bandwidth. Narrow kernels matter: wide ones alone miss a doubled width inside the modes.

    Args:
        x, y: samples of shapes ``(n, dim)`` and ``(m, dim)``; not modified. Memory stays O(n + m).
        bandwidth: of the widest kernel, in the unit of ``x``; it must not depend on the sampler being judged.
        n_bandwidths: number of kernels.
    Returns:
        Estimate without unit, at most 2; zero in expectation when both samples have the same law.
    Raises:
        ValueError: if the dimensions differ, a sample has fewer than 2 rows or is not finite, or a bandwidth or
            the number of bandwidths is not positive.
    Reference: Gretton et al., A kernel two-sample test, JMLR 13 (2012), lemma 6.
    """
    x, y = as_two_samples(x, y, same_size=False)
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")
    if n_bandwidths < 1:
        raise ValueError(f"n_bandwidths must be at least 1, got {n_bandwidths}")
    centre = y.mean(0)
    x, y = (x - centre) / bandwidth, (y - centre) / bandwidth
    n, m = len(x), len(y)
    within_x = _sum_within(x, n_bandwidths) / (n * (n - 1))
    within_y = _sum_within(y, n_bandwidths) / (m * (m - 1))
    between = sum(_sum(squared_distances(x[rows], y[columns]), n_bandwidths) for rows, columns in tiles(n, m))
    return within_x + within_y - 2 * between / (n * m)


def _sum_within(x: Tensor, n_bandwidths: int) -> float:
    """Sum of k(x_i, x_j) over i != j."""
    total = 0.0
    for rows, columns in upper_tiles(len(x)):
        squared = squared_distances(x[rows], x[columns])
        if rows == columns:
            squared.fill_diagonal_(float("inf"))  # k(x_i, x_i) does not count
        total += _sum(squared, n_bandwidths) * (1 if rows == columns else 2)
    return total


def _sum(squared: Tensor, n_bandwidths: int) -> float:
    """Sum of the mean of the kernels, from squared distances in units of the bandwidth, which it overwrites.

    A kernel of half the width is the fourth power.
    """
    power = squared.mul_(-0.5).exp_()
    total = power.sum()
    for _ in range(n_bandwidths - 1):
        total = total + power.square_().square_().sum()
    return total.item() / n_bandwidths


@register_metric(
    "mmd2",
    version=1,
    needs=("samples", "bandwidth"),
    unit="1",
    blind_to="far tails",
    null="centred",
)
def mmd2(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Unbiased squared MMD in the view, Gaussian kernels of seven widths up to the truth's median distance."""
    x, y = both_in_view(draws, truth)
    return {"mmd2": squared_mmd(x, y, bandwidth=known(truth.bandwidth, "bandwidth"))}
