"""Exact optimal transport between two samples."""

from typing import Literal

import torch
from torch import Tensor

from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_two_samples, both_in_view

MAX_ITERATIONS = 10_000_000  # of the network simplex; POT's own limit stops before the optimum at a few thousand points


def wasserstein(x: Tensor, y: Tensor, *, order: Literal[1, 2] = 2, max_iterations: int = MAX_ITERATIONS) -> float:
    """Exact Wasserstein distance between two samples of the same size.

    Order 1 is the optimal mean distance of the pairs, order 2 the root of the optimal mean squared distance.

    Args:
        x, y: samples, both of shape ``(n, dim)``; not modified. Memory and time grow as n^2 and about n^2.5.
        order: the power of the distance that is moved at least cost.
        max_iterations: of the network simplex.
    Returns:
        Distance in the unit of ``x``; zero when the samples coincide.
    Raises:
        ValueError: if the shapes differ, or a sample has fewer than 2 rows or is not finite.
        RuntimeError: if the solver stopped before the optimum.
    Reference: Flamary et al., POT: Python Optimal Transport, JMLR 22 (2021).
    """
    import ot  # slow to import

    x, y = as_two_samples(x, y, same_size=True)
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").pow_(order).cpu().numpy()
    total, log = ot.emd2([], [], cost, numItermax=max_iterations, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"exact transport of {len(x)} points must converge, POT says: {log['warning']}")
    return float(max(float(total), 0.0) ** (1 / order))


@register_metric(
    "w2",
    version=1,
    needs=("samples",),
    unit="of the view",
    blind_to="small errors in high dimension, where the floor is large",
)
def w2(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Exact 2-Wasserstein distance to the truth in the view."""
    x, y = both_in_view(draws, truth)
    return {"w2": wasserstein(x, y)}


@register_metric(
    "w1",
    version=1,
    needs=("samples",),
    unit="of the view",
    blind_to="small errors in high dimension, where the floor is large; far tails more than w2",
)
def w1(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Exact 1-Wasserstein distance to the truth in the view."""
    x, y = both_in_view(draws, truth)
    return {"w1": wasserstein(x, y, order=1)}
