"""Plug-in of the engine's tests: targets and samplers that go wrong in every way that a run can end."""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Generator, Tensor

from samplerbench.samplers import NotApplicableError, register_sampler
from samplerbench.targets import Draws, Meter, register_target


@register_target("plain_normal", version=1)
@dataclass(frozen=True)
class PlainNormal:
    """Standard normal with exact draws."""

    dim: int = 2
    scale: float = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        return torch.randn(n_samples, self.dim, generator=generator, dtype=torch.float64)


@register_target("nan_density", version=1)
@dataclass(frozen=True)
class NaNDensity(PlainNormal):
    """NaN everywhere."""

    def log_prob(self, x: Tensor) -> Tensor:
        return x.sum(-1) * float("nan")


@register_target("wrong_shape", version=1)
@dataclass(frozen=True)
class WrongShape(PlainNormal):
    """Keeps a dimension that it should sum over."""

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square()


@register_sampler("misbehaving", version=1)
@dataclass(frozen=True)
class Misbehaving:
    """Draws N(0, scale^2 I) after going wrong in the way that ``how`` says."""

    how: Literal[
        "not", "raise", "diverge", "few", "hang", "die", "uninstalled", "inapplicable", "spend", "unrecordable"
    ] = "not"
    sleep: float = 0.0

    def fit(self, meter: Meter, generator: Generator) -> "FittedMisbehaving":
        if self.how == "raise":
            raise RuntimeError("the method broke")
        if self.how == "hang":
            time.sleep(600)
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "uninstalled":
            raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")
        if self.how == "inapplicable":
            raise NotApplicableError("needs second derivatives")
        if self.how == "spend":
            meter.score(meter.start(1_000_000, generator))
        time.sleep(self.sleep)
        return FittedMisbehaving(self, meter)


@dataclass(frozen=True)
class FittedMisbehaving:
    config: Misbehaving
    meter: Meter
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        samples = self.meter.start(n_samples, generator)
        if self.config.how == "diverge":
            samples[0] = float("nan")
        diagnostics = {"modes": {1, 2}} if self.config.how == "unrecordable" else {}
        return Draws(samples=samples[1:] if self.config.how == "few" else samples, diagnostics=diagnostics)
