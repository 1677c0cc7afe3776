"""Langevin and Hamiltonian transitions, and the adaptation of their step to a stated acceptance.

ULA and MALA discretise the diffusion dX = grad log p(X) dt + sqrt(2) dW by proposals y = x + b(x) + sqrt(2 h) xi, with
xi ~ N(0, I), step h in the squared unit of x, and drift b(x) = h s(x), s the score. Each move evaluates one score
per point.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ..targets.meter import Meter
from .base import State, normal_like


class Diverged(Exception):
    """Raised instead of returning points that are not finite; the message says how many."""


@dataclass(frozen=True)
class ULAKernel:
    """Unadjusted Langevin: always moves to the proposal, so its stationary law is biased at order ``step``.

    Attributes:
        step: h, in the squared unit of x.
        max_drift: longest drift, see ``drift``.

    Reference: G. Roberts and R. Tweedie, Bernoulli 2 (1996), section 1.4.1.
    """

    step: float
    max_drift: float = math.inf

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once.

        Raises:
            Diverged: if a point, its log density or its score is not finite after the move.
            BudgetReached: before an evaluation that the meter cannot pay.
        """
        x = drift(state.score, self.step, self.max_drift).add_(state.x)
        x.add_(normal_like(x, generator), alpha=math.sqrt(2 * self.step))
        return finite(State.at(x, meter), f"after a move with step {self.step:.3g}")


@dataclass(frozen=True)
class MALAKernel:
    """Metropolis-adjusted Langevin: every row accepts its proposal by itself, so the target is invariant.

    The log ratio of the proposal densities N(x; y + b(y), 2h I) and N(y; x + b(x), 2h I) is -<w, xi + w/2> with
    w = (b(x) + b(y)) / sqrt(2h). A proposal whose log density or score is NaN, or whose density is infinite, is
    rejected.

    Attributes:
        step: h, in the squared unit of x.
        max_drift: longest drift, see ``drift``.

    Reference: G. Roberts and R. Tweedie, Bernoulli 2 (1996), sections 1.4.2 and 1.4.3.
    """

    step: float
    max_drift: float = math.inf

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once, or leave it where it is.

        Raises:
            BudgetReached: before an evaluation that the meter cannot pay.
        """
        sd = math.sqrt(2 * self.step)
        noise = normal_like(state.x, generator)
        uniform = torch.rand(state.log_prob.shape, generator=generator, device=noise.device, dtype=noise.dtype)
        there = drift(state.score, self.step, self.max_drift)
        y = torch.add(state.x, there).add_(noise, alpha=sd)
        log_prob, score = meter.log_prob_and_score(y)
        w = drift(score, self.step, self.max_drift).add_(there).div_(sd)
        log_ratio = (log_prob - state.log_prob).sub_(noise.add_(w, alpha=0.5).mul_(w).sum(-1))
        acceptance = log_ratio.clamp_(max=0).exp_().nan_to_num_(nan=0.0).masked_fill_(log_prob == math.inf, 0.0)
        accepted = uniform < acceptance
        moved = accepted.unsqueeze(-1)
        return State(
            torch.where(moved, y, state.x),
            torch.where(accepted, log_prob, state.log_prob),
            torch.where(moved, score, state.score),
            acceptance,
        )


@dataclass(frozen=True)
class HMCKernel:
    """Hamiltonian Monte Carlo with a random number of leapfrog steps, 1 to ``max_leapfrog``, the same in all chains.

    Attributes:
        step: of the leapfrog, in the unit of x.
        max_leapfrog: most steps of a trajectory; each evaluates one score per point.

    Reference: R. Neal, MCMC using Hamiltonian dynamics, Handbook of MCMC (2011), sections 3 and 4.2.
    """

    step: float
    max_leapfrog: int = 32

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once, or leave it where it is.

        Raises:
            BudgetReached: before an evaluation that the meter cannot pay.
        """
        momentum = start = normal_like(state.x, generator)
        end = state
        n_leapfrog = torch.randint(1, self.max_leapfrog + 1, (), generator=generator, device=generator.device)
        for _ in range(int(n_leapfrog)):
            momentum = momentum + 0.5 * self.step * end.score
            end = State.at(end.x + self.step * momentum, meter)
            momentum = momentum + 0.5 * self.step * end.score
        log_ratio = end.log_prob - state.log_prob + 0.5 * (start.square() - momentum.square()).sum(-1)
        acceptance = log_ratio.exp().clamp(max=1).nan_to_num(nan=0.0)
        uniform = torch.rand(acceptance.shape, generator=generator, device=acceptance.device, dtype=acceptance.dtype)
        accepted = uniform < acceptance
        moved = accepted[:, None]
        return State(
            torch.where(moved, end.x, state.x),
            torch.where(accepted, end.log_prob, state.log_prob),
            torch.where(moved, end.score, state.score),
            acceptance,
        )


def drift(score: Tensor, step: float, max_drift: float) -> Tensor:
    """h s(x), shortened where it is longer than ``max_drift`` times sqrt(2 h dim), the length of the noise.

    Without the limit, chains far out overshoot: ULA explodes and MALA rejects for ever. In equilibrium the squared
    length of h s(x) is on average mean(h / 2v_i) times that of the noise, v_i the variances of a Gaussian target, so
    a limit of 1 is met rarely at any step worth using. MALA stays exact: its acceptance uses the shortened drift.

    Args:
        score: shape ``(n, dim)``.
        step: h.
        max_drift: in units of sqrt(2 h dim); infinite is no limit.
    Returns:
        A new tensor of shape ``(n, dim)``.
    """
    if math.isinf(max_drift):
        return step * score
    limit = max_drift * math.sqrt(2 * step * score.shape[-1])
    length: Tensor = torch.linalg.vector_norm(score, dim=-1, keepdim=True)
    return score * (limit / length).clamp_(max=step)


def finite(state: State, when: str) -> State:
    """``state`` itself.

    Args:
        state: of points ``(n, dim)``.
        when: ends the error's message.
    Raises:
        Diverged: if a point, its log density or its score is NaN or infinite.
    """
    # One test per row instead of three: a sum is finite only if every term is.
    is_finite = (state.x + state.score).sum(-1).add_(state.log_prob).isfinite()
    if not is_finite.all():
        n_bad = int((~is_finite).sum())
        raise Diverged(f"position, log density or score is not finite in {n_bad} of {len(is_finite)} rows {when}")
    return state


@dataclass
class StepAdaptation:
    """Robbins-Monro recursion on the log step towards a stated acceptance rate.

    log h_{t+1} = log h_t + t^-0.6 (a_t - target), with a_t the mean acceptance probability over the chains at move t.

    Attributes:
        step: h_t, for the next move.
        target: acceptance rate aimed at.
        steps, acceptance_rates: h_t and a_t of the moves so far.

    Reference: C. Andrieu and J. Thoms, Stat. Comput. 18 (2008), section 4.2.2.
    """

    step: float
    target: float
    steps: list[float] = field(default_factory=list)
    acceptance_rates: list[float] = field(default_factory=list)

    def update(self, acceptance: Tensor) -> None:
        """Take in the acceptance probabilities of one move, shape ``(n_chains,)``."""
        self.steps.append(self.step)
        self.acceptance_rates.append(float(acceptance.mean()))
        gain = len(self.steps) ** -0.6
        self.step *= math.exp(gain * (self.acceptance_rates[-1] - self.target))

    def frozen(self) -> float:
        """The step to sample with: geometric mean over the second half of the moves (Polyak and Ruppert)."""
        late = _second_half(self.steps)
        return math.exp(sum(map(math.log, late)) / len(late)) if late else self.step

    @property
    def acceptance_rate(self) -> float:
        """Mean over the second half of the moves; NaN if there are none."""
        late = _second_half(self.acceptance_rates)
        return sum(late) / len(late) if late else math.nan


def _second_half(values: list[float]) -> list[float]:
    return values[len(values) // 2 :]
