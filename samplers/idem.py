"""Iterated denoising energy matching: a diffusion sampler whose scores are importance-sampled from the density.

    x ~ q,  x_s = x + s eps,  grad log q_s(x_s) = grad log E exp(log q(x_s + s eps')),  eps, eps' ~ N(0, I)

A network learns these scores at noised points of a buffer, which its own draws fill: what it has not found yet comes
into view at large s, where the expectation reaches other modes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from ..targets.checks import require_at_least, require_positive
from ..targets.draws import Draws, Stopped
from ..targets.meter import BudgetReached, Meter
from .base import FittedSampler, normal_like, refuse_start, register_sampler
from .implicit.fitted import mean_losses
from .implicit.flat import flatten
from .implicit.networks import Network, NoisedScore
from .implicit.noise import falling_levels
from .implicit.trainer import LOOK_EVERY, LastLook
from .kernels import shortened

BLOCK = 2**14  # draws at once


@register_sampler("idem", version=1)
@dataclass(frozen=True, kw_only=True)
class IDEM:
    """Iterated denoising energy matching: regression on estimated scores of the noised target, without data.

    In coordinates y = x / scale, a round of ``fit`` puts ``n_fresh`` draws of the present network into the buffer and
    makes ``n_inner`` steps of regression on them at levels log-uniform from ``lowest`` to ``highest``. Each step costs
    batch_size * n_particles scores. A draw is free: the reversed diffusion from N(0, (1 + highest^2) I) down to
    ``lowest`` and a denoising step to zero; it is as wrong as network, steps and the estimate's bias of order
    1 / n_particles are. Where none of the particles comes near a mode, at large s in many dimensions, that bias is all.

    Attributes:
        network: the score network.
        n_rounds, n_inner: of training; there are n_rounds n_inner steps.
        n_fresh, buffer_size: draws that a round adds, and how many the buffer keeps, the youngest.
        batch_size, step_size: of Adam; the step size falls to zero along a cosine.
        n_particles: of the estimate of a score.
        max_score: an estimated score is shortened to it, in units of dim^.5 / s; further than that a point of the
            buffer has no business to be.
        lowest, highest: levels, in units of the target's scale.
        n_levels: steps of a draw.

    Reference: T. Akhound-Sadegh et al., Iterated Denoising Energy Matching for Sampling from Boltzmann Densities, ICML
    2024, arXiv 2402.06121. Settings are ours, as are the network's form and the loss, weighted by s^2 (1 + s^2).
    """

    network: Network = field(default_factory=Network)
    n_rounds: int = 100
    n_inner: int = 50
    n_fresh: int = 512
    buffer_size: int = 10_000
    batch_size: int = 256
    step_size: float = 2e-3
    n_particles: int = 128
    max_score: float = 5.0
    lowest: float = 0.01
    highest: float = 2.0
    n_levels: int = 100

    def __post_init__(self) -> None:
        require_at_least(1, n_rounds=self.n_rounds, n_inner=self.n_inner, n_fresh=self.n_fresh)
        require_at_least(1, buffer_size=self.buffer_size, batch_size=self.batch_size)
        require_at_least(1, n_particles=self.n_particles, n_levels=self.n_levels)
        require_positive(step_size=self.step_size, max_score=self.max_score)
        require_positive(lowest=self.lowest, highest=self.highest)
        if self.lowest >= self.highest:
            raise ValueError(f"highest must be above lowest {self.lowest}, got {self.highest}")

    @property
    def n_steps(self) -> int:
        """Of Adam."""
        return self.n_rounds * self.n_inner

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train; where the budget ends, the network is that of the step before.

        Where a loss or a gradient is not finite, the state of the last look is kept.
        """
        network = NoisedScore(self.network, meter, generator)
        theta, gradient = flatten(network.parameters())
        adam = torch.optim.Adam([theta], self.step_size, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.n_steps)
        buffer = torch.empty(0, meter.dim, device=meter.device, dtype=meter.dtype)
        trace = theta.new_zeros(2, self.n_steps)  # losses, and lengths of gradients
        last, n_steps = LastLook(theta), 0
        stopped: Stopped | None = None
        reason = ""
        while n_steps < self.n_steps and stopped is None:
            if n_steps % self.n_inner == 0:
                fresh = reversed_diffusion(self, network, self.n_fresh, meter, generator)
                buffer = torch.cat([buffer, fresh])[-self.buffer_size :]
            try:
                y, s = noised(buffer, self, generator)
                score = shortened(
                    estimated_score(y, s, meter, self.n_particles, generator), 1.0, self.max_score / s * meter.dim**0.5
                )
                loss = matching_loss(network, y, s, score)
                gradient.zero_()
                torch.autograd.backward(loss)
                adam.step()
                schedule.step()
                trace[:, n_steps] = torch.stack([loss.detach(), torch.linalg.vector_norm(gradient)])
                n_steps += 1
            except BudgetReached as limit:
                stopped, reason = "budget", f"after {n_steps} of {self.n_steps} steps: {limit}"
            if n_steps % LOOK_EVERY == 0 or n_steps == self.n_steps or stopped is not None:
                not_kept = last.look(trace[:, :n_steps])
                if not_kept:
                    stopped, reason = "diverged", not_kept
        notes = {"n_steps": last.n_steps, **mean_losses(trace[:1, : last.n_finite], "matching_loss")}
        return FittedIDEM(self, meter, network.requires_grad_(False), notes, stopped, reason)


def noised(buffer: Tensor, config: IDEM, generator: Generator) -> tuple[Tensor, Tensor]:
    """A batch of points of the buffer, ``(batch_size, dim)``, each at a level of its own, ``(batch_size, 1)``."""
    rows = torch.randint(len(buffer), (config.batch_size,), generator=generator, device=buffer.device)
    y0 = buffer[rows]
    u = torch.rand(len(y0), 1, generator=generator, device=y0.device, dtype=y0.dtype)
    s = (math.log(config.lowest) + math.log(config.highest / config.lowest) * u).exp()
    return y0 + s * normal_like(y0, generator), s


def estimated_score(y: Tensor, s: Tensor, meter: Meter, n_particles: int, generator: Generator) -> Tensor:
    """grad log sum_k exp(log q(y + s eps_k)), eps_k ~ N(0, I): the scores at y + s eps_k, weighted by their densities.

    Of the order of 1 / n_particles away from the score of the noised target on average. A point where the target is NaN
    or infinite has no weight; where all are such, the estimate is NaN.

    Args:
        y, s: shape ``(n, dim)`` and ``(n, 1)``, in units of the meter's scale.
        meter: of the target.
        n_particles: k, each of which costs a score.
        generator: of eps.
    Returns:
        Shape ``(n, dim)``, in units of 1 / scale.
    """
    around = y + s * normal_like(y.expand(n_particles, *y.shape), generator)
    log_prob, score = meter.log_prob_and_score(meter.scale * around)
    log_prob = log_prob.nan_to_num(nan=-math.inf, posinf=-math.inf)
    weights = log_prob.softmax(0).unsqueeze(-1)
    return meter.scale * torch.where(weights == 0, 0.0, weights * score).sum(0)


def matching_loss(network: nn.Module, y: Tensor, s: Tensor, score: Tensor) -> Tensor:
    """E s^2 (1 + s^2) |network(y, s) - score|^2: the squared error of the network's unit-size part."""
    error: Tensor = network(y, s) - score
    return (s.square() * (1 + s.square()) * error.square()).sum(-1).mean()


def reversed_diffusion(config: IDEM, network: nn.Module, n: int, meter: Meter, generator: Generator) -> Tensor:
    """``n`` draws ``(n, dim)``: from level s to s' by the law of y_s' given y_s and y0 = y + s^2 score(y, s)."""
    s = falling_levels(config.highest, config.lowest, config.n_levels)
    levels = [*s.tolist(), 0.0]
    y = torch.empty(n, meter.dim, device=meter.device, dtype=meter.dtype).normal_(generator=generator)
    y *= math.sqrt(1 + levels[0] ** 2)
    with torch.no_grad():
        for here, there in pairwise(levels):
            gap = here**2 - there**2
            y = y + gap * network(y, torch.full_like(y[:, :1], here))
            y += math.sqrt(gap) * there / here * normal_like(y, generator)
    return y


@dataclass(frozen=True)
class FittedIDEM:
    """Scores of the noised target, and the losses of training in the diagnostics."""

    config: IDEM
    meter: Meter
    network: NoisedScore
    diagnostics: Mapping[str, object]
    stopped: Stopped | None
    reason: str

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Independent draws; ValueError if ``start`` is given or ``n_samples`` below 1."""
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "a diffusion starts from noise")
        sizes = [min(BLOCK, n_samples - first) for first in range(0, n_samples, BLOCK)]
        y = torch.cat([reversed_diffusion(self.config, self.network, n, self.meter, generator) for n in sizes])
        return Draws(samples=self.meter.scale * y, stopped=self.stopped, reason=self.reason)
