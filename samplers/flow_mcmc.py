"""MCMC whose proposals are draws of a flow that learns from the chains."""

import math
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least
from ..targets.meter import Meter
from .adaptation import StepAdaptation
from .base import FittedSampler, Kernel, State, register_sampler
from .chains import LongChains, Mode, RestartedChains, Walk, check_schedule
from .density_model import DensityModel, latents
from .descent import Descent, descend
from .kernels import accept, finite, uniform_like
from .moves import FIRST_STEP, MIN_SPREAD, Moves
from .spline_flow import Splines

TRACE_LENGTH = 200


@register_sampler("flow_mcmc_long", version=1, mode="long")
@register_sampler("flow_mcmc", version=1)
@dataclass(frozen=True, kw_only=True)
class FlowMCMC:
    """Chains that make local moves and, in turn, jumps to draws of a spline flow, which Metropolis' rule corrects.

    ``fit`` moves ``n_chains`` chains from the meter's start; after every cycle of ``n_local`` local moves and a jump,
    the flow makes a step of Adam on -mean log q over the states of the chains (forward KL), and the local step is
    adapted. Then everything is frozen, so the draws leave the target invariant. Jumps carry mass between modes that
    some chain has found; they find none. Needs zuko (``pip install 'samplerbench[flows]'``).

    Attributes:
        splines: the flow.
        descent: its training, a step a cycle; its batch are the states of all chains.
        moves: local ones; their coordinates are scaled by the standard deviations of the chains.
        n_local: local moves in a cycle; a cycle costs n_local + 1 scores per chain with MALA.
        mode, n_steps, n_chains, burn_in, thinning: see ``chains.Schedule``, in cycles. The burn-in of mode ``long``
            follows the training.

    Reference: M. Gabrie, G. Rotskoff, E. Vanden-Eijnden, Adaptive Monte Carlo augmented with normalizing flows, PNAS
    119 (2022), arXiv 2105.12603, algorithm 1.
    """

    splines: Splines = field(default_factory=Splines)
    descent: Descent = field(default_factory=partial(Descent, n_steps=2_000))
    moves: Moves = field(default_factory=partial(Moves, method="mala", acceptance=0.574, min_step=0.1))
    n_local: int = 3
    mode: Mode = "restart"
    n_steps: int = 50
    n_chains: int = 256
    burn_in: int = 50
    thinning: int = 5

    def __post_init__(self) -> None:
        check_schedule(self)
        require_at_least(2, n_chains=self.n_chains)
        require_at_least(1, n_local=self.n_local)
        if self.mode not in ("restart", "long"):
            raise ValueError(f"mode must be restart or long, got {self.mode!r}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train the flow on the chains; where the budget ends, flow and chains of the last cycle.

        Raises:
            ModuleNotFoundError: if zuko is not installed.
        """
        model = self.splines.build(meter, generator)
        learning = Learning(self, model, meter, generator)
        fit = descend(list(model.parameters()), learning.backward, self.descent)
        kernel = learning.kernel(learning.adaptation.frozen())
        every = math.ceil(max(1, len(learning.jump_rates)) / TRACE_LENGTH)
        diagnostics = {
            **fit.losses("negative_log_density"),
            "step_size": kernel.step,
            "acceptance_rate": learning.adaptation.acceptance_rate,
            "jump_acceptance_trace": learning.jump_rates[::every],
        }
        if self.mode == "restart":
            return RestartedChains(self, kernel, meter, diagnostics, fit.stopped, fit.reason)
        walk = Walk(learning.x, meter, generator)
        if fit.stopped is None:
            walk.go(kernel, self.burn_in)
        end = fit if fit.stopped else walk
        return LongChains(self, kernel, meter, diagnostics, walk.x, end.stopped, end.reason)


@dataclass(frozen=True)
class JumpKernel:
    """Independence Metropolis: a draw of the model is accepted with min(1, p(y) q(x) / (p(x) q(y))).

    Reference: L. Tierney, Ann. Statist. 22 (1994), section 2.3.3.
    """

    model: DensityModel

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once, or leave it where it is."""
        with torch.no_grad():
            y = self.model.push(latents(len(state.x), meter, generator))
            log_q = self.model.log_density(state.x / meter.scale) - self.model.log_density(y)
        proposal = State.at(meter.scale * y, meter)
        return accept(state, proposal, proposal.log_prob - state.log_prob + log_q, uniform_like(state, generator))


@dataclass(frozen=True)
class FlowCycle:
    """Local moves, then a jump. The acceptance of its states is that of the last local move.

    Attributes:
        local: kernel of a local move.
        n_local: how many.
        jump: the other kernel.
        step: of the local moves, in units of their scales.
    """

    local: Kernel
    n_local: int
    jump: JumpKernel
    step: float

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once by each."""
        local, jumped = self.parts(state, meter, generator)
        return jumped._replace(acceptance=local.acceptance)

    def parts(self, state: State, meter: Meter, generator: Generator) -> tuple[State, State]:
        """The states after the local moves, and after the jump with its own acceptance."""
        for _ in range(self.n_local):
            state = self.local(state, meter, generator)
        return state, self.jump(state, meter, generator)


class Learning:
    """Chains under way, from which the flow learns.

    Attributes:
        x: where the chains are after the last complete cycle, shape ``(n_chains, dim)``.
        adaptation: of the local step.
        jump_rates: mean acceptance probabilities of the jumps.
    """

    def __init__(self, config: FlowMCMC, model: DensityModel, meter: Meter, generator: Generator) -> None:
        self.x = meter.start(config.n_chains, generator)
        self.adaptation = StepAdaptation(FIRST_STEP, config.moves.acceptance)
        self.jump_rates: list[float] = []
        self._state: State | None = None
        self._config, self._model, self._meter, self._generator = config, model, meter, generator

    def kernel(self, step: float) -> FlowCycle:
        """The cycle with a local step in units of the chains' standard deviations."""
        scales = self.x.std(0).clamp(min=MIN_SPREAD * self._meter.scale)
        return FlowCycle(self._config.moves.kernel(step, scales), self._config.n_local, JumpKernel(self._model), step)

    def backward(self, n_done: int) -> Tensor:
        """A cycle, and the gradient of -mean log q over the chains added to that of the model; the loss.

        Raises:
            BudgetReached: before an evaluation that the meter cannot pay.
            Diverged: if the density or the score of a starting point is not finite.
        """
        state = self._state or finite(State.at(self.x, self._meter), "at the start")
        local, self._state = self.kernel(self.adaptation.step).parts(state, self._meter, self._generator)
        self.x = self._state.x
        self.adaptation.update(local.acceptance)
        self.jump_rates.append(self._state.acceptance.mean().item())
        loss = -self._model.log_density(self.x / self._meter.scale).mean()
        torch.autograd.backward(loss)
        return loss.detach()
