"""Marginal laws in closed form."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .base import Marginal

Statistic = Callable[[Tensor], Tensor]


def coordinate(index: int) -> Statistic:
    """The statistic x[index]: points ``(n, dim)`` to values ``(n,)``."""
    return lambda x: x[:, index]


def normal_marginal(name: str, statistic: Statistic, *, mean: float = 0.0, sd: float = 1.0) -> Marginal:
    """A statistic with law N(mean, sd^2)."""
    return Marginal(name, statistic, lambda values: torch.special.ndtr((values.double() - mean) / sd))


def chi_square_marginal(name: str, statistic: Statistic, *, freedom: int) -> Marginal:
    """A statistic with the chi^2 law of ``freedom`` degrees of freedom."""
    half = torch.tensor(freedom / 2, dtype=torch.float64)
    return Marginal(name, statistic, lambda values: torch.special.gammainc(half.to(values.device), values.double() / 2))


def angle_marginal() -> Marginal:
    """The angle of a planar law that rotations leave unchanged: uniform on (-pi, pi]."""
    return Marginal(
        "angle", lambda x: torch.atan2(x[:, 1], x[:, 0]), lambda values: 0.5 + values.double() / (2 * math.pi)
    )
