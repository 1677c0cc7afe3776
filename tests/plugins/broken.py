"""Plug-in of the tests of ``check``: samplers, a target and a metric that break one rule of their contract each."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from samplerbench.metrics import Truth, register_metric
from samplerbench.samplers import NotApplicableError, checked_start, normal_like, register_sampler
from samplerbench.targets import BudgetReached, Draws, Estimate, Meter, register_target
from samplerbench.targets.draws import Stopped

How = Literal[
    "not", "global_rng", "past_meter", "uncounted", "escaping_budget", "silent_budget", "few", "one_seed", "hash_seed",
    "moved_start", "any_start", "float64", "wide", "one_mode", "log_z_after_stop", "wrong_log_z", "raises", "stateful",
    "scaled", "graph", "inapplicable",
]  # fmt: skip


@register_sampler("broken", version=1)
@register_sampler("broken_seed", version=1, how="hash_seed")
@dataclass(frozen=True)
class Broken:
    """Random-walk Metropolis that goes wrong in the way that ``how`` says."""

    how: How = "not"
    n_steps: int = 200

    def fit(self, meter: Meter, generator: Generator) -> "FittedBroken":
        if self.how == "scaled":
            meter.scale = 1.0
        if self.how == "inapplicable":
            raise NotApplicableError("needs minibatches")
        return FittedBroken(self, meter)


@dataclass(frozen=True)
class FittedBroken:
    config: Broken
    meter: Meter
    diagnostics: Mapping[str, object] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        how, meter = self.config.how, self.meter
        if how == "one_seed":
            generator = Generator().manual_seed(0)
        if how == "hash_seed":
            generator = Generator().manual_seed(abs(hash("a string")) + generator.initial_seed() % 1_000)
        if how == "stateful":
            self.memory.append(1)
            torch.rand(len(self.memory), generator=generator, device=generator.device)
        if how == "moved_start" and start is not None:
            start += 1
        if how == "any_start":
            start = None
        x = checked_start(start, n_samples, meter, generator).clone()
        stopped: Stopped | None = None
        try:
            x = self._walk(x, generator)
        except BudgetReached:
            if how == "escaping_budget":
                raise
            stopped = None if how == "silent_budget" else "budget"
        except ArithmeticError:
            if how == "raises":
                raise
            stopped = "diverged"
        log_z = Estimate(1.0, std_error=0.01) if how == "wrong_log_z" and not stopped else None
        if how == "log_z_after_stop":
            log_z = Estimate(0.0, std_error=0.0)
        if how == "few":
            x = x[1:]
        if how == "wide":
            x = math.sqrt(2) * x
        if how == "one_mode":
            x = x * x.sum(-1, keepdim=True).sign()
        if how == "graph":
            x.requires_grad_()
        if how == "float64":
            x = x.double()
        return Draws(samples=x, stopped=stopped, reason="the budget, or NaN" if stopped else "", log_z=log_z)

    def _walk(self, x: Tensor, generator: Generator) -> Tensor:
        meter: Any = self.meter
        log_prob = meter.log_prob(x)
        if log_prob.isnan().all():
            raise ArithmeticError("NaN everywhere")
        for step in range(self.config.n_steps):
            noise = torch.randn(x.shape) if self.config.how == "global_rng" else normal_like(x, generator)
            proposal = x + meter.scale * noise.to(x)
            if self.config.how == "past_meter" and step == 7:
                meter._target.log_prob(proposal)
            with meter.uncounted() if self.config.how == "uncounted" and step == 7 else nullcontext():
                proposed = meter.log_prob(proposal)
            u = torch.rand(log_prob.shape, generator=generator, dtype=x.dtype, device=x.device)
            accepted = (u.log() < proposed - log_prob) & proposed.isfinite()
            x = torch.where(accepted[:, None], proposal, x)
            log_prob = torch.where(accepted, proposed, log_prob)
        return x


@register_sampler("broken_mutable", version=1)
@dataclass
class Mutable:
    """Its configuration can be changed after it was recorded."""

    n_steps: int = 200

    def fit(self, meter: Meter, generator: Generator) -> FittedBroken:
        return FittedBroken(Broken(n_steps=self.n_steps), meter)


@register_target("broken_twice", version=1)
@dataclass(frozen=True)
class Crowd:
    """A density that depends on the other points of its batch."""

    dim: int = 2
    scale: float = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x - x.mean(0)).square().sum(-1)


@register_metric("broken_twice", version=1, needs=("samples",), unit="1", blind_to="everything")
def broken_twice(draws: Draws, truth: Truth, *, seed: int) -> dict[str, float]:
    """Sorts the draws that it is given, and asks for the truth's score without saying so."""
    draws.samples.copy_(draws.samples.sort(0).values)
    return {"broken_twice": truth.score(draws.samples).square().mean().item()}  # type: ignore[misc]


@register_target("broken_hash", version=1)
@dataclass(frozen=True)
class Hashed:
    """A density whose width is another one in every process."""

    dim: int = 2
    scale: float = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (1 + hash("width") % 1_000 / 1_000) * x.square().sum(-1)


@register_metric("broken_hash", version=1, needs=("samples",), unit="1", blind_to="everything")
def broken_hash(draws: Draws, truth: Truth, *, seed: int) -> dict[str, float]:
    """A number of its own in every process."""
    return {"broken_hash": float(hash("value"))}
