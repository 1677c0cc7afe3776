"""Antithetic noise: both signs of every noise vector, so that terms of order 1 / s cancel within the pair."""

import torch
from torch import Generator, Tensor

from ..base import normal_like


def antithetic(x0: Tensor, noise: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """The noised points x = x0 + s eps and x0 - s eps.

    Args:
        x0: shape ``(n, dim)``.
        noise: its standard deviation s, in the unit of ``x0``.
    Returns:
        ``x`` and the eps or -eps that each of its rows carries, both of shape ``(2 n, dim)``.
    """
    eps = normal_like(x0, generator)
    shift = noise * eps
    return torch.cat([x0 + shift, x0 - shift]), torch.cat([eps, -eps])
