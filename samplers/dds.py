"""The denoising diffusion sampler: a controlled diffusion whose paths are weighted, trained by their log-variance.

    y_0 ~ N(0, I),  y_{k+1} = (1 - alpha_k)^.5 y_k + alpha_k^.5 (c_k(y_k) + eps_k),  in coordinates y = x / sigma

Without c the chain is stationary and reversible. Run backwards from draws of the target it noises them, and

    log w = log p(y_K) - log N(y_K; 0, I) - sum_k <c_k, eps_k> + |c_k|^2 / 2

is the log ratio of that law of paths to the law of the chain: E w = Z for every c and any number of steps, and log w is
log Z on every path for the c that reverses the noising.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from ..targets.base import LOG_2PI
from ..targets.checks import require_at_least, require_positive
from ..targets.draws import Draws, Stopped
from ..targets.meter import BudgetReached, Meter
from .ais import effective_size, log_mean
from .base import FittedSampler, normal_like, refuse_start, register_sampler
from .implicit.fitted import mean_losses
from .implicit.flat import flatten
from .implicit.networks import MLP, Network
from .implicit.noise import falling_levels
from .implicit.trainer import LOOK_EVERY, LastLook
from .kernels import shortened


@register_sampler("dds", version=1)
@dataclass(frozen=True, kw_only=True)
class DDS:
    """Denoising diffusion sampler: a network learns the drift from a Gaussian to the target; draws carry weights.

    A step of ``fit`` draws a batch of paths and lowers the variance of their log weights, which is zero only for the
    drift that leads to the target. The paths are held fixed, so that no derivative passes through their simulation nor
    through the target's score. Every path, in training and in a draw, costs ``n_levels`` scores and a log density. What
    drift and steps get wrong is in the weights, whose mean is an unbiased estimate of Z: whoever ignores them has
    biased draws.

    Attributes:
        network: of the drift.
        n_steps, batch_size, step_size: of Adam, paths for points; the step size falls to zero along a cosine.
        clip_paths: see ``log_variance``.
        clip_norm: the gradient is shortened to this length.
        base_width: sigma, the standard deviation from which paths start, in units of the target's scale.
        n_levels: steps of a path.
        lowest, highest: noise-to-signal ratios at the last step and at the start; even in the log between them (ours),
            so that the smallest details ask for no more steps than the largest.
        max_score: longest score shown to the drift, in units of dim^.5 over the noise.

    References: F. Vargas, W. Grathwohl, A. Doucet, Denoising Diffusion Samplers, ICLR 2023, arXiv 2302.13834; L.
    Richter, J. Berner, Improved sampling via learned diffusions, ICLR 2024, arXiv 2307.01198, for the loss. Settings
    are ours.
    """

    network: Network = field(default_factory=lambda: Network(width=64))
    n_steps: int = 1_500
    batch_size: int = 256
    step_size: float = 2e-3
    clip_paths: float = 5.0
    clip_norm: float = 1.0
    base_width: float = 1.5
    n_levels: int = 64
    lowest: float = 0.01
    highest: float = 10.0
    max_score: float = 1.0

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps, n_levels=self.n_levels)
        require_at_least(2, batch_size=self.batch_size)
        require_positive(step_size=self.step_size, clip_paths=self.clip_paths, clip_norm=self.clip_norm)
        require_positive(base_width=self.base_width, max_score=self.max_score)
        require_positive(lowest=self.lowest, highest=self.highest)
        if self.lowest >= self.highest:
            raise ValueError(f"highest must be above lowest {self.lowest}, got {self.highest}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train the drift; where the budget ends, what it was before the step that could not be paid.

        Where a loss or a gradient is not finite, the state of the last look is kept.
        """
        chain = Chain.of(self, meter)
        drift = Drift(self.network, chain, meter, generator)
        theta, gradient = flatten(drift.parameters())
        adam = torch.optim.Adam([theta], self.step_size, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.n_steps)
        trace = theta.new_zeros(2, self.n_steps, dtype=torch.float64)  # losses, and lengths of gradients
        last, n_steps = LastLook(theta), 0
        stopped: Stopped | None = None
        reason = ""
        while n_steps < self.n_steps and stopped is None:
            try:
                paths = Paths.along(chain, drift, self.batch_size, generator)
                loss = log_variance(drift, paths, self.clip_paths)
                gradient.zero_()
                torch.autograd.backward(loss)
                length = nn.utils.clip_grad_norm_(theta, self.clip_norm)
                adam.step()
                schedule.step()
                trace[:, n_steps] = torch.stack([loss.detach(), length])
                n_steps += 1
            except BudgetReached as limit:
                stopped, reason = "budget", f"after {n_steps} of {self.n_steps} steps: {limit}"
            if n_steps % LOOK_EVERY == 0 or n_steps == self.n_steps or stopped is not None:
                not_kept = last.look(trace[:, :n_steps])
                if not_kept:
                    stopped, reason = "diverged", not_kept
        notes = {"n_steps": last.n_steps, **mean_losses(trace[:1, : last.n_finite], "log_variance")}
        return FittedDDS(chain, drift.requires_grad_(False), notes, stopped, reason)


class Leg(NamedTuple):
    """A step of some paths: its number, where it starts, the score seen there, c and eps, and where it ends."""

    step: int
    y: Tensor  # (n, dim), as all below
    score: Tensor
    c: Tensor
    eps: Tensor
    end: Tensor


@dataclass(frozen=True)
class Chain:
    """The chain that a drift steers, and the target in its coordinates.

    At the start of step k it stands at the noise-to-signal ratio s_k: the reversed chain has brought the target's y to
    signal^.5 y + (1 - signal)^.5 z there, signal = 1 / (1 + s_k^2).

    Attributes:
        meter: of the target.
        sigma: the unit of y.
        levels: s_k, shape ``(n_levels,)``, falling; after the last step the ratio is zero.
        alpha: of the steps, shape ``(n_levels,)``.
        noise: (1 - signal)^.5, shape ``(n_levels,)``.
        max_score: of the config.
    """

    meter: Meter
    sigma: float
    levels: Tensor
    alpha: Tensor
    noise: Tensor
    max_score: float

    @classmethod
    def of(cls, config: DDS, meter: Meter) -> "Chain":
        """With constants in the meter's dtype, from float64."""
        s = falling_levels(config.highest, config.lowest, config.n_levels)
        signal = 1 / (1 + torch.cat([s, s.new_zeros(1)]).square())
        constants = s, 1 - signal[:-1] / signal[1:], (1 - signal[:-1]).sqrt()
        levels, alpha, noise = (value.to(device=meter.device, dtype=meter.dtype) for value in constants)
        return cls(meter, config.base_width * meter.scale, levels, alpha, noise, config.max_score)

    def start(self, n: int, generator: Generator) -> Tensor:
        """Draws of N(0, I), shape ``(n, dim)``."""
        return normal_like(self.levels.new_empty(n, self.meter.dim), generator)

    def legs(self, y: Tensor, drift: nn.Module, generator: Generator) -> Iterator[Leg]:
        """The steps of paths that start at ``y``, shape ``(n, dim)``, without a graph.

        Raises:
            BudgetReached: before a step whose scores the budget cannot pay.
        """
        for k in range(len(self.levels)):
            with torch.no_grad():
                score = self.score(y, k)
                c = drift(y, score, torch.full_like(y[:, :1], k, dtype=torch.int64))
                eps, alpha = normal_like(y, generator), self.alpha[k]
                end = (1 - alpha).sqrt() * y + alpha.sqrt() * (c + eps)
            yield Leg(k, y, score, c, eps, end)
            y = end

    def score(self, y: Tensor, k: int) -> Tensor:
        """Gradient of log p(y) - log N(y; 0, I) in units of 1 / noise, shortened; zero where the target has none.

        Whatever the drift is shown, weights stay right.
        """
        score = self.sigma * self.meter.score(self.sigma * y) + y
        longest = self.max_score * math.sqrt(self.meter.dim)
        return shortened(score.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), self.noise[k], longest).nan_to_num(nan=0.0)

    def log_ratio(self, y: Tensor) -> Tensor:
        """log p(y) - log N(y; 0, I), shape ``(n, dim)`` to ``(n,)``, float64."""
        log_prob = self.meter.log_prob(self.sigma * y).double() + self.meter.dim * math.log(self.sigma)
        return log_prob + 0.5 * (y.double().square().sum(-1) + self.meter.dim * LOG_2PI)


class Drift(nn.Module):
    """c_k(y) = gain_k (F(y, log(s_k) / 4) + share_k score(y)), where F is a network, zero at the start.

    The gain is that of the exponential integrator for a drift of unit size over the noise, so that F has unit size at
    every level. The shares, a number per step and coordinate, are trained too; they start at the signal, which is right
    at both ends and would be throughout if the target were as wide as the chain's start.
    """

    gain: Tensor
    levels: Tensor

    def __init__(self, shape: Network, chain: Chain, meter: Meter, generator: Generator) -> None:
        super().__init__()
        self.net = MLP(meter.dim + 1, meter.dim, shape, meter, generator)
        signal = 1 / (1 + chain.levels.square())
        self.share = nn.Parameter(signal[:, None].repeat(1, meter.dim))
        gain = 2 * chain.alpha.sqrt() / ((1 + (1 - chain.alpha).sqrt()) * chain.noise)
        self.register_buffer("gain", gain)
        self.register_buffer("levels", chain.levels)

    def forward(self, y: Tensor, score: Tensor, k: Tensor) -> Tensor:
        """Points and scores ``(n, dim)`` at steps ``(n, 1)`` to c, ``(n, dim)``."""
        k = k.squeeze(-1)
        output: Tensor = self.net(torch.cat([y, 0.25 * self.levels[k, None].log()], dim=-1))
        return self.gain[k, None] * (output + self.share[k] * score)


@dataclass(frozen=True)
class Paths:
    """Paths that were drawn, held fixed while their weights are differentiated.

    Attributes:
        y, score: at the starts of their steps, shape ``(n_levels, n, dim)``.
        push: c + eps of the drift that drew them, shape ``(n_levels, n, dim)``.
        log_ratio: log p - log N at their ends, shape ``(n,)``, float64.
    """

    y: Tensor
    score: Tensor
    push: Tensor
    log_ratio: Tensor

    @classmethod
    def along(cls, chain: Chain, drift: nn.Module, n: int, generator: Generator) -> "Paths":
        """``n`` paths of the chain; BudgetReached if they cannot be paid."""
        legs = list(chain.legs(chain.start(n, generator), drift, generator))
        return cls(
            y=torch.stack([leg.y for leg in legs]),
            score=torch.stack([leg.score for leg in legs]),
            push=torch.stack([leg.c + leg.eps for leg in legs]),
            log_ratio=chain.log_ratio(legs[-1].end),
        )

    def log_weights(self, drift: nn.Module) -> Tensor:
        """Log weights of these paths for the law of the chain under ``drift``, shape ``(n,)``, float64."""
        n_levels, n, dim = self.y.shape
        k = torch.arange(n_levels, device=self.y.device).repeat_interleave(n)
        c: Tensor = drift(self.y.view(-1, dim), self.score.view(-1, dim), k[:, None]).view_as(self.y)
        return self.log_ratio - (c * (self.push - 0.5 * c)).sum(-1).double().sum(0)


def log_variance(drift: nn.Module, paths: Paths, clip: float = math.inf) -> Tensor:
    """Variance of the log weights over ``paths``, whatever drew them; zero only where all of them are log Z.

    Args:
        drift: of the law whose weights they are.
        paths: held fixed.
        clip: paths further than so many median deviations from the median count by that over their distance (ours):
            their pull has an end, where those few that meet a steep place would otherwise decide the step.
    """
    log_weights = paths.log_weights(drift)
    with torch.no_grad():
        distance = (log_weights - log_weights.median()).abs()
        share = (clip * distance.median() / distance).nan_to_num(nan=1.0).clamp_max(1.0)
    mean = (share * log_weights).sum() / share.sum()
    return (share * (log_weights - mean).square()).sum() / (len(share) - 1)


@dataclass(frozen=True)
class FittedDDS:
    """A chain with its drift, and the losses of training in its diagnostics."""

    chain: Chain
    drift: Drift
    diagnostics: Mapping[str, object]
    fit_stopped: Stopped | None
    fit_reason: str

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """The ends of ``n_samples`` paths with their log weights and the estimate of log Z.

        Where the budget ends early, the points reached until then, still noised, without weights. A target that is NaN
        or infinite at a point gives it no weight.

        Raises:
            ValueError: if ``start`` is given: paths start at draws of a normal law, which the weights rely on; or if
                ``n_samples`` is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "the diffusion starts at draws of its own base")
        y, n_done = self.chain.start(n_samples, generator), 0
        cost = torch.zeros(n_samples, dtype=torch.float64, device=y.device)
        try:
            for leg in self.chain.legs(y, self.drift, generator):
                cost += (leg.c * (leg.eps + 0.5 * leg.c)).sum(-1)
                y, n_done = leg.end, leg.step + 1
            log_weights = self.chain.log_ratio(y) - cost
        except BudgetReached as limit:
            reason = f"{limit}; stopped after {n_done} of {len(self.chain.levels)} steps"
            return Draws(samples=self.chain.sigma * y, stopped="budget", reason=reason)
        log_weights = log_weights.nan_to_num(nan=-math.inf, posinf=-math.inf)
        if log_weights.isneginf().all():
            reason = self.fit_reason or f"the log density is finite at none of {n_samples} points"
            return Draws(samples=self.chain.sigma * y, stopped="diverged", reason=reason)
        return Draws(
            samples=self.chain.sigma * y,
            log_weights=log_weights.to(y.dtype),
            log_z=None if self.fit_stopped else log_mean(log_weights),
            stopped=self.fit_stopped,
            reason=self.fit_reason,
            diagnostics={"ess_share": effective_size(log_weights) / n_samples},
        )
