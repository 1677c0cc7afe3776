"""Runs of tempered sequential Monte Carlo by the package blackjax, adaptive or on a given schedule."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ...targets.base import LOG_2PI
from ...targets.meter import Meter
from ..annealed import Base
from ..kernels import Diverged
from .boundary import Array, Boundary, to_numpy
from .jax_boundary import JaxArray, JaxDensity

FIRST_STEP = 0.5  # in standard deviations of the particles
ACCEPTANCE = 0.8  # that the step is adapted to
GAIN = 2.0  # of the log step, per acceptance off
MIN_VARIANCE = 1e-12  # of the particles, in those of the base
FLOOR = (
    -1e10
)  # log likelihood where the density is zero; the library's step of b, some 1 / FLOOR then, must be seen in b
DEAD = -1e9  # rise of log Z that only such particles give


class Step(NamedTuple):
    """What a step is made with: ``b`` that the particles are weighed for after their moves, and the moves."""

    b: float
    step_size: float
    inverse_metric: Array


class Run:
    """One run under way.

    Args:
        x: draws of q, shape ``(n_particles, dim)``.

    Attributes:
        x: where the particles are, after the last complete step.
        steps: complete ones.
        rates: their mean acceptance probabilities.
        log_z: estimate so far.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.steps: list[Step] = []
        self.rates: list[float] = []
        self.log_z = 0.0

    @property
    def b(self) -> float:
        """What the particles have been weighed for."""
        return self.steps[-1].b if self.steps else 0.0

    @property
    def is_complete(self) -> bool:
        """Whether they have been moved at b = 1, too."""
        return len(self.steps) > 1 and self.steps[-2].b == 1


@dataclass(frozen=True)
class Loop:
    """What runs have in common.

    Attributes:
        compiled: the library's steps.
        base: q.
        meter: the target.
        seed: of the library.
    """

    compiled: "Compiled"
    base: Base
    meter: Meter
    seed: int

    def __call__(self, run: Run, number: int, schedule: Sequence[Step] | None) -> None:
        """Take a run to b = 1, and move its particles there.

        Args:
            run: at its start.
            number: of the run, whose randomness it decides with the seed.
            schedule: its steps; None adapts them.
        Raises:
            BudgetReached: if a step cannot be paid; earlier steps stand.
            Diverged: if the density is zero at all particles, b does not rise or particles are not finite.
        """
        import jax  # pyright: ignore[reportMissingImports]

        compiled, scale, boundary = self.compiled, self.meter.scale, Boundary(self.meter)
        mean, sd = to_numpy(self.base.mean), to_numpy(self.base.sd)
        q = (mean / scale, sd / scale, -np.log(sd).sum() - 0.5 * LOG_2PI * len(sd))
        with compiled.density.of(boundary):
            key = jax.random.fold_in(jax.random.key(self.seed), number)
            state = compiled.init(boundary.to_y(run.x))
            step_size, inverse_metric = FIRST_STEP, q[1] ** 2
            while not run.is_complete:
                n_done, is_last = len(run.steps), run.b == 1
                arguments = (jax.random.fold_in(key, n_done), state)
                if schedule is None:
                    state, *seen = compiled.adaptive(*arguments, step_size, inverse_metric, q)
                else:
                    _, step_size, inverse_metric = schedule[n_done]
                    state, *seen = compiled.planned(*arguments, step_size, inverse_metric, q, schedule[n_done].b)
                b, increment, rate = map(float, seen)
                y, weights = np.asarray(state.particles), np.asarray(state.weights)
                boundary.check()
                if not np.isfinite(y).all():
                    raise Diverged("particles are not finite after a step")
                if not is_last and increment < DEAD:
                    raise Diverged(f"the density is zero at all of {len(y)} particles")
                if not (is_last or b > run.b):
                    raise Diverged("b does not rise any more")
                run.x = boundary.to_x(y)
                run.steps.append(Step(b if schedule is None else schedule[n_done].b, step_size, inverse_metric))
                run.rates.append(rate)
                run.log_z += 0.0 if is_last else increment
                step_size *= math.exp(GAIN * (rate - ACCEPTANCE))
                inverse_metric = np.maximum(weighted_variance(y, weights), MIN_VARIANCE * q[1] ** 2)


def weighted_variance(y: Array, weights: Array) -> Array:
    """Of the coordinates, shape ``(n, dim)`` and ``(n,)`` to ``(dim,)``; weights sum to one."""
    centre = weights @ y
    variance: Array = weights @ (y - centre) ** 2
    return variance


class Compiled:
    """The library's steps, compiled once for all runs, targets of one dimension and draws of one number of particles.

    Args:
        n_moves, n_leapfrog, min_ess: of the sampler.

    Attributes:
        density: what they call: n * (1 + n_moves * n_leapfrog) scores, then n values, in every step.
        init: the state of particles at y, shape ``(n, dim)``.
        planned: ``(key, state, step size, inverse metric, q, b)`` to the state after a step, its b, the rise of log Z
            and the mean acceptance probability; q is mean and standard deviations of y, and log density of x at the
            mean.
        adaptive: the same without b, for which it pays n values more, before.
    """

    def __init__(self, n_moves: int, n_leapfrog: int, min_ess: float) -> None:
        import blackjax  # pyright: ignore[reportMissingImports]
        import jax  # pyright: ignore[reportMissingImports]
        import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
        from blackjax.smc import (  # pyright: ignore[reportMissingImports]
            adaptive_tempered,
            extend_params,
            resampling,
            tempered,
        )

        library: Any = blackjax  # untyped
        self.density = JaxDensity()
        hmc = library.hmc.build_kernel()

        def move(key: JaxArray, state: JaxArray, law: JaxArray, step: JaxArray, metric: JaxArray) -> JaxArray:
            return hmc(key, state, law, step, metric, n_leapfrog)

        def laws(q: JaxArray) -> tuple[Any, ...]:
            mean, sd, log_peak = q

            def log_q(y: JaxArray) -> JaxArray:
                return log_peak - 0.5 * jnp.sum(((y - mean) / sd) ** 2)

            def log_likelihood(y: JaxArray) -> JaxArray:
                return jnp.maximum(self.density.log_prob(y) - log_q(y), FLOOR)

            return log_q, log_likelihood, move, library.hmc.init, resampling.systematic

        def seen(state: JaxArray, info: JaxArray) -> JaxArray:
            rate = info.update_info.acceptance_rate.mean()
            return state, state.tempering_param, info.log_likelihood_increment, rate

        def adaptive(key: JaxArray, state: JaxArray, step: JaxArray, metric: JaxArray, q: JaxArray) -> JaxArray:
            kernel = adaptive_tempered.build_kernel(*laws(q), min_ess)
            return seen(*kernel(key, state, n_moves, extend_params({"step": step, "metric": metric})))

        def planned(
            key: JaxArray, state: JaxArray, step: JaxArray, metric: JaxArray, q: JaxArray, b: JaxArray
        ) -> JaxArray:
            kernel = tempered.build_kernel(*laws(q))
            return seen(*kernel(key, state, n_moves, b, extend_params({"step": step, "metric": metric})))

        self.init, self.adaptive, self.planned = map(jax.jit, (adaptive_tempered.init, adaptive, planned))

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, n_moves: int, n_leapfrog: int, min_ess: float) -> "Compiled":
        """The same for the same arguments."""
        return cls(n_moves, n_leapfrog, min_ess)
