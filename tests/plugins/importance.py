"""Plug-in of the evaluation's tests: importance sampling, whose draws have weights and a density."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Generator, Tensor

from samplerbench.samplers import register_sampler
from samplerbench.targets import Draws, Meter
from samplerbench.targets.base import normal


@register_sampler("importance", version=1)
@dataclass(frozen=True)
class Importance:
    """Weighted draws of N(0, (2 scale)^2 I)."""

    def fit(self, meter: Meter, generator: Generator) -> "FittedImportance":
        return FittedImportance(meter)


@dataclass(frozen=True)
class FittedImportance:
    meter: Meter
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        sd = 2 * self.meter.scale
        x = sd * normal(n_samples, self.meter.dim, generator).to(self.meter.dtype)
        log_density = self.log_density(x)
        return Draws(samples=x, log_weights=self.meter.log_prob(x) - log_density, log_density=log_density)

    def log_density(self, x: Tensor) -> Tensor:
        sd = 2 * self.meter.scale
        return -(0.5 * (x / sd).square() + math.log(sd) + 0.5 * math.log(2 * math.pi)).sum(-1)
