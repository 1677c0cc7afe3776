"""The Stein kernel, whose mean over pairs of independent points is their squared kernel Stein discrepancy."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

BaseKernel: TypeAlias = Literal["imq", "rbf"]


def stein_kernel(
    x: Tensor, s_x: Tensor, y: Tensor, s_y: Tensor, width: float, base_kernel: BaseKernel = "imq"
) -> Tensor:
    """kappa(x, y) = s(x).s(y) k + s(x).grad_y k + s(y).grad_x k + tr grad_x grad_y k at all pairs, differentiable.

    k is a function of r = |x - y| / width: (1 + r^2)^-1/2 for ``imq``, exp(-r^2 / 2) for ``rbf``. Distances and slopes
    are matrix products of centred points, so memory is O(n m); r^2 rounds like |x|^2 / width^2.

    Args:
        x, s_x: points and the target's scores there, both ``(n, dim)``.
        y, s_y: the same, both ``(m, dim)``.
        width: of k, in the unit of the points.
        base_kernel: k.
    Returns:
        Shape ``(n, m)``; its mean is 0 in x or in y of the target's law.
    """
    centre = x.detach().mean(0)
    x, y = (x - centre) / width, (y - centre) / width
    square = (x.square().sum(-1, keepdim=True) + y.square().sum(-1) - 2 * x @ y.T).clamp_min(0)
    slope = (s_x * x).sum(-1, keepdim=True) + (s_y * y).sum(-1) - s_x @ y.T - x @ s_y.T  # (s(x) - s(y)).(x - y)
    k, first, second = DERIVATIVES[base_kernel](square)
    return s_x @ s_y.T * k + slope / width * first + (x.shape[-1] * first - square * second) / width**2


def mean_over_others(kernel: Tensor) -> Tensor:
    """Mean of every row of a square matrix without its diagonal, shape ``(n,)``: the mean of these is a U-statistic.

    Args:
        kernel: shape ``(n, n)``.
    """
    itself = torch.eye(len(kernel), dtype=torch.bool, device=kernel.device)
    return kernel.masked_fill(itself, 0.0).sum(1) / (len(kernel) - 1)


def _imq(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    root = (1 + square).rsqrt()
    return root, root**3, 3 * root**5


def _rbf(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    k = (-0.5 * square).exp()
    return k, k, k


# of r^2: k, -2 dk / dr^2 and 4 d^2 k / (dr^2)^2
DERIVATIVES: dict[BaseKernel, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]] = {"imq": _imq, "rbf": _rbf}
