"""What a sampler must keep about evaluations: exact counts, enforced budgets, and honesty about what diverged."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..targets.ledger import Phase
from .contract import BrokenRule, require
from .sampler_subject import DRAW_LIMIT, FIT_LIMIT, N_SHORT, SamplerSubject, check_draws


def counts(subject: SamplerSubject) -> str:
    """What the meter counted is what the target saw: no evaluation goes past it."""
    seen = []
    for name in ("gaussian2", "mog2"):
        run = subject.full(name)
        counted = run.meter.counts.values()
        forward, backward = sum(c.log_prob for c in counted), sum(c.score + c.hvp for c in counted)
        what = f"forward and backward points of {name}"
        rule = f"be counted as the target saw them, {run.witness.n_forward:,} and {run.witness.n_backward:,}"
        same = (forward, backward) == (run.witness.n_forward, run.witness.n_backward)
        require(same, what, rule, f"{forward:,} and {backward:,} (an evaluation that went past the meter?)")
        require(forward, what, "be some: who never asks the target cannot know it", "0")
        cost = ", ".join(f"{phase} {value:,.0f}" for phase, value in run.cost.items())
        seen.append(f"{name}: {forward:,} forward and {backward:,} backward points (equivalents: {cost})")
    return f"as an independent count inside the target; {'; '.join(seen)}"


def budget_of_fit(subject: SamplerSubject) -> str:
    """A budget on fit is kept and reported."""
    return _budget(subject, "fit")


def budget_of_draw(subject: SamplerSubject) -> str:
    """A budget on draw is kept and reported."""
    return _budget(subject, "draw")


def _budget(subject: SamplerSubject, phase: Phase) -> str:
    cost = subject.short.cost[phase]
    spent = []
    for limit in (0.6 * cost, 0.1) if cost else (0.1,):
        limits = {"fit": FIT_LIMIT, "draw": DRAW_LIMIT, phase: limit}
        run = subject.run(fit=limits["fit"], draw=limits["draw"])
        used = run.cost[phase]
        what = f"a budget of {limit:,.1f} gradient equivalents on {phase}"
        require(used <= limit, what, "be kept", f"{used:,.1f} spent")
        seen, paid = run.witness.n_forward, sum(count.log_prob for count in run.meter.counts.values())
        require(seen == paid, f"with {what}, the points that the target saw", f"be those paid, {paid:,}", f"{seen:,}")
        stopped = "budget" if cost else subject.short.draws.stopped
        require(run.draws.stopped == stopped, f"stopped under {what}", f"be {stopped!r}", repr(run.draws.stopped))
        check_draws(run.draws, run, N_SHORT, torch.float32)
        require(run.draws.samples.isfinite().all(), f"samples under {what}", "be finite", "some that are not")
        spent.append(f"{used:,.1f} of {limit:,.1f}")
    if not cost:
        return f"{phase} evaluates nothing, so no budget stops it"
    return f"spent {' and '.join(spent)} gradient equivalents; {N_SHORT} finite rows, stopped 'budget', no log_z"


@dataclass(frozen=True)
class Broken:
    """A density of the plane that is no density: what a sampler may meet in an unlucky place."""

    law: Callable[[Tensor], Tensor]
    dim: int = 2
    scale: float = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        return self.law(x)


def divergence(subject: SamplerSubject) -> str:
    """Where there is nothing to sample, that is reported, and no exception: a diverged run is a result.

    Draws may cost twice what they cost where all is well, unless there is nothing but NaN: a climb without end is long
    and shows nothing new.
    """
    normal: Callable[[Tensor], Tensor] = lambda x: -0.5 * x.square().sum(-1)  # noqa: E731
    laws: dict[str, Callable[[Tensor], Tensor]] = {
        "NaN everywhere": lambda x: normal(x) * math.nan,
        "NaN on half of the plane": lambda x: normal(x) + torch.where(x[..., 0] > 0, math.nan, 0.0).to(x),
        "infinite on half of the plane": lambda x: normal(x) + torch.where(x[..., 0] > 0, math.inf, 0.0).to(x),
        "growing without bound": lambda x: x.square().sum(-1),
    }
    ends = []
    limit = min(2 * subject.short.cost["draw"], DRAW_LIMIT) or DRAW_LIMIT
    for what, law in laws.items():
        try:
            run = subject.run(Broken(law), draw=DRAW_LIMIT if what == "NaN everywhere" else limit)
        except ModuleNotFoundError:
            raise  # of a package that its rows need: no verdict
        except Exception as error:
            got = f"{type(error).__name__}: {error}"
            raise BrokenRule(f"a density that is {what} must be reported in stopped, got {got}") from error
        try:
            check_draws(run.draws, run, N_SHORT, torch.float32)
        except BrokenRule as error:
            raise BrokenRule(f"with a density that is {what}: {error}") from error
        if what == "NaN everywhere":
            got = repr(run.draws.stopped)
            require(run.draws.stopped == "diverged", f"stopped with a density that is {what}", "be 'diverged'", got)
        ends.append(f"{what}: {run.draws.stopped or 'finite draws'}")
    return "; ".join(ends)
