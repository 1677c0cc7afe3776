"""The affine-invariant ensemble sampler of the package emcee."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ...targets.checks import require_at_least
from ...targets.meter import BudgetReached, Meter
from ..base import FittedSampler, register_sampler
from ..isolation import isolated_rng
from ..kernels import Diverged
from .boundary import Array, Boundary, finite_starts, silenced
from .chains import End, FittedChains


@register_sampler("emcee", version=1)
@dataclass(frozen=True, kw_only=True)
class Emcee:
    """Ensemble of walkers that stretch towards and away from each other, without a gradient: emcee.EnsembleSampler.

    A walker proposes a point on the line through another one; half of the ensemble moves at a time, in one batch. No
    step is adapted, and the moves are the same after any affine map of the space. They are rarely accepted above some
    20 dimensions, and hardly ever between far modes. A move costs ``n_chains`` values, half as much as scores.

    Attributes:
        n_chains: walkers; twice the dimension where that is more.
        stretch: a of the stretch move, in units of the distance of two walkers.
        burn_in: moves in fit that are thrown away.
        thinning: moves per kept state.

    References: J. Goodman and J. Weare, Commun. Appl. Math. Comput. Sci. 5 (2010); D. Foreman-Mackey et al., PASP 125
    (2013), arXiv 1202.3665.
    """

    n_chains: int = 64
    stretch: float = 2.0
    burn_in: int = 1_000
    thinning: int = 20

    def __post_init__(self) -> None:
        require_at_least(1, n_chains=self.n_chains, thinning=self.thinning)
        require_at_least(0, burn_in=self.burn_in)
        if not 1 < self.stretch < math.inf:
            raise ValueError(f"stretch must be above 1 and finite, got {self.stretch}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Burn the ensemble in; costs n_chains * (2 + burn_in) values.

        Raises:
            ModuleNotFoundError: if emcee is not installed.
        """
        import emcee  # noqa: F401  # pyright: ignore[reportMissingImports]

        schedule = Walkers(max(self.n_chains, 2 * meter.dim), self.thinning)
        x = meter.start(schedule.n_chains, generator)
        end = End()
        diagnostics: Mapping[str, object] = {}
        with silenced(), isolated_rng(generator):
            try:
                x = finite_starts(meter, schedule.n_chains, generator)
                ensemble = Ensemble(x, meter, self.stretch)
                for _ in range(self.burn_in):
                    moved = end.move(ensemble)
                    if moved is None:
                        break
                    x = moved
                diagnostics = ensemble.diagnostics
            except (BudgetReached, Diverged) as error:
                end.note(error)
        return FittedChains(
            schedule, x, lambda x, seed: Ensemble(x, meter, self.stretch), diagnostics, end.stopped, end.reason
        )


@dataclass(frozen=True)
class Walkers:
    """Their number and how they are thinned."""

    n_chains: int
    thinning: int


class Ensemble:
    """Walkers under way; the first move pays their values too.

    Args:
        x: where they are, shape ``(n_chains, dim)``.
        meter: the target.
        stretch: as configured.
    """

    def __init__(self, x: Tensor, meter: Meter, stretch: float) -> None:
        import emcee  # pyright: ignore[reportMissingImports]

        n_chains, dim = x.shape
        self._boundary = Boundary(meter)
        sampler = emcee.EnsembleSampler(
            n_chains, dim, self._boundary.log_prob, vectorize=True, moves=emcee.moves.StretchMove(a=stretch)
        )  # takes the state of numpy's global generator, which is seeded here
        self._y: Array = self._boundary.to_y(x)
        self._states: Any = sampler.sample(self._y, iterations=None, store=False, skip_initial_state_check=True)
        self._n_moved = self._n_proposed = 0

    @property
    def diagnostics(self) -> Mapping[str, object]:
        """Share of the proposals that were accepted."""
        return {"acceptance_rate": self._n_moved / self._n_proposed if self._n_proposed else math.nan}

    def move(self) -> Tensor:
        """Both halves of the ensemble once; BudgetReached where one of them cannot be paid."""
        state = next(self._states)
        self._boundary.check()
        y = np.array(state.coords)
        self._n_moved += int((y != self._y).any(-1).sum())
        self._n_proposed += len(y)
        self._y = y
        x: Tensor = self._boundary.to_x(y)
        if not torch.isfinite(x).all():
            raise Diverged("walkers are not finite after a move")
        return x
