"""The double well on the line: one factor of the many-well laws."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Generator, Tensor

from .base import normal, uniform
from .quadrature import cdf_of_density
from .rejection import accepted


@dataclass(frozen=True)
class DoubleWell:
    """The law on the line with density in proportion to exp(-(x^2 - delta)^2 + tilt x).

    Attributes:
        delta: the wells lie near +-sqrt(delta), with curvature 8 delta.
        tilt: makes the right well the heavier one.
    """

    delta: float
    tilt: float = 0.0

    def log_density(self, x: Tensor) -> Tensor:
        """Unnormalised, elementwise."""
        return self.tilt * x - (x.square() - self.delta).square()

    @cached_property
    def _nodes(self) -> Tensor:
        """Nodes of the trapezoid rule: 12 to a standard deviation of a well, out to where the density is nil."""
        half_width = math.sqrt(self.delta + 8 + abs(self.tilt))
        step = 1 / (12 * math.sqrt(8 * self.delta + 2))
        return torch.linspace(-half_width, half_width, 2 * math.ceil(half_width / step) + 1, dtype=torch.float64)

    @property
    def _step(self) -> float:
        return (self._nodes[1] - self._nodes[0]).item()

    @cached_property
    def log_z(self) -> float:
        """Log of the integral of exp(log_density), by quadrature; the rule converges geometrically."""
        return self.log_density(self._nodes).logsumexp(0).item() + math.log(self._step)

    def moment(self, power: int) -> float:
        """E x^power, by quadrature."""
        return (self.log_density(self._nodes).softmax(0) @ self._nodes**power).item()

    @cached_property
    def cdf(self) -> Callable[[Tensor], Tensor]:
        """Distribution function, by quadrature."""
        return cdf_of_density(self._nodes, self.log_density(self._nodes).softmax(0))

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws by rejection, float64, shape ``(n_samples,)``."""
        return accepted(self._propose, n_samples, generator)

    def _propose(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Normals near both wells, each refused beyond the origin.

        With w = sqrt(delta): (|x| + w)^2 >= delta, so that exp(-(x^2 - delta)^2 + tilt x) is at most
        exp(-delta (|x| - w)^2 + tilt x), on the side of sign s a multiple exp(tilt s w) of N(s w + tilt / (2 delta),
        1 / (2 delta)); the multiples are in the ratio exp(2 tilt w).
        """
        well = math.sqrt(self.delta)
        right = uniform(n, generator) < 0.5 * (1 + math.tanh(self.tilt * well))
        side = torch.where(right, 1.0, -1.0).double()
        x = side * well + self.tilt / (2 * self.delta) + normal(n, 1, generator)[:, 0] / math.sqrt(2 * self.delta)
        log_acceptance = self.delta * (x.abs() - well).square() - (x.square() - self.delta).square()
        return x, torch.where(side * x > 0, log_acceptance, -math.inf)

    def intervals(self, share: float) -> tuple[Tensor, Tensor]:
        """Central intervals that hold ``share`` of the left well (x < 0) and of the right one.

        Returns:
            Their ends, shape ``(2, 2)``, and their probabilities, shape ``(2,)``.
        """
        left = self.cdf(torch.zeros(())).item()
        tail = 0.5 * (1 - share)
        levels = [[left * tail, left * (1 - tail)], [left + (1 - left) * tail, 1 - (1 - left) * tail]]
        ends = torch.from_numpy(np.interp(levels, self.cdf(self._nodes).numpy(), self._nodes.numpy()))
        return ends, self.cdf(ends).diff(dim=-1)[:, 0]
