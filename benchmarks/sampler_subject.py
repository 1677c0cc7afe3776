"""A sampler under examination: its short and its full runs, each made once, on targets that count by themselves."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from ..metrics.weights import resampled
from ..samplers.base import SAMPLERS, FittedSampler, Sampler
from ..targets.base import TARGETS, Target
from ..targets.draws import Draws
from ..targets.ledger import Phase
from ..targets.meter import Budget, Meter, derive_generator
from .contract import BrokenRule, require, require_tensor
from .witness import Witness

N_SHORT, N_FULL = 33, 1_000
MAX_CHAINS, MAX_KEPT = 64, 1_000  # of Draws.chains
FIT_LIMIT, DRAW_LIMIT = (
    50_000.0,
    200_000.0,
)  # of short runs, in gradient equivalents: a cut fit is as good for its rules


@dataclass(frozen=True)
class Run:
    """A fit and a draw.

    Attributes:
        draws: of the first call of draw.
        fitted: draws more.
        meter, witness: two counts of the evaluations.
        cost: of the fit and of the first draw, in gradient equivalents.
    """

    draws: Draws
    fitted: FittedSampler
    meter: Meter
    witness: Witness
    cost: Mapping[Phase, float]

    def draw(self, n_samples: int, seed: int = 0, start: Tensor | None = None) -> Draws:
        """Draws of another call, with the whole budget of a draw before it."""
        self.meter.restart("draw")
        with self.meter.phase("draw"):
            return self.fitted.draw(n_samples, derive_generator("check", seed, "draw"), start)


class SamplerSubject:
    """A sampler under examination.

    Args:
        name: as registered.
        configure: builds the sampler with its defaults, or with the parameters given.
        plugins: files that register it, for another process.
    """

    def __init__(self, name: str, configure: Callable[..., Sampler], plugins: Sequence[str] = ()) -> None:
        self.name, self.configure, self.plugins = name, configure, plugins
        self.sampler: Any = configure()
        self.full = cache(self._full)

    @classmethod
    def registered(cls, name: str, plugins: Sequence[str] = ()) -> "SamplerSubject":
        """The sampler of that name with its defaults; UnknownNameError, ValueError as in the registry."""
        return cls(name, lambda **parameters: SAMPLERS.get(name, **parameters), plugins)

    def run(
        self,
        target: Target | None = None,
        *,
        seed: int = 0,
        n_samples: int = N_SHORT,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        fit: float | None = FIT_LIMIT,
        draw: float | None = DRAW_LIMIT,
    ) -> Run:
        """One fit and one draw of a new sampler, by default a short run on a Gaussian in the plane.

        Args:
            target: the law.
            seed: of both phases.
            n_samples: rows to draw.
            dtype, device: of the meter.
            fit, draw: budgets in gradient equivalents.
        """
        witness = Witness(target or TARGETS.get("gaussian2"))
        meter = Meter(witness, device=device, dtype=dtype, budget=Budget(fit=fit, draw=draw))
        with meter.phase("fit"):
            fitted = self.configure().fit(meter, derive_generator("check", seed, "fit", device=device))
        with meter.phase("draw"):
            draws = fitted.draw(n_samples, derive_generator("check", seed, "draw", device=device))
        cost: dict[Phase, float] = {phase: counts.gradient_equivalents for phase, counts in meter.counts.items()}
        return Run(draws, fitted, meter, witness, cost)

    @cached_property
    def short(self) -> Run:
        """The short run with seed 0; its fitted sampler draws for several checks."""
        return self.run()

    def _full(self, target: str) -> Run:
        return self.run(TARGETS.get(target), n_samples=N_FULL, fit=None, draw=None)


def unweighted(draws: Draws) -> tuple[Tensor, float]:
    """Draws of equal weight in float64, and the number of independent ones that they are worth.

    The number is (sum w)^2 / sum w^2 of the weights; for chains at most their effective sample size.
    """
    n_effective = float(len(draws.samples))
    if draws.log_weights is not None:
        weights = draws.log_weights.double().softmax(0)
        n_effective = 1 / weights.square().sum().item()
    if draws.chains is not None:
        from ..metrics.chains import smallest_ess  # arviz is slow to import

        n_effective = min(n_effective, smallest_ess(draws.chains))
    equal = resampled(draws, derive_generator("check", "resample"))
    return equal.samples.detach().cpu().double(), n_effective


def check_draws(draws: Draws, run: Run, n_samples: int, dtype: torch.dtype) -> None:
    """Shapes, dtypes, devices and finiteness of draws; BrokenRule if one is not as the contract says."""
    dim, device = run.meter.dim, run.meter.device
    require_tensor(f"samples of draw({n_samples})", draws.samples, (n_samples, dim), dtype)
    for name in ("log_weights", "log_density"):
        value: Tensor | None = getattr(draws, name)
        if value is not None:
            require_tensor(f"{name} of draw({n_samples})", value, (n_samples,), dtype)
            require(not value.isnan().any(), name, "hold no NaN", f"{int(value.isnan().sum())}")
    if draws.chains is not None:
        require(draws.chains.ndim == 3, "chains", "be (n_chains, n_kept, dim)", tuple(draws.chains.shape))
        n_chains, n_kept, _ = draws.chains.shape
        require_tensor("chains", draws.chains, (n_chains, n_kept, dim), dtype)
        small = n_chains <= MAX_CHAINS and n_kept <= MAX_KEPT
        require(small, "chains", f"be at most {MAX_CHAINS} of {MAX_KEPT:,} states", tuple(draws.chains.shape))
    for name in ("samples", "log_weights", "log_density", "chains"):
        value = getattr(draws, name)
        if value is not None:
            require(value.device.type == device.type, name, f"be on {device}", value.device)
            require(not value.requires_grad, name, "be detached", "a tensor with a graph")
    n_bad = int((~draws.samples.isfinite().all(-1)).sum())
    require(not n_bad or draws.stopped == "diverged", "samples", "be finite, or stopped 'diverged'", f"{n_bad} rows")
    require(draws.stopped in (None, "budget", "diverged"), "stopped", "be None, 'budget' or 'diverged'", draws.stopped)
    require(bool(draws.reason) or not draws.stopped, "reason", f"say why stopped is {draws.stopped!r}", "nothing")
    require(not (draws.stopped and draws.log_z), "log_z", "be None where stopped early", f"{draws.log_z}")
    for owner, diagnostics in (("draws", draws.diagnostics), ("the fitted sampler", run.fitted.diagnostics)):
        try:
            json.dumps(dict(diagnostics))
        except (TypeError, ValueError) as error:
            raise BrokenRule(f"diagnostics of {owner} must be representable in JSON, got {error}") from error
