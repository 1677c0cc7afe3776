"""The No-U-Turn Sampler of the package blackjax."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Generator, Tensor

from ...targets.checks import require_at_least, require_one_of
from ...targets.meter import BudgetReached, Meter
from ..base import FittedSampler, register_sampler
from ..isolation import isolated_rng
from ..kernels import Diverged
from .boundary import Array, Boundary, finite_starts, silenced
from .chains import End, FittedChains
from .jax_boundary import JaxArray, JaxDensity

Metric: TypeAlias = Literal["diagonal", "dense"]
FIRST_STEP = 1.0  # of the warm-up, in units of scale, as in the library


@register_sampler("blackjax_nuts", version=1)
@dataclass(frozen=True, kw_only=True)
class BlackjaxNUTS:
    """No-U-Turn Sampler of blackjax (blackjax.nuts), compiled by jax: multinomial, warmed up in windows as in Stan.

    Every chain adapts by itself in ``fit`` (blackjax.window_adaptation); step and metric are frozen before any draw.
    Chains run one after the other, since mapped chains would all pay the longest trajectory among them; in the warm-up
    they share the budget that is left equally.

    Attributes:
        n_chains: chains.
        acceptance: mean acceptance probability that the step is adapted to.
        max_depth: doublings of a trajectory, of 2^max_depth - 1 scores at most.
        metric: ``diagonal``, or ``dense``, which learns correlations too.
        burn_in: moves of the warm-up.
        thinning: moves per kept state.

    References: M. Hoffman and A. Gelman, JMLR 15 (2014); A. Cabezas et al., BlackJAX: composable Bayesian inference in
    JAX, arXiv 2402.10797 (2024).
    """

    n_chains: int = 4
    acceptance: float = 0.8
    max_depth: int = 10
    metric: Metric = "diagonal"
    burn_in: int = 500
    thinning: int = 1

    def __post_init__(self) -> None:
        require_at_least(1, n_chains=self.n_chains, max_depth=self.max_depth, thinning=self.thinning)
        require_at_least(0, burn_in=self.burn_in)
        require_one_of(Metric, metric=self.metric)
        if not 0 < self.acceptance < 1:
            raise ValueError(f"acceptance must be between 0 and 1, got {self.acceptance}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Warm every chain up; costs a score per leapfrog step and chain, and the values of the starts.

        Raises:
            ModuleNotFoundError: if blackjax is not installed.
        """
        x = meter.start(self.n_chains, generator)
        end = End()
        tuned = [Tuned.first(self.metric, meter.dim) for _ in range(self.n_chains)]
        with silenced(), isolated_rng(generator) as seed:
            import blackjax  # noqa: F401  # pyright: ignore[reportMissingImports]  # draws from numpy's global generator

            compiled = Compiled.of(self)
            try:
                x = finite_starts(meter, self.n_chains, generator)
                if self.burn_in:
                    x, tuned = warm_up(compiled, x, meter, seed)
            except (BudgetReached, Diverged) as error:
                end.note(error)
        end.n_moves = min(each.n_moves for each in tuned)
        cut = next((each.error for each in tuned if each.error is not None), None)
        if cut is not None:
            end.note(cut)
        diagnostics = {
            "step_sizes": [each.step_size for each in tuned],
            "n_leapfrog": sum(each.n_leapfrog for each in tuned),
        }
        return FittedChains(
            self, x, lambda x, seed: Trajectories(compiled, x, meter, tuned, seed), diagnostics, end.stopped, end.reason
        )


@dataclass(frozen=True)
class Tuned:
    """What the warm-up of one chain gives.

    Attributes:
        step_size: in units of scale times the root of the metric.
        inverse_metric: variances of y = x / scale, shape ``(dim,)``, or their covariance ``(dim, dim)``.
        n_moves, n_leapfrog: of the warm-up that are complete.
        error: what ended it early.
    """

    step_size: float
    inverse_metric: Array
    n_moves: int = 0
    n_leapfrog: int = 0
    error: BudgetReached | None = None

    @classmethod
    def first(cls, metric: Metric, dim: int) -> "Tuned":
        """Of a chain that has not been warmed up."""
        return cls(FIRST_STEP, np.ones(dim) if metric == "diagonal" else np.eye(dim))


class Compiled:
    """The library's functions, compiled once for all chains, targets of one dimension and draws.

    Args:
        config: of the sampler.

    Attributes:
        density: what they call.
        metric: as configured.
        start: the state of a chain at y, shape ``(dim,)``; a score.
        move: ``(key, state, step size, inverse metric)`` to the next state and how it came about; a score per step.
        warm_up: ``(key, y)`` to step size, inverse metric, and of every move where it led, how, and with what.
    """

    def __init__(self, config: BlackjaxNUTS) -> None:
        import blackjax  # pyright: ignore[reportMissingImports]
        import jax  # pyright: ignore[reportMissingImports]

        library: Any = blackjax  # untyped
        self.metric: Metric = config.metric
        self.density = JaxDensity()
        log_prob, kernel = self.density.log_prob, library.nuts.build_kernel()
        adaptation = library.window_adaptation(
            library.nuts,
            log_prob,
            is_mass_matrix_diagonal=config.metric == "diagonal",
            initial_step_size=FIRST_STEP,
            target_acceptance_rate=config.acceptance,
            max_num_doublings=config.max_depth,
            adaptation_info_fn=lambda state, info, adapted: (
                state.position,
                info.num_integration_steps,
                adapted.step_size,
                adapted.inverse_mass_matrix,
            ),
        )

        def start(y: JaxArray) -> JaxArray:
            return library.nuts.init(y, log_prob)

        def move(key: JaxArray, state: JaxArray, step_size: JaxArray, inverse_metric: JaxArray) -> JaxArray:
            state, info = kernel(key, state, log_prob, step_size, inverse_metric, config.max_depth)
            return state, (info.num_integration_steps, info.acceptance_rate, info.is_divergent)

        def warm_up(key: JaxArray, y: JaxArray) -> JaxArray:
            results, path = adaptation.run(key, y, config.burn_in)
            return results.parameters["step_size"], results.parameters["inverse_mass_matrix"], path

        self.start, self.move, self.warm_up = map(jax.jit, (start, move, warm_up))

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, config: BlackjaxNUTS) -> "Compiled":
        """The same for the same configuration."""
        return cls(config)


class Share(Boundary):
    """The boundary of one chain among others.

    Args:
        meter: of the target.
        n_left: chains that have not begun, this one among them; each gets the same part of the budget that is left.

    Attributes:
        n_scores: paid here.
    """

    def __init__(self, meter: Meter, n_left: int) -> None:
        super().__init__(meter)
        self.n_scores = 0
        self._remaining = meter.remaining
        self._kept = 0.0 if n_left == 1 else meter.remaining() * (1 - 1 / n_left)

    def log_prob_and_score(self, y: Array) -> tuple[Array, Array]:
        """As in ``Boundary``; what is left to the other chains ends it as the budget does."""
        if self.error is None and self._remaining() - len(y) < self._kept:
            self.error = BudgetReached(f"a chain's share of the budget is spent, {self._kept:g} are left for others")
        both = super().log_prob_and_score(y)
        self.n_scores += len(y) if self.error is None else 0
        return both


def warm_up(compiled: Compiled, x: Tensor, meter: Meter, seed: int) -> tuple[Tensor, list[Tuned]]:
    """Warm up the chains, each within its share of the budget; moves that a chain cannot pay are dropped.

    Args:
        compiled: the library's functions.
        x: where the chains start, shape ``(n_chains, dim)``.
        meter: the target.
        seed: of the library.
    Returns:
        Where they are then, and what the warm-up gives.
    Raises:
        Diverged: if a chain, its step or its metric is not finite then.
    """
    import jax  # pyright: ignore[reportMissingImports]

    ends, tuned = [], []
    for number, row in enumerate(x):
        boundary = Share(meter, len(x) - number)
        y = boundary.to_y(row)
        with compiled.density.of(boundary):
            key = jax.random.fold_in(jax.random.key(seed), number)
            step_size, metric, path = jax.tree.map(np.asarray, compiled.warm_up(key, y))
        positions, n_steps, steps, metrics = path
        n_moves, error = len(n_steps), boundary.error
        if error is not None:
            if not isinstance(error, BudgetReached):
                raise error
            n_moves = int((1 + n_steps.cumsum() <= boundary.n_scores).sum())  # 1 is that of the start
            step_size = steps[n_moves - 1] if n_moves else FIRST_STEP
            metric = metrics[n_moves - 1] if n_moves else Tuned.first(compiled.metric, meter.dim).inverse_metric
        y = positions[n_moves - 1] if n_moves else y
        tuned.append(Tuned(float(step_size), np.array(metric), n_moves, int(n_steps[:n_moves].sum()), error))
        ends.append(boundary.to_x(y))
        if not (np.isfinite(y).all() and 0 < step_size < np.inf and np.isfinite(metric).all()):
            raise Diverged(f"a chain is not finite after {n_moves} moves of the warm-up")
    return torch.stack(ends), tuned


class Trajectories:
    """Chains of NUTS under way; the first move pays their scores too.

    Args:
        compiled: the library's functions.
        x: where the chains are, shape ``(n_chains, dim)``.
        meter: the target.
        tuned: of every chain.
        seed: of the library.
    """

    def __init__(self, compiled: Compiled, x: Tensor, meter: Meter, tuned: list[Tuned], seed: int) -> None:
        self._compiled, self._tuned, self._x, self._seed = compiled, tuned, x, seed
        self._boundary = Boundary(meter)
        self._infos: list[Array] = []  # of every move, shape (n_chains, 3)
        self._states: list[JaxArray] = []

    @property
    def diagnostics(self) -> Mapping[str, object]:
        """Leapfrog steps, mean acceptance probability and divergent moves."""
        n_leapfrog, acceptance, is_divergent = np.array(self._infos).reshape(-1, 3).T
        return {
            "acceptance_rate": float(acceptance.mean()) if len(acceptance) else float("nan"),
            "n_divergent": int(is_divergent.sum()),
            "n_leapfrog": int(n_leapfrog.sum()),
        }

    def move(self) -> Tensor:
        """One trajectory of every chain; BudgetReached where one of them cannot be paid."""
        import jax  # pyright: ignore[reportMissingImports]

        compiled, boundary = self._compiled, self._boundary
        with compiled.density.of(boundary):
            states = self._states or [compiled.start(y) for y in boundary.to_y(self._x)]
            keys = jax.random.split(jax.random.fold_in(jax.random.key(self._seed), len(self._infos)), len(states))
            moved = [
                compiled.move(key, state, tuned.step_size, tuned.inverse_metric)
                for key, state, tuned in zip(keys, states, self._tuned, strict=True)
            ]
            y = np.stack([np.asarray(state.position) for state, _ in moved])
            infos = np.array([[float(each) for each in info] for _, info in moved])
        boundary.check()
        if not np.isfinite(y).all():
            raise Diverged("chains are not finite after a move")
        self._states = [state for state, _ in moved]
        self._infos.append(infos)
        x: Tensor = boundary.to_x(y)
        return x
