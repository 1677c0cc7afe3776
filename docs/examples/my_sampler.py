"""A sampler of one's own: give this file as ``--plugin docs/examples/my_sampler.py``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from samplerbench.samplers import checked_start, normal_like, register_sampler
from samplerbench.targets import BudgetReached, Draws, Meter


@register_sampler("random_walk", version=1)
@dataclass(frozen=True, kw_only=True)
class RandomWalk:
    """Random-walk Metropolis: every draw is the end of its own chain; asks for no gradient.

    Attributes:
        step_size: standard deviation of a proposal, in units of scale / sqrt(dim).
        n_steps: moves of each chain.
    """

    step_size: float = 2.4
    n_steps: int = 500

    def __post_init__(self) -> None:
        if not 0 < self.step_size < math.inf:
            raise ValueError(f"step_size must be positive and finite, got {self.step_size}")
        if self.n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, got {self.n_steps}")

    def fit(self, meter: Meter, generator: Generator) -> "FittedRandomWalk":
        """Nothing to pay once."""
        return FittedRandomWalk(self, meter)


@dataclass(frozen=True)
class FittedRandomWalk:
    """Random-walk Metropolis on one target."""

    config: RandomWalk
    meter: Meter
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Ends of ``n_samples`` chains, or where the last move that the budget could pay has left them."""
        x = checked_start(start, n_samples, self.meter, generator).clone()
        step = self.config.step_size * self.meter.scale / math.sqrt(self.meter.dim)
        n_moves, n_accepted = 0, 0
        try:
            log_prob = self.meter.log_prob(x)
            n_bad = int((log_prob.isnan() | log_prob.isposinf()).sum())
            if n_bad:
                return Draws(samples=x, stopped="diverged", reason=f"log_prob is no number at {n_bad} starts")
            while n_moves < self.config.n_steps:
                proposal = x + step * normal_like(x, generator)
                proposed = self.meter.log_prob(proposal)
                u = torch.rand(log_prob.shape, generator=generator, device=x.device, dtype=x.dtype)
                accepted = (u.log() < proposed - log_prob) & proposed.isfinite()  # NaN is rejected
                x = torch.where(accepted[:, None], proposal, x)
                log_prob = torch.where(accepted, proposed, log_prob)
                n_moves, n_accepted = n_moves + 1, n_accepted + int(accepted.sum())
        except BudgetReached as limit:  # raised before the evaluation: x is as the last move left it
            return Draws(samples=x, stopped="budget", reason=f"{limit}; stopped after {n_moves} moves")
        return Draws(samples=x, diagnostics={"acceptance_rate": n_accepted / (n_moves * n_samples)})
