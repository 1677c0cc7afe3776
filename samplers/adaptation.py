"""Adaptation of a kernel before it is used: of its step to a stated acceptance, frozen before any draw."""

import math
from dataclasses import dataclass, field

from torch import Tensor


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
