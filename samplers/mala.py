"""The Metropolis-adjusted Langevin algorithm."""

import math
from dataclasses import dataclass

from torch import Generator

from ..targets.checks import require_positive
from ..targets.meter import Meter
from .adaptation import StepAdaptation
from .base import FittedSampler, register_sampler
from .chains import Mode, Walk, check_schedule, fitted_chains
from .kernels import MALAKernel

TRACE_LENGTH = 200


@register_sampler("mala_long", version=1, mode="long")
@register_sampler("mala", version=1)
@dataclass(frozen=True, kw_only=True)
class MALA:
    """Metropolis-adjusted Langevin algorithm: a Langevin proposal, accepted or rejected for each chain by itself.

    ``fit`` adapts the step by Robbins-Monro on its logarithm, towards a mean acceptance of ``acceptance`` over
    ``n_chains`` chains from the meter's start; it is frozen before any draw. Mode ``restart`` adapts along chains of
    ``n_steps`` moves, as long as those that will be drawn, mode ``long`` during the burn-in. The frozen step averages
    the second half, so it fits where chains are late, not where they start. Chains that start far out are not stuck
    with it because the drift is limited: plain MALA (``max_drift = inf``) never moves half of the chains that start
    from N(0, scale^2 I) on a funnel or on Rosenbrock's density. ``n_unmoved`` of the draws counts such chains.

    Attributes:
        step_size: first step h, in units of scale^2.
        acceptance: rate aimed at; 0.574 is optimal for many independent coordinates.
        max_drift: longest h s(x), in units of the noise's length (see ``kernels.drift``); infinite is no limit.
        mode, n_steps, n_chains, burn_in, thinning: see ``chains.Schedule``.

    References: G. Roberts and R. Tweedie, Bernoulli 2 (1996), with the limited drift in section 1.4.3 (MALTA);
    G. Roberts and J. Rosenthal, J. R. Stat. Soc. B 60 (1998) for the rate.
    """

    step_size: float = 0.02
    acceptance: float = 0.574
    max_drift: float = 1.0
    mode: Mode = "restart"
    n_steps: int = 500
    n_chains: int = 64
    burn_in: int = 2_000
    thinning: int = 100

    def __post_init__(self) -> None:
        check_schedule(self)
        require_positive(step_size=self.step_size)
        if not 0 < self.acceptance < 1:
            raise ValueError(f"acceptance must be between 0 and 1, got {self.acceptance}")
        if not self.max_drift > 0:
            raise ValueError(f"max_drift must be positive, got {self.max_drift}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Adapt the step; costs n_chains * (1 + n_steps) scores, in mode ``long`` n_chains * (1 + burn_in)."""
        adaptation = StepAdaptation(self.step_size * meter.scale**2, self.acceptance)
        walk = Walk(meter.start(self.n_chains, generator), meter, generator)
        for _ in range(self.burn_in if self.mode == "long" else self.n_steps):
            state = walk.move(MALAKernel(adaptation.step, self.max_drift))
            if state is None:
                break
            adaptation.update(state.acceptance)
        step = adaptation.frozen()
        thinning = math.ceil(max(1, len(adaptation.steps)) / TRACE_LENGTH)
        diagnostics = {
            "step_size": step / meter.scale**2,
            "acceptance_rate": adaptation.acceptance_rate,
            "step_size_trace": [tried / meter.scale**2 for tried in adaptation.steps[::thinning]],
            "acceptance_trace": adaptation.acceptance_rates[::thinning],
        }
        return fitted_chains(self, MALAKernel(step, self.max_drift), walk, meter, diagnostics)
