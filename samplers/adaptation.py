"""Adaptation of a kernel before it is used: of its step to a stated acceptance, and of the coordinates' scales."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ..targets.meter import Meter
from .base import FittedSampler, Kernel
from .chains import Schedule, Walk, fitted_chains
from .moves import MIN_SPREAD

ROUNDS = (1, 3, 7, 15)  # ends of the rounds of a warm-up, in fifteenths of it


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


def warm_up(
    walk: Walk,
    kernel: Callable[[float, Tensor], Kernel],
    n_moves: int,
    *,
    scales: Tensor,
    step: float,
    acceptance: float,
) -> tuple[Tensor, StepAdaptation]:
    """Adapt the scales of the coordinates, and along each of them the step, in rounds of growing length.

    A round adapts the step; every round but the last ends by setting the scales to the standard deviations, over chains
    and moves, of its second half.

    Args:
        walk: chains at their start; they stay where the warm-up ends.
        kernel: of a step and of scales ``(dim,)``.
        n_moves: of all rounds together.
        scales: of the first round, shape ``(dim,)``.
        step: first one, in units of the scales.
        acceptance: rate aimed at.
    Returns:
        The scales, and the adaptation of the last round, whose ``frozen`` step belongs to them. Where the walk stops on
        the way, those reached.
    """
    ends = [n_moves * part // ROUNDS[-1] for part in ROUNDS]
    adaptation = StepAdaptation(step, acceptance)
    for k, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        adaptation = StepAdaptation(step, acceptance)
        late: list[Tensor] = []
        for i in range(begin, end):
            state = walk.move(kernel(adaptation.step, scales))
            if state is None:
                return scales, adaptation
            adaptation.update(state.acceptance)
            if 2 * (i - begin) >= end - begin:
                late.append(state.x)
        step = adaptation.frozen()
        if k < len(ends) - 1 and late:
            spread = torch.cat(late).double().std(0).to(scales)
            scales = torch.where(spread > MIN_SPREAD * scales, spread, scales)
    return scales, adaptation


def fit_by_warm_up(
    schedule: Schedule,
    kernel: Callable[[float, Tensor], Kernel],
    meter: Meter,
    generator: Generator,
    *,
    step_size: float,
    acceptance: float,
) -> FittedSampler:
    """The fitted chain method whose scales and step are those of a warm-up from the meter's start, frozen.

    Args:
        schedule: the warm-up is as long as the chains that will be drawn (``restart``), or the burn-in (``long``).
        kernel: of a step and of scales ``(dim,)``.
        meter, generator: of the fit.
        step_size: first one, in units of scale.
        acceptance: rate that the step is adapted to.
    """
    walk = Walk(meter.start(schedule.n_chains, generator), meter, generator)
    scales, adaptation = warm_up(
        walk,
        kernel,
        schedule.burn_in if schedule.mode == "long" else schedule.n_steps,
        scales=torch.full((meter.dim,), meter.scale, device=meter.device, dtype=meter.dtype),
        step=step_size,
        acceptance=acceptance,
    )
    step = adaptation.frozen()
    diagnostics = {
        "step_size": step,
        "acceptance_rate": adaptation.acceptance_rate,
        "smallest_scale": scales.min().item(),
        "largest_scale": scales.max().item(),
    }
    return fitted_chains(schedule, kernel(step, scales), walk, meter, diagnostics)
