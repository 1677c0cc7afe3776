"""Quadrature: moments of smooth maps of a planar normal, and what is known of a law from its density."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .base import Marginal, Moments
from .draws import Estimate
from .marginals import coordinate

HALF_WIDTH = 9.0  # the normal mass outside is 2e-19
N_NODES = 361  # per axis; the trapezoid rule converges geometrically on analytic integrands
N_ANGLES = 1_500  # the trapezoid rule is as good on a circle


def moments_of_map(map_normal: Callable[[Tensor], Tensor]) -> Moments:
    """Moments of ``map_normal(z)``, z ~ N(0, I) in the plane.

    Args:
        map_normal: shape ``(n, 2)`` to ``(n, 2)``, analytic (the trapezoid rule on a grid of step 0.05 is used).
    Returns:
        Mean and variance of the coordinates and of their squares, float64.
    """
    axis = torch.linspace(-HALF_WIDTH, HALF_WIDTH, N_NODES, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    cell = (2 * HALF_WIDTH / (N_NODES - 1)) ** 2
    weights = torch.exp(-0.5 * z.square().sum(-1)) * cell / (2 * math.pi)
    return weighted_moments(weights, map_normal(z))


def weighted_moments(weights: Tensor, v: Tensor) -> Moments:
    """Moments of the points v ``(n, dim)`` that carry the probabilities ``weights`` ``(n,)``."""
    f = torch.cat([v, v.square()], dim=-1)
    mean = weights @ f
    return Moments(mean, weights @ (f - mean).square())


def cdf_of_density(nodes: Tensor, density: Tensor) -> Callable[[Tensor], Tensor]:
    """Distribution function from values of a density: the integral of their cubic spline.

    Args:
        nodes: increasing, from one negligible tail to the other, shape ``(n,)``, float64.
        density: unnormalised, at the nodes, shape ``(n,)``; its error is of fourth order in their distance.
    Returns:
        Map of values ``(...)`` to the probabilities of at most them, float64.
    """
    from scipy.interpolate import CubicSpline

    low, high = nodes[0].item(), nodes[-1].item()
    integral = CubicSpline(nodes.numpy(), density.numpy()).antiderivative()
    total = float(integral(high))

    def cdf(values: Tensor) -> Tensor:
        inside = values.to(device="cpu", dtype=torch.float64).clamp(low, high)
        return torch.as_tensor(integral(inside.numpy()) / total).to(values.device)

    return cdf


@dataclass(frozen=True)
class PlanarDensity:
    """A planar law known by the trapezoid rule for its density, on a rectangle centred at the origin.

    The number of nodes along an axis is even: the other axis lies midway between two of them, so that the sum over a
    half plane or a quadrant is a midpoint sum, of second order, and that over the plane of geometric accuracy.

    Attributes:
        log_prob: unnormalised log density, shape ``(n, 2)`` to ``(n,)``.
        half_widths: of the rectangle, outside of which the mass is negligible.
        steps: distances of the nodes, at most; a tenth of the narrowest standard deviation is more than enough.
    """

    log_prob: Callable[[Tensor], Tensor]
    half_widths: tuple[float, float]
    steps: tuple[float, float]

    @cached_property
    def _axes(self) -> list[Tensor]:
        return [
            torch.linspace(-half, half, 2 * math.ceil(half / step), dtype=torch.float64)
            for half, step in zip(self.half_widths, self.steps, strict=True)
        ]

    @cached_property
    def _nodes(self) -> Tensor:
        return torch.cartesian_prod(*self._axes)

    @cached_property
    def _log_values(self) -> Tensor:
        return self.log_prob(self._nodes)

    @cached_property
    def _weights(self) -> Tensor:
        """Probability of each node, shape ``(n_nodes,)``."""
        return self._log_values.softmax(0)

    @cached_property
    def log_z(self) -> Estimate:
        """Log normaliser; its error is at most the stated one, that of every second node along each axis."""
        cell = math.prod((axis[1] - axis[0]).item() for axis in self._axes)
        fine = self._log_values.logsumexp(0).item() + math.log(cell)
        every_second = self._log_values.reshape([len(axis) for axis in self._axes])[::2, ::2]
        coarse = every_second.reshape(-1).logsumexp(0).item() + math.log(4 * cell)
        return Estimate(fine, std_error=abs(fine - coarse))

    @cached_property
    def moments(self) -> Moments:
        """Mean and variance of the coordinates and of their squares."""
        return weighted_moments(self._weights, self._nodes)

    def level(self, share: float) -> float:
        """Value of ``log_prob`` above which ``share`` of the mass lies: the edge of the highest-density region."""
        values, order = self._log_values.sort(descending=True)
        return values[torch.searchsorted(self._weights[order].cumsum(0), share)].item()

    def masses(self, assign: Callable[[Tensor], Tensor], n_modes: int) -> Tensor:
        """Probability that ``assign`` returns k for each mode k, shape ``(n_modes,)``; -1 counts for none."""
        masses = torch.zeros(n_modes + 1, dtype=torch.float64)
        return masses.index_add(0, assign(self._nodes) + 1, self._weights)[1:]

    @cached_property
    def marginals(self) -> tuple[Marginal, ...]:
        """Laws of both coordinates and of the radius."""
        return self.coordinate(0), self.coordinate(1), self.radius()

    def coordinate(self, index: int) -> Marginal:
        """Law of x[index]."""
        table = self._weights.reshape([len(axis) for axis in self._axes])
        cdf = cdf_of_density(self._axes[index], table.sum(1 - index))
        return Marginal(f"x[{index}]", coordinate(index), cdf)

    def radius(self) -> Marginal:
        """Law of r = |x|: in polar coordinates the density carries the Jacobian r."""
        half, step = math.hypot(*self.half_widths), min(self.steps)
        radius = torch.linspace(0, half, math.ceil(half / step), dtype=torch.float64)
        angle = 2 * math.pi * torch.arange(N_ANGLES, dtype=torch.float64) / N_ANGLES
        circle = torch.stack([angle.cos(), angle.sin()], dim=-1)
        log_mean = torch.stack([self.log_prob(r * circle).logsumexp(0) for r in radius])
        cdf = cdf_of_density(radius, radius * (log_mean - log_mean.max()).exp())
        return Marginal("radius", lambda x: torch.linalg.vector_norm(x, dim=-1), cdf)
