"""Centred Gaussians: standard, correlated, ill-conditioned."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .base import LOG_2PI, Marginal, Moments, PerDevice, normal, one_digit, register_target
from .checks import require_at_least, require_positive
from .draws import Estimate
from .marginals import chi_square_marginal, coordinate, normal_marginal


@register_target("gaussian2", version=1, dim=2, sd=0.5)
@register_target("gaussian10", version=1, dim=10)
@register_target("gaussian100", version=1, dim=100, condition=100.0)
@register_target("gaussian_ill", version=1, dim=10, condition=1e4)
@dataclass(frozen=True)
class Gaussian:
    """Gaussian N(0, Q^T diag(variances) Q); normalised, so log_z is 0.

    The variances run from sd^2 down to sd^2 / condition, log-spaced; Q is the orthonormal discrete cosine basis
    Q[k, i] = sqrt((2 - [k = 0]) / dim) cos(pi k (i + 1/2) / dim), so no axis is a principal one. With condition = 1 it
    is N(0, sd^2 I); with dim = 2 its correlation is (condition - 1) / (condition + 1).

    Attributes:
        dim: number of coordinates.
        sd: largest standard deviation along a principal axis.
        condition: largest over smallest variance.
    """

    dim: int = 2
    sd: float = 1.0
    condition: float = 1.0

    def __post_init__(self) -> None:
        require_at_least(1, dim=self.dim)
        require_positive(sd=self.sd)
        if not 1 <= self.condition < math.inf:
            raise ValueError(f"condition must be at least 1 and finite, got {self.condition}")
        if self.dim == 1 and self.condition != 1:
            raise ValueError(f"condition must be 1 in one dimension, got {self.condition}")

    @property
    def log_z(self) -> Estimate:
        """Zero."""
        return Estimate(0.0, std_error=0.0)

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit."""
        return one_digit(math.sqrt(self._variances.mean().item()))

    @cached_property
    def moments(self) -> Moments:
        """Closed form: E x_i^2 = C_ii, Var x_i^2 = 2 C_ii^2."""
        variance = self._variances @ self._basis.value.square()
        zero = torch.zeros_like(variance)
        return Moments(torch.cat([zero, variance]), torch.cat([variance, 2 * variance.square()]))

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """Every coordinate is normal, the squared Mahalanobis radius chi^2."""
        sds = self.moments.variance[: self.dim].sqrt().tolist()
        coordinates = (normal_marginal(f"x[{i}]", coordinate(i), sd=sd) for i, sd in enumerate(sds))
        return *coordinates, chi_square_marginal("Mahalanobis radius^2", self._mahalanobis2, freedom=self.dim)

    @cached_property
    def _variances(self) -> Tensor:
        return self.sd**2 * torch.logspace(0, -math.log10(self.condition), self.dim, dtype=torch.float64)

    @cached_property
    def _basis(self) -> PerDevice:
        k = torch.arange(self.dim, dtype=torch.float64)
        cosines = torch.cos(math.pi * k[:, None] * (k + 0.5) / self.dim) * math.sqrt(2 / self.dim)
        cosines[0] /= math.sqrt(2)
        return PerDevice(cosines)

    @cached_property
    def _sds(self) -> PerDevice:
        return PerDevice(self._variances.sqrt())

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        log_det = self.dim * (2 * math.log(self.sd) - 0.5 * math.log(self.condition))
        return -0.5 * (self._mahalanobis2(x) + log_det + self.dim * LOG_2PI)

    def _mahalanobis2(self, x: Tensor) -> Tensor:
        principal = x @ self._basis.like(x).T / self._sds.like(x)
        return principal.square().sum(-1)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``."""
        z = normal(n_samples, self.dim, generator)
        return z * self._sds.like(z) @ self._basis.like(z)
