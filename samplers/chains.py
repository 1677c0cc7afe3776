"""What the chain methods share: chains under way, and the two modes of drawing from them.

``restart``: every draw is the end of its own chain of n_steps moves from the meter's start, one chain per row.
``long``: a few chains, burnt in during fit, go on during draw and keep every ``thinning``-th state.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least
from ..targets.draws import Draws, Stopped
from ..targets.meter import BudgetReached, Meter
from .base import FittedSampler, Kernel, State, checked_start, refuse_start
from .kernels import Diverged, finite, stopped_by

Mode: TypeAlias = Literal["restart", "long"]
DIVERGENT = 1e-40  # acceptance of a move that lost 92 nats, or that ended where the density is not a number
MAX_CHAINS, MAX_KEPT = 64, 1_000  # what Draws.chains holds at most


class Thinning(Protocol):
    """How long chains become draws.

    Attributes:
        n_chains: chains.
        thinning: moves per kept state.
    """

    @property
    def n_chains(self) -> int: ...  # noqa: D102
    @property
    def thinning(self) -> int: ...  # noqa: D102


class Schedule(Thinning, Protocol):
    """How many moves a chain method makes; every chain sampler has these fields.

    Attributes:
        mode: ``restart`` or ``long``.
        n_steps: moves per draw (restart).
        n_chains: chains of the pilot in fit, and of the draw (long).
        burn_in: moves in fit that are thrown away (long).
        thinning: moves per kept state (long).
    """

    @property
    def mode(self) -> Mode: ...  # noqa: D102
    @property
    def n_steps(self) -> int: ...  # noqa: D102
    @property
    def burn_in(self) -> int: ...  # noqa: D102


def check_schedule(schedule: Schedule) -> None:
    """Refuse counts out of range.

    Raises:
        ValueError: naming the field, the rule and the value.
    """
    require_at_least(1, n_steps=schedule.n_steps, n_chains=schedule.n_chains, thinning=schedule.thinning)
    require_at_least(0, burn_in=schedule.burn_in)


class Walk:
    """Parallel chains under way, which stop by themselves where the budget is reached or they diverge.

    Attributes:
        x: where the chains are, shape ``(n, dim)``; always finite, and changed only when a move is complete.
        state: the same with log density and score; None before the first evaluation has been paid.
        n_moves: complete moves so far.
        stopped, reason: as in ``Draws``.
    """

    def __init__(self, x: Tensor, meter: Meter, generator: Generator) -> None:
        self.x = x
        self.state: State | None = None
        self.n_moves = 0
        self.stopped: Stopped | None = None
        self.reason = ""
        self._start = x
        self._meter = meter
        self._generator = generator
        self._acceptance = x.new_zeros(len(x))
        self._n_divergent = torch.zeros((), dtype=torch.int64, device=x.device)

    def move(self, kernel: Kernel) -> State | None:
        """Move every chain once, after an evaluation of the start if this is the first move; None if stopped."""
        try:
            if self.state is None:
                self.state = finite(State.at(self.x, self._meter), "at the start")
            self.state = kernel(self.state, self._meter, self._generator)
        except (BudgetReached, Diverged) as error:
            self.stopped = stopped_by(error)
            self.reason = f"{error}; stopped after {self.n_moves} moves"
            return None
        self.x = self.state.x
        self.n_moves += 1
        self._acceptance += self.state.acceptance
        self._n_divergent += (self.state.acceptance < DIVERGENT).sum()
        return self.state

    def go(self, kernel: Kernel, n_moves: int) -> bool:
        """Move every chain ``n_moves`` times; False if stopped on the way."""
        return all(self.move(kernel) is not None for _ in range(n_moves))

    @property
    def end(self) -> tuple[Stopped | None, str]:
        """``stopped`` and its reason; of chains that were not stopped, how many never moved."""
        n_unmoved = int((self.x == self._start).all(-1).sum()) if self.n_moves else 0
        if self.stopped or not n_unmoved:
            return self.stopped, self.reason
        return None, f"{n_unmoved} of {len(self.x)} chains accepted none of {self.n_moves} moves"

    @property
    def diagnostics(self) -> dict[str, object]:
        """Mean acceptance probability, chains that are where they started, divergent moves (acceptance below 1e-40)."""
        rate = self._acceptance.mean() / self.n_moves if self.n_moves else math.nan
        n_unmoved = (self.x == self._start).all(-1).sum()
        return {
            "acceptance_rate": float(rate),
            "n_unmoved": int(n_unmoved),
            "n_divergent": int(self._n_divergent),
            "n_moves": self.n_moves,
        }


def fitted_chains(
    schedule: Schedule, kernel: Kernel, walk: Walk, meter: Meter, diagnostics: Mapping[str, object]
) -> FittedSampler:
    """The fitted sampler of a chain method.

    Args:
        schedule: its configuration.
        kernel: with a step that is not adapted any more.
        walk: the chains of the fit; in mode ``long`` they are burnt in and go on.
        meter: the target.
        diagnostics: of the fit.
    """
    if schedule.mode == "long":
        return LongChains(schedule, kernel, meter, diagnostics, walk.x, walk.stopped, walk.reason)
    return RestartedChains(schedule, kernel, meter, diagnostics, walk.stopped, walk.reason)


@dataclass(frozen=True)
class RestartedChains:
    """Draws are the ends of independent chains; n draws cost n * (1 + n_steps) scores."""

    schedule: Schedule
    kernel: Kernel
    meter: Meter
    diagnostics: Mapping[str, object]
    fit_stopped: Stopped | None = None
    fit_reason: str = ""

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Exactly ``n_samples`` draws; where chains are stopped early, the states before the move that failed.

        Args:
            n_samples: number of chains.
            generator: the only source of randomness.
            start: shape ``(n_samples, dim)``, instead of the meter's.
        Raises:
            ValueError: if ``start`` has another shape or is not finite, or ``n_samples`` is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        walk = Walk(checked_start(start, n_samples, self.meter, generator), self.meter, generator)
        walk.go(self.kernel, self.schedule.n_steps)
        stopped, reason = worse_stop(*walk.end, self.fit_stopped, self.fit_reason)
        return Draws(samples=walk.x.clone(), stopped=stopped, reason=reason, diagnostics=walk.diagnostics)


@dataclass(frozen=True)
class LongChains:
    """Draws are thinned states of a few long chains, which go on from ``x``.

    n draws cost n_chains * (1 + thinning * ceil(n / n_chains)) scores.
    """

    schedule: Schedule
    kernel: Kernel
    meter: Meter
    diagnostics: Mapping[str, object]
    x: Tensor
    fit_stopped: Stopped | None = None
    fit_reason: str = ""

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Exactly ``n_samples`` draws, see ``keep_thinned``.

        Raises:
            ValueError: if ``start`` is given (the chains go on from their burn-in), or ``n_samples`` is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "mode 'long' goes on from its burn-in")
        walk = Walk(self.x, self.meter, generator)

        def move() -> Tensor | None:
            state = walk.move(self.kernel)
            return None if state is None else state.x

        samples, chains = keep_thinned(self.x, move, self.schedule, n_samples)
        stopped, reason = worse_stop(*walk.end, self.fit_stopped, self.fit_reason)
        return Draws(samples=samples, chains=chains, stopped=stopped, reason=reason, diagnostics=walk.diagnostics)


def keep_thinned(
    x: Tensor, move: Callable[[], Tensor | None], schedule: Thinning, n_samples: int
) -> tuple[Tensor, Tensor]:
    """Go on with long chains, and keep every ``thinning``-th state as a draw.

    Args:
        x: where the chains are, shape ``(n_chains, dim)``.
        move: moves every chain once and returns where they are then; None if they are stopped.
        schedule: of the chain method.
        n_samples: number of draws.
    Returns:
        The draws in the order of time, all chains at one time after each other, shape ``(n_samples, dim)``, and the
        moves themselves, thinned only to at most 1,000 states of 64 chains, shape ``(n_chains, n_kept, dim)``. Chains
        that are stopped early repeat the rows kept so far evenly; if there are none, their current states.
    """
    n_moves = schedule.thinning * math.ceil(n_samples / schedule.n_chains)
    every = math.ceil(n_moves / MAX_KEPT)
    kept: list[Tensor] = []
    path: list[Tensor] = []  # denser than the draws, so that the ESS of the moves can be told
    for n_done in range(1, n_moves + 1):
        moved = move()
        if moved is None:
            break
        x = moved
        if n_done % schedule.thinning == 0:
            kept.append(x)
        if n_done % every == 0:
            path.append(x[:MAX_CHAINS])
    states = torch.stack(kept or [x])  # (n_kept, n_chains, dim)
    rows = torch.arange(n_samples, device=states.device) % states[..., 0].numel()
    return states.flatten(0, 1)[rows], torch.stack(path or [x[:MAX_CHAINS]], dim=1)


def worse_stop(
    stopped: Stopped | None, reason: str, fit_stopped: Stopped | None, fit_reason: str
) -> tuple[Stopped | None, str]:
    """Why the draw ended early or else the fit did; of two, the divergence."""
    if fit_stopped is None or stopped == "diverged":
        return stopped, reason
    return fit_stopped, f"in fit: {fit_reason}"
