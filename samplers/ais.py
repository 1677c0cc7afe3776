"""Annealed importance sampling."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least, require_positive
from ..targets.draws import Draws, Estimate, Stopped
from ..targets.meter import BudgetReached, Meter
from .annealed import Base, Tempered, check_ladder, log_ratio
from .base import FittedSampler, State, refuse_start, register_sampler
from .kernels import Diverged, stopped_by
from .moves import Moves
from .smc import Particles, mean


@register_sampler("ais", version=1)
@dataclass(frozen=True, kw_only=True)
class AIS:
    """Annealed importance sampling: independent paths from q to the target p through laws q^(1-beta) p^beta, weighted.

    Each path starts at a draw of q, the normal law of the meter's starting points; its weight is the product over the
    betas of (p / q)^(beta' - beta) at the points where it stands before it moves. The mean weight is an unbiased
    estimate of the normaliser. ``fit`` finds betas, scales and steps by a pilot of ``n_pilot`` particles that are
    resampled after every beta (see ``smc``); they are fixed before any path is drawn.

    Attributes:
        n_pilot: particles of the pilot.
        base_width: standard deviations of q, in units of those of the starting points.
        min_ess: effective share of the pilot after each step of beta; nearer to 1, more steps.
        betas: inverse temperatures of a ladder that is not adapted, from 0 to 1; they replace ``min_ess``.
        n_moves: at each beta.
        moves: which.

    Reference: R. Neal, Stat. Comput. 11 (2001).
    """

    n_pilot: int = 500
    base_width: float = 1.5
    min_ess: float = 0.97
    betas: tuple[float, ...] | None = None
    n_moves: int = 5
    moves: Moves = field(default_factory=Moves)

    def __post_init__(self) -> None:
        require_at_least(2, n_pilot=self.n_pilot)
        require_at_least(1, n_moves=self.n_moves)
        require_positive(base_width=self.base_width)
        check_ladder(self.betas)
        if not 0 < self.min_ess < 1:
            raise ValueError(f"min_ess must be between 0 and 1, got {self.min_ess}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Run the pilot."""
        base = Base.of(meter, generator, self.base_width)
        plan: list[Rung] = []
        try:
            x = base.sample(self.n_pilot, generator)
            pilot = Particles.at(State.at(x, meter), base, n_islands=1)
            while pilot.beta < 1:
                pilot.reweight(self.min_ess, self.betas)
                pilot.resample(generator)
                scales = pilot.scales()
                pilot.move(self.moves, self.n_moves, meter, generator)
                plan.append(Rung(pilot.beta, scales, pilot.step))
        except (BudgetReached, Diverged) as error:
            reached = plan[-1].beta if plan else 0.0
            reason = f"in fit: {error}; the pilot reached beta = {reached:.3g}"
            return FittedAIS(self, meter, base, plan, stopped_by(error), reason)
        return FittedAIS(self, meter, base, plan)


@dataclass(frozen=True)
class Rung:
    """A beta, and the scales ``(dim,)`` and the step of the moves under its law."""

    beta: float
    scales: Tensor
    step: float


@dataclass(frozen=True)
class FittedAIS:
    """AIS on one target, with a plan that does not change any more."""

    config: AIS
    meter: Meter
    base: Base
    plan: list[Rung]
    fit_stopped: Stopped | None = None
    fit_reason: str = ""

    @property
    def diagnostics(self) -> Mapping[str, object]:
        """The plan."""
        return {
            "n_temperatures": len(self.plan),
            "betas": [rung.beta for rung in self.plan],
            "step_sizes": [rung.step for rung in self.plan],
        }

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """The ends of ``n_samples`` paths with their log weights and the estimate of log Z.

        Where the budget ends early, the points of the beta reached with their weights for its law, without log Z.

        Raises:
            ValueError: if ``start`` is given: paths start at draws of q, which the weights rely on; or if ``n_samples``
                is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "AIS starts at draws of its own base")
        x = self.base.sample(n_samples, generator)
        log_weights = torch.zeros(n_samples, dtype=torch.float64, device=x.device)
        rates: list[float] = []
        beta, stopped, reason = 0.0, self.fit_stopped, self.fit_reason
        try:
            state = State.at(x, self.meter)
            for rung in self.plan:
                weights = log_weights + (rung.beta - beta) * log_ratio(state, self.base)
                kernel = self.config.moves.kernel(rung.step, rung.scales, Tempered(self.base, rung.beta))
                moved = state
                for _ in range(self.config.n_moves):
                    moved = kernel(moved, self.meter, generator)
                    rates.append(moved.acceptance.mean().item())
                log_weights, state, x, beta = weights, moved, moved.x, rung.beta
            if beta < 1:  # the rest of the way in one step, without moves
                log_weights = log_weights + (1 - beta) * log_ratio(state, self.base)
        except (BudgetReached, Diverged) as error:
            stopped, reason = stopped_by(error), f"{error}; stopped at beta = {beta:.3g}"
        if not reason and mean(rates) == 0:
            reason = f"none of {len(rates)} moves of {n_samples} paths was accepted"
        return Draws(
            samples=x,
            log_weights=log_weights.to(x.dtype),
            log_z=None if stopped else log_mean(log_weights),
            stopped=stopped,
            reason=reason,
            diagnostics={
                "acceptance_rate": mean(rates),
                "ess_share": effective_size(log_weights) / n_samples,
            },
        )


def effective_size(log_weights: Tensor) -> float:
    """(sum w)^2 / sum w^2 of log weights ``(n,)``: the number of equally weighted draws that they are worth."""
    return math.exp(2 * log_weights.logsumexp(0).item() - (2 * log_weights).logsumexp(0).item())


def log_mean(log_weights: Tensor) -> Estimate | None:
    """Log of the mean weight with its standard error by the delta method; None of a single weight."""
    n = len(log_weights)
    if n < 2:
        return None
    value = log_weights.logsumexp(0).item() - math.log(n)
    relative = (log_weights - value).exp()
    return Estimate(value, (relative.std() / math.sqrt(n)).item())
