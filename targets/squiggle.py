"""The squiggle: a Gaussian sheared along a sine."""

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

# Covariance of y: [[V1, C], [C, V2]]
V1, V2, C = 2.0, 0.5, 0.25
MAX_FREQUENCY = 20.0


@register_target("squiggle", version=1)
@dataclass(frozen=True)
class Squiggle:
    """Sheared Gaussian: y = (x1, x2 + sin(frequency x1)), y ~ N(0, [[2, .25], [.25, .5]]).

    The shear keeps areas, so the density is normalised and log_z is 0.

    Source: the squiggle of the MCMC interactive gallery (C. Feng).
    """

    frequency: float = 5.0

    dim = 2

    def __post_init__(self) -> None:
        require_positive(frequency=self.frequency)
        if self.frequency > MAX_FREQUENCY:  # the quadrature of the moments resolves no more
            raise ValueError(f"frequency must be at most {MAX_FREQUENCY}, got {self.frequency}")

    @property
    def log_z(self) -> Estimate:
        """Zero."""
        return Estimate(0.0, std_error=0.0)

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit."""
        return one_digit(math.sqrt(self.moments.mean[2:].mean().item()))

    @cached_property
    def moments(self) -> Moments:
        """By quadrature."""
        return moments_of_map(self._transport)

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """Both coordinates of y, and their sum, which sees the covariance."""
        return (
            normal_marginal("x[0]", coordinate(0), sd=math.sqrt(V1)),
            normal_marginal("y[1]", self._unsheared, sd=math.sqrt(V2)),
            normal_marginal("y[0] + y[1]", lambda x: x[:, 0] + self._unsheared(x), sd=math.sqrt(V1 + V2 + 2 * C)),
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., 2)`` to ``(...)``."""
        y1, y2 = x[..., 0], self._unsheared(x)
        determinant = V1 * V2 - C**2
        mahalanobis2 = (V2 * y1.square() - 2 * C * y1 * y2 + V1 * y2.square()) / determinant
        return -0.5 * (mahalanobis2 + math.log(determinant)) - LOG_2PI

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, 2)``."""
        return self._transport(normal(n_samples, 2, generator))

    def _unsheared(self, x: Tensor) -> Tensor:
        return x[..., 1] + torch.sin(self.frequency * x[..., 0])

    def _transport(self, z: Tensor) -> Tensor:
        y1 = math.sqrt(V1) * z[:, 0]
        y2 = C / V1 * y1 + math.sqrt(V2 - C**2 / V1) * z[:, 1]
        return torch.stack([y1, y2 - torch.sin(self.frequency * y1)], dim=-1)
