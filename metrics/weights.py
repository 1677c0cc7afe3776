"""Weighted draws, resampled once for the metrics that take no weights."""

import dataclasses

import torch
from torch import Generator, Tensor

from ..targets.draws import Draws


def systematic_indices(log_weights: Tensor, generator: Generator) -> Tensor:
    """Indices of a systematic resampling: row i is taken floor or ceil of n w_i times, w_i its normalised weight.

    Args:
        log_weights: unnormalised, shape ``(n,)``; -inf is weight 0.
        generator: gives the one uniform number that the method needs.
    Returns:
        Indices in ascending order, shape ``(n,)``.
    Raises:
        ValueError: if a weight is NaN or infinite, or all are zero.
    Reference: Kitagawa, J. Comput. Graph. Stat. 5 (1996).
    """
    log_weights = log_weights.to(torch.float64)
    largest = log_weights.max()
    if not largest.isfinite() or log_weights.isnan().any():
        raise ValueError(f"log_weights must have a finite maximum and no NaN, got maximum {largest.item()}")
    n = len(log_weights)
    cumulative = (log_weights - largest).exp().cumsum(0)
    offset = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64).item()
    positions = (torch.arange(n, device=cumulative.device, dtype=torch.float64) + offset) / n * cumulative[-1]
    return torch.searchsorted(cumulative, positions, right=True).clamp(max=n - 1)


def resampled(draws: Draws, generator: Generator) -> Draws:
    """Draws of equal weight, the same number of rows; draws without weights are returned as they are.

    Args:
        draws: maybe with ``log_weights``.
        generator: the only source of randomness.
    Raises:
        ValueError: as ``systematic_indices``.
    """
    if draws.log_weights is None:
        return draws
    return dataclasses.replace(rows_of(draws, systematic_indices(draws.log_weights, generator)), log_weights=None)


def rows_of(draws: Draws, index: Tensor | slice) -> Draws:
    """Some rows of the draws, with what belongs to each of them: their weights and densities."""
    log_weights, log_density = (None if v is None else v[index] for v in (draws.log_weights, draws.log_density))
    return dataclasses.replace(draws, samples=draws.samples[index], log_weights=log_weights, log_density=log_density)
