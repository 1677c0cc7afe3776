"""Adaptive tempered sequential Monte Carlo of the package blackjax."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ...targets.base import LOG_2PI
from ...targets.checks import require_at_least, require_positive
from ...targets.draws import Draws, Estimate, Stopped
from ...targets.meter import BudgetReached, Meter
from ..annealed import Base, systematic
from ..base import FittedSampler, refuse_start, register_sampler
from ..isolation import isolated_rng
from ..kernels import Diverged, stopped_by
from .boundary import Array, Boundary, silenced, to_numpy
from .jax_boundary import JaxArray, JaxDensity

MIN_RUNS = 10  # whose spread gives the standard error of log Z
FIRST_STEP = 0.5  # in standard deviations of the particles
ACCEPTANCE = 0.8  # that the step is adapted to
GAIN = 2.0  # of the log step, per acceptance off
MIN_VARIANCE = 1e-12  # of the particles, in those of the base
FLOOR = -1e30  # log likelihood where the density is zero: times a temperature of zero it is zero, and not NaN
DEAD = -1e10  # rise of log Z that only such particles give


@register_sampler("blackjax_smc", version=1)
@dataclass(frozen=True, kw_only=True)
class BlackjaxSMC:
    """Sequential Monte Carlo of blackjax (blackjax.adaptive_tempered_smc): particles go through laws q^(1-b) p^b.

    The library needs a prior and a likelihood: the prior is the normal law q of the meter's starting points,
    ``base_width`` times as wide, the likelihood p / q, and its integral is the target's normaliser. A step resamples
    the particles, moves them by Hamiltonian trajectories at the present b, and weighs them for the next, the largest at
    which their effective share is ``min_ess``. The first step moves them under q, which costs scores for nothing; a
    last one at b = 1 makes their weights equal. Step and metric of the moves follow the particles from step to step.

    Everything is paid in ``draw``. It makes ``n_runs`` independent runs: the mean of their estimates of the normaliser
    is unbiased, but for the adaptation, and their spread gives its standard error. Draws are taken from the particles
    of all runs, in proportion to each run's estimate; n draws cost the same up to n_runs * n_particles of them.

    Attributes:
        n_runs: independent runs; of fewer than 10 log Z is not stated.
        n_particles: of each run; more where the draws wanted are more than all of them.
        base_width: standard deviations of q, in units of those of the starting points.
        min_ess: effective share at each step.
        n_moves: trajectories of every particle at each step.
        n_leapfrog: steps of a trajectory.

    References: P. Del Moral, A. Doucet and A. Jasra, J. R. Stat. Soc. B 68 (2006); the effective share: A. Jasra et
    al., Scand. J. Stat. 38 (2011); A. Cabezas et al., BlackJAX, arXiv 2402.10797 (2024).
    """

    n_runs: int = 16
    n_particles: int = 256
    base_width: float = 1.5
    min_ess: float = 0.8
    n_moves: int = 5
    n_leapfrog: int = 5

    def __post_init__(self) -> None:
        require_at_least(1, n_runs=self.n_runs, n_moves=self.n_moves, n_leapfrog=self.n_leapfrog)
        require_at_least(2, n_particles=self.n_particles)
        require_positive(base_width=self.base_width)
        if not 0 < self.min_ess < 1:
            raise ValueError(f"min_ess must be between 0 and 1, got {self.min_ess}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Nothing to pay once.

        Raises:
            ModuleNotFoundError: if blackjax is not installed.
        """
        with isolated_rng(generator):
            import blackjax  # noqa: F401  # pyright: ignore[reportMissingImports]  # draws from numpy's global generator

        return FittedBlackjaxSMC(self, meter)


@dataclass(frozen=True)
class FittedBlackjaxSMC:
    """Tempered SMC on one target."""

    config: BlackjaxSMC
    meter: Meter
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Particles of all runs; where the budget ends earlier, of those that are complete, without log Z.

        If none is, the particles of the first, under the law that they were moved under last.

        Args:
            n_samples: number of rows.
            generator: the only source of randomness.
            start: must be None: the particles start at draws of q, which the weights rely on.
        Raises:
            ValueError: if ``start`` is given, or ``n_samples`` is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "SMC starts at draws of its own base")
        config = self.config
        base = Base.of(self.meter, generator, config.base_width)
        n_particles = max(config.n_particles, math.ceil(n_samples / config.n_runs))
        starts = [base.sample(n_particles, generator) for _ in range(config.n_runs)]
        runs = [Run(starts[0])]
        stopped: Stopped | None = None
        reason = ""
        with silenced(), isolated_rng(generator) as seed:
            compiled = Compiled.of(config)
            try:
                for number, x in enumerate(starts):
                    runs[number:] = [Run(x)]
                    runs[number].go(compiled, base, self.meter, seed, number)
            except (BudgetReached, Diverged) as error:
                stopped = stopped_by(error)
                reason = f"{error}; stopped in run {len(runs)} at b = {runs[-1].b:.3g}"
        complete = [run for run in runs if run.b == 1] or runs[:1]
        log_zs = torch.tensor([run.log_z for run in complete], dtype=torch.float64)
        weights = log_zs.softmax(0).repeat_interleave(n_particles)
        x = torch.cat([run.x for run in complete])
        rows = systematic(weights.to(generator.device), n_samples, generator).to(x.device)
        return Draws(
            samples=x[rows],
            log_z=log_z_of(log_zs) if stopped is None and len(runs) >= MIN_RUNS else None,
            stopped=stopped,
            reason=reason,
            diagnostics={
                "n_steps": sum(run.n_steps for run in runs),
                "n_particles": n_particles,
                "n_runs": len(complete),
                "acceptance_rate": sum(run.acceptance for run in runs) / max(1, sum(run.n_steps for run in runs)),
                "step_size": runs[0].step,
                "bs": runs[0].bs,
            },
        )


def log_z_of(log_zs: Tensor) -> Estimate:
    """Log of the mean of independent estimates of a normaliser, shape ``(n,)`` as logs, and its standard error.

    The error is that of the mean of their ratios to it, to first order that of its log; never zero, since float64
    knows the mean no better than to some 1e-16.
    """
    n = len(log_zs)
    log_z = log_zs.logsumexp(0).item() - math.log(n)
    spread = (log_zs - log_z).exp().std().item() / math.sqrt(n)
    return Estimate(log_z, max(spread, torch.finfo(torch.float64).eps * (1 + abs(log_z))))


class Run:
    """One run under way.

    Args:
        x: draws of q, shape ``(n_particles, dim)``.

    Attributes:
        x: where the particles are, after the last complete step.
        b: that they have been weighed for.
        bs: of every step.
        log_z: estimate so far.
        step: of the next moves.
        n_steps: complete ones.
        acceptance: sum of the mean acceptance probabilities of the steps.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.b, self.log_z, self.step, self.acceptance = 0.0, 0.0, FIRST_STEP, 0.0
        self.bs: list[float] = []
        self.n_steps = 0

    def go(self, compiled: "Compiled", base: Base, meter: Meter, seed: int, number: int) -> None:
        """Go to b = 1, and move the particles there.

        Raises:
            BudgetReached: if a step cannot be paid; earlier steps stand.
            Diverged: if the density is zero at all particles, b does not rise or particles are not finite.
        """
        import jax  # pyright: ignore[reportMissingImports]

        boundary = Boundary(meter)
        mean, sd = to_numpy(base.mean), to_numpy(base.sd)
        q = (mean / meter.scale, sd / meter.scale, -np.log(sd).sum() - 0.5 * LOG_2PI * len(sd))
        with compiled.density.of(boundary):
            key = jax.random.fold_in(jax.random.key(seed), number)
            state = compiled.init(boundary.to_y(self.x))
            inverse_metric = q[1] ** 2
            is_last = False
            while not is_last:
                is_last = self.b == 1
                state, *seen = compiled.step(jax.random.fold_in(key, self.n_steps), state, self.step, inverse_metric, q)
                b, increment, rate = map(float, seen)
                y, weights = np.asarray(state.particles), np.asarray(state.weights)
                boundary.check()
                if not np.isfinite(y).all():
                    raise Diverged("particles are not finite after a step")
                if not is_last and increment < DEAD:
                    raise Diverged(f"the density is zero at all of {len(y)} particles")
                if not (is_last or b > self.b):
                    raise Diverged("b does not rise any more")
                self._take(boundary.to_x(y), b, 0.0 if is_last else increment, rate)
                inverse_metric = np.maximum(weighted_variance(y, weights), MIN_VARIANCE * q[1] ** 2)

    def _take(self, x: Tensor, b: float, increment: float, rate: float) -> None:
        self.x, self.b = x, b
        self.bs.append(b)
        self.log_z += increment
        self.n_steps += 1
        self.acceptance += rate
        self.step *= math.exp(GAIN * (rate - ACCEPTANCE))


def weighted_variance(y: Array, weights: Array) -> Array:
    """Of the coordinates, shape ``(n, dim)`` and ``(n,)`` to ``(dim,)``; weights sum to one."""
    centre = weights @ y
    variance: Array = weights @ (y - centre) ** 2
    return variance


class Compiled:
    """The library's step, compiled once for all runs, targets of one dimension and draws of one number of particles.

    Args:
        config: of the sampler.

    Attributes:
        density: what it calls: n values, n * (1 + n_moves * n_leapfrog) scores and n values in every step.
        init: the state of particles at y, shape ``(n, dim)``.
        step: ``(key, state, step size, inverse metric, q)`` to the state after a step, its b, the rise of log Z and the
            mean acceptance probability; q is mean and standard deviations of y, and log density of x at the mean.
    """

    def __init__(self, config: BlackjaxSMC) -> None:
        import blackjax  # pyright: ignore[reportMissingImports]
        import jax  # pyright: ignore[reportMissingImports]
        import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
        from blackjax.smc import adaptive_tempered, extend_params, resampling  # pyright: ignore[reportMissingImports]

        library: Any = blackjax  # untyped
        self.density = JaxDensity()
        hmc = library.hmc.build_kernel()

        def move(key: JaxArray, state: JaxArray, law: JaxArray, step: JaxArray, metric: JaxArray) -> JaxArray:
            return hmc(key, state, law, step, metric, config.n_leapfrog)

        def step(key: JaxArray, state: JaxArray, step_size: JaxArray, metric: JaxArray, q: JaxArray) -> JaxArray:
            mean, sd, log_peak = q

            def log_q(y: JaxArray) -> JaxArray:
                return log_peak - 0.5 * jnp.sum(((y - mean) / sd) ** 2)

            def log_likelihood(y: JaxArray) -> JaxArray:
                return jnp.maximum(self.density.log_prob(y) - log_q(y), FLOOR)

            kernel = adaptive_tempered.build_kernel(
                log_q, log_likelihood, move, library.hmc.init, resampling.systematic, config.min_ess
            )
            parameters = extend_params({"step": step_size, "metric": metric})
            state, info = kernel(key, state, config.n_moves, parameters)
            rate = info.update_info.acceptance_rate.mean()
            return state, state.tempering_param, info.log_likelihood_increment, rate

        self.init, self.step = jax.jit(adaptive_tempered.init), jax.jit(step)

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, config: BlackjaxSMC) -> "Compiled":
        """The same for the same configuration."""
        return cls(config)
