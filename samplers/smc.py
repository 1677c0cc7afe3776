"""Sequential Monte Carlo from a Gaussian to the target."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least, require_positive
from ..targets.draws import Draws, Estimate, Stopped
from ..targets.meter import BudgetReached, Meter
from .annealed import Base, Tempered, check_ladder, log_ratio, next_beta, systematic
from .base import FittedSampler, State, refuse_start, register_sampler
from .kernels import Dense, Diverged, Scales, stopped_by
from .moves import FIRST_STEP, MIN_SPREAD, Moves

Metric: TypeAlias = Literal["diagonal", "dense"]

MIN_ISLAND = 100  # particles; fewer draws make fewer islands
MIN_ISLANDS = 10  # whose spread gives the standard error of log Z


@register_sampler("smc_10x", version=1, oversampling=10)
@register_sampler("smc", version=1)
@dataclass(frozen=True, kw_only=True)
class SMC:
    """Adaptive sequential Monte Carlo: particles go from q to the target p through laws q^(1-beta) p^beta.

    q is the normal law of the meter's starting points. Each beta is the largest that keeps the conditional effective
    share of the particles at ``min_ess``; where the share of all weights since the last resampling is below
    ``resample_below``, and at beta = 1, the particles are resampled systematically. ``n_moves`` Metropolis-adjusted
    moves follow at every beta, more at the last; their coordinates are scaled by the particles' standard deviations,
    and their step is adapted from move to move.

    Everything is paid in ``draw``, since the particles interact. They do so within ``n_islands`` islands only, which
    share temperatures and steps and are joined at beta = 1: the mean of their estimates of the normaliser is unbiased,
    but for the adaptation, and the differences between them give its standard error.

    Attributes:
        oversampling: particles per draw; every oversampling-th is returned. Particles descend from few, so that with 1
            the weights of modes err by up to 1.6 times as much as those of independent draws, with 2 by 1.2 times.
        n_islands: fewer where an island would have less than 100 particles; 10 at least, or log Z is not stated.
        base_width: standard deviations of q, in units of those of the starting points.
        min_ess: conditional effective share at each beta.
        betas: inverse temperatures of a ladder that is not adapted, from 0 to 1; they replace ``min_ess``.
        resample_below: effective share.
        n_moves, n_last_moves: at each beta, and more of them at beta = 1.
        moves: which.
        metric: what scales them: ``diagonal``, the particles' standard deviations, or ``dense``, the root of their
            covariance, which long valleys that are not along the coordinates need.

    References: P. Del Moral, A. Doucet, A. Jasra, J. R. Stat. Soc. B 68 (2006); adaptation as in Y. Zhou, A. Johansen,
    J. Aston, J. Comput. Graph. Stat. 25 (2016); islands: C. Verge et al., Stat. Comput. 25 (2015).
    """

    oversampling: int = 2
    n_islands: int = 20
    base_width: float = 1.5
    min_ess: float = 0.95
    betas: tuple[float, ...] | None = None
    resample_below: float = 0.5
    n_moves: int = 5
    n_last_moves: int = 20
    moves: Moves = field(default_factory=Moves)
    metric: Metric = "diagonal"

    def __post_init__(self) -> None:
        require_at_least(1, oversampling=self.oversampling, n_islands=self.n_islands, n_moves=self.n_moves)
        require_at_least(0, n_last_moves=self.n_last_moves)
        require_positive(base_width=self.base_width)
        if self.metric not in get_args(Metric):
            raise ValueError(f"metric must be one of {', '.join(map(repr, get_args(Metric)))}, got {self.metric!r}")
        check_ladder(self.betas)
        for name in ("min_ess", "resample_below"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Nothing to pay once."""
        return FittedSMC(self, meter)


def mean(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


@dataclass
class Particles:
    """The population on its way, in ``n_islands`` islands that resample by themselves.

    Attributes:
        state: of the target, island after island.
        base: where it comes from.
        log_weights: since the last resampling, shape ``(n_islands, n_each)``, float64.
        log_z: of every island at its last resampling, shape ``(n_islands,)``.
        beta: inverse temperature reached.
        step: of the next move.
        n_resamplings, betas, acceptance_rates: so far.
    """

    state: State
    base: Base
    log_weights: Tensor
    log_z: Tensor
    beta: float = 0.0
    step: float = FIRST_STEP
    n_resamplings: int = 0
    betas: list[float] = field(default_factory=list)
    acceptance_rates: list[float] = field(default_factory=list)

    @classmethod
    def at(cls, state: State, base: Base, n_islands: int) -> "Particles":
        """Draws of the base; their number is a multiple of ``n_islands``."""
        zeros = torch.zeros(n_islands, len(state.x) // n_islands, dtype=torch.float64, device=state.x.device)
        return cls(state, base, zeros, zeros[:, 0])

    @property
    def weights(self) -> Tensor:
        """Of all particles, normalised, shape ``(n,)``; an island has the weight of its estimate of the normaliser."""
        return (self.log_z[:, None] + self.log_weights).flatten().softmax(0)

    @property
    def effective_share(self) -> float:
        """1 / (n_each sum W^2) within the islands, on average."""
        squares = self.log_weights.softmax(-1).square().sum(-1)
        return (1 / (squares * self.log_weights.shape[-1])).nan_to_num(nan=0.0).mean().item()  # NaN: all weights 0

    def reweight(self, min_ess: float, betas: Sequence[float] | None) -> None:
        """Go to the next of ``betas``, or without such a ladder to the one that the effective share allows."""
        ratio = log_ratio(self.state, self.base)
        beta = betas[len(self.betas) + 1] if betas else next_beta(self.beta, self.weights.log(), ratio, min_ess)
        self.log_weights = self.log_weights + (beta - self.beta) * ratio.reshape(self.log_weights.shape)
        self.beta = beta
        self.betas.append(beta)

    def resample(self, generator: Generator) -> None:
        """Replace the weights by copies within every island."""
        n_islands, n_each = self.log_weights.shape
        chosen = systematic(self.log_weights.softmax(-1), n_each, generator)
        self.state = self.state.rows(
            (chosen + n_each * torch.arange(n_islands, device=chosen.device)[:, None]).flatten()
        )
        self.log_z = self.log_z + self.log_weights.logsumexp(-1) - math.log(n_each)
        self.log_weights = torch.zeros_like(self.log_weights)
        self.n_resamplings += 1

    def join(self, n: int, generator: Generator) -> Estimate | None:
        """Resample ``n`` particles of all islands into one.

        Returns:
            Log of the mean of the islands' estimates of the normaliser, which is unbiased, with the standard error that
            their differences give; None of fewer than 10 islands, which would give no honest error.
        """
        self.state = self.state.rows(systematic(self.weights, n, generator))
        n_islands, n_each = self.log_weights.shape
        of_islands = self.log_z + self.log_weights.logsumexp(-1) - math.log(n_each)
        log_z = of_islands.logsumexp(0).item() - math.log(n_islands)
        self.log_weights = self.log_weights.new_zeros(1, n)
        self.log_z = self.log_z.new_tensor([log_z])
        self.n_resamplings += 1
        if n_islands < MIN_ISLANDS:
            return None
        return Estimate(log_z, ((of_islands - log_z).exp().std() / math.sqrt(n_islands)).item())

    def move(self, moves: Moves, n_moves: int, meter: Meter, generator: Generator, metric: Metric = "diagonal") -> None:
        """Move every particle under the law of ``beta``, with scales of the population and a step that is adapted."""
        scales: Scales = self.scales() if metric == "diagonal" else Dense.of(self.covariance()).to(self.state.x)
        law = Tempered(self.base, self.beta)
        for _ in range(n_moves):
            self.state = moves.kernel(self.step, scales, law)(self.state, meter, generator)
            rate = self.state.acceptance.mean().item()
            self.acceptance_rates.append(rate)
            self.step = moves.adapted(self.step, rate)

    def scales(self) -> Tensor:
        """Standard deviations of the coordinates under the weights, shape ``(dim,)``."""
        w = self.weights[:, None].to(self.state.x)
        centre = (w * self.state.x).sum(0)
        variance = (w * (self.state.x - centre).square()).sum(0)
        return variance.sqrt().clamp(min=MIN_SPREAD * self.base.sd)

    def covariance(self) -> Tensor:
        """Of the coordinates under the weights, shape ``(dim, dim)``, float64.

        Shrunk towards its diagonal by dim / (dim + n), since n particles determine no more than n directions.
        """
        w, x = self.weights, self.state.x.double()
        x = x - w @ x
        covariance = (w * x.T) @ x
        n, dim = x.shape
        variance = torch.maximum(covariance.diagonal(), (MIN_SPREAD * self.base.sd.double()).square())
        return (n * covariance + dim * torch.diag(variance)) / (n + dim)


@dataclass(frozen=True)
class FittedSMC:
    """SMC on one target."""

    config: SMC
    meter: Meter
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """The particles at beta = 1; where the budget ends earlier, those of the beta reached, without log Z.

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
        n = config.oversampling * n_samples
        n_islands = max(1, min(config.n_islands, n // MIN_ISLAND))
        x = base.sample(n_islands * math.ceil(n / n_islands), generator)
        log_z: Estimate | None = None
        stopped: Stopped | None = None
        reason = ""
        try:
            particles = Particles.at(State.at(x, self.meter), base, n_islands)
        except BudgetReached as error:
            return Draws(samples=x[:n_samples], stopped="budget", reason=f"{error}; stopped at beta = 0")
        try:
            while particles.beta < 1:
                particles.reweight(config.min_ess, config.betas)
                if particles.beta == 1:
                    log_z = particles.join(n, generator)
                elif particles.effective_share < config.resample_below:
                    particles.resample(generator)
                n_moves = config.n_moves + config.n_last_moves if particles.beta == 1 else config.n_moves
                particles.move(config.moves, n_moves, self.meter, generator, config.metric)
        except (BudgetReached, Diverged) as error:
            stopped = stopped_by(error)
            reason, log_z = f"{error}; stopped at beta = {particles.beta:.3g}", None
            if particles.beta < 1:
                particles.join(n, generator)
        diagnostics = {
            "acceptance_rate": mean(particles.acceptance_rates),
            "n_temperatures": len(particles.betas),
            "n_resamplings": particles.n_resamplings,
            "n_islands": n_islands,
            "step_size": particles.step,
            "betas": particles.betas,
        }
        samples = particles.state.x[:: config.oversampling].clone()
        if not reason and diagnostics["acceptance_rate"] == 0:
            reason = f"none of {len(particles.acceptance_rates)} moves of {n} particles was accepted"
        return Draws(samples=samples, log_z=log_z, stopped=stopped, reason=reason, diagnostics=diagnostics)
