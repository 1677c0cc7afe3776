"""Himmelblau's function as an energy: four modes of equal height and unequal mass."""

import math
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Generator, Tensor

from .base import Marginal, Modes, Moments, PerDevice, one_digit, register_target
from .draws import Estimate
from .quadrature import PlanarDensity
from .rejection import accepted

TEMPERATURE = 10.0
REGION = 0.999
# With m = max(|x1|, |x2|) the energy is at least (m^2 - m - 11)^2 for m >= 4: the mass outside this square is below
# 1e-40, nothing to a uniform draw of 53 bits; inside it, cells this small accept 4 in 5 proposals.
HALF_WIDTH = 7.0
CELL = 0.05


@register_target("himmelblau", version=1)
@dataclass(frozen=True)
class Himmelblau:
    """Himmelblau's function: log_prob = -[(x1^2 + x2 - 11)^2 + (x1 + x2^2 - 7)^2] / 10.

    Its four minima are all 0, one in each quadrant: (3, 2), (-2.805, 3.131), (-3.779, -3.283), (3.584, -1.848).

    Source: D. Himmelblau, Applied nonlinear programming (1972), with temperature 10.
    """

    dim = 2

    @cached_property
    def _density(self) -> PlanarDensity:
        return PlanarDensity(self.log_prob, (HALF_WIDTH, HALF_WIDTH), (0.02, 0.02))

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
        """Mode 2 [x1 > 0] + [x2 > 0] within the highest-density region of 99.9%; masses by quadrature."""
        level = self._density.level(REGION)

        def assign(x: Tensor) -> Tensor:
            quadrant = 2 * (x[..., 0] > 0).long() + (x[..., 1] > 0).long()
            return torch.where(self.log_prob(x) >= level, quadrant, -1)

        return Modes(assign, self._density.masses(assign, 4))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, unnormalised, shape ``(..., 2)`` to ``(...)``."""
        x1, x2 = x.unbind(-1)
        return -((x1.square() + x2 - 11).square() + (x1 + x2.square() - 7).square()) / TEMPERATURE

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws by rejection from an envelope constant on square cells, float64, shape ``(n_samples, 2)``."""
        return accepted(self._propose, n_samples, generator)

    def _propose(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        offset = torch.rand(n, 2, generator=generator, device=generator.device, dtype=torch.float64)
        corners, log_envelope = (table.like(offset) for table in envelope())
        cell = torch.multinomial(log_envelope.softmax(0), n, replacement=True, generator=generator)
        x = corners[cell] + CELL * offset
        return x, self.log_prob(x) - log_envelope[cell]


@cache
def envelope() -> tuple[PerDevice, PerDevice]:
    """Lower corners ``(n_cells, 2)`` of the cells, and an upper bound ``(n_cells,)`` of log_prob on each.

    The bound is interval arithmetic: over a cell, which no axis crosses, x^2 runs between its values at the ends, so
    the brackets a = x1^2 + x2 - 11, b = x1 + x2^2 - 7 have known ranges and the energy is at least min a^2 + min b^2.
    """
    n_cells = round(2 * HALF_WIDTH / CELL)
    axis = CELL * (torch.arange(n_cells, dtype=torch.float64) - n_cells // 2)
    low = torch.cartesian_prod(axis, axis)
    high = low + CELL
    least2, most2 = torch.minimum(low**2, high**2), torch.maximum(low**2, high**2)
    shift = torch.tensor([11.0, 7.0], dtype=torch.float64)
    bracket_low, bracket_high = least2 + low.flip(-1) - shift, most2 + high.flip(-1) - shift
    least = torch.maximum(bracket_low, -bracket_high).clamp(min=0)
    return PerDevice(low), PerDevice(-least.square().sum(-1) / TEMPERATURE)
