"""Modes of product laws: every coordinate has two wells, and the modes, all patterns of them, cannot be counted."""

import torch
from torch import Tensor

from ..targets.base import Wells
from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_points, known


def well_errors(x: Tensor, wells: Wells) -> Tensor:
    """Error of the weight of every well: the total variation between its two shares and their masses.

    Args:
        x: points, shape ``(n, dim)``.
        wells: which coordinates have wells, and their masses.
    Returns:
        |share in the right well - its mass|, float64, shape ``(n_wells,)``.
    Raises:
        ValueError: if there are fewer than 2 points or they are not finite.
    """
    share = wells.right(as_points(x, "x")).to(torch.float64).mean(0)
    return (share - wells.masses.to(share)).abs()


def count_patterns(x: Tensor, wells: Wells) -> int:
    """Number of different patterns of wells among the points ``(n, dim)``; ValueError as ``well_errors``."""
    return len(torch.unique(wells.right(as_points(x, "x")), dim=0))


@register_metric(
    "well_error",
    version=1,
    needs=("wells",),
    unit="1",
    blind_to="shapes, and dependence between the wells",
    outputs=("well_error", "well_error_mean"),
)
def well_error(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Largest error of a well's weight in a product of double wells; well_error_mean averages over the wells."""
    errors = well_errors(draws.samples, known(truth.wells, "wells"))
    return {"well_error": errors.max().item(), "well_error_mean": errors.mean().item()}


@register_metric(
    "joint_modes",
    version=1,
    needs=("wells", "samples"),
    unit="1",
    blind_to="shapes, and weights of the modes; with more modes than draws, nearly everything",
    direction="higher",
    null=None,
    outputs=("joint_modes", "joint_modes_found", "joint_modes_exact"),
)
def joint_modes(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Modes of a product of double wells that the draws visit, over those that as many exact draws visit; both counts.

    About 1 on exact draws, which find only some of the modes: half of the 256 of many_well16 at n = 2,000.
    """
    wells = known(truth.wells, "wells")
    exact = known(truth.samples, "samples")
    if len(exact) != len(draws.samples):
        raise ValueError(f"draws and truth must have the same size, got {len(draws.samples)} and {len(exact)} rows")
    found, of_exact = count_patterns(draws.samples, wells), count_patterns(exact, wells)
    counts = {"joint_modes_found": float(found), "joint_modes_exact": float(of_exact)}
    return {"joint_modes": found / of_exact, **counts}
