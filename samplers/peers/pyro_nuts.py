"""The No-U-Turn Sampler of the package Pyro."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ...targets.checks import require_at_least
from ...targets.meter import BudgetReached, Meter
from ..base import FittedSampler, register_sampler
from ..isolation import isolated_rng
from ..kernels import Diverged
from .boundary import finite_starts, silenced
from .chains import End, FittedChains

SITE = "y"  # the name of the only variable
SITES = (SITE,)


@register_sampler("pyro_nuts", version=1)
@dataclass(frozen=True, kw_only=True)
class PyroNUTS:
    """No-U-Turn Sampler of Pyro (pyro.infer.NUTS): multinomial, with a diagonal metric adapted in windows as in Stan.

    Every chain adapts by itself in ``fit``; step and metric are frozen before any draw. The library is interpreted and
    moves one point at a time: a score costs more than a millisecond of its own work.

    Attributes:
        n_chains: chains.
        acceptance: mean acceptance probability that the step is adapted to.
        max_depth: doublings of a trajectory, of 2^max_depth - 1 scores at most.
        burn_in: moves of the warm-up.
        thinning: moves per kept state.

    References: M. Hoffman and A. Gelman, JMLR 15 (2014); E. Bingham et al., JMLR 20 (2019).
    """

    n_chains: int = 4
    acceptance: float = 0.8
    max_depth: int = 10
    burn_in: int = 500
    thinning: int = 1

    def __post_init__(self) -> None:
        require_at_least(1, n_chains=self.n_chains, max_depth=self.max_depth, thinning=self.thinning)
        require_at_least(0, burn_in=self.burn_in)
        if not 0 < self.acceptance < 1:
            raise ValueError(f"acceptance must be between 0 and 1, got {self.acceptance}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Warm every chain up.

        Raises:
            ModuleNotFoundError: if Pyro is not installed.
        """
        import pyro  # noqa: F401  # pyright: ignore[reportMissingImports]

        x = meter.start(self.n_chains, generator)
        end = End()
        tuned = [Tuned() for _ in range(self.n_chains)]
        diagnostics: Mapping[str, object] = {}
        with silenced(), isolated_rng(generator):
            try:
                x = finite_starts(meter, self.n_chains, generator)
                chains = Trajectories(self, x, meter, tuned, warm_up=self.burn_in)
                for _ in range(self.burn_in):
                    moved = end.move(chains)
                    if moved is None:
                        break
                    x, tuned = moved, chains.tuned()
                diagnostics = {**chains.diagnostics, "step_sizes": [each.step_size for each in tuned]}
            except (BudgetReached, Diverged) as error:
                end.note(error)
        return FittedChains(
            self,
            x,
            lambda x, seed: Trajectories(self, x, meter, tuned, warm_up=0),
            diagnostics,
            end.stopped,
            end.reason,
        )


@dataclass(frozen=True)
class Tuned:
    """What the warm-up of one chain gives.

    Attributes:
        step_size: in units of scale times the root of the metric.
        inverse_metric: variances of y = x / scale, shape ``(dim,)``; None is ones.
    """

    step_size: float = 0.1
    inverse_metric: Tensor | None = None


class Trajectories:
    """Chains of NUTS under way.

    Args:
        config: their configuration.
        x: where they are, shape ``(n_chains, dim)``.
        meter: the target.
        tuned: of every chain.
        warm_up: moves that adapt; 0 freezes what is ``tuned``.
    """

    def __init__(self, config: PyroNUTS, x: Tensor, meter: Meter, tuned: list[Tuned], warm_up: int) -> None:
        from pyro.infer import NUTS  # pyright: ignore[reportMissingImports]

        build: Any = NUTS  # untyped

        self._scale, self._dtype = meter.scale, meter.dtype
        self._kernels: list[Any] = []
        self._warms_up = warm_up > 0
        self._y = [{SITE: row.double() / meter.scale} for row in x]
        self._n_moves = 0

        def potential(y: dict[str, Tensor]) -> Tensor:
            log_prob = meter.log_prob((meter.scale * y[SITE]).to(meter.dtype)).double()
            return -torch.where(log_prob.isfinite(), log_prob, -torch.inf)

        for y, each in zip(self._y, tuned, strict=True):
            kernel = build(
                potential_fn=potential,
                step_size=each.step_size,
                adapt_step_size=warm_up > 0,
                adapt_mass_matrix=warm_up > 0,
                target_accept_prob=config.acceptance,
                max_tree_depth=config.max_depth,
            )
            kernel.initial_params = y
            kernel.setup(warm_up)
            if each.inverse_metric is not None:
                kernel.mass_matrix_adapter.inverse_mass_matrix = {SITES: each.inverse_metric}
            self._kernels.append(kernel)

    @property
    def diagnostics(self) -> Mapping[str, object]:
        """Mean acceptance probability of the moves, and of those after a warm-up the divergent ones."""
        rates = [float(kernel._mean_accept_prob) for kernel in self._kernels]
        seen: dict[str, object] = {"acceptance_rate": sum(rates) / len(rates)}
        if not self._warms_up:  # the library notes no others
            seen["n_divergent"] = sum(len(kernel._divergences) for kernel in self._kernels)
        return seen

    def tuned(self) -> list[Tuned]:
        """Step and metric of every chain so far."""
        return [Tuned(float(kernel.step_size), kernel.inverse_mass_matrix[SITES].clone()) for kernel in self._kernels]

    def move(self) -> Tensor:
        """One trajectory of every chain; BudgetReached where one of them cannot be paid."""
        self._y = [kernel.sample(y) for kernel, y in zip(self._kernels, self._y, strict=True)]
        x = self._scale * torch.stack([y[SITE].detach() for y in self._y])
        if not x.isfinite().all():
            raise Diverged("chains are not finite after a move")
        return x.to(self._dtype)
