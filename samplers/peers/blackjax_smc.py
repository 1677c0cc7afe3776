"""Adaptive tempered sequential Monte Carlo of the package blackjax."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ...targets.checks import require_at_least, require_positive
from ...targets.draws import Draws, Estimate, Stopped
from ...targets.meter import BudgetReached, Meter
from ..annealed import Base, systematic
from ..base import FittedSampler, refuse_start, register_sampler
from ..isolation import isolated_rng
from ..kernels import Diverged, stopped_by
from .blackjax_tempering import Compiled, Loop, Run
from .boundary import silenced

MIN_RUNS = 10  # whose spread gives the standard error of log Z


@register_sampler("blackjax_smc", version=1)
@dataclass(frozen=True, kw_only=True)
class BlackjaxSMC:
    """Sequential Monte Carlo of blackjax (blackjax.adaptive_tempered_smc): particles go through laws q^(1-b) p^b.

    The library needs a prior and a likelihood: the prior is the normal law q of the meter's starting points,
    ``base_width`` times as wide, the likelihood p / q, and its integral is the target's normaliser. A step resamples
    the particles, moves them by Hamiltonian trajectories at the present b, and weighs them for the next. The first step
    moves them under q, which costs scores for nothing; a last one at b = 1 makes their weights equal.

    Everything is paid in ``draw``. A pilot run adapts: the next b is the largest at which the effective share of the
    particles, as they stand before they are resampled, is ``min_ess``, and step and metric follow them. Its own
    estimate of the normaliser is biased by that, in proportion to 1 / n_particles. So ``n_runs`` independent runs
    repeat its schedule unchanged (blackjax.tempered_smc): the mean of their estimates is unbiased, and their spread
    gives its standard error. Draws are taken from their particles, in proportion to each run's estimate; n draws cost
    the same up to n_runs * n_particles of them.

    Attributes:
        n_runs: independent runs after the pilot; of fewer than 10 log Z is not stated.
        n_particles: of each run and the pilot; more where the draws wanted are more than those of all runs.
        base_width: standard deviations of q, in units of those of the starting points.
        min_ess: effective share at each step of the pilot.
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
        """Particles of all runs but the pilot; where the budget ends earlier, of complete ones, without log Z.

        If none is, the particles of the pilot, under the law that they were moved under last.

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
        starts = [base.sample(n_particles, generator) for _ in range(1 + config.n_runs)]
        pilot = Run(starts[0])
        runs = [pilot]
        stopped: Stopped | None = None
        reason = ""
        with silenced(), isolated_rng(generator) as seed:
            go = Loop(Compiled.of(config.n_moves, config.n_leapfrog, config.min_ess), base, self.meter, seed)
            try:
                go(pilot, 0, None)
                for number, x in enumerate(starts[1:], 1):
                    runs.append(Run(x))
                    go(runs[-1], number, pilot.steps)
            except (BudgetReached, Diverged) as error:
                stopped = stopped_by(error)
                where = f"run {len(runs) - 1}" if len(runs) > 1 else "the pilot"
                reason = f"{error}; stopped in {where} after {len(runs[-1].steps)} steps"
        complete = [run for run in runs[1:] if run.is_complete] or [pilot]
        log_zs = torch.tensor([run.log_z for run in complete], dtype=torch.float64)
        weights = log_zs.softmax(0).repeat_interleave(n_particles)
        x = torch.cat([run.x for run in complete])
        rows = systematic(weights.to(generator.device), n_samples, generator).to(x.device)
        rates = [rate for run in runs for rate in run.rates]
        return Draws(
            samples=x[rows],
            log_z=log_z_of(log_zs) if stopped is None and config.n_runs >= MIN_RUNS else None,
            stopped=stopped,
            reason=reason,
            diagnostics={
                "n_steps": len(rates),
                "n_particles": n_particles,
                "acceptance_rate": sum(rates) / len(rates) if rates else math.nan,
                "step_sizes": [step.step_size for step in pilot.steps],
                "bs": [step.b for step in pilot.steps],
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
