"""Minibatches of data rows, for the samplers that follow estimated scores, and Langevin moves along these."""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from ..targets.draws import Stopped
from ..targets.meter import BudgetReached, Meter
from .base import NotApplicableError, normal_like
from .kernels import Diverged, drift, stopped_by


class Minibatches:
    """Scores on ``batch_size`` data rows at a time, without replacement within an epoch.

    An epoch is a random permutation of the rows, cut into as many whole batches as there are; the rest of it is left
    out. Each batch is a uniform subset of the rows, so each score is unbiased, and the errors of an epoch cancel (of
    all rows, they add up to nothing), which independent batches do not do. One permutation an epoch also costs less
    than one draw of rows a step. The rows are the same for all points: that is one matrix product of the target, and
    the price is an error that all points share.

    Args:
        meter: of a target that offers minibatch scores.
        batch_size: data rows in a batch; all of them are taken in their own order, without a random number.
        generator: the only source of randomness.
    """

    def __init__(self, meter: Meter, batch_size: int, generator: Generator) -> None:
        self._n_rows = require_minibatches(meter, batch_size)
        self._meter = meter
        self._batch_size = batch_size
        self._generator = generator
        self._left: list[Tensor] = []

    def next_rows(self) -> Tensor:
        """Indices of the rows of the next batch, shape ``(batch_size,)``."""
        device = self._generator.device
        if self._batch_size == self._n_rows:
            return torch.arange(self._n_rows, device=device)
        if not self._left:
            order = torch.randperm(self._n_rows, generator=self._generator, device=device)
            n_batches = self._n_rows // self._batch_size
            self._left = list(order[: n_batches * self._batch_size].reshape(n_batches, -1))
        return self._left.pop()

    def score(self, x: Tensor, *, create_graph: bool = False) -> Tensor:
        """Estimate of the score on the next batch, shape of ``x``; graph and BudgetReached as the meter has them."""
        return self._meter.minibatch_score(x, self.next_rows(), create_graph=create_graph)


def require_minibatches(meter: Meter, batch_size: int) -> int:
    """The number of data rows, if a batch can be drawn from them.

    Raises:
        NotApplicableError: if the target offers no minibatch scores.
        ValueError: if a batch is larger than the data.
    """
    if meter.n_rows is None:
        raise NotApplicableError("needs minibatch scores, target offers none")
    if batch_size > meter.n_rows:
        raise ValueError(f"batch_size must be at most the target's n_rows {meter.n_rows}, got {batch_size}")
    return meter.n_rows


class MinibatchWalk:
    """Parallel Langevin chains along minibatch scores, which stop by themselves where the budget ends or they diverge.

    Args:
        x: start of the chains, shape ``(n, dim)``.
        batches: give the scores.
        step: h of the move after n moves, in the squared unit of x.
        max_drift: longest drift, see ``kernels.drift``.
        generator: the only source of randomness.

    Attributes:
        x: where the chains are; always finite, and changed only when a move is complete.
        n_moves: complete moves so far.
        last_step: h of the last move that was tried; NaN before the first.
        stopped, reason: as in ``Draws``.
    """

    def __init__(
        self, x: Tensor, batches: Minibatches, step: Callable[[int], float], max_drift: float, generator: Generator
    ) -> None:
        self.x = x
        self.n_moves = 0
        self.last_step = math.nan
        self.stopped: Stopped | None = None
        self.reason = ""
        self._batches = batches
        self._step = step
        self._max_drift = max_drift
        self._generator = generator

    def move(self) -> Tensor | None:
        """Move every chain once; where they are then, None if stopped."""
        self.last_step = self._step(self.n_moves)
        try:
            score = self._batches.score(self.x)
            self.x = langevin_move(self.x, score, self.last_step, self._max_drift, self._generator)
        except (BudgetReached, Diverged) as error:
            self.stopped = stopped_by(error)
            self.reason = f"{error}; stopped after {self.n_moves} moves"
            return None
        self.n_moves += 1
        return self.x

    def go(self, n_moves: int) -> bool:
        """Move every chain ``n_moves`` times; False if stopped on the way."""
        return all(self.move() is not None for _ in range(n_moves))


def langevin_move(x: Tensor, score: Tensor, step: float, max_drift: float, generator: Generator) -> Tensor:
    """x + h s + sqrt(2h) xi, the drift limited (see ``kernels.drift``).

    Raises:
        Diverged: if a point is not finite then.
    """
    moved = drift(score, step, max_drift).add_(x).add_(normal_like(x, generator), alpha=math.sqrt(2 * step))
    if not moved.isfinite().all():
        n_bad = int((~moved.isfinite().all(-1)).sum())
        raise Diverged(f"position is not finite in {n_bad} of {len(x)} rows after a move with step {step:.3g}")
    return moved
