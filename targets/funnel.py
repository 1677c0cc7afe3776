"""Neal's funnel."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .base import LOG_2PI, Marginal, Moments, asinh_view, normal, one_digit, register_target
from .checks import require_at_least, require_positive
from .draws import Estimate
from .marginals import chi_square_marginal, coordinate, normal_marginal
from .quadrature import HALF_WIDTH, cdf_of_density, moments_of_map

MAX_NECK_SD = 6.0


@register_target("funnel10", version=1, dim=10, neck_sd=3.0)
@register_target("funnel10_easy", version=1, dim=10, neck_sd=1.0)
@register_target("funnel100", version=1, dim=100, neck_sd=3.0)
@register_target("funnel2", version=1, dim=2, neck_sd=1.0)
@register_target("funnel2_wide", version=1, dim=2, neck_sd=3.0)
@dataclass(frozen=True)
class Funnel:
    """Neal's funnel: v = x[0] ~ N(0, neck_sd^2), x[i] | v ~ N(0, exp(v)); normalised, so log_z is 0.

    Reference: R. Neal, Slice sampling, Ann. Statist. 31 (2003), section 8.
    """

    dim: int = 10
    neck_sd: float = 3.0

    wild_score = "the score is log-normal in the neck"

    def __post_init__(self) -> None:
        require_at_least(2, dim=self.dim)
        require_positive(neck_sd=self.neck_sd)
        if self.neck_sd > MAX_NECK_SD:  # the quadrature of the moments reaches no further
            raise ValueError(f"neck_sd must be at most {MAX_NECK_SD}, got {self.neck_sd}")

    @property
    def log_z(self) -> Estimate:
        """Zero."""
        return Estimate(0.0, std_error=0.0)

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit (E x[i]^2 = E exp(v))."""
        return one_digit(math.sqrt((self.neck_sd**2 + (self.dim - 1) * math.exp(self.neck_sd**2 / 2)) / self.dim))

    @cached_property
    def moments(self) -> Moments:
        """In the view, by quadrature over (v, x[1]); the other coordinates have the law of x[1]."""
        pair = moments_of_map(lambda z: self.view(self._transport(z)))
        rest = torch.ones(self.dim - 1, dtype=torch.int64)
        order = torch.cat([0 * rest[:1], rest, 2 * rest[:1], 3 * rest])
        return Moments(pair.mean[order], pair.variance[order])

    @cached_property
    def marginals(self) -> tuple[Marginal, ...]:
        """v is normal, x[1] by quadrature over v, and |x[1:]|^2 exp(-v) is chi^2."""
        return (
            normal_marginal("v", coordinate(0), sd=self.neck_sd),
            Marginal("x[1]", coordinate(1), self._mouth_cdf()),
            chi_square_marginal("|x[1:]|^2 exp(-v)", lambda x: self._body(x).square().sum(-1), freedom=self.dim - 1),
        )

    def _mouth_cdf(self) -> Callable[[Tensor], Tensor]:
        """Distribution function of x[1], from that of log |x[1]| = v / 2 + log |z|, whose density is smooth."""
        v = self.neck_sd * torch.arange(-HALF_WIDTH, HALF_WIDTH, min(0.05, 0.15 / self.neck_sd), dtype=torch.float64)
        reach = 0.5 * self.neck_sd * HALF_WIDTH
        nodes = torch.arange(-reach - 36, reach + 3, 0.02, dtype=torch.float64)  # |z| < exp(-36) is as rare as 2e-16
        weights = torch.exp(-0.5 * (v / self.neck_sd).square())
        offsets = (node - 0.5 * v for node in nodes)  # log |z| for each v
        density = torch.stack([torch.exp(u - 0.5 * torch.exp(2 * u)) @ weights for u in offsets])
        cdf = cdf_of_density(nodes, density)
        return lambda values: 0.5 + 0.5 * values.sign() * cdf(values.double().abs().log())

    def view(self, x: Tensor) -> Tensor:
        """asinh(x / scale): the mouth has heavy tails."""
        return asinh_view(x, self.scale)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        v = x[..., 0]
        neck = (v / self.neck_sd).square() + 2 * math.log(self.neck_sd)
        body = (self.dim - 1) * v + self._body(x).square().sum(-1)
        return -0.5 * (neck + body + self.dim * LOG_2PI)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``."""
        return self._transport(normal(n_samples, self.dim, generator))

    def _body(self, x: Tensor) -> Tensor:
        return x[..., 1:] * torch.exp(-0.5 * x[..., 0])[..., None]

    def _transport(self, z: Tensor) -> Tensor:
        v = self.neck_sd * z[:, :1]
        return torch.cat([v, torch.exp(0.5 * v) * z[:, 1:]], dim=-1)
