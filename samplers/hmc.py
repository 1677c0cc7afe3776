"""Hamiltonian Monte Carlo."""

from dataclasses import dataclass, field, replace

from torch import Generator, Tensor

from ..targets.checks import require_positive
from ..targets.meter import Meter
from .adaptation import fit_by_warm_up
from .base import FittedSampler, register_sampler
from .chains import Mode, check_schedule
from .kernels import Cycle
from .moves import Moves


@register_sampler("hmc_long", version=1, mode="long")
@register_sampler("hmc", version=1)
@dataclass(frozen=True, kw_only=True)
class HMC:
    """Hamiltonian Monte Carlo: leapfrog trajectories of random length and step, accepted or rejected for each chain.

    A move is a trajectory and then a Langevin proposal (MALA) of the same step with a limited drift: from far out,
    where every trajectory is rejected, the latter brings chains in. ``fit`` adapts the scales of the coordinates
    (diagonal preconditioning) and the step, towards a mean acceptance of the trajectories, over ``n_chains`` chains
    from the meter's start: mode ``restart`` along chains of ``n_steps`` moves, as long as the chains that will be
    drawn, mode ``long`` during the burn-in. Both are frozen before any draw. The step of every move is drawn below the
    adapted one (``moves.min_step``), so that chains that enter a funnel are not stuck with it. ``n_unmoved`` of the
    draws counts chains that never moved. A move costs (3 + max_leapfrog) / 2 scores on average.

    Attributes:
        step_size: first step, in units of scale.
        moves: trajectories and what they are adapted to; their method must be "hmc".
        mode, n_steps, n_chains, burn_in, thinning: see ``chains.Schedule``.

    Reference: R. Neal, MCMC using Hamiltonian dynamics, Handbook of MCMC (2011); the random step, section 4.2.
    """

    step_size: float = 0.1
    moves: Moves = field(default_factory=Moves)
    mode: Mode = "restart"
    n_steps: int = 100
    n_chains: int = 64
    burn_in: int = 500
    thinning: int = 10

    def __post_init__(self) -> None:
        check_schedule(self)
        require_positive(step_size=self.step_size)
        if self.moves.method != "hmc":
            raise ValueError(f"moves must have method 'hmc', got {self.moves.method!r}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Adapt scales and step, along ``n_steps`` moves of every chain, in mode ``long`` ``burn_in`` moves."""
        langevin = replace(self.moves, method="mala")

        def kernel(step: float, scales: Tensor) -> Cycle:
            return Cycle(self.moves.kernel(step, scales), langevin.kernel(step, scales))

        return fit_by_warm_up(
            self, kernel, meter, generator, step_size=self.step_size, acceptance=self.moves.acceptance
        )
