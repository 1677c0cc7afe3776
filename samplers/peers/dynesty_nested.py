"""Nested sampling by the package dynesty."""

import contextlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Generator, Tensor

from ...targets.checks import require_at_least, require_one_of, require_positive
from ...targets.draws import Draws, Estimate
from ...targets.meter import BudgetReached, Meter
from ..annealed import Base, systematic
from ..base import FittedSampler, refuse_start, register_sampler
from ..isolation import isolated_rng
from .boundary import Array, Boundary, silenced, to_numpy

Bound: TypeAlias = Literal["multi", "single", "none"]
Proposal: TypeAlias = Literal["auto", "unif", "rwalk", "slice", "rslice"]
MIN_U = 1e-16  # of the cube's side: Phi^-1 stays finite


@register_sampler("dynesty", version=1)
@dataclass(frozen=True, kw_only=True)
class Dynesty:
    """Nested sampling, which climbs the likelihood from the outside in and measures the mass it leaves: dynesty.

    It needs a prior, and a target that is only a density has none: the base measure is the normal law q of the meter's
    starting points, ``base_width`` times as wide, x = mean + sd Phi^-1(u) with u uniform, and the likelihood is
    p(x) / q(x), so that its integral is the target's normaliser. Without a gradient, and with modes found in
    proportion to the base's mass around them. The cost grows with n_live and with the Kullback-Leibler divergence of
    the target from q: quick in few dimensions, slow above 20.

    Everything is paid in ``draw``: every point that a run leaves behind is a draw with a weight. Of more such points
    than draws, those of large weight are kept with it and the others drawn to equal weight (``choose``); of fewer, they
    are repeated. n draws are never worth more than the run, whatever n is.

    Attributes:
        n_live: points that climb; the error of log Z falls as its inverse root.
        base_width: standard deviations of q, in units of those of the starting points.
        bound: what encloses the live points: ``multi`` ellipsoids, a ``single`` one or ``none``.
        proposal: how a point above the bound is found; ``auto`` is uniform below 10 dimensions, random walks up to 20,
            random slices above.
        dlogz: the run ends where the live points hold less than this share of log Z, in nats; None is the library's
            default, 0.001 (n_live - 1) + 0.01.

    References: J. Skilling, Bayesian Anal. 1 (2006); J. Speagle, MNRAS 493 (2020), arXiv 1904.02180.
    """

    n_live: int = 500
    base_width: float = 2.0
    bound: Bound = "multi"
    proposal: Proposal = "auto"
    dlogz: float | None = None

    def __post_init__(self) -> None:
        require_at_least(2, n_live=self.n_live)
        require_one_of(Bound, bound=self.bound)
        require_one_of(Proposal, proposal=self.proposal)
        require_positive(base_width=self.base_width, dlogz=1.0 if self.dlogz is None else self.dlogz)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Nothing to pay once.

        Raises:
            ModuleNotFoundError: if dynesty is not installed.
        """
        import dynesty  # noqa: F401  # pyright: ignore[reportMissingImports]

        return FittedDynesty(self, meter)


@dataclass(frozen=True)
class FittedDynesty:
    """Nested sampling of one target."""

    config: Dynesty
    meter: Meter
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Weighted points of a run; where the budget ends earlier, those so far, which lie too far out, without log Z.

        Args:
            n_samples: number of rows.
            generator: the only source of randomness.
            start: must be None: live points start at draws of q, which the volumes rely on.
        Raises:
            ValueError: if ``start`` is given, or ``n_samples`` is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "nested sampling starts at draws of its own base")
        base = Base.of(self.meter, generator, self.config.base_width)
        shape = (self.config.n_live, self.meter.dim)
        live = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
        nested = Nested(self.config, self.meter, base, to_numpy(live.clamp(min=MIN_U)))
        first = nested.points(nested.live[0][torch.arange(n_samples) % self.config.n_live])
        if isinstance(nested.boundary.error, BudgetReached):
            return Draws(samples=first, stopped="budget", reason=f"{nested.boundary.error}; stopped before the run")
        nested.boundary.check()
        if not np.isfinite(nested.live[2]).any():
            reason = f"the density is finite at none of {self.config.n_live} draws of the base"
            return Draws(samples=first, stopped="diverged", reason=reason)
        with silenced(), isolated_rng(generator) as seed:
            error = nested.run(seed)
        run = nested.record
        log_weights = torch.tensor(run["logwt"], dtype=torch.float64)
        rows, chosen = choose(log_weights, n_samples, generator)
        samples = nested.points(np.array(run["v"])[rows.numpy()])
        log_z = Estimate(float(run["logz"][-1]), math.sqrt(max(0.0, float(run["logzvar"][-1]))))
        is_known = error is None and math.isfinite(log_z.value) and math.isfinite(log_z.std_error)
        diagnostics = {
            "n_calls": nested.n_calls,
            "n_points": len(log_weights),
            "ess": (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp().item(),
            "information": float(run["h"][-1]),
        }
        return Draws(
            samples=samples,
            log_weights=chosen.to(samples),
            log_z=log_z if is_known else None,
            stopped=None if error is None else "budget",
            reason="" if error is None else f"{error}; stopped after {len(log_weights) - self.config.n_live} points",
            diagnostics=diagnostics,
        )


class Nested:
    """A run of nested sampling.

    Args:
        config, meter: what is run on.
        base: q.
        live: where the live points start, uniform in the cube, shape ``(n_live, dim)``.

    Attributes:
        boundary: to the meter; the library's own loop is interpreted, so that an exception may pass through it.
        live: points in the cube, points of the target and log likelihoods at the start.
    """

    def __init__(self, config: Dynesty, meter: Meter, base: Base, live: Array) -> None:
        self.boundary = Boundary(meter)
        self._config = config
        self._mean, self._sd = to_numpy(base.mean), to_numpy(base.sd)
        self._scale = meter.scale
        x = self._to_x(live)
        self.live = (live, x, self._log_likelihood(x))
        self._sampler: Any = None

    @property
    def record(self) -> Mapping[str, Any]:
        """Points that were left behind, with their log weights and the integral up to them."""
        saved: Mapping[str, Any] = self._sampler.saved_run
        return saved

    @property
    def n_calls(self) -> int:
        """Values paid, of the live points at the start and as the library counts them after that."""
        return int(self._sampler.ncall) + len(self.live[0])

    def points(self, x: Array) -> Tensor:
        """Points of the target as a sampler returns them."""
        return self.boundary.to_x(x / self._scale)

    def run(self, seed: int) -> BudgetReached | None:
        """Run to the end, or until the budget is reached: the points so far are closed by the live ones then."""
        import dynesty  # pyright: ignore[reportMissingImports]

        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # it prints errors
            self._sampler = dynesty.NestedSampler(
                self._of_one,
                self._to_x,
                self._mean.size,
                nlive=self._config.n_live,
                bound=self._config.bound,
                sample=self._config.proposal,
                live_points=list(map(np.copy, self.live)),
                rstate=np.random.default_rng(seed),
            )
            try:
                self._sampler.run_nested(dlogz=self._config.dlogz, print_progress=False, save_bounds=False)
            except BudgetReached as error:
                for _ in self._sampler.add_live_points():
                    pass
                return error
        return None

    def _to_x(self, u: Array) -> Array:
        from scipy.special import ndtri

        x: Array = self._mean + self._sd * ndtri(u)
        return x

    def _log_likelihood(self, x: Array) -> Array:
        """log p - log q at ``(n, dim)``."""
        z = (x - self._mean) / self._sd
        log_q = -0.5 * (z**2).sum(-1) - np.log(self._sd).sum() - 0.5 * z.shape[-1] * math.log(2 * math.pi)
        ratio: Array = self.boundary.log_prob(x / self._scale) - log_q
        return ratio

    def _of_one(self, x: Array) -> float:
        value = float(self._log_likelihood(x[None])[0])
        self.boundary.check()
        return value


def choose(log_weights: Tensor, n_samples: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Some of many weighted points, so that every weight has the expectation it had; of few points, all and again.

    A point of weight w is kept with probability min(1, c w), by systematic resampling, and weighs max(w, 1 / c) then;
    c makes ``n_samples`` of them.

    Args:
        log_weights: not normalised, shape ``(n,)``, float64.
        n_samples: number of rows wanted; above n, points are repeated, without weight, so that they count once.
        generator: the only source of randomness.
    Returns:
        Rows and their log weights, both of shape ``(n_samples,)``.
    Reference: P. Fearnhead and P. Clifford, J. R. Stat. Soc. B 65 (2003), section 2.2.
    """
    n = len(log_weights)
    if n_samples >= n:
        again = log_weights.new_full((n_samples - n,), -math.inf)
        return torch.arange(n_samples) % n, torch.cat([log_weights, again])
    order = log_weights.argsort(descending=True)
    w = (log_weights[order] - log_weights.max()).exp()
    tails = w.flip(0).cumsum(0).flip(0)  # of the points from the k-th on, if the k before it are kept
    k = int((w * (n_samples - torch.arange(n)) >= tails)[:n_samples].long().cumprod(0).sum())
    kept = order[:k]
    if k == n_samples:
        return kept, log_weights[kept]
    drawn = systematic(w[k:].to(generator.device), n_samples - k, generator).cpu()
    equal = (tails[k] / (n_samples - k)).log() + log_weights.max()
    rows = torch.cat([kept, order[k:][drawn]])
    return rows, torch.cat([log_weights[kept], equal.expand(n_samples - k)])
