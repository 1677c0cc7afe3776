"""What the metrics share: float64 points with checked shapes, the target's view, and blocks of pairwise distances.

Metrics are computed in float64 on the device of the draws, whatever the dtype of the draws.
"""

import math
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

from ..targets.draws import Draws
from .base import Truth

BLOCK = 2**17  # numbers in one block of a pairwise matrix: a megabyte in float64, which stays in a core's cache

T = TypeVar("T")


def as_points(x: Tensor, name: str) -> Tensor:
    """``x`` in float64.

    Args:
        x: shape ``(n, dim)``.
        name: of ``x`` in error messages.
    Raises:
        ValueError: if ``x`` is not two-dimensional, has fewer than 2 rows or no column, or is not finite.
    """
    if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < 1:
        raise ValueError(f"{name} must have shape (n, dim) with n >= 2 and dim >= 1, got {tuple(x.shape)}")
    n_bad = int((~x.isfinite().all(-1)).sum())
    if n_bad:
        raise ValueError(f"{name} must be finite, got NaN or infinite coordinates in {n_bad} of {len(x)} rows")
    return x.detach().to(torch.float64)


def as_two_samples(x: Tensor, y: Tensor, *, same_size: bool) -> tuple[Tensor, Tensor]:
    """Two samples in float64 on one device.

    Args:
        x, y: shapes ``(n, dim)`` and ``(m, dim)``.
        same_size: whether n and m must be equal.
    Raises:
        ValueError: if one of them is no sample (see ``as_points``), or their shapes do not match.
    """
    x, y = as_points(x, "x"), as_points(y, "y").to(x.device)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must have the same dim, got {x.shape[1]} and {y.shape[1]}")
    if same_size and len(x) != len(y):
        raise ValueError(f"x and y must have the same size, got {len(x)} and {len(y)} rows")
    return x, y


def both_in_view(draws: Draws, truth: Truth) -> tuple[Tensor, Tensor]:
    """Draws and truth draws in the coordinates in which the target wants distances taken.

    Returns:
        Float64 tensors of shapes ``(n, dim)`` and ``(m, dim)`` on the device of the draws.
    Raises:
        ValueError: if the truth has no samples; otherwise as ``as_points``.
    """
    x = in_view(as_points(draws.samples, "draws"), truth)
    y = in_view(as_points(known(truth.samples, "samples"), "truth"), truth)
    return x, y.to(x.device)


def in_view(x: Tensor, truth: Truth) -> Tensor:
    """``x`` in the view of the target, which is the identity unless the target has one; shape of ``x``."""
    return x if truth.view is None else truth.view(x)


def known(value: T | None, name: str) -> T:
    """``value``, if the truth (or the draws) hold it.

    Raises:
        ValueError: if ``value`` is None; the message names it.
    """
    if value is None:
        raise ValueError(f"{name} must be known for this metric, got None")
    return value


def tiles(n_rows: int, n_columns: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of square tiles of at most BLOCK numbers that cover an ``(n_rows, n_columns)`` matrix."""
    side = max(1, math.isqrt(BLOCK))
    for row in range(0, n_rows, side):
        for column in range(0, n_columns, side):
            yield slice(row, min(row + side, n_rows)), slice(column, min(column + side, n_columns))


def upper_tiles(n: int) -> Iterator[tuple[slice, slice]]:
    """The tiles of an ``(n, n)`` matrix on its diagonal, where rows and columns are the same slice, and above."""
    return ((rows, columns) for rows, columns in tiles(n, n) if rows.start <= columns.start)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 by the product formula, shape ``(n, m)``; its rounding grows with |x|^2, so centre both first."""
    squares = x.square().sum(-1, keepdim=True) + y.square().sum(-1)
    return torch.addmm(squares, x, y.T, alpha=-2).clamp_(min=0)
