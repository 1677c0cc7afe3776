"""Measured: training steps of the one-pass samplers beside the bare passes of the same networks and target.

``step_us`` and ``bare_us`` in ``extra_info`` are medians of rounds in turn. A bare step makes every forward and
backward pass of a step, at as many points and of the same orders, with losses that are plain sums: it lacks noise,
optimisers, moving average, clipping, the meter, the looks for what is not finite, and the moves of DiKL's particles.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from samplerbench import samplers, targets
from samplerbench.samplers.implicit.divergence import divergence
from samplerbench.samplers.implicit.networks import MLP, Network, NoisedScore, SamplerNetwork
from samplerbench.samplers.implicit.posterior import Posterior
from samplerbench.samplers.implicit.stein import stein_kernel
from samplerbench.samplers.implicit.trainer import Training
from samplerbench.targets import Meter, Target, derive_generator

N_STEPS = 50  # per round: starting the networks takes less than one step
N_ROUNDS = 5
TRAINING, POSTERIOR = Training(n_steps=N_STEPS, n_warm_up=0), Posterior()


@pytest.mark.parametrize("target", ["ring8", "funnel10"])
@pytest.mark.parametrize("name", ["dft", "dikl", "fisher", "fisher_ns", "kl", "ksd_ns"])
def test_training_step(name: str, target: str, benchmark: BenchmarkFixture) -> None:
    sampler = samplers.get(name, training=asdict(TRAINING))
    meter = Meter(targets.get(target))
    bare = Bare.of(name, targets.get(target))
    seconds: dict[str, list[float]] = {"step": [], "bare": []}

    def bare_steps() -> None:
        began = time.perf_counter()
        for _ in range(N_STEPS):
            bare.step()
        seconds["bare"].append(time.perf_counter() - began)

    def steps() -> None:
        began = time.perf_counter()
        sampler.fit(meter, derive_generator(0, "fit"))
        seconds["step"].append(time.perf_counter() - began)

    benchmark.pedantic(steps, setup=bare_steps, rounds=N_ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]
    counts = asdict(meter.counts["fit"])
    assert counts["score"] > 0
    step_us, bare_us = (1e6 * statistics.median(seconds[kind]) / N_STEPS for kind in ("step", "bare"))
    benchmark.extra_info.update(
        target=target,
        n_steps_per_round=N_STEPS,
        per_step={kind: n_points / (N_STEPS * (N_ROUNDS + 1)) for kind, n_points in counts.items()},
        step_us=step_us,
        bare_us=bare_us,
        bare_share=bare_us / step_us,
        step_over_bare=step_us / bare_us,
    )


@dataclass(frozen=True)
class Bare:
    """The networks of a method and a target in the unit of its scale, with nothing around them."""

    name: str
    target: Target
    sampler: SamplerNetwork
    opponent: nn.Module
    z: Tensor
    x: Tensor  # where an opponent learns

    @classmethod
    def of(cls, name: str, target: Target) -> "Bare":
        meter, generator = Meter(target), derive_generator(0, "bare")
        opponent: nn.Module
        if name == "ksd_ns":
            opponent = nn.Identity()
        elif name == "dikl":
            opponent = NoisedScore(Network(), meter, generator)
        else:
            opponent = MLP(target.dim, target.dim, Network(), meter, generator)
        sampler = SamplerNetwork(Network(), meter, generator)
        n_latents = TRAINING.batch_size // (1 if name in ("fisher_ns", "ksd_ns") else 2)
        z, x = (torch.randn(n, target.dim, generator=generator) for n in (n_latents, TRAINING.batch_size))
        return cls(name, target, sampler, opponent, z, x)

    def step(self) -> None:
        """All passes of the opponent's steps and of the sampler's."""
        if self.name != "ksd_ns":
            self.opponent.requires_grad_(True)
            with torch.no_grad():
                self.sampler(self.z.repeat(TRAINING.n_score_steps, 1))
            for _ in range(TRAINING.n_score_steps):
                self.opponent.zero_grad()
                torch.autograd.backward(self.opponent_loss())
        self.opponent.requires_grad_(False)
        self.sampler.zero_grad()
        torch.autograd.backward(LOSSES[self.name](self, self.sampler(self.z)))

    def opponent_loss(self) -> Tensor:
        """Of a score network or a critic."""
        if self.name == "fisher_ns":
            x = self.x.clone().requires_grad_()
            critic = self.field(x)
            return (critic * self.score(self.x)).sum() + divergence(critic, x, derive_generator(0)).sum()
        return self.field(self.x).square().sum()

    def field(self, y: Tensor) -> Tensor:
        """The opponent's values."""
        values: Tensor = self.opponent(y, torch.ones_like(y[:, :1])) if self.name == "dikl" else self.opponent(y)
        return values

    def score(self, y: Tensor) -> Tensor:
        """The target's score, with a graph where ``y`` has one."""
        with torch.enable_grad():
            x = self.target.scale * (y if y.requires_grad else y.clone().requires_grad_())
            score: Tensor = torch.autograd.grad(self.target.log_prob(x).sum(), x, create_graph=y.requires_grad)[0]
            return score


def _dft(bare: Bare, x0: Tensor) -> Tensor:
    y = torch.cat([x0, x0])
    return (bare.score(y) * bare.field(y)).sum()


def _kl(bare: Bare, x0: Tensor) -> Tensor:
    y = torch.cat([x0, x0])
    with torch.no_grad():
        direction = bare.field(y) - bare.score(y.detach())
    return (direction * y).sum()


def _dikl(bare: Bare, x0: Tensor) -> Tensor:
    y = torch.cat([x0, x0])
    particles = y.detach().repeat(POSTERIOR.n_particles, 1)
    with torch.no_grad():
        direction = bare.field(y)
    for _ in range(len(POSTERIOR.betas) - 1 + POSTERIOR.n_moves):
        direction = direction - bare.score(particles)[: len(y)]
    return (direction * y).sum()


def _fisher(bare: Bare, x0: Tensor) -> Tensor:
    u = bare.score(x0) - bare.field(x0)
    return (u.square().sum(-1) + divergence(u, x0, derive_generator(0))).sum()


def _fisher_ns(bare: Bare, x0: Tensor) -> Tensor:
    critic = bare.field(x0)
    return ((critic * bare.score(x0)).sum(-1) + divergence(critic, x0, derive_generator(0))).sum()


def _ksd_ns(bare: Bare, x0: Tensor) -> Tensor:
    score = bare.score(x0)
    return stein_kernel(x0, score, x0, score, 1.0).sum()


LOSSES: dict[str, Callable[[Bare, Tensor], Tensor]] = {
    "dft": _dft,
    "dikl": _dikl,
    "fisher": _fisher,
    "fisher_ns": _fisher_ns,
    "kl": _kl,
    "ksd_ns": _ksd_ns,
}
