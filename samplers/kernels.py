"""Transitions: Langevin (ULA, MALA, BAOAB), Hamiltonian and random walk; one implementation of each.

ULA and MALA discretise the diffusion dX = grad log p(X) dt + sqrt(2) dW by proposals y = x + b(x) + sqrt(2 h) xi, with
xi ~ N(0, I), step h in the squared unit of x, and drift b(x) = h s(x), s the score. Each move evaluates one score
per point.

Every kernel has these fields beside its own:

* ``step``: a number, or one per row, shape ``(n, 1)``.
* ``scales``: of the coordinates, positive, shape ``(dim,)`` or ``(n, dim)`` (diagonal preconditioning), or the root of
  a covariance (``Dense``). The move is made in z, x = scales z, whose score is scales s(x); without them z is x.
* ``law``: what is left invariant where it is not the target itself (``base.Law``).
"""

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from ..targets.draws import Stopped
from ..targets.meter import BudgetReached, Meter
from .base import Kernel, Law, State, normal_like

Step: TypeAlias = float | Tensor


@dataclass(frozen=True)
class Dense:
    """Preconditioning by a covariance: x = root z, and since the root is symmetric the score of z is root s(x).

    Attributes:
        root: symmetric positive square root of the covariance, shape ``(dim, dim)``.
    """

    root: Tensor

    @classmethod
    def of(cls, covariance: Tensor) -> "Dense":
        """From a positive definite covariance ``(dim, dim)``, in float64."""
        values, vectors = torch.linalg.eigh(covariance)
        return cls((vectors * values.clamp(min=values[-1] * torch.finfo(values.dtype).eps).sqrt()) @ vectors.T)

    def to(self, like: Tensor) -> "Dense":
        """On the device and in the dtype of ``like``."""
        return Dense(self.root.to(like))

    @property
    def diagonal(self) -> Tensor:
        """Standard deviations of the coordinates, shape ``(dim,)``."""
        return self.root.square().sum(0).sqrt()


Scales: TypeAlias = Tensor | Dense


class Diverged(Exception):
    """Raised instead of returning points that are not finite; the message says how many."""


def stopped_by(error: BudgetReached | Diverged) -> Stopped:
    """What an error that ends a sampler's loop is called in its draws."""
    return "budget" if isinstance(error, BudgetReached) else "diverged"


@dataclass(frozen=True)
class ULAKernel:
    """Unadjusted Langevin: always moves to the proposal, so its stationary law is biased at order ``step``.

    Attributes:
        step: h, in the squared unit of z.
        max_drift: longest drift, see ``drift``.
        scales, law: see above.

    Reference: G. Roberts and R. Tweedie, Bernoulli 2 (1996), section 1.4.1.
    """

    step: Step
    max_drift: float = math.inf
    scales: Scales | None = None
    law: Law | None = None

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once.

        Raises:
            Diverged: if a point, its log density or its score is not finite after the move.
            BudgetReached: before an evaluation that the meter cannot pay.
        """
        move = drift(_scaled(_under(self.law, state).score, self.scales), self.step, self.max_drift)
        move = move.add_((2 * self.step) ** 0.5 * normal_like(move, generator))
        return finite(State.at(state.x + _scaled(move, self.scales), meter), "after a move", self.step)


@dataclass(frozen=True)
class MALAKernel:
    """Metropolis-adjusted Langevin: every row accepts its proposal by itself, so the law is invariant.

    The log ratio of the proposal densities N(x; y + b(y), 2h I) and N(y; x + b(x), 2h I) is -<w, xi + w/2> with
    w = (b(x) + b(y)) / sqrt(2h). A proposal whose log density or score is NaN, or whose density is infinite, is
    rejected.

    Attributes:
        step: h, in the squared unit of z.
        max_drift: longest drift, see ``drift``.
        scales, law: see above.

    Reference: G. Roberts and R. Tweedie, Bernoulli 2 (1996), sections 1.4.2 and 1.4.3.
    """

    step: Step
    max_drift: float = math.inf
    scales: Scales | None = None
    law: Law | None = None

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once, or leave it where it is.

        Raises:
            BudgetReached: before an evaluation that the meter cannot pay.
        """
        sd = (2 * self.step) ** 0.5
        noise = normal_like(state.x, generator)
        uniform = uniform_like(state, generator)
        here = _under(self.law, state)
        there = drift(_scaled(here.score, self.scales), self.step, self.max_drift)
        proposal = State.at(state.x + _scaled(there + sd * noise, self.scales), meter)
        end = _under(self.law, proposal)
        w = drift(_scaled(end.score, self.scales), self.step, self.max_drift).add_(there).div_(sd)
        log_ratio = end.log_prob - here.log_prob - noise.add_(w, alpha=0.5).mul_(w).sum(-1)
        return accept(state, proposal, log_ratio, uniform)


@dataclass(frozen=True)
class HMCKernel:
    """Hamiltonian Monte Carlo with a random number of leapfrog steps, 1 to ``max_leapfrog``, the same in all chains.

    Attributes:
        step: of the leapfrog, in the unit of z.
        max_leapfrog: most steps of a trajectory; each evaluates one score per point.
        scales, law: see above.

    Reference: R. Neal, MCMC using Hamiltonian dynamics, Handbook of MCMC (2011), sections 3 and 4.2.
    """

    step: Step
    max_leapfrog: int = 32
    scales: Scales | None = None
    law: Law | None = None

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once, or leave it where it is.

        Raises:
            BudgetReached: before an evaluation that the meter cannot pay.
        """
        start = normal_like(state.x, generator)
        n_leapfrog = int(torch.randint(1, self.max_leapfrog + 1, (), generator=generator, device=generator.device))
        end, here = state, _under(self.law, state)
        there = here
        momentum = start + 0.5 * self.step * _scaled(here.score, self.scales)
        for i in range(1, n_leapfrog + 1):
            end = State.at(end.x + _scaled(self.step * momentum, self.scales), meter)
            there = _under(self.law, end)
            share = 0.5 if i == n_leapfrog else 1.0  # half a kick at the end, and two halves between two drifts
            momentum = momentum + share * self.step * _scaled(there.score, self.scales)
        kinetic = 0.5 * (start.square() - momentum.square()).sum(-1)
        return accept(state, end, there.log_prob - here.log_prob + kinetic, uniform_like(state, generator))


@dataclass(frozen=True)
class RandomWalkKernel:
    """Random-walk Metropolis: y = x + step scales xi; evaluates log_prob only, so the score of its states is NaN.

    Attributes:
        step: standard deviation of the move, in the unit of z.
        scales, law: see above.

    Reference: N. Metropolis et al., J. Chem. Phys. 21 (1953).
    """

    step: Step
    scales: Scales | None = None
    law: Law | None = None

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once, or leave it where it is.

        Raises:
            BudgetReached: before an evaluation that the meter cannot pay.
        """
        y = state.x + _scaled(self.step * normal_like(state.x, generator), self.scales)
        proposal = State(y, meter.log_prob(y), torch.full_like(y, math.nan), state.acceptance)
        log_ratio = _under(self.law, proposal).log_prob - _under(self.law, state).log_prob
        moved = accept(state, proposal, log_ratio, uniform_like(state, generator))
        return moved._replace(score=proposal.score)


@dataclass(frozen=True)
class BAOABKernel:
    """Underdamped Langevin dynamics dX = V dt, dV = s(X) dt - friction V dt + sqrt(2 friction) dW, never corrected.

    A move is B A O A B: half a kick, half a drift, exact friction and noise, half a drift, half a kick. Without a limit
    of the kicks the law of x is exact on Gaussians at every stable step (step < 2 sd), and elsewhere biased at order
    step^2. The momentum, of unit variance, is kept in the state and drawn at the first move. The acceptance of the
    state is what a Metropolis step would have had, from the energy error of the move: none is made, but the step can be
    adapted to it.

    Attributes:
        step: in the unit of z (the mass is 1 there).
        friction: per unit of time.
        max_kick: longest half kick, in units of the momentum's length sqrt(dim); infinite is no limit.
        scales, law: see above.

    Reference: B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013 (1), section 2.
    """

    step: Step
    friction: float = 1.0
    max_kick: float = math.inf
    scales: Scales | None = None
    law: Law | None = None

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once.

        Raises:
            Diverged: if a point, its log density or its score is not finite after the move.
            BudgetReached: before an evaluation that the meter cannot pay.
        """
        v = normal_like(state.x, generator) if state.momentum is None else state.momentum
        kept = torch.as_tensor(-self.friction * self.step, dtype=v.dtype, device=v.device).exp()
        here = _under(self.law, state)
        kicked = v + self._kick(here)
        half = state.x + _scaled(0.5 * self.step * kicked, self.scales)
        refreshed = kept * kicked + (1 - kept.square()).sqrt() * normal_like(v, generator)
        end = State.at(half + _scaled(0.5 * self.step * refreshed, self.scales), meter)
        there = _under(self.law, end)
        last = refreshed + self._kick(there)
        kinetic = 0.5 * (v.square() - kicked.square() + refreshed.square() - last.square()).sum(-1)
        acceptance = (there.log_prob - here.log_prob + kinetic).clamp(max=0).exp().nan_to_num(nan=0.0)
        moved = end._replace(acceptance=acceptance, momentum=last)
        return finite(moved, "after a move", self.step)

    def _kick(self, state: State) -> Tensor:
        score = _scaled(state.score, self.scales)
        return shortened(score, 0.5 * self.step, self.max_kick * math.sqrt(score.shape[-1]))


@dataclass(frozen=True)
class RandomStep:
    """A kernel whose step every row draws anew for every move, log-uniform between ``min_share`` of it and all of it.

    Where the width of a law varies from place to place, chains stick to any fixed step. As a mixture of kernels that
    leave the law invariant, it leaves it invariant.
    """

    kernel: "MALAKernel | HMCKernel"
    min_share: float

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once, as the kernel does."""
        u = torch.rand(len(state.x), 1, generator=generator, device=state.x.device, dtype=state.x.dtype)
        return replace(self.kernel, step=self.kernel.step * self.min_share**u)(state, meter, generator)


@dataclass(frozen=True)
class CoordinateWalk:
    """Random-walk Metropolis along single coordinates: ``n_moves`` moves, each of one coordinate that every row draws.

    Every row also draws its step, as in ``RandomStep``. The states that it leaves have a score again, so that it costs
    n_moves log densities and one score per point; their acceptance is that of the last move.

    Attributes:
        step: longest, in the unit of z.
        min_share: shortest step, as a share of it.
        n_moves: at least 1.
        scales, law: see above.
    """

    step: Step
    min_share: float
    n_moves: int
    scales: Scales | None = None
    law: Law | None = None

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point ``n_moves`` times, or leave it where it is.

        Raises:
            BudgetReached: before an evaluation that the meter cannot pay.
        """
        n, dim = state.x.shape
        coordinates = self.scales.diagonal if isinstance(self.scales, Dense) else self.scales
        for _ in range(self.n_moves):
            u = torch.rand(n, 1, generator=generator, device=state.x.device, dtype=state.x.dtype)
            chosen = torch.randint(dim, (n, 1), generator=generator, device=state.x.device)
            scales = _scaled(torch.zeros_like(state.x).scatter(1, chosen, 1.0), coordinates)
            state = RandomWalkKernel(self.step * self.min_share**u, scales, self.law)(state, meter, generator)
        return State.at(state.x, meter)._replace(acceptance=state.acceptance)


@dataclass(frozen=True)
class Cycle:
    """Two kernels in turn: what each leaves invariant, both do. The acceptance of its states is that of the first."""

    first: Kernel
    second: Kernel

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once by each."""
        moved = self.first(state, meter, generator)
        return self.second(moved, meter, generator)._replace(acceptance=moved.acceptance)


def _under(law: Law | None, state: State) -> State:
    return state if law is None else law(state)


def _scaled(z: Tensor, scales: Scales | None) -> Tensor:
    if isinstance(scales, Dense):
        return z @ scales.root
    return z if scales is None else scales * z


def uniform_like(state: State, generator: Generator) -> Tensor:
    """A uniform number per row, shape ``(n,)``."""
    x = state.log_prob
    return torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def accept(state: State, proposal: State, log_ratio: Tensor, uniform: Tensor) -> State:
    """Metropolis and Hastings' decision; a NaN, or an infinite density, is rejected."""
    acceptance = log_ratio.clamp(max=0).exp_().nan_to_num_(nan=0.0).masked_fill_(proposal.log_prob == math.inf, 0.0)
    return state.choose(uniform < acceptance, proposal, acceptance)


def drift(score: Tensor, step: Step, max_drift: float) -> Tensor:
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
    return shortened(score, step, max_drift * (2 * step * score.shape[-1]) ** 0.5)


def shortened(score: Tensor, step: Step, limit: Step) -> Tensor:
    """``step`` times the score, shape ``(n, dim)``, shortened where it is longer than ``limit``; a new tensor."""
    length: Tensor = torch.linalg.vector_norm(score, dim=-1, keepdim=True)
    return score * (limit / length).clamp_(max=step)


def finite(state: State, when: str, step: Step | None = None) -> State:
    """``state`` itself.

    Args:
        state: of points ``(n, dim)``.
        when: ends the error's message.
        step: of the move, for the message.
    Raises:
        Diverged: if a point, its log density or its score is NaN or infinite.
    """
    # One test per row instead of three: a sum is finite only if every term is.
    is_finite = (state.x + state.score).sum(-1).add_(state.log_prob).isfinite()
    if not is_finite.all():
        n_bad = int((~is_finite).sum())
        size = "" if step is None else f" with step {float(torch.as_tensor(step).max()):.3g}"
        raise Diverged(f"position, log density or score is not finite in {n_bad} of {len(is_finite)} rows {when}{size}")
    return state
