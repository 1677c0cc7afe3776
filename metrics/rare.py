"""Rare modes: whether enough draws find them, how many draws it takes, and whether their weights are right."""

import math

import torch
from torch import Tensor

from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_points, known

EXPECTED_HITS = 20  # of the rarest mode, in as many draws as the recall is taken over
MIN_HITS = 5  # a mode counts from here: a quarter of what is expected of the rarest


def n_for_rarest(masses: Tensor) -> int:
    """20 / w_min to two digits: as many draws as leave about 20 in the rarest mode (200,000 for a weight of 1e-4).

    Args:
        masses: of the modes under the law, positive, shape ``(n_modes,)``. Two digits, because the region of a mode
            holds 99.9% of it: a weight of 1e-4 is a mass of 0.999e-4.
    """
    return round(float(f"{EXPECTED_HITS / masses.min().item():.1e}"))


def share_recalled(index: Tensor, n_modes: int) -> float:
    """Share of the modes with at least 5 points.

    Args:
        index: mode of every point, -1 outside all, shape ``(n,)``.
        n_modes: number of modes.
    """
    counts = index[index >= 0].bincount(minlength=n_modes)
    return (counts >= MIN_HITS).double().mean().item()


def draws_to_first(hits: Tensor) -> tuple[int, bool]:
    """Number of draws up to the first hit, itself included, and whether it is censored.

    Args:
        hits: booleans, shape ``(n,)``, in the order of the draws.
    Returns:
        n and True if there is no hit: the true number is larger.
    """
    found = hits.nonzero()
    return (int(found[0]) + 1, False) if len(found) else (len(hits), True)


def mean_first_hit(mass: float, n_samples: int) -> float:
    """E min(T, n) = (1 - (1 - w)^n) / w of T geometric: draws of mass w to the first hit, right-censored at n."""
    return -math.expm1(n_samples * math.log1p(-mass)) / mass if mass < 1 else 1.0


def log_weight_ratios(index: Tensor, masses: Tensor) -> Tensor:
    """log((hits + 1/2) / (n w + 1/2)) of every mode: the share found over the true one, in nats.

    The halves keep a mode without any hit finite, and as far off as n allows to say: of a mode in which 20 hits are
    expected -3.7, of one with 20,000 expected -10.6.

    Args:
        index: mode of every point, -1 outside all, shape ``(n,)``.
        masses: w of the modes under the law, shape ``(n_modes,)``.
    Returns:
        Float64 of shape ``(n_modes,)``; below 0 where there are too few.
    """
    hits = index[index >= 0].bincount(minlength=len(masses)).to(torch.float64)
    return ((hits + 0.5) / (len(index) * masses.to(hits) + 0.5)).log()


def _enough(truth: Truth) -> int:
    return n_for_rarest(known(truth.modes, "modes").masses)


@register_metric(
    "rare_recall",
    version=1,
    needs=("modes",),
    unit="1",
    blind_to="shapes, and weights of all but the rarest modes: 5 hits are enough for any",
    direction="higher",
    null=None,
    min_draws=_enough,
)
def rare_recall(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Share of the modes with at least 5 of the first 20 / w_min draws, w_min the smallest mass; fewer draws: nan."""
    modes = known(truth.modes, "modes")
    x = as_points(draws.samples, "draws")[: _enough(truth)]
    return {"rare_recall": share_recalled(modes.assign(x), len(modes.masses))}


@register_metric(
    "first_hit",
    version=1,
    needs=("modes",),
    unit="draws",
    blind_to="everything but the rarest mode (the first of equals); one number per run, as spread as its mean",
    null=None,
    outputs=("first_hit", "first_hit_exact", "first_hit_censored"),
)
def first_hit(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Draws to the first in the rarest mode; n, with first_hit_censored 1, if none of n is there.

    first_hit_exact is what independent exact draws take on average, censored at the same n: with n far below 1 / w_min
    both are near n, and nothing is learnt. Draws are taken in the order given, which evaluation has permuted.
    """
    modes = known(truth.modes, "modes")
    x = as_points(draws.samples, "draws")
    rarest = int(modes.masses.argmin())
    n_draws, censored = draws_to_first(modes.assign(x) == rarest)
    exact = mean_first_hit(modes.masses[rarest].item(), len(x))
    return {"first_hit": float(n_draws), "first_hit_exact": exact, "first_hit_censored": float(censored)}


@register_metric(
    "rare_weight_error",
    version=1,
    needs=("modes",),
    unit="nats",
    blind_to="shapes; and it counts a big mode no more than a rare one",
    outputs=("rare_weight_error", "rarest_log_ratio"),
    min_draws=_enough,
)
def rare_weight_error(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Mean over the modes of |log(found / true weight)|, rare ones as much as big ones; fewer than 20 / w_min: nan.

    Whoever acts on how often something rare happens asks for its rate up to a factor, where ``mode_tv`` says how much
    mass is wrong: without a mode of 1e-4 it changes by 1e-4, and this by 3.7 over the number of modes. Both counts have
    1/2 added, see ``log_weight_ratios``. rarest_log_ratio is that of the rarest mode (the first of equals), signed.
    """
    modes = known(truth.modes, "modes")
    ratios = log_weight_ratios(modes.assign(as_points(draws.samples, "draws")), modes.masses)
    rarest = int(modes.masses.argmin())
    return {"rare_weight_error": ratios.abs().mean().item(), "rarest_log_ratio": ratios[rarest].item()}
