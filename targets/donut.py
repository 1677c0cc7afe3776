"""Rings around the origin: the donut, and three rings as three modes."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .base import Marginal, Modes, Moments, PerDevice, normal, one_digit, register_target, uniform
from .checks import require_positive
from .draws import Estimate
from .marginals import angle_marginal

NORMAL_9995 = 3.290526731491895  # 99.95% quantile of N(0, 1): 99.9% lie within +- this many standard deviations


@register_target("donut", version=1, radii=(2.6,), width=0.033)
@dataclass(frozen=True)
class ConcentricRings:
    """Rings in the plane: log_prob = -min_k (r - radii[k])^2 / width, r = |x|.

    In polar coordinates the density carries the Jacobian r: the law of r is proportional to r exp(log_prob). With
    t = r - radii[k], t ~ N(0, s^2) tilted by 1 + t / radii[k], s^2 = width / 2; the tilt is odd in t, so the mass of
    ring k is 2 pi radii[k] sqrt(pi width) and log_z the log of their sum (donut: 1.660130).

    Source: donut of the MCMC interactive gallery (C. Feng); the three rings are this project's.

    Attributes:
        radii: of the rings, increasing.
        width: of the exponent; each ring has standard deviation sqrt(width / 2).
    """

    radii: tuple[float, ...] = (2.6,)
    width: float = 0.033

    dim = 2

    def __post_init__(self) -> None:
        require_positive(width=self.width, **{f"radii[{k}]": radius for k, radius in enumerate(self.radii)})
        if not self.radii:
            raise ValueError("radii must hold at least one radius, got none")
        # What the closed forms leave out (rings that overlap or reach the origin) is then below 1e-15.
        gaps = [self.radii[0] / 8, *((b - a) / 16 for a, b in zip(self.radii, self.radii[1:], strict=False))]
        if not min(gaps) >= self._sd:
            raise ValueError(
                f"radii must leave 8 standard deviations (of {self._sd:g}) to the origin and 16 to each other, "
                f"increasing, got {self.radii}"
            )

    @property
    def log_z(self) -> Estimate:
        """Closed form."""
        return Estimate(math.log(2 * math.pi * math.sqrt(math.pi * self.width) * sum(self.radii)), std_error=0.0)

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit."""
        return one_digit(math.sqrt(self.moments.mean[2].item()))

    @cached_property
    def moments(self) -> Moments:
        """Closed form: E x_1^2 = E r^2 / 2 and E x_1^4 = 3 E r^4 / 8, with the tilted normal moments of r."""
        s2 = self._sd**2
        radii = torch.tensor(self.radii, dtype=torch.float64)
        r2 = (self._weights * (radii**2 + 3 * s2)).sum()
        r4 = (self._weights * (radii**4 + 10 * radii**2 * s2 + 15 * s2**2)).sum()
        second, fourth = (r2 / 2).expand(2), (3 * r4 / 8).expand(2)
        return Moments(torch.cat([torch.zeros_like(second), second]), torch.cat([second, fourth - second.square()]))

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """The radius, in closed form, and the angle."""
        return Marginal("radius", lambda x: torch.linalg.vector_norm(x, dim=-1), self._radial_cdf), angle_marginal()

    def _radial_cdf(self, radius: Tensor) -> Tensor:
        """Tilted normal (1 + t / radii[k]) N(t; 0, s^2), u = t / s: its integral is Phi(u) - s phi(u) / radii[k]."""
        radii = self._radii.value.to(radius.device)
        u = (radius.double()[..., None] - radii) / self._sd
        phi = torch.exp(-0.5 * u.square()) / math.sqrt(2 * math.pi)
        cdfs: Tensor = torch.special.ndtr(u) - self._sd * phi / radii
        return cdfs @ self._weights.to(radius.device)

    @property
    def _sd(self) -> float:
        return math.sqrt(self.width / 2)

    @property
    def _weights(self) -> Tensor:
        return torch.tensor(self.radii, dtype=torch.float64) / sum(self.radii)

    @cached_property
    def _radii(self) -> PerDevice:
        return PerDevice(torch.tensor(self.radii, dtype=torch.float64))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, unnormalised, shape ``(..., 2)`` to ``(...)``."""
        gap = torch.linalg.vector_norm(x, dim=-1, keepdim=True) - self._radii.like(x)
        nearest2: Tensor = gap.square().amin(-1)
        return -nearest2 / self.width

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, 2)``."""
        weights = self._weights.to(generator.device)
        ring = torch.multinomial(weights, n_samples, replacement=True, generator=generator)
        radius = self._radii.like(weights)[ring]
        t = self._sd * normal(n_samples, 1, generator)[:, 0]
        # t and -t are equally likely before the tilt 1 + t / radius: choose between them in its proportion.
        t = torch.where(uniform(n_samples, generator) < 0.5 * (1 + t / radius), t, -t)
        angle = 2 * math.pi * uniform(n_samples, generator)
        return torch.stack([angle.cos(), angle.sin()], dim=-1) * (radius + t)[:, None]


@register_target("rings", version=1, radii=(1.0, 3.0, 5.0), width=0.01)
@dataclass(frozen=True)
class Rings(ConcentricRings):
    """Rings whose modes are the nearest radius; masses in proportion to the radii (1 : 3 : 5)."""

    radii: tuple[float, ...] = (1.0, 3.0, 5.0)
    width: float = 0.01

    @cached_property
    def modes(self) -> Modes:
        """The tilt is odd, so 99.9% of each ring lie within 3.29 standard deviations of its radius."""
        return Modes(self._assign, 0.999 * self._weights)

    def _assign(self, x: Tensor) -> Tensor:
        gap = (torch.linalg.vector_norm(x, dim=-1, keepdim=True) - self._radii.like(x)).abs()
        nearest, ring = gap.min(-1)
        return torch.where(nearest <= NORMAL_9995 * self._sd, ring, -1)
