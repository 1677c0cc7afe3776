"""Alternating training of a sampler network and its opponent, shared by the one-pass samplers.

    z ~ N(0, I),  eps ~ N(0, I),  x0 = g_theta(z),  x = x0 + s eps

An opponent's step lowers its loss over phi: for most methods it is a score network that learns the score of the law of
x by denoising. A sampler step lowers the method's loss over theta with phi frozen. All of it happens in coordinates
y = x / scale, where the target's score is scale * score(x): losses, noise, step sizes and clipping then mean the same
on every target.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from ...targets.checks import require_at_least, require_positive
from ...targets.draws import Stopped
from ...targets.meter import BudgetReached, Meter
from ..base import NotApplicableError
from .flat import flatten
from .networks import Network, OnePass, SamplerNetwork
from .objective import Objective
from .stopping import Stopping, Watch

LOOK_EVERY = 50  # steps between looks for what is not finite: a look waits for the device
ONLY_ONCE = ("differentiate twice", "is not implemented")  # what torch says where there is no second derivative


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
    clip_rows: float = 5.0
    clip_norm: float = 10.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps, n_score_steps=self.n_score_steps)
        require_at_least(0, n_warm_up=self.n_warm_up)
        if self.batch_size < 2 or self.batch_size % 2:
            raise ValueError(f"batch_size must be even and at least 2, got {self.batch_size}")
        require_positive(sampler_step_size=self.sampler_step_size, score_step_size=self.score_step_size)
        require_positive(clip_rows=self.clip_rows, clip_norm=self.clip_norm)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")


@dataclass(frozen=True)
class Trained:
    """What training leaves behind.

    Attributes:
        last: the sampler network after the last step.
        average: the same with the moving average of theta.
        n_steps: behind them.
        trace: losses of the sampler and of the opponent, shape ``(2, n)``; without an opponent ``(1, n)``. Where a loss
            or a gradient was not finite, of all steps before it, so of more than ``n_steps``.
        stopped, reason: as in Draws.
        discrepancies: at the looks of a stopping rule.
    """

    last: OnePass
    average: OnePass
    n_steps: int
    trace: Tensor
    stopped: Stopped | None
    reason: str
    discrepancies: Sequence[float] = ()


def train(
    objective: Objective,
    meter: Meter,
    generator: Generator,
    *,
    network: Network,
    training: Training,
    stopping: Stopping | None = None,
    noise: float = 0.0,
    sampler: OnePass | None = None,
) -> Trained:
    """Train until the steps or the budget are used up, a rule says that it is enough, or something is not finite.

    A step that the budget cannot pay leaves theta as it was; what is not finite takes theta back to the last look.

    Args:
        objective: of the method.
        meter: of the target.
        generator: the only source of randomness.
        network: shape of both networks.
        training: how they are trained.
        stopping: an earlier end, whose best state is kept; it looks once schedules and paths are at their ends.
        noise: of the draws that it looks at, in units of the scale.
        sampler: where theta starts; by default an untrained network.
    """
    players = _Players(objective, meter, generator, network, training, sampler)
    trace = torch.zeros(players.n_losses + 1, training.n_steps, device=meter.device, dtype=meter.dtype)
    kept, n_kept, n_steps, n_finite = players.snapshot(), 0, 0, 0
    watch, best = None if stopping is None else Watch.under(stopping), players.snapshot()
    look = None if stopping is None else players.watched(stopping, noise)
    stopped: Stopped | None = None
    reason = ""
    is_enough = False
    try:
        if not players.warm_up():
            stopped, reason = "diverged", "loss of the opponent not finite before the first step; nothing is trained"
    except BudgetReached as limit:
        stopped, reason = "budget", f"before the first of {training.n_steps} steps: {limit}"
    while n_steps < training.n_steps and stopped is None and not is_enough:
        try:
            trace[:, n_steps] = players.step(n_steps)
            n_steps += 1
            if watch is not None and look is not None and watch.is_due(n_steps, objective.settled * training.n_steps):
                if watch.look(*look()):
                    best = players.snapshot()
                is_enough = watch.is_over
        except BudgetReached as limit:
            stopped, reason = "budget", f"after {n_steps} of {training.n_steps} steps: {limit}"
        if n_steps % LOOK_EVERY == 0 or n_steps == training.n_steps or is_enough or stopped is not None:
            bad_step = first_bad_step(trace[:, :n_steps])
            n_finite = n_steps if bad_step is None else bad_step - 1
            if bad_step is None:
                kept, n_kept = players.snapshot(), n_steps
            else:
                stopped, reason = "diverged", not_finite(bad_step, n_kept)
                players.restore(kept)
    if watch is not None and math.isfinite(watch.best):
        players.restore(best)
    looks = () if watch is None else tuple(watch.trace)
    losses = trace[: players.n_losses, :n_finite]
    return Trained(players.sampler, players.average, n_kept, losses, stopped, reason, looks)


class _Players:
    """The sampler and its opponent with their optimisers."""

    def __init__(
        self,
        objective: Objective,
        meter: Meter,
        generator: Generator,
        network: Network,
        training: Training,
        sampler: OnePass | None = None,
    ) -> None:
        self.objective, self.generator, self.training, self.meter = objective, generator, training, meter
        self.sampler: OnePass = SamplerNetwork(network, meter, generator) if sampler is None else sampler
        self.average = copy.deepcopy(self.sampler).requires_grad_(False)
        self.opponent = objective.opponent(network, meter, generator)
        self.n_latents = training.batch_size // objective.points_per_latent
        self.layers: list[Tensor] = list(self.sampler.parameters())
        self.opponent_layers: list[Tensor] = list(self.opponent.parameters())
        self.theta, self.theta_gradient = flatten(self.layers)
        self.ema, _ = flatten(self.average.parameters())
        self.n_losses = 2 if self.opponent_layers else 1
        self.sampler_adam = torch.optim.Adam([self.theta], betas=(0.0, 0.999), fused=True)
        self.opponent_adam = None
        if self.opponent_layers:
            phi, self.phi_gradient = flatten(self.opponent_layers)
            self.opponent_adam = torch.optim.Adam([phi], training.score_step_size, fused=True)

    def warm_up(self) -> bool:
        """The opponent's steps before the first sampler step; False where a look finds that its loss is not finite."""
        for n_done in range(1, self.training.n_warm_up + 1):
            loss = self.opponent_steps(1, 0.0)
            if n_done % LOOK_EVERY == 0 and not loss.isfinite():
                return False
        return True

    def step(self, n_done: int) -> Tensor:
        """The opponent's steps and a sampler step, the latter only as a whole; losses and the length of the gradient.

        Returns:
            Shape ``(n_losses + 1,)``.
        """
        progress = n_done / self.training.n_steps
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        if self.opponent_adam is not None:
            self.opponent_adam.param_groups[0]["lr"] = self.training.score_step_size * (0.1 + 0.9 * cosine)
        self.sampler_adam.param_groups[0]["lr"] = self.training.sampler_step_size * cosine
        opponent_loss = self.opponent_steps(self.training.n_score_steps, progress)
        sampler_loss, length = self._sampler_step(progress)
        with torch.no_grad():
            decay = min(self.training.ema_decay, (1 + n_done) / (10 + n_done))  # forgets the untrained network
            self.ema.lerp_(self.theta, 1 - decay)
        return torch.stack([*[sampler_loss, opponent_loss][: self.n_losses], length])

    def opponent_steps(self, n_steps: int, progress: float) -> Tensor:
        """Adam on the opponent's loss over phi; the last loss."""
        loss = self.theta.new_zeros(())
        if self.opponent_adam is None:
            return loss
        self.opponent.requires_grad_(True)
        with torch.no_grad():  # theta rests meanwhile, so one pass serves all steps
            batches = self._x0(n_steps * self.n_latents).chunk(n_steps)
        for x0 in batches:
            loss = self.objective.opponent_loss(self.opponent, x0, progress, self.generator)
            self.phi_gradient.zero_()
            torch.autograd.backward(loss, inputs=self.opponent_layers)
            self.opponent_adam.step()
        return loss.detach()

    def _sampler_step(self, progress: float) -> tuple[Tensor, Tensor]:
        """Adam on the method's loss over theta; its value, and the length of the gradient in theta before clipping."""
        self.opponent.requires_grad_(False)  # never no_grad: the gradient flows through s_phi's argument
        x0 = self._x0(self.n_latents)
        points = x0.detach().requires_grad_()  # a hook on x0 itself would also clip what the loss differentiates
        try:
            loss = self.objective.sampler_loss(self.opponent, points, progress, self.generator)
            (gradient,) = torch.autograd.grad(loss, points)
        except RuntimeError as error:
            if any(sign in str(error) for sign in ONLY_ONCE):
                raise NotApplicableError(f"needs second derivatives of log_prob, target has none: {error}") from error
            raise
        self.theta_gradient.zero_()
        torch.autograd.backward(x0, clipped_rows(gradient, self.training.clip_rows), inputs=self.layers)
        length = nn.utils.clip_grad_norm_(self.theta, self.training.clip_norm)
        self.sampler_adam.step()
        return loss.detach(), length

    def _x0(self, n: int) -> Tensor:
        x0: Tensor = self.sampler(*self.sampler.latents(n, self.generator))
        return x0

    def watched(self, rule: Stopping, noise: float) -> Callable[[], tuple[Tensor, Tensor]]:
        """Draws of the moving average at the time of a call, always from the same latents, with the target's scores."""
        generator = Generator(device=self.generator.device)
        generator.set_state(self.generator.get_state())  # a copy: looks do not change the training
        latents = self.average.latents(rule.n_points, generator)
        eps = self.theta.new_empty(rule.n_points, self.average.dim).normal_(generator=generator)

        def look() -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                y = self.average(*latents) + noise * eps
            scale, limit = self.meter.scale, rule.max_score
            return y, (scale * self.meter.score(scale * y)).clamp(-limit, limit)

        return look

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """Copies of theta and its average."""
        return self.theta.clone(), self.ema.clone()

    def restore(self, snapshot: tuple[Tensor, Tensor]) -> None:
        """Theta and its average as they were."""
        for value, kept in zip((self.theta, self.ema), snapshot, strict=True):
            value.copy_(kept)


def clipped_rows(gradient: Tensor, multiple: float) -> Tensor:
    """Rows ``(n, dim)`` shortened to a multiple of the median length of those that are not zero."""
    length = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
    moved = torch.where(length > 0, length, math.nan)  # rows without gradient do not count
    longest = multiple * moved.nanmedian().nan_to_num(nan=0.0)
    clipped: Tensor = gradient * (longest / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_max(1.0)
    return clipped


def first_bad_step(trace: Tensor) -> int | None:
    """The first step (from 1) with a loss or a gradient that is not finite.

    Args:
        trace: losses and lengths of gradients, shape ``(n_values, n_steps)``.
    """
    bad = ~trace.isfinite().all(0)
    return int(bad.int().argmax()) + 1 if bad.any() else None


def not_finite(bad_step: int, n_kept: int) -> str:
    """The reason of a training that ends as diverged."""
    return f"loss or gradient not finite in step {bad_step}; the state after step {n_kept} is kept"


class LastLook:
    """The state of a training when nothing was seen that is not finite.

    Attributes:
        n_steps: behind that state.
        n_finite: steps with finite losses and gradients, as many or more.
    """

    def __init__(self, theta: Tensor) -> None:
        self.n_steps = self.n_finite = 0
        self._theta, self._kept = theta, theta.clone()

    def look(self, trace: Tensor) -> str:
        """Keep theta as it is after the steps of ``trace``, or take it back; the reason if it is taken back, else "".

        Args:
            trace: losses and lengths of gradients, shape ``(n_values, n_steps)``.
        """
        bad_step = first_bad_step(trace)
        if bad_step is None:
            self._kept, self.n_steps, self.n_finite = self._theta.clone(), trace.shape[1], trace.shape[1]
            return ""
        self._theta.copy_(self._kept)
        self.n_finite = bad_step - 1
        return not_finite(bad_step, self.n_steps)
