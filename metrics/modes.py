"""Mode metrics: which modes the draws visit, and with which weights."""

import math

import torch
from torch import Tensor

from ..targets.base import Modes
from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_points, known

FOUND_SHARE = 0.25  # a mode counts when it holds at least this share of its mass
MIN_EXPECTED = 20  # modes in which exact draws would leave fewer points are not asked for


def mode_shares(x: Tensor, modes: Modes) -> Tensor:
    """Share of the points in each mode.

    Args:
        x: points, shape ``(n, dim)``.
        modes: assignment of points to modes.
    Returns:
        Float64 of shape ``(n_modes + 1,)``; the last is the share outside all modes.
    Raises:
        ValueError: if there are fewer than 2 points or they are not finite.
    """
    n_modes = len(modes.masses)
    index = modes.assign(as_points(x, "x"))
    inside_first = torch.where(index < 0, n_modes, index)
    return torch.bincount(inside_first, minlength=n_modes + 1).to(torch.float64) / len(x)


def total_variation(shares: Tensor, masses: Tensor) -> float:
    """Total variation between mode shares and masses, the outside included.

    Args:
        shares: shape ``(n_modes + 1,)``, the outside last.
        masses: of the modes under the law, shape ``(n_modes,)``; the outside has the rest.
    Returns:
        Number between 0 and 1.
    """
    return 0.5 * (shares - _with_outside(masses.to(shares))).abs().sum().item()


def count_found(shares: Tensor, masses: Tensor, n_samples: int) -> tuple[int, int]:
    """How many modes were found and how many were asked for.

    Args:
        shares: shape ``(n_modes + 1,)``, the outside last.
        masses: of the modes under the law, shape ``(n_modes,)``.
        n_samples: number of points behind the shares; modes with a mass below 20 / n_samples are not asked for.
    Returns:
        Modes asked for that hold at least a quarter of their mass, and modes asked for.
    """
    found, asked = _which_found(shares, masses.to(shares), n_samples)
    return int(found.sum()), int(asked.sum())


def rarest_found(shares: Tensor, masses: Tensor, n_samples: int) -> tuple[float, float]:
    """Mass of the rarest mode that was found, and of the rarest that was asked for.

    Args:
        shares, masses, n_samples: as in ``count_found``.
    Returns:
        Masses under the law, not shares of the draws; nan where no mode was found, or none asked for.
    """
    masses = masses.to(shares)
    found, asked = _which_found(shares, masses, n_samples)
    return _least(masses[found]), _least(masses[asked])


def _least(masses: Tensor) -> float:
    return masses.min().item() if len(masses) else math.nan


def _which_found(shares: Tensor, masses: Tensor, n_samples: int) -> tuple[Tensor, Tensor]:
    """Which modes were asked for and found, and which were asked for; booleans, shape ``(n_modes,)``."""
    asked = masses * n_samples >= MIN_EXPECTED
    return asked & (shares[:-1] >= FOUND_SHARE * masses), asked


def entropic_coverage(shares: Tensor) -> float:
    """Entropy of the histogram over the modes in units of its largest value, log K.

    Args:
        shares: shape ``(K + 1,)``; the last, outside all modes, does not count, and the others are normalised.
    Returns:
        Number between 0 and 1: 1 for equal shares; 0 if all points are in one mode, or none in any; nan for K = 1.
    Reference: Blessing et al., Beyond ELBOs, ICML 2024, section 4.
    """
    n_modes = len(shares) - 1
    inside = shares[:-1].sum()
    if n_modes == 1:
        return math.nan
    return _entropy(shares[:-1] / inside) / math.log(n_modes) if inside > 0 else 0.0


def jensen_shannon(shares: Tensor, masses: Tensor) -> float:
    """Jensen-Shannon divergence between mode shares and masses in nats, the outside included.

    Args:
        shares, masses: as in ``total_variation``.
    Returns:
        Number between 0 and log 2.
    """
    masses = _with_outside(masses.to(shares))
    divergence = _entropy(0.5 * (shares + masses)) - 0.5 * (_entropy(shares) + _entropy(masses))
    return min(max(divergence, 0.0), math.log(2))


def _with_outside(masses: Tensor) -> Tensor:
    """Masses with that outside all modes behind them."""
    return torch.cat([masses, (1 - masses.sum()).clamp(min=0)[None]])


def _entropy(probabilities: Tensor) -> float:
    """In nats."""
    return -torch.xlogy(probabilities, probabilities).sum().item()


@register_metric("mode_tv", version=1, needs=("modes",), unit="1", blind_to="the shape inside a mode")
def mode_tv(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Total variation between the draws' mode weights and the true ones, mass outside all modes included."""
    modes = known(truth.modes, "modes")
    return {"mode_tv": total_variation(mode_shares(draws.samples, modes), modes.masses)}


@register_metric(
    "modes_found",
    version=1,
    needs=("modes",),
    unit="modes",
    blind_to="shapes, and weights above a quarter of the true ones",
    direction="higher",
    null=None,
    outputs=("modes_found", "modes_asked", "rarest_found", "rarest_asked"),
)
def modes_found(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Modes that hold at least a quarter of their mass; modes_asked says how many were asked for.

    rarest_found is the mass under the law of the rarest mode found, rarest_asked of the rarest asked for; nan if none.
    """
    modes, n = known(truth.modes, "modes"), len(draws.samples)
    shares = mode_shares(draws.samples, modes)
    found, asked = count_found(shares, modes.masses, n)
    rarest, rarest_asked = rarest_found(shares, modes.masses, n)
    counts = {"modes_found": float(found), "modes_asked": float(asked)}
    return {**counts, "rarest_found": rarest, "rarest_asked": rarest_asked}


@register_metric(
    "mode_recall",
    version=1,
    needs=("modes",),
    unit="1",
    blind_to="shapes, and weights above a quarter of the true ones",
    direction="higher",
    null=None,
)
def mode_recall(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Share of the modes asked for that were found; nan if the draws are too few to ask for any."""
    found, asked = _found_and_asked(draws, truth)
    return {"mode_recall": found / asked if asked else math.nan}


@register_metric(
    "emc",
    version=1,
    needs=("modes",),
    unit="1",
    blind_to="shapes, which mode has which share, points outside all modes",
    direction=None,
    null=None,
    outputs=("emc", "emc_exact"),
)
def emc(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Entropic mode coverage: entropy of the draws' mode histogram over log K; emc_exact is that of the true masses."""
    modes = known(truth.modes, "modes")
    exact = _with_outside(modes.masses.to(torch.float64))
    return {"emc": entropic_coverage(mode_shares(draws.samples, modes)), "emc_exact": entropic_coverage(exact)}


@register_metric(
    "mode_js",
    version=1,
    needs=("modes",),
    unit="1",
    blind_to="the shape inside a mode",
    direction="higher",
    null=None,
)
def mode_js(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """1 less the Jensen-Shannon divergence, over log 2, between the draws' mode weights and the true ones."""
    modes = known(truth.modes, "modes")
    return {"mode_js": 1 - jensen_shannon(mode_shares(draws.samples, modes), modes.masses) / math.log(2)}


def _found_and_asked(draws: Draws, truth: Truth) -> tuple[int, int]:
    modes = known(truth.modes, "modes")
    return count_found(mode_shares(draws.samples, modes), modes.masses, len(draws.samples))
