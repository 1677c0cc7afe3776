"""Parallel tempering: chains at several temperatures that exchange their states."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least, require_positive
from ..targets.draws import Draws, Stopped
from ..targets.meter import BudgetReached, Meter
from .annealed import Base, Tempered, check_ladder, log_ratio
from .base import FittedSampler, State, checked_start, refuse_start, register_sampler
from .chains import Mode, check_schedule, keep_thinned, worse_stop
from .kernels import Diverged, finite, stopped_by
from .moves import FIRST_STEP, GAIN, MIN_SPREAD, Moves

FIRST_BETA = 1e-3  # the smallest but zero of the first ladder, which is geometric


@register_sampler("tempering_long", version=1, mode="long")
@register_sampler("tempering", version=1)
@dataclass(frozen=True, kw_only=True)
class ParallelTempering:
    """Parallel tempering on the path q^(1-beta) p^beta from q, the law of the meter's starting points, to the target p.

    An iteration makes ``n_moves`` Metropolis-adjusted moves at every beta (at beta = 0 a fresh draw of q), then offers
    exchanges between neighbours, in turn those that begin at even and at odd levels; an exchange between levels j and
    k is accepted with probability min(1, exp((beta_j - beta_k) (r_k - r_j))), r = log p - log q. ``fit`` adapts, in
    rounds of growing length, the inverse temperatures, so that all exchanges are rejected equally often, and at every
    level the step and the scales of the coordinates; all are frozen before draws are taken.

    Modes as in ``chains``: ``restart`` runs every draw's own ladder for ``n_steps`` iterations, ``long`` goes on from
    ``burn_in`` iterations of ``n_chains`` ladders and keeps the states at beta = 1 of every ``thinning``-th. An
    iteration of a ladder costs 1 + (n_temperatures - 1) n_moves scores, with HMC (1 + max_leapfrog) / 2 times the
    second term on average.

    Attributes:
        n_temperatures: levels, beta = 0 and 1 included.
        betas: inverse temperatures of a ladder that is not adapted, from 0 to 1; they replace ``n_temperatures``.
        base_width: standard deviations of q, in units of those of the starting points.
        n_moves: at each level of an iteration.
        moves: which.
        mode, n_steps, n_chains, burn_in, thinning: see ``chains.Schedule``; in iterations.

    References: C. Geyer, Computing Science and Statistics 23 (1991); S. Syed et al., J. R. Stat. Soc. B 84 (2022), for
    the alternation and the adaptation of the ladder.
    """

    n_temperatures: int = 10
    betas: tuple[float, ...] | None = None
    base_width: float = 1.5
    n_moves: int = 1
    moves: Moves = field(default_factory=Moves)
    mode: Mode = "restart"
    n_steps: int = 50
    n_chains: int = 64
    burn_in: int = 500
    thinning: int = 20

    def __post_init__(self) -> None:
        check_schedule(self)
        require_at_least(2, n_temperatures=self.n_temperatures)
        require_at_least(1, n_moves=self.n_moves)
        require_positive(base_width=self.base_width)
        check_ladder(self.betas)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Adapt the ladder along ``burn_in`` iterations of ``n_chains`` ladders."""
        base = Base.of(meter, generator, self.base_width)
        betas = geometric(self.n_temperatures) if self.betas is None else self.betas
        tuning = Tuning.first(betas, base)
        x = base.sample(len(betas) * self.n_chains, generator)
        ladders = Ladders(self, meter, base, tuning, x)
        for k, n_iterations in enumerate(rounds(self.burn_in)):
            if k > 0:  # the last round adapts the steps to the ladder that is frozen
                ladders.tuning = ladders.tuned()
                ladders.begin_round()
            if not ladders.go(n_iterations, generator, adapt=True):
                break
        return FittedTempering(self, meter, ladders)


def geometric(n_temperatures: int) -> list[float]:
    """The first ladder: 0, then betas from ``FIRST_BETA`` to 1 with a constant ratio."""
    n_steps = max(1, n_temperatures - 2)
    return [0.0, *(FIRST_BETA ** (1 - k / n_steps) for k in range(n_temperatures - 2)), 1.0]


def rounds(n_iterations: int) -> list[int]:
    """``n_iterations`` in rounds of at least 2, so that all neighbours meet, each about twice as long as before."""
    lengths = []
    while n_iterations >= 4:
        lengths.append(n_iterations - n_iterations // 2)
        n_iterations //= 2
    return [*([n_iterations] if n_iterations else []), *reversed(lengths)]


@dataclass(frozen=True)
class Tuning:
    """What ``fit`` adapts, for each of K levels.

    Attributes:
        betas: increasing from 0 to 1, shape ``(K,)``, float64.
        steps: of the moves, in units of the scales, shape ``(K,)``; that at beta = 0 is not used.
        scales: of the coordinates, shape ``(K, dim)``.
    """

    betas: Tensor
    steps: Tensor
    scales: Tensor

    @classmethod
    def first(cls, betas: Sequence[float], base: Base) -> "Tuning":
        """Of a ladder before anything is adapted."""
        steps = torch.full((len(betas),), FIRST_STEP, device=base.sd.device, dtype=base.sd.dtype)
        of_levels = torch.tensor(betas, device=base.sd.device, dtype=torch.float64)
        return cls(of_levels, steps, base.sd.expand(len(betas), -1))


class Ladders:
    """Chains at every level under way, which stop by themselves where the budget is reached.

    Rows go level by level: those of one level are ``n_chains`` neighbours.

    Args:
        config: of the sampler.
        meter, base: the ends of the path.
        tuning: of the levels.
        x: where the chains are, shape ``(K n_chains, dim)``.
        is_given: whether ``x`` is somebody's choice, which must have a finite density. A draw of the base that has none
            counts as one of density zero, which any move or exchange leaves.
    """

    def __init__(
        self, config: ParallelTempering, meter: Meter, base: Base, tuning: Tuning, x: Tensor, *, is_given: bool = False
    ) -> None:
        self.config, self.meter, self.base, self.tuning = config, meter, base, tuning
        self.x = x
        self.state: State | None = None
        self._is_given = is_given
        self.n_levels = len(tuning.betas)
        self.n_chains = len(x) // self.n_levels
        self.stopped: Stopped | None = None
        self.reason = ""
        self.from_base = torch.zeros(self.n_levels, self.n_chains, dtype=torch.bool, device=x.device)
        self.begin_round()

    def begin_round(self) -> None:
        """Forget the averages."""
        self.n_iterations = 0
        self.n_round_trips = torch.zeros((), dtype=torch.int64, device=self.x.device)  # stays there: no sync per move
        self.acceptance = self.tuning.steps.new_zeros(self.n_levels)
        self.rejections = torch.zeros(self.n_levels - 1, dtype=torch.float64, device=self.x.device)
        self.n_offers = torch.zeros_like(self.rejections)
        self.sums = torch.zeros(2, self.n_levels, self.x.shape[-1], dtype=torch.float64, device=self.x.device)

    def go(self, n_iterations: int, generator: Generator, *, adapt: bool = False) -> bool:
        """Make iterations; False if stopped on the way."""
        return all(self.iterate(generator, adapt=adapt) for _ in range(n_iterations))

    def iterate(self, generator: Generator, *, adapt: bool = False) -> bool:
        """Moves at every level, then exchanges; False, with the state of before, if stopped on the way."""
        try:
            if self.state is None:
                self.state = self._first()
            state = self._refreshed(self.state, generator)
            rates = torch.zeros_like(self.acceptance)
            for _ in range(self.config.n_moves):
                state, of_move = self._moved(state, generator)
                rates += of_move / self.config.n_moves
            self.state = self._exchanged(state, generator)
        except (BudgetReached, Diverged) as error:
            self.stopped = stopped_by(error)
            self.reason = f"{error}; stopped after {self.n_iterations} iterations"
            return False
        self.acceptance += rates
        if adapt:
            factors = (GAIN * (rates - self.config.moves.acceptance)).exp()
            self.tuning = replace(self.tuning, steps=self.tuning.steps * factors)
            by_level = self.state.x.reshape(self.n_levels, self.n_chains, -1).double()
            self.sums += torch.stack([by_level.mean(1), by_level.square().mean(1)])
        self.x = self.state.x
        self.n_iterations += 1
        return True

    def _first(self) -> State:
        state = State.at(self.x, self.meter)
        if self._is_given:
            return finite(state, "at the start")
        return state._replace(log_prob=torch.where(state.log_prob.isfinite(), state.log_prob, -math.inf))

    def _refreshed(self, state: State, generator: Generator) -> State:
        """New draws of the base in the rows at beta = 0."""
        fresh = State.at(self.base.sample(self.n_chains, generator), self.meter)
        return State.join(fresh, state.rows(slice(self.n_chains, None)))

    def _moved(self, state: State, generator: Generator) -> tuple[State, Tensor]:
        """One move of all levels but the hottest; also the acceptance rates, shape ``(K,)``, 0 at the hottest."""
        hot, cold = state.rows(slice(None, self.n_chains)), state.rows(slice(self.n_chains, None))
        law = Tempered(self.base, self._of_rows(self.tuning.betas[1:, None].to(self.x)))
        steps, scales = self._of_rows(self.tuning.steps[1:, None]), self._of_rows(self.tuning.scales[1:])
        kernel = self.config.moves.kernel(steps, scales, law)
        cold = kernel(cold, self.meter, generator)
        rates = cold.acceptance.reshape(-1, self.n_chains).mean(1)
        return State.join(hot, cold), torch.cat([torch.zeros_like(rates[:1]), rates])

    def _of_rows(self, of_levels: Tensor) -> Tensor:
        return of_levels.repeat_interleave(self.n_chains, 0)

    def _exchanged(self, state: State, generator: Generator) -> State:
        """Offer exchanges between levels k and k + 1 for k of the parity of the iteration."""
        ratio = log_ratio(state, self.base).reshape(self.n_levels, self.n_chains)
        k = torch.arange(self.n_iterations % 2, self.n_levels - 1, 2, device=ratio.device)
        log_odds = (self.tuning.betas[k + 1] - self.tuning.betas[k])[:, None] * (ratio[k] - ratio[k + 1])
        accept = log_odds.clamp(max=0).exp().nan_to_num(nan=0.0)
        u = torch.rand(accept.shape, generator=generator, device=ratio.device, dtype=torch.float64)
        self.rejections[k] += 1 - accept.mean(1)
        self.n_offers[k] += 1
        row = torch.arange(self.n_levels * self.n_chains, device=ratio.device).reshape(self.n_levels, -1)
        swapped = u < accept
        source = row.clone()
        source[k] = torch.where(swapped, row[k + 1], row[k])
        source[k + 1] = torch.where(swapped, row[k], row[k + 1])
        self._follow(source)
        return state.rows(source.flatten())

    def _follow(self, source: Tensor) -> None:
        """Count round trips: arrivals at beta = 1 of states that have been at beta = 0 since they were there before."""
        self.from_base[0] = True
        self.from_base = self.from_base.flatten()[source]
        self.n_round_trips += self.from_base[-1].sum()
        self.from_base[-1] = False

    @property
    def rejection_rates(self) -> Tensor:
        """Of the exchanges between neighbouring levels, shape ``(K - 1,)``, float64; NaN before the first offer."""
        return self.rejections / self.n_offers

    def tuned(self) -> Tuning:
        """The ladder that would make all rejection rates equal, unless one is given, and the scales that were seen."""
        betas = self._equalised() if self.config.betas is None else self.tuning.betas
        mean, square = self.sums / self.n_iterations
        scales = (square - mean.square()).clamp(min=0).sqrt().to(self.x).clamp(min=MIN_SPREAD * self.base.sd)
        return Tuning(betas, self.tuning.steps, scales)

    def _equalised(self) -> Tensor:
        rates = self.rejection_rates.nan_to_num(nan=0.0) + 1e-4
        barrier = torch.cat([torch.zeros_like(rates[:1]), rates.cumsum(0)])
        wanted = torch.linspace(0, 1, self.n_levels, dtype=torch.float64, device=rates.device) * barrier[-1]
        return _interpolated(wanted, barrier, self.tuning.betas)

    @property
    def diagnostics(self) -> dict[str, object]:
        """Of the iterations since the last ``begin_round``."""
        cold = self.acceptance[1:] / self.n_iterations if self.n_iterations else math.nan * self.acceptance[1:]
        return {
            "acceptance_rate": cold[-1].item(),
            "acceptance_rates": cold.tolist(),
            "betas": self.tuning.betas.tolist(),
            "swap_rates": (1 - self.rejection_rates).tolist(),
            "barrier": self.rejection_rates.sum().item(),
            "n_round_trips": int(self.n_round_trips),
            "n_iterations": self.n_iterations,
        }


def _interpolated(wanted: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Linear interpolation of increasing ``(xs, ys)``, all of shape ``(K,)``; the ends stay exact."""
    right = torch.searchsorted(xs, wanted).clamp(1, len(xs) - 1)
    left = right - 1
    share = (wanted - xs[left]) / (xs[right] - xs[left])
    values = ys[left] + share * (ys[right] - ys[left])
    values[0], values[-1] = ys[0], ys[-1]
    return values


@dataclass(frozen=True)
class FittedTempering:
    """Parallel tempering on one target; its ladder does not change any more."""

    config: ParallelTempering
    meter: Meter
    ladders: Ladders

    @property
    def diagnostics(self) -> Mapping[str, object]:
        """Of the last round of the fit."""
        return self.ladders.diagnostics

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Exactly ``n_samples`` states at beta = 1; where the budget ends early, those there are, repeated evenly.

        Args:
            n_samples: number of rows.
            generator: the only source of randomness.
            start: of the chains at every level (restart), shape ``(n_samples, dim)``.
        Raises:
            ValueError: if ``start`` is given in mode ``long`` or does not fit, or ``n_samples`` is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        if self.config.mode == "long":
            refuse_start(start, "mode 'long' goes on from its burn-in")
            ladders = self._ladders(self.ladders.x)
            n_chains = self.config.n_chains

            def move() -> Tensor | None:
                return ladders.x[-n_chains:] if ladders.iterate(generator) else None

            samples, chains = keep_thinned(ladders.x[-n_chains:], move, self.config, n_samples)
            return self._draws(samples, chains, ladders)
        n_levels = self.ladders.n_levels
        if start is None:
            ladders = self._ladders(self.ladders.base.sample(n_levels * n_samples, generator))
        else:
            x = checked_start(start, n_samples, self.meter, generator)
            ladders = self._ladders(x.repeat(n_levels, 1), is_given=True)
        ladders.go(self.config.n_steps, generator)
        return self._draws(ladders.x[-n_samples:].clone(), None, ladders)

    def _ladders(self, x: Tensor, *, is_given: bool = False) -> Ladders:
        return Ladders(self.config, self.meter, self.ladders.base, self.ladders.tuning, x, is_given=is_given)

    def _draws(self, samples: Tensor, chains: Tensor | None, ladders: Ladders) -> Draws:
        diagnostics, reason = ladders.diagnostics, ladders.reason
        if not reason and diagnostics["acceptance_rate"] == 0:
            reason = f"none of the moves at beta = 1 in {ladders.n_iterations} iterations was accepted"
        stopped, reason = worse_stop(ladders.stopped, reason, self.ladders.stopped, self.ladders.reason)
        return Draws(samples=samples, chains=chains, stopped=stopped, reason=reason, diagnostics=diagnostics)
