"""Two moons: a ring cut in two by a pair of bumps along the first axis."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .base import Marginal, Modes, Moments, normal, one_digit, register_target, uniform
from .checks import require_positive
from .draws import Estimate
from .quadrature import PlanarDensity
from .rejection import accepted

NARROWEST, WIDEST = 0.05, 0.3  # of width and spread over the radius: within them the quadrature is sharp and fast
REGION = 0.999


@register_target("two_moons", version=1, radius=2.0, width=0.2, spread=0.3)
@register_target("u1", version=1, radius=2.0, width=0.4, spread=0.6)
@dataclass(frozen=True)
class TwoMoons:
    """Two facing moons: -.5 ((r - a) / width)^2 + log sum_{+-} exp(-.5 ((x1 -+ a) / spread)^2), a = radius, r = |x|.

    Source: u1 of D. Rezende and S. Mohamed, Variational inference with normalizing flows, arXiv 1505.05770, table 1;
    two_moons is the same with half its width and spread.

    Attributes:
        radius: of the ring, and distance of the bumps from the origin.
        width: standard deviation of the ring; from 0.05 to 0.3 of the radius.
        spread: standard deviation of the bumps in x1; from 0.05 to 0.3 of the radius.
    """

    radius: float = 2.0
    width: float = 0.2
    spread: float = 0.3

    dim = 2

    def __post_init__(self) -> None:
        require_positive(radius=self.radius, width=self.width, spread=self.spread)
        for name, value in (("width", self.width), ("spread", self.spread)):
            if not NARROWEST <= value / self.radius <= WIDEST:
                raise ValueError(f"{name} must be {NARROWEST} to {WIDEST} of the radius {self.radius}, got {value}")

    @cached_property
    def _density(self) -> PlanarDensity:
        half_width = self.radius + 10 * self.width
        step = min(self.width, self.spread) / 10
        return PlanarDensity(self.log_prob, (half_width, half_width), (step, step))

    @property
    def log_z(self) -> Estimate:
        """By quadrature."""
        return self._density.log_z

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit."""
        return one_digit(math.sqrt(self.moments.mean[2:].mean().item()))

    @property
    def moments(self) -> Moments:
        """By quadrature."""
        return self._density.moments

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """Coordinates and radius, by quadrature."""
        return self._density.marginals

    @cached_property
    def modes(self) -> Modes:
        """Mode 0 is x1 < 0, mode 1 the rest, both within the highest-density region of 99.9%; masses by quadrature."""
        level = self._density.level(REGION)

        def assign(x: Tensor) -> Tensor:
            return torch.where(self.log_prob(x) >= level, (x[..., 0] >= 0).long(), -1)

        return Modes(assign, self._density.masses(assign, 2))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, unnormalised, shape ``(..., 2)`` to ``(...)``."""
        ring = (torch.linalg.vector_norm(x, dim=-1) - self.radius) / self.width
        bumps = torch.stack([x[..., 0] - self.radius, x[..., 0] + self.radius], dim=-1) / self.spread
        log_ring: Tensor = -0.5 * ring.square()
        return log_ring + (-0.5 * bumps.square()).logsumexp(-1)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws by rejection, float64, shape ``(n_samples, 2)``."""
        return accepted(self._propose, n_samples, generator)

    def _propose(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """A moon on the right, accepted in proportion to r exp(ring + right bump), then flipped with probability 1/2.

        The density is f(x1, x2) + f(-x1, x2), f having the right bump alone, so a random sign gives its law. The bump
        is at most 1. The logarithm lies below its tangent at any c > 0: r <= c exp(r / c - 1), which turns the radial
        factor r exp(-.5 ((r - a) / width)^2) into a multiple of N(a + width^2 / c, width^2); c is taken at its mean.
        """
        c = 0.5 * (self.radius + math.sqrt(self.radius**2 + 4 * self.width**2))
        r = c + self.width * normal(n, 1, generator)[:, 0]
        angle = 2 * math.pi * uniform(n, generator)
        right = torch.stack([r * angle.cos(), r * angle.sin()], dim=-1)
        log_bump = -0.5 * ((right[:, 0] - self.radius) / self.spread).square()
        log_tangent = (r / c).clamp(min=0).log() + 1 - r / c  # -inf where r < 0: not a radius
        sign = 1 - 2.0 * (uniform(n, generator) < 0.5)
        return torch.stack([sign * right[:, 0], right[:, 1]], dim=-1), log_bump + log_tangent
