"""Sine waves of the planar-flow paper, made proper: one band, a band that forks, a band that splits."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Generator, Tensor

from .base import LOG_2PI, Marginal, Moments, PerDevice, normal, one_digit, register_target, uniform
from .draws import Estimate
from .marginals import coordinate, normal_marginal
from .quadrature import PlanarDensity, moments_of_map

SD = 2.0  # of x1

Gap = Literal["none", "bump", "step"]

# By how much, as a function of x1, the second band lies below the first; and the standard deviations of both.
GAPS: dict[Gap, tuple[Callable[[Tensor], Tensor], tuple[float, float]]] = {
    "none": (torch.zeros_like, (0.4, 0.4)),
    "bump": (lambda x1: 3 * torch.exp(-0.5 * ((x1 - 1) / 0.6).square()), (0.35, 0.35)),
    "step": (lambda x1: 3 * torch.sigmoid((x1 - 1) / 0.3), (0.4, 0.35)),
}


@register_target("sine2", version=1, gap="none")
@register_target("sine3", version=1, gap="bump")
@register_target("sine4", version=1, gap="step")
@dataclass(frozen=True)
class SineBands:
    """Sine bands: x1 ~ N(0, 4), x2 | x1 ~ .5 N(w, s1^2) + .5 N(w - gap(x1), s2^2), w = sin(pi x1 / 2); log_z is 0.

    sine2: one band, s = .4. sine3: gap = 3 exp(-.5 ((x1 - 1) / .6)^2), s1 = s2 = .35. sine4: gap =
    3 sigmoid((x1 - 1) / .3), s1 = .4, s2 = .35.

    Source: u2, u3, u4 of D. Rezende and S. Mohamed, Variational inference with normalizing flows, arXiv 1505.05770,
    table 1, which are improper in x1: here x1 is normal and each band of x2 given x1 a normalised half.
    """

    gap: Gap = "none"

    dim = 2

    def __post_init__(self) -> None:
        if self.gap not in GAPS:
            raise ValueError(f"gap must be one of {', '.join(GAPS)}, got {self.gap!r}")

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
        """By quadrature: the average of the laws of both bands."""
        bands = [moments_of_map(partial(self._transport, band=torch.tensor(k))) for k in (0, 1)]
        means = torch.stack([band.mean for band in bands])
        squares = torch.stack([band.variance for band in bands]) + means.square()
        return Moments(means.mean(0), squares.mean(0) - means.mean(0).square())

    @cached_property
    def marginals(self) -> tuple[Marginal, ...]:
        """x[0] is normal, x[1] by quadrature, and the level of x[1] in its conditional law given x[0] is uniform."""
        second = PlanarDensity(self.log_prob, (9 * SD, 8.0), (0.03, 0.03)).coordinate(1)
        level = Marginal("level of x[1] given x[0]", self._level, lambda values: values.double().clamp(0, 1))
        return normal_marginal("x[0]", coordinate(0), sd=SD), second, level

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., 2)`` to ``(...)``."""
        x1, residuals = x[..., 0], self._residuals(x)
        log_bands = -0.5 * residuals.square() - self._sds.like(x).log()
        return log_bands.logsumexp(-1) - 0.5 * (x1 / SD).square() - math.log(2 * SD) - LOG_2PI

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, 2)``."""
        band = (uniform(n_samples, generator) < 0.5).long()
        return self._transport(normal(n_samples, 2, generator), band)

    @cached_property
    def _sds(self) -> PerDevice:
        return PerDevice(torch.tensor(GAPS[self.gap][1], dtype=torch.float64))

    def _means(self, x1: Tensor) -> Tensor:
        """Means of x2 in both bands: ``(...)`` to ``(..., 2)``."""
        wave = torch.sin(0.5 * math.pi * x1)
        return torch.stack([wave, wave - GAPS[self.gap][0](x1)], dim=-1)

    def _residuals(self, x: Tensor) -> Tensor:
        """Standardised residual of x2 in both bands: ``(..., 2)`` to ``(..., 2)``."""
        return (x[..., 1:] - self._means(x[..., 0])) / self._sds.like(x)

    def _level(self, x: Tensor) -> Tensor:
        level: Tensor = torch.special.ndtr(self._residuals(x)).mean(-1)
        return level

    def _transport(self, z: Tensor, band: Tensor) -> Tensor:
        x1 = SD * z[:, 0]
        sds = self._sds.like(z)[band]
        mean = self._means(x1).take_along_dim(band.expand(len(z))[:, None], dim=-1)[:, 0]
        return torch.stack([x1, mean + sds * z[:, 1]], dim=-1)
