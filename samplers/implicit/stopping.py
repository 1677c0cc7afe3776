"""A stopping rule without data: training ends where the kernel Stein discrepancy of the draws no longer falls."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...targets.checks import require_at_least, require_positive
from .stein import mean_over_others, stein_kernel

WIDTHS = (1.0, 0.3, 0.1)  # of the kernels, in units of the scale


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """End when the discrepancy has not fallen by its standard error in ``patience`` looks; keep the best state.

    A look pays one log_prob and one score for each of ``n_points`` draws of the moving average, always from the same
    latents. The discrepancy is the mean of those of three inverse multiquadric kernels, widths 1, .3 and .1 scales. It
    hardly sees the weights of separated modes, as the losses do not.

    Attributes:
        every: sampler steps between looks.
        n_points: draws at a look.
        patience: looks without progress.
        max_score: components of the scores at a look are clamped at this value, in units of 1 / scale: one draw deep in
            the neck of a funnel would decide the discrepancy.

    Reference: J. Gorham and L. Mackey, Measuring Sample Quality with Kernels, ICML 2017, arXiv 1703.01717.
    """

    every: int = 250
    n_points: int = 500
    patience: int = 4
    max_score: float = 1e4

    def __post_init__(self) -> None:
        require_at_least(1, every=self.every, patience=self.patience)
        require_at_least(3, n_points=self.n_points)
        require_positive(max_score=self.max_score)


@dataclass
class Watch:
    """What the looks have seen.

    Attributes:
        rule: when to stop.
        best: lowest discrepancy.
        trace: all of them.
        n_idle: looks since the best.
    """

    rule: Stopping
    best: float
    trace: list[float]
    n_idle: int = 0

    @classmethod
    def under(cls, rule: Stopping) -> "Watch":
        """Before the first look."""
        return cls(rule, math.inf, [])

    def look(self, y: Tensor, score: Tensor) -> bool:
        """Whether the draws ``y (n, dim)`` with the target's scores there are the best so far, by a standard error.

        What is not finite is never the best.
        """
        value, error = stein_discrepancy(y, score)
        self.trace.append(value)
        if value < self.best - error or (self.best == math.inf and math.isfinite(value)):
            self.best, self.n_idle = value, 0
            return True
        self.n_idle += 1
        return False

    def is_due(self, n_steps: int, n_settling: float) -> bool:
        """Whether to look after so many steps; not before ``n_settling``, while what is minimised still changes."""
        return n_steps >= n_settling and n_steps % self.rule.every == 0

    @property
    def is_over(self) -> bool:
        """Whether patience is exhausted."""
        return self.n_idle >= self.rule.patience


def stein_discrepancy(y: Tensor, score: Tensor) -> tuple[float, float]:
    """Unbiased estimate of the squared kernel Stein discrepancy, and its standard error.

    Args:
        y, score: points and the target's scores there, both ``(n, dim)``.
    """
    y, score = y.double(), score.double()
    rows = mean_over_others(torch.stack([stein_kernel(y, score, y, score, width) for width in WIDTHS]).mean(0))
    return rows.mean().item(), (2 * rows.std() / math.sqrt(len(y))).item()
