"""Convergence diagnostics of chains, by arviz."""

import math
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from torch import Tensor

from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import known

MIN_KEPT = 4  # a chain is split in halves of at least two draws


def worst_rhat(chains: Tensor) -> float:
    """Largest rank-normalised split R-hat over the coordinates.

    Args:
        chains: shape ``(n_chains, n_kept, dim)``.
    Returns:
        Number without unit; nan if some coordinate never moves.
    Raises:
        ValueError: if there are fewer than 2 chains, fewer than 4 draws each, or they are not finite.
    Reference: Vehtari et al., Bayesian Anal. 16 (2021).
    """
    return float(np.max(_per_coordinate(chains, "rhat", "rank")))


def smallest_ess(chains: Tensor, method: Literal["bulk", "tail"] = "bulk") -> float:
    """Smallest effective sample size over the coordinates, all chains together.

    Args:
        chains: shape ``(n_chains, n_kept, dim)``.
        method: "bulk" of the rank-normalised draws; "tail" the smaller one of the 5% and the 95% quantile.
    Returns:
        Number of draws; nan if some coordinate never moves (arviz would call every draw of it effective).
    Raises:
        ValueError: as ``worst_rhat``.
    """
    sizes = _per_coordinate(chains, "ess", method)
    moves = (chains != chains[:1, :1]).any(0).any(0)
    return float(np.min(sizes)) if moves.all() else math.nan


def _per_coordinate(chains: Tensor, statistic: Literal["rhat", "ess"], method: str) -> np.ndarray:
    if chains.ndim != 3 or chains.shape[0] < 2 or chains.shape[1] < MIN_KEPT or chains.shape[2] < 1:
        raise ValueError(
            f"chains must have shape (n_chains, n_kept, dim) with n_chains >= 2, n_kept >= {MIN_KEPT} and dim >= 1, "
            f"got {tuple(chains.shape)}"
        )
    if not chains.isfinite().all():
        raise ValueError("chains must be finite, got NaN or infinite coordinates")
    values = chains.detach().double().cpu().numpy()
    function = _arviz(statistic)
    with np.errstate(invalid="ignore"):  # a coordinate that never moves has 0 / 0, which is nan here
        return np.array([function(values[:, :, i], method=method) for i in range(values.shape[-1])])


def _arviz(statistic: Literal["rhat", "ess"]) -> Callable[..., float]:
    """The function of arviz, which splits every chain in halves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # an announcement at every import
        import arviz  # slow to import
    function: Callable[..., float] = getattr(arviz, statistic)
    return function


@register_metric(
    "rhat",
    version=1,
    needs=("chains",),
    unit="1",
    blind_to="modes that no chain found",
    null=None,
)
def rhat(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Rank-normalised split R-hat of the worst coordinate."""
    return {"rhat": worst_rhat(known(draws.chains, "chains"))}


@register_metric(
    "ess_bulk",
    version=1,
    needs=("chains",),
    unit="draws",
    blind_to="modes that no chain found, bias",
    direction="higher",
    null=None,
)
def ess_bulk(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Bulk effective sample size of the worst coordinate, over all kept draws of all chains."""
    return {"ess_bulk": smallest_ess(known(draws.chains, "chains"))}


@register_metric(
    "ess_tail",
    version=1,
    needs=("chains",),
    unit="draws",
    blind_to="modes that no chain found, bias",
    direction="higher",
    null=None,
)
def ess_tail(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Effective sample size of the 5% or 95% quantile of the worst coordinate, over all kept draws of all chains."""
    return {"ess_tail": smallest_ess(known(draws.chains, "chains"), "tail")}
