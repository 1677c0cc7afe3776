"""Microcanonical Langevin Monte Carlo of the package blackjax."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Generator, Tensor

from ...targets.checks import require_at_least, require_positive
from ...targets.meter import BudgetReached, Meter
from ..base import FittedSampler, NotApplicableError, register_sampler
from ..isolation import isolated_rng
from ..kernels import Diverged
from .boundary import Array, Boundary, finite_starts, silenced
from .chains import End, FittedChains
from .jax_boundary import JaxArray, JaxDensity

SCORES_PER_STEP = 2  # of the integrator of minimal norm, the library's own for this sampler
PHASE = 1 / 3  # of the tuning


@register_sampler("blackjax_mclmc", version=1)
@dataclass(frozen=True, kw_only=True)
class BlackjaxMCLMC:
    """Microcanonical Langevin Monte Carlo of blackjax (blackjax.mclmc): unit velocity, turned by score and noise.

    Nothing is accepted or rejected, so the draws are biased: the integrator's error in energy adds up to a stationary
    law that is not the target, off by the order of the squared step, and no diagnostic of convergence sees it. The
    step is tuned until a step's error has variance ``energy_variance`` per dimension: small values make the bias small,
    and moments are usually off by less than a tenth of a standard deviation with the default. Where the density is
    zero, a chain stays and turns to a new direction.

    ``fit`` tunes the step, a diagonal metric and L, the length on which a velocity is forgotten, of every chain by
    itself, and leaves them fixed (blackjax.mclmc_find_L_and_step_size); a tuning that the budget cuts off is dropped.
    All chains move at once, ``2 n_chains`` scores per move. At least two dimensions.

    Attributes:
        n_chains: chains.
        energy_variance: see above.
        burn_in: steps of the tuning: a third for the step, a third for the metric and a third of that for the step
            again, a third for L.
        thinning: steps per kept state.

    References: J. Robnik, G. B. De Luca, E. Silverstein and U. Seljak, Microcanonical Hamiltonian Monte Carlo, JMLR 24
    (2023), arXiv 2212.08549; J. Robnik and U. Seljak, arXiv 2303.18221 (the Langevin form); A. Cabezas et al.,
    BlackJAX, arXiv 2402.10797 (2024).
    """

    n_chains: int = 16
    energy_variance: float = 5e-4
    burn_in: int = 1_200
    thinning: int = 10

    def __post_init__(self) -> None:
        require_at_least(1, n_chains=self.n_chains, thinning=self.thinning)
        require_at_least(12, burn_in=self.burn_in)
        require_positive(energy_variance=self.energy_variance)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Tune every chain; costs n_chains * (1 + 2 n_steps) scores and the values of the starts.

        Raises:
            ModuleNotFoundError: if blackjax is not installed.
            NotApplicableError: on the line, where a unit velocity has nowhere to turn.
        """
        if meter.dim < 2:
            raise NotApplicableError("needs two dimensions at least, target has one")
        x = meter.start(self.n_chains, generator)
        end = End()
        tuned = Tuned.first(self.n_chains, meter.dim)
        with silenced(), isolated_rng(generator) as seed:
            import blackjax  # noqa: F401  # pyright: ignore[reportMissingImports]  # draws from numpy's global generator

            compiled = Compiled.of(self)
            try:
                x = finite_starts(meter, self.n_chains, generator)
                x, tuned = tune(compiled, x, meter, seed)
            except (BudgetReached, Diverged) as error:
                end.note(error)
        diagnostics = {"n_steps": tuned.n_steps, "step_sizes": tuned.step_sizes.tolist(), "L": tuned.lengths.tolist()}
        return FittedChains(
            self, x, lambda x, seed: Trajectories(compiled, x, meter, tuned, seed), diagnostics, end.stopped, end.reason
        )


@dataclass(frozen=True)
class Tuned:
    """What the tuning gives, a row per chain.

    Attributes:
        lengths, step_sizes: L and the step, in units of scale times the root of the metric, shape ``(n_chains,)``.
        inverse_metrics: variances of y = x / scale, shape ``(n_chains, dim)``.
        n_steps: of each chain's tuning.
    """

    lengths: Array
    step_sizes: Array
    inverse_metrics: Array
    n_steps: int = 0

    @classmethod
    def first(cls, n_chains: int, dim: int) -> "Tuned":
        """Where the library's tuning begins."""
        length = np.full(n_chains, np.sqrt(dim))
        return cls(length, 0.25 * length, np.ones((n_chains, dim)))


class Compiled:
    """The library's functions, mapped over chains and compiled once for all targets of one dimension and draws.

    Args:
        config: of the sampler.

    Attributes:
        density: what they call.
        start: ``(keys, y)`` to the states of all chains; a score each.
        move: ``(keys, states, L, step size, inverse metric)`` to the next states, their errors in energy, and which of
            the steps ended where the density is positive; two scores each.
        tune: ``(keys, states)`` to the states after the tuning, L, step sizes and inverse metrics.
        n_tuning: steps of the tuning.
    """

    def __init__(self, config: BlackjaxMCLMC) -> None:
        import blackjax  # pyright: ignore[reportMissingImports]
        import jax  # pyright: ignore[reportMissingImports]

        library: Any = blackjax  # untyped
        self.density = JaxDensity()
        log_prob, kernel = self.density.log_prob, library.mclmc.build_kernel()
        phase = round(config.burn_in * PHASE)
        self.n_tuning = 3 * phase + round(phase / 3)

        def start(key: JaxArray, y: JaxArray) -> JaxArray:
            return library.mclmc.init(y, log_prob, key)

        def move(key: JaxArray, state: JaxArray, length: JaxArray, step: JaxArray, metric: JaxArray) -> JaxArray:
            state, info = kernel(key, state, log_prob, metric, length, step)
            return state, info.energy_change, info.nonans

        def tune(key: JaxArray, state: JaxArray) -> JaxArray:
            state, tuned, _ = library.mclmc_find_L_and_step_size(
                kernel,
                config.burn_in,
                state,
                key,
                logdensity_fn=log_prob,
                frac_tune1=PHASE,
                frac_tune2=PHASE,
                frac_tune3=PHASE,
                desired_energy_var=config.energy_variance,
            )
            return state, tuned.L, tuned.step_size, tuned.inverse_mass_matrix

        self.start, self.move, self.tune = (jax.jit(jax.vmap(function)) for function in (start, move, tune))

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, config: BlackjaxMCLMC) -> "Compiled":
        """The same for the same configuration."""
        return cls(config)


def tune(compiled: Compiled, x: Tensor, meter: Meter, seed: int) -> tuple[Tensor, Tuned]:
    """Tune the chains.

    Args:
        compiled: the library's functions.
        x: where the chains start, shape ``(n_chains, dim)``.
        meter: the target.
        seed: of the library.
    Returns:
        Where they are then, and what the tuning gives.
    Raises:
        BudgetReached: if it cannot be paid.
        Diverged: if it gives a chain a state, a step, a length or a metric that is not finite, or none.
    """
    import jax  # pyright: ignore[reportMissingImports]

    boundary = Boundary(meter)
    with compiled.density.of(boundary):
        first, second = jax.random.split(jax.random.key(seed))
        states = compiled.start(jax.random.split(first, len(x)), boundary.to_y(x))
        states, *found = compiled.tune(jax.random.split(second, len(x)), states)
        y, length, step_size, metric = map(np.asarray, (states.position, *found))
    boundary.check()
    is_usable = np.isfinite(y).all(-1) & np.isfinite(metric).all(-1) & (metric > 0).all(-1)
    is_usable &= (length > 0) & (length < np.inf) & (step_size > 0) & (step_size < np.inf)
    if not is_usable.all():
        raise Diverged(f"the tuning failed in {(~is_usable).sum()} of {len(x)} chains")
    return boundary.to_x(y), Tuned(length, step_size, metric, compiled.n_tuning)


class Trajectories:
    """Chains under way; the first move pays their scores too, and begins with velocities at random.

    Args:
        compiled: the library's functions.
        x: where the chains are, shape ``(n_chains, dim)``.
        meter: the target.
        tuned: of every chain.
        seed: of the library.
    """

    def __init__(self, compiled: Compiled, x: Tensor, meter: Meter, tuned: Tuned, seed: int) -> None:
        self._compiled, self._tuned, self._x, self._seed = compiled, tuned, x, seed
        self._boundary = Boundary(meter)
        self._states: JaxArray = None
        self._squares = 0.0  # sum of squared errors in energy
        self._n_moves = self._n_refused = 0

    @property
    def diagnostics(self) -> Mapping[str, object]:
        """Steps of each chain, mean square of a step's error in energy per dimension, steps that were refused."""
        n_chains, dim = self._x.shape
        n_moved = n_chains * self._n_moves - self._n_refused
        return {
            "n_steps": self._n_moves,
            "energy_variance": self._squares / (n_moved * dim) if n_moved else float("nan"),
            "n_refused": self._n_refused,
        }

    def move(self) -> Tensor:
        """One step of every chain; BudgetReached where one of them cannot be paid."""
        import jax  # pyright: ignore[reportMissingImports]

        compiled, tuned, boundary = self._compiled, self._tuned, self._boundary
        with compiled.density.of(boundary):
            first, second = jax.random.split(jax.random.fold_in(jax.random.key(self._seed), self._n_moves))
            states = self._states
            if states is None:
                states = compiled.start(jax.random.split(first, len(self._x)), boundary.to_y(self._x))
            keys = jax.random.split(second, len(self._x))
            states, errors, is_moved = compiled.move(
                keys, states, tuned.lengths, tuned.step_sizes, tuned.inverse_metrics
            )
            y, errors, is_moved = map(np.asarray, (states.position, errors, is_moved))
        boundary.check()
        if not np.isfinite(y).all():
            raise Diverged("chains are not finite after a move")
        self._states = states
        self._squares += float((errors**2).sum())
        self._n_refused += int((~is_moved).sum())
        self._n_moves += 1
        x: Tensor = boundary.to_x(y)
        return x
