"""Alternating training of a sampler network and a score network, shared by DFT, Fisher and KL training.

    z ~ N(0, I),  eps ~ N(0, I),  x0 = g_theta(z),  x = x0 + s eps

A score step fits s_phi to the score of the law of x by denoising, min_phi s^2 E|s_phi(x) + eps / s|^2; a sampler step
lowers the method's loss over theta with phi frozen. All of it happens in coordinates y = x / scale, where the target's
score is scale * score(x): losses, noise, step sizes and clipping then mean the same on every target.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Generator, Tensor, nn

from ...targets.checks import require_at_least, require_positive
from ...targets.draws import Stopped
from ...targets.meter import BudgetReached, Meter
from .networks import MLP, Network, SamplerNetwork
from .noise import antithetic

Field: TypeAlias = Callable[[Tensor], Tensor]
"""Points ``(n, dim)`` to vectors ``(n, dim)``: a score."""

Loss: TypeAlias = Callable[[Tensor, Field, Field, Generator], Tensor]
"""``loss(x0, s_q, s_phi, generator)`` is a scalar; ``x0 (n, dim)`` carries the graph of theta."""

LOOK_EVERY = 50  # steps between looks for what is not finite: a look waits for the device


@dataclass(frozen=True, kw_only=True)
class Training:
    """How both networks are trained; all methods have the same defaults.

    Attributes:
        n_steps: sampler steps.
        batch_size: points per step, which are both signs of the noise on batch_size / 2 latents.
        n_score_steps: score steps before every sampler step, each with fresh latents and noise.
        n_warm_up: score steps before the first sampler step.
        sampler_step_size: of Adam without momentum (its opponent moves); falls to zero along a cosine.
        score_step_size: of Adam; falls along the same cosine, to a tenth. The score network must keep up with the
            sampler, so n_score_steps * score_step_size / sampler_step_size should not be below 10. At 40, reached by
            a quarter of the sampler's step size, KL training on ring8 was farther from the target after as many steps
            (sliced W2 .61 against .31, means of 3 seeds each).
        max_score: the components of the target's score are clamped at this value, in units of 1 / scale. Squares and
            derivatives of what is met deep in the neck of a funnel would overflow float32.
        clip_rows: the loss gradient in each x0 is shortened to this multiple of the batch's median length (ours, and
            a bias: single points in steep places would otherwise decide the step).
        clip_norm: the gradient in theta is shortened to this length.
        ema_decay: of the moving average of theta (smaller in the first steps).
    """

    n_steps: int = 2_500
    batch_size: int = 256
    n_score_steps: int = 5
    n_warm_up: int = 300
    sampler_step_size: float = 1e-3
    score_step_size: float = 2e-3
    max_score: float = 1e4
    clip_rows: float = 5.0
    clip_norm: float = 10.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps, n_score_steps=self.n_score_steps)
        require_at_least(0, n_warm_up=self.n_warm_up)
        if self.batch_size < 2 or self.batch_size % 2:
            raise ValueError(f"batch_size must be even and at least 2, got {self.batch_size}")
        require_positive(sampler_step_size=self.sampler_step_size, score_step_size=self.score_step_size)
        require_positive(max_score=self.max_score, clip_rows=self.clip_rows, clip_norm=self.clip_norm)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")


@dataclass(frozen=True)
class Trained:
    """What training leaves behind.

    Attributes:
        last: the sampler network after the last step.
        average: the same with the moving average of theta.
        trace: losses of the sampler and of the score network in the steps behind them, shape ``(2, n_steps)``.
        stopped, reason: as in Draws.
    """

    last: SamplerNetwork
    average: SamplerNetwork
    trace: Tensor
    stopped: Stopped | None
    reason: str


def train(
    loss: Loss, s_q: Field, meter: Meter, generator: Generator, *, network: Network, training: Training, noise: float
) -> Trained:
    """Train until the steps or the budget are used up, or something is not finite.

    A step that the budget cannot pay leaves theta as it was; what is not finite takes theta back to the last look.

    Args:
        loss: of the method.
        s_q: score of the metered target in x, differentiable if the loss differentiates it.
        noise: its standard deviation s, in units of the target's scale.
    """
    players = _Players(loss, s_q, meter, generator, network, training, noise)
    trace = torch.zeros(2, training.n_steps, device=meter.device, dtype=meter.dtype)
    kept, n_kept, n_steps = players.snapshot(), 0, 0
    stopped: Stopped | None = None
    reason = ""
    for _ in range(training.n_warm_up):
        players.score_steps(1)
    while n_steps < training.n_steps and stopped is None:
        try:
            trace[:, n_steps] = players.step(n_steps)
            n_steps += 1
        except BudgetReached as limit:
            stopped, reason = "budget", f"after {n_steps} of {training.n_steps} steps: {limit}"
        if n_steps % LOOK_EVERY == 0 or n_steps == training.n_steps or stopped is not None:
            bad_step = _first_bad_step(trace[:, :n_steps], players.theta)
            if bad_step is None:
                kept, n_kept = players.snapshot(), n_steps
            else:
                stopped = "diverged"
                reason = f"loss or gradient not finite in step {bad_step}; the state after step {n_kept} is kept"
                players.restore(kept)
    return Trained(players.sampler, players.average, trace[:, :n_kept], stopped, reason)


class _Players:
    """The two networks with their optimisers, and the target as both of them see it."""

    def __init__(
        self,
        loss: Loss,
        s_q: Field,
        meter: Meter,
        generator: Generator,
        network: Network,
        training: Training,
        noise: float,
    ) -> None:
        self.loss, self.generator, self.training, self.noise = loss, generator, training, noise
        self.s_q = _standardised(s_q, meter.scale, training.max_score)
        self.like = torch.empty(0, device=meter.device, dtype=meter.dtype)
        self.sampler = SamplerNetwork(network, meter, generator)
        self.average = copy.deepcopy(self.sampler).requires_grad_(False)
        self.score = MLP(meter.dim, meter.dim, network, meter, generator)
        self.theta: list[Tensor] = list(self.sampler.parameters())
        self.ema: list[Tensor] = list(self.average.parameters())
        self.sampler_adam = torch.optim.Adam(self.theta, betas=(0.0, 0.999), fused=True)
        self.score_adam = torch.optim.Adam(self.score.parameters(), training.score_step_size, fused=True)

    def step(self, n_done: int) -> Tensor:
        """Score steps and a sampler step, the latter only as a whole; both losses, shape ``(2,)``."""
        cosine = 0.5 * (1 + math.cos(math.pi * n_done / self.training.n_steps))
        self.score_adam.param_groups[0]["lr"] = self.training.score_step_size * (0.1 + 0.9 * cosine)
        self.sampler_adam.param_groups[0]["lr"] = self.training.sampler_step_size * cosine
        score_loss = self.score_steps(self.training.n_score_steps)
        sampler_loss = self._sampler_step()
        with torch.no_grad():
            decay = min(self.training.ema_decay, (1 + n_done) / (10 + n_done))  # forgets the untrained network
            for mean, value in zip(self.ema, self.theta, strict=True):
                mean.lerp_(value, 1 - decay)
        return torch.stack([sampler_loss, score_loss])

    def score_steps(self, n_steps: int) -> Tensor:
        """Adam on s^2 E|s_phi(x) + eps / s|^2 over phi; the last loss."""
        self.score.requires_grad_(True)
        with torch.no_grad():  # theta rests meanwhile, so one pass serves all steps
            batches = self._x0(n_steps).chunk(n_steps)
        loss = self.like.new_zeros(())
        for x0 in batches:
            x, eps = antithetic(x0, self.noise, self.generator)
            loss = (self.noise * self.score(x) + eps).square().sum(-1).mean()
            self.score_adam.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.score_adam.step()
        return loss.detach()

    def _sampler_step(self) -> Tensor:
        """Adam on the method's loss over theta; its value."""
        self.score.requires_grad_(False)  # never no_grad: the gradient flows through s_phi's argument
        x0 = self._x0(1)
        points = x0.detach().requires_grad_()  # a hook on x0 itself would also clip what the loss differentiates
        loss = self.loss(points, self.s_q, self.score, self.generator)
        (gradient,) = torch.autograd.grad(loss, points)
        self.sampler_adam.zero_grad(set_to_none=True)
        torch.autograd.backward(x0, self._clip_rows(gradient))
        nn.utils.clip_grad_norm_(self.theta, self.training.clip_norm, foreach=True)
        self.sampler_adam.step()
        return loss.detach()

    def _x0(self, n_batches: int) -> Tensor:
        z = self.like.new_empty(n_batches * self.training.batch_size // 2, self.sampler.latent_dim)
        x0: Tensor = self.sampler(z.normal_(generator=self.generator))
        return x0

    def _clip_rows(self, gradient: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
        longest = self.training.clip_rows * length.median()
        clipped: Tensor = gradient * (longest / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_max(1.0)
        return clipped

    def snapshot(self) -> list[Tensor]:
        """Copies of theta and its average."""
        return [value.detach().clone() for value in self.theta + self.ema]

    def restore(self, snapshot: list[Tensor]) -> None:
        """Theta and its average as they were."""
        with torch.no_grad():
            for value, kept in zip(self.theta + self.ema, snapshot, strict=True):
                value.copy_(kept)


def _standardised(s_q: Field, scale: float, max_score: float) -> Field:
    """The score in coordinates y = x / scale, each component clamped."""

    def score(y: Tensor) -> Tensor:
        return (scale * s_q(scale * y)).clamp(-max_score, max_score)

    return score


def _first_bad_step(trace: Tensor, theta: list[Tensor]) -> int | None:
    """The first step (from 1) with a loss that is not finite, or the last step if theta is not finite after it."""
    bad = ~trace.isfinite().all(0)
    if bad.any():
        return int(bad.int().argmax()) + 1
    return None if all(value.isfinite().all() for value in theta) else trace.shape[1]
