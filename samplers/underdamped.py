"""Underdamped Langevin dynamics."""

from dataclasses import dataclass

from torch import Generator, Tensor

from ..targets.checks import require_positive
from ..targets.meter import Meter
from .adaptation import fit_by_warm_up
from .base import FittedSampler, register_sampler
from .chains import Mode, check_schedule
from .kernels import BAOABKernel


@register_sampler("underdamped_long", version=1, mode="long")
@register_sampler("underdamped", version=1)
@dataclass(frozen=True, kw_only=True)
class Underdamped:
    """Underdamped Langevin dynamics by the splitting BAOAB, never corrected.

    On Gaussians the law of x is exact at every stable step, but for the limit of the kicks (in one dimension a bias of
    1% of the variance); elsewhere its bias is of second order in the step. ``fit`` adapts the coordinates' scales and
    the step, so that a Metropolis decision about every move, which is not made, would accept ``acceptance`` of them on
    average: the bias is what the others would have removed. Modes and rounds as for HMC.

    Attributes:
        step_size: first step, in units of scale.
        friction: per unit of time, in which a coordinate moves by about its scale.
        max_kick: longest half kick, in units of the momentum's length; met far out only, where chains would explode.
        acceptance: rate aimed at; near 1, for nothing is rejected.
        mode, n_steps, n_chains, burn_in, thinning: see ``chains.Schedule``.

    Reference: B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013 (1).
    """

    step_size: float = 0.1
    friction: float = 1.0
    max_kick: float = 1.0
    acceptance: float = 0.9
    mode: Mode = "restart"
    n_steps: int = 500
    n_chains: int = 64
    burn_in: int = 2_000
    thinning: int = 100

    def __post_init__(self) -> None:
        check_schedule(self)
        require_positive(step_size=self.step_size, friction=self.friction, max_kick=self.max_kick)
        if not 0 < self.acceptance < 1:
            raise ValueError(f"acceptance must be between 0 and 1, got {self.acceptance}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Adapt scales and step; costs n_chains * (1 + n_steps) scores, in mode ``long`` n_chains * (1 + burn_in)."""

        def kernel(step: float, scales: Tensor) -> BAOABKernel:
            return BAOABKernel(step, self.friction, self.max_kick, scales)

        return fit_by_warm_up(self, kernel, meter, generator, step_size=self.step_size, acceptance=self.acceptance)
