"""Moments by quadrature, for laws that are a smooth map of a planar standard normal."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .base import Moments

HALF_WIDTH = 9.0  # the normal mass outside is 2e-19
N_NODES = 361  # per axis; the trapezoid rule converges geometrically on analytic integrands


def moments_of_map(map_normal: Callable[[Tensor], Tensor]) -> Moments:
    """Moments of ``map_normal(z)``, z ~ N(0, I) in the plane.

    Args:
        map_normal: shape ``(n, 2)`` to ``(n, 2)``, analytic (the trapezoid rule on a grid of step 0.05 is used).
    Returns:
        Mean and variance of the coordinates and of their squares, float64.
    """
    axis = torch.linspace(-HALF_WIDTH, HALF_WIDTH, N_NODES, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    cell = (2 * HALF_WIDTH / (N_NODES - 1)) ** 2
    weights = torch.exp(-0.5 * z.square().sum(-1)) * cell / (2 * math.pi)
    v = map_normal(z)
    f = torch.cat([v, v.square()], dim=-1)
    mean = weights @ f
    return Moments(mean, weights @ (f - mean).square())
