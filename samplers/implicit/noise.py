"""Noise of a one-pass sampler's points: its levels over training, and antithetic pairs of it."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

from ...targets.checks import require_one_of, require_positive
from ..base import normal_like

Schedule: TypeAlias = Literal["constant", "annealed", "levels"]
Level: TypeAlias = float | Tensor
"""Standard deviation s in the unit of the points: one for all, or one per point, shape ``(n, 1)``, or
per coordinate of each, ``(n, dim)``."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The noise x - x0 = s eps under which the laws of sampler and target are compared, in units of the scale.

    Attributes:
        level: the smallest s, and that of the draws where x is returned. The law of x, not of x0, is fitted to the
            target, so x0 is deconvolved; s should stay below a third of the narrowest width, which is not public, and
            the variance of denoising losses grows as s falls.
        schedule: ``constant`` is ``level`` throughout; ``annealed`` falls geometrically from ``highest`` to ``level``
            over the first ``share`` of training and stays there; with ``levels`` every point has its own s,
            log-uniform between ``level`` and ``highest``, and the score network is told which.
        highest: largest s of the two schedules that have one.
        share: of training, of ``annealed``.
        antithetic: both signs of every noise vector, so that terms of order 1 / s cancel within the pair; without it
            the same number of points has a noise vector each (an ablation).
    """

    level: float = 0.02
    schedule: Schedule = "constant"
    highest: float = 1.0
    share: float = 0.5
    antithetic: bool = True

    def __post_init__(self) -> None:
        require_one_of(Schedule, schedule=self.schedule)
        require_positive(level=self.level, highest=self.highest)
        if max(self.level, self.highest) > 1:
            name = "highest" if self.highest > 1 else "level"
            raise ValueError(f"{name} must be at most 1, the target's scale, got {max(self.level, self.highest)}")
        if self.highest < self.level:
            raise ValueError(f"highest must be at least level {self.level}, got {self.highest}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")

    def require_noised_target(self, source: str) -> None:
        """Refuse levels against a target without noise: no law of x0 matches it at every level.

        Raises:
            ValueError: naming the rule and the source of the target's score.
        """
        if self.varies and source != "posterior":
            raise ValueError(
                f"schedule 'levels' needs the score of the noised target, source 'posterior': no law of x0 matches "
                f"the target itself at every level, got source {source!r}"
            )

    @property
    def settled(self) -> float:
        """Share of training after which the levels no longer change."""
        return self.share if self.schedule == "annealed" else 0.0

    @property
    def varies(self) -> bool:
        """Whether the points of a batch have different levels."""
        return self.schedule == "levels"

    @property
    def points_per_latent(self) -> int:
        """Points x that share an x0."""
        return 2 if self.antithetic else 1

    def levels(self, x0: Tensor, progress: float, generator: Generator) -> Level:
        """s of every x0, shape ``(n, 1)`` if it varies.

        Args:
            x0: shape ``(n, dim)``, in units of the scale.
            progress: share of training that is done.
            generator: of levels that vary.
        """
        if self.schedule == "constant":
            return self.level
        if self.schedule == "annealed":
            done = min(1.0, progress / self.share)
            level: float = self.highest ** (1 - done) * self.level**done
            return level
        u = torch.rand(len(x0), 1, generator=generator, device=x0.device, dtype=x0.dtype)
        return (math.log(self.level) + math.log(self.highest / self.level) * u).exp()


def with_noise(x0: Tensor, noise: Level, generator: Generator, *, antithetic: bool = True) -> tuple[Tensor, Tensor]:
    """The noised points x = x0 + s eps, and behind them x0 - s eps if ``antithetic``.

    Args:
        x0: shape ``(n, dim)``.
        noise: s, in the unit of ``x0``.
        generator: of eps ~ N(0, I).
        antithetic: whether both signs are taken.
    Returns:
        ``x`` and the eps or -eps that each of its rows carries, both of shape ``(2 n, dim)``, or ``(n, dim)``.
    """
    eps = normal_like(x0, generator)
    shift = noise * eps
    if not antithetic:
        return x0 + shift, eps
    return torch.cat([x0 + shift, x0 - shift]), torch.cat([eps, -eps])


def falling_levels(highest: float, lowest: float, n_levels: int) -> Tensor:
    """Levels evenly spaced in the log from ``highest`` down to ``lowest``, shape ``(n_levels,)``, float64."""
    share = torch.linspace(0, 1, n_levels, dtype=torch.float64)
    return highest ** (1 - share) * lowest**share


def of_points(noise: Level, x: Tensor) -> Level:
    """s of every row of ``x`` as ``with_noise`` orders them."""
    return noise.repeat(len(x) // len(noise), 1) if isinstance(noise, Tensor) else noise
