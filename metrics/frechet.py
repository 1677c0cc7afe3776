"""Frechet distance between images in the features of a classifier."""

import math

import torch
from torch import Tensor

from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_points, as_two_samples, known


def frechet_distance(u: Tensor, v: Tensor) -> float:
    """2-Wasserstein distance between the normal laws with the means and covariances of two samples.

    Its square is |mean u - mean v|^2 + tr(C_u + C_v - 2 (C_u^1/2 C_v C_u^1/2)^1/2), which papers call FID.

    Args:
        u, v: samples of shapes ``(n, dim)`` and ``(m, dim)``; not modified.
    Returns:
        Distance in the unit of ``u``; its square is exact to about 1e-8 of the covariances' trace, singular ones too.
    Raises:
        ValueError: if the dimensions differ, or a sample has fewer than 2 rows or is not finite.
    Reference: Heusel et al., GANs trained by a two time-scale update rule, NeurIPS 2017.
    """
    u, v = as_two_samples(u, v, same_size=False)
    values, vectors = torch.linalg.eigh(_covariance(u))
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    middle = torch.linalg.eigvalsh(root @ _covariance(v) @ root).clamp(min=0)  # symmetric: no complex square roots
    spread = u.var(0).sum() + v.var(0).sum() - 2 * middle.sqrt().sum()
    squared = (u.mean(0) - v.mean(0)).square().sum() + spread
    return math.sqrt(max(squared.item(), 0.0))


def _covariance(u: Tensor) -> Tensor:
    centred = u - u.mean(0)
    return centred.T @ centred / (len(u) - 1)


@register_metric(
    "frechet",
    version=1,
    needs=("samples", "features"),
    unit="of the features",
    blind_to="what the classifier does not see, and all but means and covariances of its features",
)
def frechet(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Frechet distance to the truth in the features of a classifier trained on the same images."""
    features = known(truth.features, "features")
    x, y = as_points(draws.samples, "draws"), as_points(known(truth.samples, "samples"), "truth")
    return {"frechet": frechet_distance(features(x), features(y))}
