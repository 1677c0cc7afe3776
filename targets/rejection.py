"""Exact draws by rejection from a dominating law."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from .base import uniform

LEAST, MOST = 2**8, 2**20  # proposals per round: fewer do not pay the call, more would not fit in memory


def accepted(
    propose: Callable[[int, Generator], tuple[Tensor, Tensor]], n_samples: int, generator: Generator
) -> Tensor:
    """The first ``n_samples`` accepted of a stream of independent proposals.

    Args:
        propose: maps a number n and the generator to n proposals, shape ``(n, ...)``, and the logarithms ``(n,)`` of
            their acceptance probabilities: target over envelope, at most 0 because the envelope dominates.
        n_samples: how many to return.
        generator: for the proposals and the decisions.
    Returns:
        Exact draws, shape ``(n_samples, ...)``.
    """
    kept: list[Tensor] = []
    missing = n_samples
    while missing > 0 or not kept:
        proposals, log_acceptance = propose(min(max(2 * missing, LEAST), MOST), generator)
        kept.append(proposals[uniform(len(proposals), generator) < log_acceptance.exp()][:missing])
        missing -= len(kept[-1])
    return torch.cat(kept)
