"""Metropolis-adjusted moves as AIS, SMC and parallel tempering make them: scaled, adapted, with random steps."""

import math
from dataclasses import dataclass
from typing import Literal

from ..targets.checks import require_at_least, require_positive
from .base import Kernel, Law
from .kernels import CoordinateWalk, Cycle, HMCKernel, MALAKernel, RandomStep, Scales, Step

FIRST_STEP = 0.5  # before any adaptation, in units of the coordinates' scales
MIN_SPREAD = 1e-6  # of a coordinate whose scale is adapted, in units of its scale before
LONGEST_WALK = 2.0  # step of a coordinate's random walk, in units of its scale
SHORTEST_WALK = 0.01  # of that
GAIN = 0.3  # of the adaptation: log step moves by this times (acceptance - wanted acceptance)


@dataclass(frozen=True, kw_only=True)
class Moves:
    """Which moves are made, and what their step is adapted to.

    Attributes:
        method: "hmc" or "mala".
        max_leapfrog: of HMC, whose trajectories have 1 to so many steps.
        acceptance: mean rate aimed at.
        min_step: every row draws its step log-uniformly between this share of the adapted step and the step itself.
        max_drift: of MALA, see ``kernels.drift``.
        n_walks: random-walk moves of single coordinates after each of them. They cross a law that is narrow in most
            coordinates and long in a few, such as a funnel's neck, faster than any step for all coordinates at once.
    """

    method: Literal["hmc", "mala"] = "hmc"
    max_leapfrog: int = 16
    acceptance: float = 0.8
    min_step: float = 0.03
    max_drift: float = 1.0
    n_walks: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("hmc", "mala"):
            raise ValueError(f"method must be hmc or mala, got {self.method!r}")
        require_at_least(1, max_leapfrog=self.max_leapfrog)
        require_at_least(0, n_walks=self.n_walks)
        require_positive(max_drift=self.max_drift)
        if not 0 < self.acceptance < 1:
            raise ValueError(f"acceptance must be between 0 and 1, got {self.acceptance}")
        if not 0 < self.min_step <= 1:
            raise ValueError(f"min_step must be above 0 and at most 1, got {self.min_step}")

    def kernel(self, step: Step, scales: Scales, law: Law | None = None) -> Kernel:
        """The kernel of a step in units of the scales; one step, or one per row, shape ``(n, 1)``."""
        if self.method == "hmc":
            move = RandomStep(HMCKernel(step, self.max_leapfrog, scales, law), self.min_step)
        else:
            move = RandomStep(MALAKernel(0.5 * step**2, self.max_drift, scales, law), self.min_step**2)
        if self.n_walks == 0:
            return move
        return Cycle(move, CoordinateWalk(LONGEST_WALK, SHORTEST_WALK, self.n_walks, scales, law))

    def adapted(self, step: float, rate: float) -> float:
        """The next step after a move that was accepted at this rate."""
        return step * math.exp(GAIN * (rate - self.acceptance))
