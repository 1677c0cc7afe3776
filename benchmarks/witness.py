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
    a backward pass. It offers minibatches of 64 data rows that are all alike, so that samplers on minibatches run too.

    Attributes:
        n_forward, n_backward: points of forward and of backward passes so far; 64ths of points are exact.
    """

    n_rows = 64

    def __init__(self, target: Target) -> None:
        self._law = target
        self.dim, self.scale = target.dim, target.scale
        self.n_forward = self.n_backward = 0.0

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        self.n_forward += x.shape[:-1].numel()
        return self._law.log_prob(_Tally.apply(x, self) if x.requires_grad else x)  # type: ignore[no-untyped-call]

    def minibatch_score(self, x: Tensor, rows: Tensor) -> Tensor:
        """The score, shape of ``x``, whichever ``rows`` are asked for; each counts 1/64 of a point."""
        n_points = x.shape[:-1].numel() * len(rows) / self.n_rows
        self.n_forward += n_points
        self.n_backward += n_points
        inputs = x.detach().requires_grad_()
        with torch.enable_grad():
            (score,) = torch.autograd.grad(self._law.log_prob(inputs).sum(), inputs)
        return score

    def law(self, x: Tensor) -> Tensor:
        """The same values, not counted: for those who examine."""
        return self._law.log_prob(x)
