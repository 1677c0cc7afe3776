"""Divergence of a field at points, differentiable."""

import torch
from torch import Generator, Tensor

EXACT_TRACE_DIM = 10


def divergence(u: Tensor, x: Tensor, generator: Generator) -> Tensor:
    """Divergence of the field u at ``x``, differentiable in ``x``: shape ``(n,)``.

    The trace of the Jacobian: exact up to 10 dimensions, above that v^T (du/dx) v with random signs v, which is
    unbiased and exact for a diagonal Jacobian (Hutchinson, Commun. Statist. Simul. 19 (1990)).

    Args:
        u: values of the field, ``(n, dim)``, as a graph of ``x``, each row of its own point alone.
        x: points, ``(n, dim)``.
    """
    if x.shape[-1] <= EXACT_TRACE_DIM:
        return torch.stack([_gradient(u[:, i], x)[:, i] for i in range(x.shape[-1])]).sum(0)
    signs = torch.empty_like(u).bernoulli_(generator=generator).mul_(2).sub_(1)
    return (_gradient((u * signs).sum(-1), x) * signs).sum(-1)


def _gradient(values: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(values.sum(), x, create_graph=True)
    return gradient
