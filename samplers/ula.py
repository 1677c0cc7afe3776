"""The unadjusted Langevin algorithm."""

import math
from dataclasses import dataclass

from torch import Generator

from ..targets.checks import require_at_least, require_positive
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .chains import Mode, Walk, check_schedule, fitted_chains
from .kernels import ULAKernel

MAX_HALVINGS = 60


@register_sampler("ula_long", version=1, mode="long")
@register_sampler("ula", version=1)
@dataclass(frozen=True, kw_only=True)
class ULA:
    """Unadjusted Langevin algorithm: x' = x + h s(x) + sqrt(2h) xi, never corrected.

    The bias is of order h and does not go away with more steps: on N(0, v) the variance becomes v / (1 - h / (2v)).
    Along a chain, E|s' - s|^2 / (4 E|s|^2) = (1 - lag-one autocorrelation of the score) / 2 is h / (2v), and on a
    Gaussian with variances v_i the mean of h / (2 v_i) with weights 1 / v_i: an estimate, on any target, of the bias
    where it is narrow. ``fit`` starts at h = step_size * scale^2 and runs rounds of ``pilot_steps`` moves with
    ``n_chains`` chains from the meter's start. After a round that was not finite, or whose second half estimates a
    bias above ``max_bias``, h is halved; the chains go on (from the start again if they were not finite), so that
    the early rounds bring them in from far out.

    Attributes:
        step_size: first h, in units of scale^2.
        max_bias: largest estimated relative bias, below 0.5, where a stable chain becomes an oscillation.
        max_drift: longest h s(x), in units of the noise's length (see ``kernels.drift``); infinite is no limit, and
            only then is the variance above exact: on N(0, 1) with h = 0.5 the limit 1 makes it 1.46 instead of 1.33.
        pilot_steps: moves per round of the pilot.
        mode, n_steps, n_chains, burn_in, thinning: see ``chains.Schedule``.

    References: G. Roberts and R. Tweedie, Bernoulli 2 (1996); the drift's limit, N. Brosse et al., The tamed
    unadjusted Langevin algorithm, Stoch. Process. Appl. 129 (2019).
    """

    step_size: float = 0.02
    max_bias: float = 0.25
    max_drift: float = 1.0
    pilot_steps: int = 50
    mode: Mode = "restart"
    n_steps: int = 500
    n_chains: int = 64
    burn_in: int = 2_000
    thinning: int = 100

    def __post_init__(self) -> None:
        check_schedule(self)
        require_positive(step_size=self.step_size)
        require_at_least(2, pilot_steps=self.pilot_steps)
        if not 0 < self.max_bias < 0.5:
            raise ValueError(f"max_bias must be between 0 and 0.5, got {self.max_bias}")
        if not self.max_drift > 0:
            raise ValueError(f"max_drift must be positive, got {self.max_drift}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Find the step by a pilot; in mode ``long`` chains from the meter's start are then burnt in.

        If no round diverges, this costs n_chains * (1 + pilot_steps * n_rounds) scores, in mode ``long``
        n_chains * (1 + burn_in) more.
        """
        step, walk, trace = self._pilot(meter, generator)
        kernel = ULAKernel(step, self.max_drift)
        if self.mode == "long" and walk.stopped is None:
            walk = Walk(meter.start(self.n_chains, generator), meter, generator)
            walk.go(kernel, self.burn_in)
        diagnostics = {
            "step_size": step / meter.scale**2,
            "pilot_step_sizes": [tried / meter.scale**2 for tried, _ in trace],
            "pilot_biases": [bias for _, bias in trace],
        }
        return fitted_chains(self, kernel, walk, meter, diagnostics)

    def _pilot(self, meter: Meter, generator: Generator) -> tuple[float, Walk, list[tuple[float, float]]]:
        """The step, the chains that found it, and (step, estimated bias) of every round."""
        start = meter.start(self.n_chains, generator)
        walk = Walk(start, meter, generator)
        step = self.step_size * meter.scale**2
        trace: list[tuple[float, float]] = []
        while True:
            bias = self._estimated_bias(walk, ULAKernel(step, self.max_drift))
            trace.append((step, bias))
            hopeless = walk.stopped == "budget" or walk.state is None or len(trace) > MAX_HALVINGS
            if bias <= self.max_bias or hopeless:
                return step, walk, trace
            if walk.stopped:
                walk = Walk(start, meter, generator)
            step /= 2

    def _estimated_bias(self, walk: Walk, kernel: ULAKernel) -> float:
        """E|s' - s|^2 / (4 E|s|^2) over the second half of a round; infinite if the chains were stopped in it."""
        n_late = self.pilot_steps // 2
        if not walk.go(kernel, self.pilot_steps - n_late) or walk.state is None:
            return math.inf
        before, change, size = walk.state.score, 0.0, 0.0
        for _ in range(n_late):
            state = walk.move(kernel)
            if state is None:
                return math.inf
            change += float((state.score - before).square().mean())
            size += float(before.square().mean())
            before = state.score
        return change / (4 * size) if size > 0 else 0.0
