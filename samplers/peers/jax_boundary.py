"""The boundary between the Meter and jax: a density that compiled code calls back and differentiates.

jax holds single precision by default, and the switch belongs to a thread: what uses a density here does so inside
``double_precision``, and no other part of the process sees it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from ...targets.meter import BudgetReached, Meter
from .boundary import Array, Boundary

JaxArray: TypeAlias = Any  # untyped
Words: TypeAlias = "np.ndarray[Any, np.dtype[np.uint32]]"


@contextmanager
def double_precision() -> Iterator[None]:
    """Inside the block, this thread's jax computes in float64."""
    import jax  # pyright: ignore[reportMissingImports]

    with jax.enable_x64(True):
        yield


class JaxDensity:
    """The density of y = x / scale as a function that jax compiles, maps and differentiates.

    Differentiating it evaluates once: the callback returns log density and score together. Points that are mapped
    arrive as one batch.

    Args:
        meter: of the target.

    Attributes:
        boundary: to the meter; an exception ends it, and ``renew`` makes another.
        n_scores: points whose score was paid since ``renew``.
        log_prob: the function, shape ``(dim,)`` to ``()``, in float64; -inf where the density is zero. Its value alone
            counts as a value, its derivative, or both, as a score.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.renew()
        self.log_prob: Callable[[JaxArray], JaxArray] = _differentiable(
            lambda y: self.boundary.log_prob(y), self._log_prob_and_score
        )

    def renew(self, kept_back: float = 0.0) -> None:
        """Forget an exception and count scores from zero.

        Args:
            kept_back: gradient equivalents of the budget, left to others: they end this boundary as the budget does.
        """
        self.boundary = Boundary(self._meter)
        self.n_scores = 0
        self._kept_back = kept_back

    def _log_prob_and_score(self, y: Array) -> tuple[Array, Array]:
        if self._meter.remaining() - len(y) < self._kept_back and self.boundary.error is None:
            self.boundary.error = BudgetReached(f"{self._kept_back:g} gradient equivalents are left to other chains")
        both = self.boundary.log_prob_and_score(y)
        self.n_scores += len(y) if self.boundary.error is None else 0
        return both


def _differentiable(
    value: Callable[[Array], Array], value_and_score: Callable[[Array], tuple[Array, Array]]
) -> Callable[[JaxArray], JaxArray]:
    """A function of jax from functions of points ``(n, dim)``.

    Callbacks may run in a thread of jax, where the switch to double precision is not set and numbers would be rounded:
    they pass as pairs of 32-bit words.
    """
    import jax  # pyright: ignore[reportMissingImports]

    def call(function: Callable[[Array], tuple[Array, ...]], y: JaxArray, *shapes: tuple[int, ...]) -> list[JaxArray]:
        def of_words(words: JaxArray) -> tuple[Words, ...]:
            points = _doubles(np.asarray(words))
            values = function(points.reshape(-1, points.shape[-1]))
            return tuple(_words(each.reshape(points.shape[:-1] + each.shape[1:])) for each in values)

        results = jax.pure_callback(
            of_words,
            [jax.ShapeDtypeStruct((*shape, 2), np.uint32) for shape in shapes],
            jax.lax.bitcast_convert_type(y, np.uint32),
            vmap_method="broadcast_all",
        )
        return [jax.lax.bitcast_convert_type(result, np.float64) for result in results]

    @jax.custom_vjp
    def log_prob(y: JaxArray) -> JaxArray:
        return call(lambda points: (value(points),), y, y.shape[:-1])[0]

    def forward(y: JaxArray) -> tuple[JaxArray, ...]:
        return tuple(call(value_and_score, y, y.shape[:-1], y.shape))

    log_prob.defvjp(forward, lambda score, cotangent: (cotangent[..., None] * score,))
    function: Callable[[JaxArray], JaxArray] = log_prob
    return function


def _words(values: Array) -> Words:
    return np.ascontiguousarray(values).view(np.uint32).reshape(*values.shape, 2)


def _doubles(words: Words) -> Array:
    return np.ascontiguousarray(words).view(np.float64)[..., 0]
