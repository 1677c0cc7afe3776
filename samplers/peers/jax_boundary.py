"""The boundary between the Meter and jax: a density that compiled code calls back and differentiates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, TypeAlias

import numpy as np

from .boundary import Array, Boundary

JaxArray: TypeAlias = Any  # untyped
Words: TypeAlias = "np.ndarray[Any, np.dtype[np.uint32]]"


class JaxDensity:
    """A function that jax compiles, maps and differentiates, and that becomes the density of any target.

    What is compiled from it holds no target: it is compiled once, and called inside ``of``.

    Differentiating evaluates once: the callback returns log density and score together. Points that are mapped arrive
    as one batch.

    Attributes:
        log_prob: log density of y = x / scale, shape ``(dim,)`` to ``()``, in float64; -inf where it is zero. Its value
            alone counts as a value; its derivative, or both, as a score.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._boundary: Boundary | None = None
        self.log_prob: Callable[[JaxArray], JaxArray] = _differentiable(
            lambda y: self._present.log_prob(y), lambda y: self._present.log_prob_and_score(y)
        )

    @contextmanager
    def of(self, boundary: Boundary) -> Iterator[None]:
        """Inside the block it is the density behind ``boundary``, and jax computes in float64.

        jax computes while Python goes on: results must be read before the block ends. Its own switch to float64 belongs
        to a thread; no other part of the process sees it. Other threads wait.
        """
        import jax  # pyright: ignore[reportMissingImports]

        with self._lock, jax.enable_x64(True):
            before, self._boundary = self._boundary, boundary
            try:
                yield
            finally:
                self._boundary = before

    @property
    def _present(self) -> Boundary:
        if self._boundary is None:
            raise RuntimeError("a density of jax is called outside of its block")
        return self._boundary


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

    def value_alone(y: JaxArray) -> JaxArray:
        return call(lambda points: (value(points),), y, y.shape[:-1])[0]

    def forward(y: JaxArray) -> tuple[JaxArray, ...]:
        return tuple(call(value_and_score, y, y.shape[:-1], y.shape))

    log_prob: Any = jax.custom_vjp(value_alone)  # untyped
    log_prob.defvjp(forward, lambda score, cotangent: (cotangent[..., None] * score,))
    function: Callable[[JaxArray], JaxArray] = log_prob
    return function


def _words(values: Array) -> Words:
    return np.ascontiguousarray(values).view(np.uint32).reshape(*values.shape, 2)


def _doubles(words: Words) -> Array:
    return np.ascontiguousarray(words).view(np.float64)[..., 0]
