"""Points that teach a one-pass sampler: SMC, scouts that look for peaks it has missed, and moves between modes.

1. SMC brings ``n_particles`` from a normal law to the target.
2. Scouts climb from some of them to peaks of the density, and chains that start there look around: a narrow mode that
   is next to a wide one has no mass at high temperature, so SMC arrives without it.
3. A Gaussian mixture fitted to particles and scouts proposes independent moves of the particles, each accepted by
   Metropolis-Hastings, in turn with local moves: they move mass between modes towards the target's shares, whatever the
   mixture's own weights are, and what scouts have found but the target does not weigh stays empty. The mixture is then
   fitted to the particles, and again.

Every move of 3 leaves the target invariant, but for the adaptation of mixture and scales to the particles; what the
mixture hardly proposes stays as SMC and local moves have left it.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ...targets.checks import require_at_least
from ...targets.draws import Stopped
from ...targets.meter import BudgetReached, Meter
from ..base import State
from ..kernels import Dense, Diverged, accept, stopped_by, uniform_like
from ..mixture_fit import FittedMixture, fit_mixture, require_spread
from ..moves import FIRST_STEP
from ..smc import SMC

MAX_PEAKS = 40
PEAK_DISTANCE = 0.05  # between peaks, in units of scale dim^1/2; nearer ones are one
MOMENTUM, SQUARES = 0.9, 0.99  # memories of Adam, by which scouts climb
FIRST_CLIMB = 0.05  # its first step, in units of the scale; it falls to zero along a cosine


def short_smc() -> SMC:
    """SMC with fewer moves than where it is a sampler of its own: later moves mend what it leaves."""
    return SMC(oversampling=1, min_ess=0.9, n_moves=2, n_last_moves=5, metric="dense")


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """How the points are found.

    Attributes:
        n_particles: how many.
        smc: what brings them in.
        n_scouts: that climb, each ``n_climb`` steps; 0 for none.
        n_chains: that start at the peaks, ``n_look`` moves each.
        max_components: of the mixtures.
        n_fits: mixtures, one after the other; 0 leaves the particles where SMC has left them.
        n_rounds: proposals of each mixture to every particle, with a local move after each.
    """

    n_particles: int = 8_192
    smc: SMC = field(default_factory=short_smc)
    n_scouts: int = 128
    n_climb: int = 200
    n_chains: int = 2_048
    n_look: int = 30
    max_components: int = 64
    n_fits: int = 2
    n_rounds: int = 10

    def __post_init__(self) -> None:
        require_at_least(2, n_particles=self.n_particles)
        require_at_least(0, n_scouts=self.n_scouts, n_fits=self.n_fits)
        require_at_least(1, n_climb=self.n_climb, n_look=self.n_look, n_rounds=self.n_rounds)
        require_at_least(1, max_components=self.max_components, n_chains=self.n_chains)


@dataclass
class Taught:
    """The points and how they were found.

    Attributes:
        x: shape ``(n_particles, dim)``.
        n_peaks: that scouts found.
        n_components: of each mixture.
        acceptance: mean rate of the last proposals of each mixture, 0 before the first.
        stopped, reason: as in Draws.
    """

    x: Tensor
    n_peaks: int = 0
    n_components: list[int] = field(default_factory=list)
    acceptance: list[float] = field(default_factory=list)
    stopped: Stopped | None = None
    reason: str = ""

    @property
    def diagnostics(self) -> dict[str, object]:
        """Peaks, components and rates of acceptance."""
        return {"n_peaks": self.n_peaks, "n_components": self.n_components, "mixture_acceptance": self.acceptance}


def teach(config: Teaching, meter: Meter, generator: Generator) -> Taught:
    """The points; where the budget ends or the density is not finite, the best so far."""
    draws = config.smc.fit(meter, generator).draw(config.n_particles, generator)
    taught = Taught(draws.samples, stopped=draws.stopped, reason=draws.reason)
    walkers = _Walkers(config.smc, meter, generator)
    try:
        require_spread(taught.x)
        if taught.stopped is not None or config.n_fits == 0:
            return taught
        scouts = taught.x[:0]
        if config.n_scouts:
            peaks = _peaks(taught.x, config, meter, generator)
            taught.n_peaks = len(peaks)
            scouts = walkers.look_around(peaks, taught.x, config)
        state = State.at(taught.x, meter)
        for k in range(config.n_fits):
            seen = torch.cat([state.x, scouts[scouts.isfinite().all(-1)]]) if k == 0 else state.x
            mixture = fit_mixture(seen, config.max_components, generator)
            taught.n_components.append(len(mixture.weights))
            taught.acceptance.append(0.0)
            for _ in range(config.n_rounds):
                state = _independent_move(state, mixture, meter, generator)
                taught.acceptance[-1] = state.acceptance.mean().item()
                state = walkers.move(state)
                require_spread(state.x)
                taught.x = state.x
    except (BudgetReached, Diverged) as error:
        taught.stopped = stopped_by(error)
        taught.reason = f"{error}; after {len(taught.n_components)} of {config.n_fits} fits"
    return taught


def _peaks(x: Tensor, config: Teaching, meter: Meter, generator: Generator) -> Tensor:
    """Where scouts from some of the points arrive, the highest first, shape ``(n_peaks, dim)``: Adam on log_prob."""
    rows = torch.randperm(len(x), generator=generator, device=x.device)[: config.n_scouts]
    y, scale = x[rows] / meter.scale, meter.scale
    mean, square = torch.zeros_like(y), torch.zeros_like(y)
    for step in range(1, config.n_climb + 1):
        score = (scale * meter.score(scale * y)).nan_to_num(nan=0.0)
        mean.lerp_(score, 1 - MOMENTUM)
        square.lerp_(score.square(), 1 - SQUARES)
        climb = FIRST_CLIMB * 0.5 * (1 + math.cos(math.pi * step / config.n_climb))
        direction = (mean / (1 - MOMENTUM**step)) / (square / (1 - SQUARES**step)).sqrt().clamp(min=1e-12)
        y = y + climb * direction
    log_prob = meter.log_prob(scale * y)
    y = y[log_prob.nan_to_num(nan=-math.inf).argsort(descending=True)]
    kept: list[Tensor] = []
    for row in y[y.isfinite().all(-1)]:
        if all((row - other).norm() > PEAK_DISTANCE * meter.dim**0.5 for other in kept):
            kept.append(row)
    return scale * torch.stack(kept[:MAX_PEAKS]) if kept else x[:0]


class _Walkers:
    """Local moves of a population, scaled by its covariance, with a step that is adapted."""

    def __init__(self, smc: SMC, meter: Meter, generator: Generator) -> None:
        self.moves, self.meter, self.generator, self.step = smc.moves, meter, generator, FIRST_STEP

    def look_around(self, peaks: Tensor, x: Tensor, config: Teaching) -> Tensor:
        """Ends of chains from the peaks, scaled by the standard deviations of ``x``."""
        if len(peaks) == 0:
            return peaks
        state = State.at(peaks.repeat_interleave(max(1, config.n_chains // len(peaks)), 0), self.meter)
        scales, step = x.std(0), FIRST_STEP
        for _ in range(config.n_look):
            state = self.moves.kernel(step, scales)(state, self.meter, self.generator)
            step = self.moves.adapted(step, state.acceptance.mean().item())
        return state.x

    def move(self, state: State) -> State:
        """One move of all of them."""
        root = Dense.of(torch.cov(state.x.double().T).reshape(self.meter.dim, self.meter.dim)).to(state.x)
        state = self.moves.kernel(self.step, root)(state, self.meter, self.generator)
        self.step = self.moves.adapted(self.step, state.acceptance.mean().item())
        return state


def _independent_move(state: State, mixture: FittedMixture, meter: Meter, generator: Generator) -> State:
    """Propose a draw of the mixture to every point, accepted with probability min(1, p(y) q(x) / p(x) q(y))."""
    proposal = State.at(mixture.sample(len(state.x), generator), meter)
    log_ratio = proposal.log_prob - mixture.log_density(proposal.x) - state.log_prob + mixture.log_density(state.x)
    log_ratio = log_ratio.masked_fill(~proposal.score.isfinite().all(-1), -math.inf)  # later moves follow it
    return accept(state, proposal, log_ratio, uniform_like(state, generator))
