"""Quadrature of planar densities on a grid that knows nothing of the target but its log density and a box."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..targets.base import Target

MARGIN = 3.0  # the grid reaches exp(3) times as far out as the draws: the tails of Student laws are that long
ROWS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Grid:
    """Integral and marginal laws of a planar density.

    Attributes:
        log_z: log of the integral.
        error: its change when every second line of the grid is left out, and the share on the border.
        nodes, cdfs: of each coordinate, its marginal distribution function at increasing nodes.
    """

    log_z: float
    error: float
    nodes: tuple[Tensor, Tensor]
    cdfs: tuple[Tensor, Tensor]

    def cdf(self, i: int) -> Callable[[Tensor], Tensor]:
        """Distribution function of coordinate ``i``: linear interpolation."""

        def interpolated(x: Tensor) -> Tensor:
            nodes, cdf = self.nodes[i], self.cdfs[i]
            right = torch.searchsorted(nodes, x.contiguous()).clamp(1, len(nodes) - 1)
            share = ((x - nodes[right - 1]) / (nodes[right] - nodes[right - 1])).clamp(0, 1)
            return cdf[right - 1] + share * (cdf[right] - cdf[right - 1])

        return interpolated


def integrate(target: Target, draws: Tensor, n_nodes: int) -> Grid:
    """Trapezoid rule in u, with x = scale sinh(u) per coordinate, over a box around ``draws``, shape ``(n, 2)``.

    The map puts most nodes near the origin and reaches far into heavy tails. ``n_nodes`` per axis must be odd.
    """
    if n_nodes % 2 == 0:
        raise ValueError(f"n_nodes must be odd, got {n_nodes}")
    u = torch.asinh(draws / target.scale)
    low, high = u.min(0).values - MARGIN, u.max(0).values + MARGIN
    axes = [
        torch.linspace(a, b, n_nodes, dtype=torch.float64) for a, b in zip(low.tolist(), high.tolist(), strict=True)
    ]
    nodes = [target.scale * axis.sinh() for axis in axes]
    log_steps = [(target.scale * axis.cosh()).log() + math.log(axis[1] - axis[0]) for axis in axes]
    n_lines = max(1, ROWS_AT_ONCE // n_nodes)
    rows = []
    with torch.no_grad():
        for x0, log_step in zip(torch.split(nodes[0], n_lines), torch.split(log_steps[0], n_lines), strict=True):
            points = torch.cartesian_prod(x0, nodes[1])
            rows.append(target.log_prob(points).reshape(len(x0), n_nodes) + log_step[:, None] + log_steps[1])
    log_mass = torch.cat(rows)
    peak = log_mass.max()
    mass = (log_mass - peak).exp_()
    log_z = (peak + mass.sum().log()).item()
    coarse = (peak + (4 * mass[::2, ::2].sum()).log()).item()
    border = (mass[0].sum() + mass[-1].sum() + mass[:, 0].sum() + mass[:, -1].sum()) / mass.sum()
    cdfs = tuple(_cumulated(mass.sum(1 - i)) for i in range(2))
    return Grid(log_z, abs(log_z - coarse) + border.item(), (nodes[0], nodes[1]), (cdfs[0], cdfs[1]))


def _cumulated(mass: Tensor) -> Tensor:
    """Distribution function at the nodes from the masses of the trapezoid rule."""
    return (mass.cumsum(0) - 0.5 * mass) / mass.sum()
