"""Bias of first and second moments."""

import torch
from torch import Tensor

from ..targets.base import Moments
from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_points, in_view, known


def squared_moment_bias(v: Tensor, moments: Moments) -> Tensor:
    """(mean of f over the sample - E f)^2 / Var f for f = (v, v^2); chi-square / n on n independent exact draws.

    Args:
        v: sample in the view, shape ``(n, dim)``.
        moments: mean and variance of f under the law.
    Returns:
        Shape ``(2 * dim,)``, float64, without unit.
    Raises:
        ValueError: if there are fewer than 2 rows, they are not finite, or the moments have another dim.
    """
    v = as_points(v, "v")
    f = torch.cat([v.mean(0), v.square().mean(0)])
    if moments.mean.shape != f.shape:
        raise ValueError(f"moments must have shape {tuple(f.shape)}, got {tuple(moments.mean.shape)}")
    return (f - moments.mean.to(f)).square() / moments.variance.to(f)


@register_metric(
    "moment_bias2",
    version=1,
    needs=("moments",),
    unit="variances",
    blind_to="everything but the means and mean squares of the coordinates of the view",
    outputs=("moment_bias2", "moment_bias2_mean"),
)
def moment_bias2(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Largest squared bias of a moment in the view, in units of its variance; moment_bias2_mean averages them."""
    v = in_view(as_points(draws.samples, "draws"), truth)
    bias = squared_moment_bias(v, known(truth.moments, "moments"))
    return {"moment_bias2": bias.max().item(), "moment_bias2_mean": bias.mean().item()}
