"""The banana: a Gaussian bent along a parabola."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .base import LOG_2PI, Marginal, Moments, normal, one_digit, register_target
from .checks import require_positive
from .draws import Estimate
from .marginals import coordinate, normal_marginal
from .quadrature import moments_of_map


@register_target("banana", version=1)
@dataclass(frozen=True)
class Banana:
    """Bent Gaussian: x1 ~ N(0, sd^2), x2 | x1 ~ N(bend (x1^2 - sd^2), 1); normalised, so log_z is 0.

    Source: H. Haario, E. Saksman, J. Tamminen, Comput. Statist. 14 (1999), with the bend turned upwards.
    """

    sd: float = 10.0
    bend: float = 0.03

    dim = 2

    def __post_init__(self) -> None:
        require_positive(sd=self.sd, bend=self.bend)

    @property
    def log_z(self) -> Estimate:
        """Zero."""
        return Estimate(0.0, std_error=0.0)

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit (Var x2 = 1 + bend^2 Var x1^2)."""
        return one_digit(math.sqrt((self.sd**2 + 1 + 2 * self.bend**2 * self.sd**4) / 2))

    @cached_property
    def moments(self) -> Moments:
        """By quadrature, exact for polynomials."""
        return moments_of_map(self._transport)

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """x[0] and the unbent x[1]: independent normals."""
        return normal_marginal("x[0]", coordinate(0), sd=self.sd), normal_marginal("unbent x[1]", self._unbent)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., 2)`` to ``(...)``."""
        return -0.5 * ((x[..., 0] / self.sd).square() + self._unbent(x).square()) - math.log(self.sd) - LOG_2PI

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, 2)``."""
        return self._transport(normal(n_samples, 2, generator))

    def _unbent(self, x: Tensor) -> Tensor:
        x1, x2 = x.unbind(-1)
        return x2 - self.bend * (x1.square() - self.sd**2)

    def _transport(self, z: Tensor) -> Tensor:
        x1 = self.sd * z[:, 0]
        return torch.stack([x1, self.bend * (x1.square() - self.sd**2) + z[:, 1]], dim=-1)
