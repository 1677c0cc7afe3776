"""The denoising diffusion sampler: a controlled diffusion whose paths are weighted, trained to reverse the noising.

    y_0 ~ N(0, I),  y_{k+1} = (1 - alpha_k)^.5 y_k + alpha_k^.5 (c_k(y_k) + g_k(y_k) eps_k),  in units of sigma

With c = 0 and g = 1 the chain is stationary and reversible. Run backwards from draws of the target it noises them, and

    log w = log p(y_K) - log N(y_K; 0, I) - sum_k log N(c_k + g_k eps_k; c_k, g_k^2) - log N(c_k + g_k eps_k; 0, I)

is the log ratio of that law of paths to the law of the chain: E w = Z for every c and g and any number of steps, and
log w is log Z on every path where the chain reverses the noising.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least, require_one_of, require_positive
from ..targets.draws import Draws, Stopped
from ..targets.meter import BudgetReached, Meter
from .ais import effective_size, log_mean
from .base import FittedSampler, refuse_start, register_sampler
from .dds_chain import Chain, Drift, denoising_loss, log_variance_loss
from .descent import Descent, descend
from .implicit.networks import Network, require_hidden_only
from .kernels import Diverged
from .replay import Buffer, Replay

Loss: TypeAlias = Literal["denoising", "log_variance"]
LOG_VARIANCE = {"n_steps": 1_000, "batch_size": 256, "step_size": 2e-3, "clip_norm": 1.0}


@register_sampler("dds_log_variance", version=1, loss="log_variance", descent=LOG_VARIANCE)
@register_sampler("dds", version=1)
@dataclass(frozen=True, kw_only=True)
class DDS:
    """Denoising diffusion sampler: a network learns the steps from a Gaussian to the target; draws carry weights.

    With the loss ``denoising``, ``fit`` keeps a buffer of points. They start at N(0, sigma^2 I), Metropolis moves take
    them into the modes next to them, and now and then weighted draws of the chain replace some, which corrects how many
    there are in each mode. A step of training noises some of the points and raises the density of a step of the
    noising, looked at backwards: maximum likelihood, so that the chain goes wherever the buffer has points.

    With the loss ``log_variance`` a step lowers the variance of the log weights of the chain's own paths, which is zero
    only where the chain reverses the noising. It does not see what these paths miss.

    A draw costs ``n_levels`` scores and a log density. What drift, steps and buffer get wrong is in the weights, whose
    mean is an unbiased estimate of Z: whoever ignores them has biased draws.

    Attributes:
        network: of the drift.
        loss: see above.
        descent: its training; the batch are points of the buffer, or paths.
        replay: how the buffer is kept; the loss ``log_variance`` has none.
        base_width: sigma, the standard deviation from which paths start, in units of the target's scale.
        n_levels: steps of a path.
        lowest, highest: noise-to-signal ratios at the last step and at the start; even in the log between them (ours),
            so that the smallest details ask for no more steps than the largest.
        max_score: longest score of the target shown to the drift, in units of dim^.5 over the noise.

    References: F. Vargas, W. Grathwohl, A. Doucet, Denoising Diffusion Samplers, ICLR 2023, arXiv 2302.13834, for chain
    and weights; L. Richter, J. Berner, ICLR 2024, arXiv 2307.01198, for the log-variance; A. Phillips et al., Particle
    Denoising Diffusion Sampler, ICML 2024, arXiv 2402.06320, for denoising of one's own weighted draws; M. Sendera et
    al., Improved off-policy training of diffusion samplers, NeurIPS 2024, arXiv 2402.05098, for the buffer. Learned
    widths are those of A. Nichol, P. Dhariwal, ICML 2021, arXiv 2102.09672. Settings are ours.
    """

    network: Network = field(default_factory=Network)
    loss: Loss = "denoising"
    descent: Descent = field(
        default_factory=partial(Descent, n_steps=5_000, batch_size=2_048, step_size=2e-3, clip_norm=1.0)
    )
    replay: Replay = field(default_factory=Replay)
    base_width: float = 1.5
    n_levels: int = 80
    lowest: float = 0.002
    highest: float = 10.0
    max_score: float = 1.0

    def __post_init__(self) -> None:
        require_one_of(Loss, loss=self.loss)
        require_at_least(1, n_levels=self.n_levels)
        require_positive(base_width=self.base_width, max_score=self.max_score)
        require_positive(lowest=self.lowest, highest=self.highest)
        require_hidden_only(self.network, "a diffusion starts from noise of the target's dimension")
        if self.lowest >= self.highest:
            raise ValueError(f"highest must be above lowest {self.lowest}, got {self.highest}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train the drift; where the budget ends, what it was before the step that could not be paid.

        Where a loss or a gradient is not finite, the state of the last look is kept; where the density is positive at
        no point of the buffer, nothing more is learned.
        """
        chain = self.chain(meter)
        drift = Drift(self.network, chain, generator)
        rehearsal = Rehearsal(self, chain, drift, generator)

        def backward(n_done: int) -> Tensor:
            if self.loss == "denoising":
                loss = rehearsal.loss(n_done)
            else:
                loss = log_variance_loss(drift, chain, self.descent.batch_size, generator)
            torch.autograd.backward(loss)
            return loss.detach().to(chain.levels)

        fit = descend(list(drift.parameters()), backward, self.descent)
        notes = {**fit.losses(f"{self.loss}_loss"), "n_replaced": rehearsal.n_replaced}
        return FittedDDS(chain, drift.requires_grad_(False), notes, fit.stopped, fit.reason)

    def chain(self, meter: Meter) -> Chain:
        """The chain on a target."""
        sigma = self.base_width * meter.scale
        return Chain.between(
            self.highest, self.lowest, self.n_levels, meter=meter, sigma=sigma, max_score=self.max_score
        )


class Rehearsal:
    """Learning from a buffer of points, which moves and draws of the chain keep up to date.

    Attributes:
        n_replaced: points that weighted draws have replaced so far.
    """

    def __init__(self, config: DDS, chain: Chain, drift: Drift, generator: Generator) -> None:
        self.n_replaced = 0
        self._config, self._chain, self._drift, self._generator = config, chain, drift, generator
        self._buffer: Buffer | None = None

    def loss(self, n_done: int) -> Tensor:
        """Of a batch of its points; moves and replaces some where it is time to.

        Raises:
            BudgetReached: before what the budget cannot pay.
            Diverged: if no point has a density that is positive and finite.
        """
        config, chain, replay, generator = self._config, self._chain, self._config.replay, self._generator
        if self._buffer is None:
            x = chain.sigma * chain.start(replay.n_points, generator)
            self._buffer = Buffer.at(x, chain.sigma, replay, chain.meter)
            self._buffer.move(replay.n_first, generator)
        buffer = self._buffer
        if n_done % replay.move_every == 0:
            buffer.move(1, generator)
        if n_done and n_done % replay.draw_every == 0:
            y, log_weights = chain.weighted(replay.n_fresh, self._drift, generator)
            buffer.replace(chain.sigma * y, log_weights, generator)
            self.n_replaced = buffer.n_replaced
        points = buffer.points
        if len(points) == 0:
            raise Diverged(f"the log density is finite at none of {replay.n_points} points")
        rows = torch.randint(len(points), (config.descent.batch_size,), generator=generator, device=points.device)
        return denoising_loss(self._drift, chain, points[rows] / chain.sigma, generator)


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
        tilt = torch.zeros(n_samples, dtype=torch.float64, device=y.device)
        try:
            for leg in self.chain.legs(y, self.drift, generator):
                tilt += leg.log_tilt
                y, n_done = leg.end, leg.step + 1
            log_weights = self.chain.log_ratio(y) - tilt
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
