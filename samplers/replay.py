"""A buffer of points that Metropolis moves spread locally and weighted draws of a sampler in training replace."""

import math
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least
from ..targets.meter import Meter
from .ais import effective_size
from .annealed import systematic
from .base import State
from .moves import FIRST_STEP, Moves


def local_moves() -> Moves:
    """MALA of steps of all sizes, each with walks of single coordinates."""
    return Moves(method="mala", acceptance=0.6, min_step=0.005, n_walks=10)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """How the buffer is kept.

    Attributes:
        n_points: of the buffer.
        n_first: moves of all points before training.
        move_every: steps of training between moves of all points.
        draw_every: steps of training between draws.
        n_fresh: weighted draws at a time. They replace as many points of the buffer as they are worth, resampled by
            their weights: while the sampler is bad, hardly any.
        moves: which, in units of sigma.

    Reference: M. Sendera et al., Improved off-policy training of diffusion samplers, NeurIPS 2024, arXiv 2402.05098,
    for the buffer with local search; resampling by weights is ours.
    """

    n_points: int = 2_048
    n_first: int = 200
    move_every: int = 10
    draw_every: int = 50
    n_fresh: int = 512
    moves: Moves = field(default_factory=local_moves)

    def __post_init__(self) -> None:
        require_at_least(1, n_points=self.n_points, move_every=self.move_every, draw_every=self.draw_every)
        require_at_least(0, n_first=self.n_first)
        require_at_least(2, n_fresh=self.n_fresh)


@dataclass
class Buffer:
    """Points of the target's space with their densities, under moves that leave the target invariant.

    Attributes:
        config: of the buffer.
        meter: of the target.
        scales: of the moves, shape ``(dim,)``.
        state: the points.
        step: of the moves, adapted.
        n_replaced: points that weighted draws have replaced so far.
    """

    config: Replay
    meter: Meter
    scales: Tensor
    state: State
    step: float = FIRST_STEP
    n_replaced: int = 0

    @classmethod
    def at(cls, x: Tensor, scale: float, config: Replay, meter: Meter) -> "Buffer":
        """At ``x``, shape ``(n_points, dim)``, with moves in units of ``scale``; BudgetReached if too dear."""
        return cls(config, meter, torch.full_like(x[0], scale), _movable(State.at(x, meter)))

    @property
    def points(self) -> Tensor:
        """Those of positive density, shape ``(n, dim)``."""
        return self.state.x[self.state.log_prob > -math.inf]

    def move(self, n_moves: int, generator: Generator) -> None:
        """Move all points; BudgetReached, with some moves made, if the budget cannot pay."""
        for _ in range(n_moves):
            kernel = self.config.moves.kernel(self.step, self.scales)
            self.state = _movable(kernel(self.state, self.meter, generator))
            self.step = self.config.moves.adapted(self.step, self.state.acceptance.mean().item())

    def replace(self, x: Tensor, log_weights: Tensor, generator: Generator) -> None:
        """Put draws ``(n, dim)`` in the places of randomly chosen points: as many, resampled, as their effective size.

        So the buffer forgets how many points it began with in each mode, at the speed that the weights deserve.
        """
        log_weights = log_weights.nan_to_num(nan=-math.inf, posinf=-math.inf)
        if log_weights.isneginf().all():
            return
        n = min(int(effective_size(log_weights) + 1e-9), len(self.state.x))
        fresh = State.at(x[systematic(log_weights.softmax(0), n, generator)], self.meter)
        stay = torch.randperm(len(self.state.x), generator=generator, device=x.device)[n:]
        self.state = State.join(self.state.rows(stay), _movable(fresh))
        self.n_replaced += n


def _movable(state: State) -> State:
    """Points without a density have density zero, and no score, so that any move away from them is accepted."""
    has_none = state.log_prob.isnan() | (state.log_prob == math.inf)
    return state._replace(
        log_prob=state.log_prob.masked_fill(has_none, -math.inf),
        score=state.score.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0),
    )
