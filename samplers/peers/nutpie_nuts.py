"""The No-U-Turn Sampler of the package nutpie."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Generator, Tensor

from ...targets.checks import require_at_least, require_one_of
from ...targets.draws import Draws, Stopped
from ...targets.meter import BudgetReached, Meter
from ..base import FittedSampler, refuse_start, register_sampler
from ..chains import MAX_CHAINS, MAX_KEPT
from ..isolation import isolated_rng
from ..kernels import Diverged, stopped_by
from .boundary import Array, Boundary, finite_starts, silenced

Metric: TypeAlias = Literal["diagonal", "low_rank"]


@register_sampler("nutpie_nuts", version=1)
@dataclass(frozen=True, kw_only=True)
class NutpieNUTS:
    """No-U-Turn Sampler of nutpie, compiled from Rust; its metric learns from scores too, so that a short warm-up does.

    The library cannot go on from a warm-up, so that every draw pays one: nothing is paid in ``fit``. Chains run one
    after the other in the library's own thread and share the budget that is left equally.

    Attributes:
        n_chains: chains.
        acceptance: mean acceptance probability that the step is adapted to.
        max_depth: doublings of a trajectory, of 2^max_depth - 1 scores at most.
        metric: ``diagonal``, or ``low_rank``, which learns strong correlations too.
        burn_in: moves of the warm-up.
        thinning: moves per kept state.

    References: M. Hoffman and A. Gelman, JMLR 15 (2014); A. Seyboldt, E. Carlson and B. Carpenter, Preconditioning
    Hamiltonian Monte Carlo by minimizing Fisher divergence, arXiv 2603.18845 (2026).
    """

    n_chains: int = 4
    acceptance: float = 0.8
    max_depth: int = 10
    metric: Metric = "diagonal"
    burn_in: int = 400
    thinning: int = 1

    def __post_init__(self) -> None:
        require_at_least(1, n_chains=self.n_chains, max_depth=self.max_depth, thinning=self.thinning)
        require_at_least(1, burn_in=self.burn_in)  # without a warm-up the library has no step size, and gives up
        require_one_of(Metric, metric=self.metric)
        if not 0 < self.acceptance < 1:
            raise ValueError(f"acceptance must be between 0 and 1, got {self.acceptance}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Nothing to pay once.

        Raises:
            ModuleNotFoundError: if nutpie is not installed.
        """
        import nutpie  # noqa: F401  # pyright: ignore[reportMissingImports]

        return FittedNutpie(self, meter)


@dataclass(frozen=True)
class FittedNutpie:
    """NUTS on one target."""

    config: NutpieNUTS
    meter: Meter
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Thinned states after a warm-up, in the order of time; where the budget ends earlier, those so far, repeated.

        Args:
            n_samples: number of rows.
            generator: the only source of randomness.
            start: must be None: the chains start at the meter's points.
        Raises:
            ValueError: if ``start`` is given, or ``n_samples`` is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "a chain for every row would be a warm-up for every row")
        config = self.config
        n_moves = config.thinning * math.ceil(n_samples / config.n_chains)
        x = self.meter.start(config.n_chains, generator)
        stopped: Stopped | None = None
        reason = ""
        diagnostics: dict[str, object] = {}
        paths: list[Array] = []
        run = Trajectories(config, self.meter)
        with silenced(), isolated_rng(generator) as seed:
            try:
                x = finite_starts(self.meter, config.n_chains, generator)
                paths, diagnostics = run.go(x, n_moves, seed)
            except (BudgetReached, Diverged) as error:
                stopped, reason = stopped_by(error), str(error)
        if run.error is not None:
            shortest = min((len(path) for path in paths), default=0)
            stopped, reason = "budget", f"{run.error}; stopped after {shortest} moves, {config.burn_in} of them warm-up"
        states = self._kept(paths, x)
        samples = states[:, config.thinning - 1 :: config.thinning] if states.shape[1] >= config.thinning else states
        rows = torch.arange(n_samples, device=x.device) % samples[..., 0].numel()
        every = math.ceil(states.shape[1] / MAX_KEPT)
        return Draws(
            samples=samples.transpose(0, 1).flatten(0, 1)[rows],
            chains=states[:MAX_CHAINS, every - 1 :: every].clone(),
            stopped=stopped,
            reason=reason,
            diagnostics=diagnostics,
        )

    def _kept(self, paths: list[Array], x: Tensor) -> Tensor:
        """States after the warm-up that all chains reached, else the last of each; shape ``(n_chains, n, dim)``."""
        boundary = Boundary(self.meter)
        shortest = min((len(path) for path in paths), default=0)
        if len(paths) == len(x) and shortest > self.config.burn_in:
            return torch.stack([boundary.to_x(path[self.config.burn_in : shortest]) for path in paths])
        ends = [boundary.to_x(path[-1]) if len(path) else row for path, row in zip(paths, x, strict=False)]
        return torch.stack([*ends, *x[len(ends) :]])[:, None]


class Trajectories:
    """Chains of NUTS, one after the other.

    Args:
        config: their configuration.
        meter: the target.

    Attributes:
        error: the first of a chain that had spent its share of the budget.
    """

    def __init__(self, config: NutpieNUTS, meter: Meter) -> None:
        self.error: BudgetReached | None = None
        self._config, self._meter = config, meter
        self._boundaries: list[Boundary] = []  # of the chains that have begun
        self._paths: list[list[Array]] = []

    def go(self, x: Tensor, n_moves: int, seed: int) -> tuple[list[Array], dict[str, object]]:
        """Warm up and move every chain.

        Args:
            x: where the chains start, shape ``(n_chains, dim)``.
            n_moves: after the warm-up.
            seed: of the library.
        Returns:
            States of every chain, warm-up included, shape ``(n, dim)``, and diagnostics of the moves after it.
        Raises:
            Diverged: if the library gives up.
        """
        import nutpie  # pyright: ignore[reportMissingImports]
        from nutpie.compiled_pyfunc import from_pyfunc  # pyright: ignore[reportMissingImports]

        dim = self._meter.dim
        starts = itertools.cycle(Boundary(self._meter).to_y(x))  # the library gives up by itself
        model = from_pyfunc(
            dim,
            self._log_prob_and_score,
            self._record,
            [np.dtype("float64")],
            [(dim,)],
            ["y"],
            make_initial_point_fn=lambda _: next(starts),
        )
        try:
            trace: Any = nutpie.sample(
                model,
                draws=n_moves,
                tune=self._config.burn_in,
                chains=self._config.n_chains,
                cores=1,
                seed=seed,
                progress_bar=False,
                low_rank_modified_mass_matrix=self._config.metric == "low_rank",
                target_accept=self._config.acceptance,
                maxdepth=self._config.max_depth,
            )
        except RuntimeError as error:
            self._check()
            if self.error is None:
                raise Diverged(str(error)) from error
            return self._states(), {}
        self._check()
        return self._states(), _diagnostics(trace)

    def _states(self) -> list[Array]:
        return [np.array(path).reshape(-1, self._meter.dim) for path in self._paths if path]

    def _check(self) -> None:
        """Remember a budget that was reached, and raise whatever else the meter raised."""
        for boundary in self._boundaries:
            if isinstance(boundary.error, BudgetReached):
                self.error = self.error or boundary.error
            else:
                boundary.check()

    def _log_prob_and_score(self) -> Callable[[Array], tuple[float, Array]]:
        """The density of one chain, within its share of the budget."""
        boundary = Boundary(self._meter)
        share = [math.inf]

        def evaluate(y: Array) -> tuple[float, Array]:
            if boundary not in self._boundaries:
                chains_left = max(1, self._config.n_chains - len(self._boundaries))
                self._boundaries.append(boundary)
                share[0] = self._meter.remaining() * (1 - 1 / chains_left)
            if self._meter.remaining() - 1 < share[0] < math.inf and boundary.error is None:
                boundary.error = BudgetReached(
                    f"a chain's share of the budget is spent, {share[0]:g} are left for others"
                )
            log_prob, score = boundary.log_prob_and_score(y[None])
            return float(log_prob[0]), score[0]

        return evaluate

    def _record(self, *_: int) -> Callable[[Array], dict[str, Array]]:
        """What the library calls with every state of one chain; those after the end of the budget are not kept."""
        path: list[Array] = []
        self._paths.append(path)

        def record(y: Array) -> dict[str, Array]:
            if not self._boundaries or self._boundaries[-1].error is None:
                path.append(np.array(y))
            return {"y": y}

        return record


def _diagnostics(trace: Any) -> dict[str, object]:
    stats, warm_up = trace.sample_stats, getattr(trace, "warmup_sample_stats", None)
    n_steps = int(stats.n_steps.sum())
    return {
        "acceptance_rate": float(stats.mean_tree_accept.mean()),
        "n_divergent": int(stats.diverging.sum()),
        "n_leapfrog": n_steps + (int(warm_up.n_steps.sum()) if warm_up is not None else 0),
        "step_sizes": [float(step) for step in stats.step_size[:, -1]],
    }
