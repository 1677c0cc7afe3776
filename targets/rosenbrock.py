"""The Rosenbrock density: a long curved ridge."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .base import Marginal, Moments, asinh_view, normal, one_digit, register_target
from .checks import require_positive
from .draws import Estimate
from .marginals import coordinate, normal_marginal
from .quadrature import moments_of_map


@register_target("rosenbrock", version=1)
@dataclass(frozen=True)
class Rosenbrock:
    """Rosenbrock ridge: log_prob = -[(1 - x1)^2 + curvature (x2 - x1^2)^2] / temperature.

    So x1 ~ N(1, temperature / 2) and x2 | x1 ~ N(x1^2, temperature / (2 curvature)), and
    log_z = log(pi temperature / sqrt(curvature)), log 2 pi by default.

    Source: J. Goodman and J. Weare, Comm. App. Math. Comp. Sci. 5 (2010), 65-80, with temperature 20.
    """

    temperature: float = 20.0
    curvature: float = 100.0

    dim = 2

    def __post_init__(self) -> None:
        require_positive(temperature=self.temperature, curvature=self.curvature)

    @property
    def log_z(self) -> Estimate:
        """Closed form."""
        return Estimate(math.log(math.pi * self.temperature / math.sqrt(self.curvature)), std_error=0.0)

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit (E x1^4 of N(1, s2) is 1 + 6 s2 + 3 s2^2)."""
        s2 = self.temperature / 2
        return one_digit(math.sqrt(((1 + s2) + (1 + 6 * s2 + 3 * s2**2 + s2 / self.curvature)) / 2))

    @cached_property
    def moments(self) -> Moments:
        """In the view, by quadrature."""
        return moments_of_map(lambda z: self.view(self._transport(z)))

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """x[0] and the residual x[1] - x[0]^2: independent normals."""
        s2 = self.temperature / 2
        return (
            normal_marginal("x[0]", coordinate(0), mean=1.0, sd=math.sqrt(s2)),
            normal_marginal("x[1] - x[0]^2", lambda x: x[:, 1] - x[:, 0].square(), sd=math.sqrt(s2 / self.curvature)),
        )

    def view(self, x: Tensor) -> Tensor:
        """asinh(x / scale): x2 has a heavy right tail."""
        return asinh_view(x, self.scale)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, unnormalised, shape ``(..., 2)`` to ``(...)``."""
        x1, x2 = x.unbind(-1)
        return -((1 - x1).square() + self.curvature * (x2 - x1.square()).square()) / self.temperature

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, 2)``."""
        return self._transport(normal(n_samples, 2, generator))

    def _transport(self, z: Tensor) -> Tensor:
        s2 = self.temperature / 2
        x1 = 1 + math.sqrt(s2) * z[:, 0]
        return torch.stack([x1, x1.square() + math.sqrt(s2 / self.curvature) * z[:, 1]], dim=-1)
