"""A target that counts by itself: what the Meter's counts are compared with."""

from typing import Any

import torch
from torch import Tensor

from ..targets.base import Target


class _Tally(torch.autograd.Function):
    """Identity that tells the witness of every backward pass through it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, witness: "Witness") -> Tensor:
        ctx.witness, ctx.n_points = witness, x.shape[:-1].numel()
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        ctx.witness.n_backward += ctx.n_points
        return grad_outputs[0], None


class Witness:
    """A target without a score of its own that counts the points of every pass, however it was reached.

    The Meter stands before the target and counts what is asked of it; the witness stands inside, so that it also sees
    an evaluation that went past the Meter or that was hidden from its counts. A score or a Hessian-vector product is
    a backward pass.

    Attributes:
        n_forward, n_backward: points of forward and of backward passes so far.
    """

    def __init__(self, target: Target) -> None:
        self._law = target
        self.dim, self.scale = target.dim, target.scale
        self.n_forward = self.n_backward = 0

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        self.n_forward += x.shape[:-1].numel()
        return self._law.log_prob(_Tally.apply(x, self) if x.requires_grad else x)  # type: ignore[no-untyped-call]

    def law(self, x: Tensor) -> Tensor:
        """The same values, not counted: for those who examine."""
        return self._law.log_prob(x)
