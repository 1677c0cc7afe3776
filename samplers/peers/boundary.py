"""The boundary between the Meter and a library that brings its own loop.

Libraries explore y = x / scale, in float64. Some call the density from compiled code, through which no
exception may pass: a ``Boundary`` remembers it and answers that the density is zero, so that the library rejects what
it tries and comes back soon. Its caller then asks ``check`` and drops what has been computed since the last time.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

from ...targets.meter import Meter
from ..kernels import Diverged

Array: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
T = TypeVar("T")
N_TRIES = 100  # rounds of starting points, of which those with a finite density are taken


class Boundary:
    """The density of y = x / scale, known up to a constant, for a library.

    Where log density or score is not finite, the density is zero and its score too, as after an exception.

    Args:
        meter: of the target.

    Attributes:
        error: what the meter raised first.
    """

    def __init__(self, meter: Meter) -> None:
        self.error: Exception | None = None
        self._meter = meter

    def log_prob(self, y: Array) -> Array:
        """Log density at ``(n, dim)``, shape ``(n,)``; counts n values."""
        x = self.to_x(y)
        log_prob = self._caught(lambda: self._meter.log_prob(x))
        return np.full(len(y), -math.inf) if log_prob is None else to_numpy(finite_or_zero(log_prob))

    def log_prob_and_score(self, y: Array) -> tuple[Array, Array]:
        """Log density and score with respect to y at ``(n, dim)``; counts n scores."""
        x = self.to_x(y)
        both = self._caught(lambda: self._meter.log_prob_and_score(x))
        if both is None:
            return np.full(len(y), -math.inf), np.zeros(y.shape)
        log_prob, score = both
        is_known = log_prob.isfinite() & score.isfinite().all(-1)
        log_prob = torch.where(is_known, log_prob, -math.inf)
        score = torch.where(is_known.unsqueeze(-1), self._meter.scale * score.double(), 0.0)
        return to_numpy(log_prob), to_numpy(score)

    def to_x(self, y: Array) -> Tensor:
        """Points of the target for points of the library."""
        x = self._meter.scale * torch.from_numpy(np.array(y, dtype=np.float64))
        return x.to(device=self._meter.device, dtype=self._meter.dtype)

    def to_y(self, x: Tensor) -> Array:
        """Points of the library for points of the target."""
        return to_numpy(x.detach().double() / self._meter.scale)

    def check(self) -> None:
        """Raise what the meter raised since this boundary was made, if anything."""
        if self.error is not None:
            raise self.error

    def _caught(self, evaluate: Callable[[], T]) -> T | None:
        if self.error is None:
            try:
                return evaluate()
            except Exception as error:  # of whatever kind: it may not pass; check raises it
                self.error = error
        return None


def finite_or_zero(log_prob: Tensor) -> Tensor:
    """``log_prob`` with -inf, the log of a density of zero, where it is NaN or infinite."""
    return log_prob.nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)


def to_numpy(values: Tensor) -> Array:
    """The same numbers, in float64 and in memory of their own."""
    array: Array = values.detach().cpu().double().clone().numpy()
    return array


def finite_starts(meter: Meter, n_samples: int, generator: Generator) -> Tensor:
    """The meter's public starting points, those replaced at which the density is not finite, shape ``(n, dim)``.

    Costs a value per point tried.

    Raises:
        Diverged: if 100 rounds find too few.
        BudgetReached: before values that the meter cannot pay.
    """
    found: list[Tensor] = []
    for _ in range(N_TRIES):
        x = meter.start(n_samples, generator)
        found.append(x[meter.log_prob(x).isfinite()])
        if sum(map(len, found)) >= n_samples:
            return torch.cat(found)[:n_samples]
    n_found = sum(map(len, found))
    raise Diverged(f"the density is finite at {n_found} of {N_TRIES * n_samples} starting points")


@contextmanager
def silenced() -> Iterator[None]:
    """Warnings of a library about its own progress are not shown: what they say is in the draws and diagnostics."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
