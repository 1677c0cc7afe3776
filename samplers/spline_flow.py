"""A normalising flow of rational-quadratic splines, built by zuko."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..targets.base import LOG_2PI
from ..targets.checks import require_at_least, require_positive
from ..targets.meter import Meter
from .isolation import isolated_rng

MIN_SLOPE = 0.05  # of an affine map, and one over the largest: eight of them square to no more than float32 holds


@dataclass(frozen=True, kw_only=True)
class Splines:
    """Shape of a flow.

    Every coupling layer moves a half of the coordinates, which a network of the other half tells how: from data to
    latents by an affine map, so that the width of one coordinate may depend strongly on others, then by a
    monotonic spline on [-5, 5]. Both directions cost one pass. A fixed affine map of every coordinate comes last.

    Attributes:
        n_layers: coupling layers.
        width, depth: units per hidden layer and hidden layers of their networks.
        n_bins: of a spline.
        start_scale: standard deviation of the untrained flow, which is normal, in units of the target's scale.

    References: C. Durkan et al., Neural Spline Flows, NeurIPS 2019, arXiv 1906.04032; L. Dinh et al., ICLR 2017, arXiv
    1605.08803, for the affine maps; zuko, F. Rozet et al. (2022).
    """

    n_layers: int = 8
    width: int = 64
    depth: int = 2
    n_bins: int = 8
    start_scale: float = 1.0

    def __post_init__(self) -> None:
        require_at_least(1, n_layers=self.n_layers, width=self.width, depth=self.depth)
        require_at_least(2, n_bins=self.n_bins)
        require_positive(start_scale=self.start_scale)

    def build(self, meter: Meter, generator: Generator) -> "SplineFlow":
        """An untrained flow.

        Raises:
            ModuleNotFoundError: if zuko is not installed.
        """
        from zuko.flows.coupling import GeneralCouplingTransform  # pyright: ignore[reportMissingImports]
        from zuko.lazy import LazyComposedTransform  # pyright: ignore[reportMissingImports]
        from zuko.nn import MLP  # pyright: ignore[reportMissingImports]
        from zuko.transforms import (  # pyright: ignore[reportMissingImports]
            ComposedTransform,
            MonotonicAffineTransform,
            MonotonicRQSTransform,
        )

        def affine_spline(shift: Tensor, log_scale: Tensor, *spline: Tensor) -> Any:
            affine = MonotonicAffineTransform(shift, log_scale, slope=MIN_SLOPE)
            return ComposedTransform(affine, MonotonicRQSTransform(*spline))

        with isolated_rng(generator):
            coupling = LazyComposedTransform(
                *(
                    GeneralCouplingTransform(
                        meter.dim,
                        mask=half(meter.dim, layer),
                        univariate=affine_spline,
                        shapes=[(), (), (self.n_bins,), (self.n_bins,), (self.n_bins - 1,)],
                        hidden_features=[self.width] * self.depth,
                        activation=nn.SiLU,
                    )
                    for layer in range(self.n_layers)
                )
            )
        for part in coupling.modules():
            if isinstance(part, MLP):  # a last layer of zeros makes every spline the identity
                nn.init.zeros_(part[-1].weight)
                nn.init.zeros_(part[-1].bias)
        log_sd = torch.full((meter.dim,), math.log(self.start_scale))
        return SplineFlow(coupling, log_sd).to(device=meter.device, dtype=meter.dtype)


def half(dim: int, layer: int) -> Tensor:
    """Which coordinates a layer leaves, shape ``(dim,)``: by a binary digit of their index, and in turn the others.

    The digit goes up from layer to layer, so that any two of 2^k coordinates are in different halves of 2k layers: of
    two that are always in one half, neither could follow the other.
    """
    digit = (layer // 2) % max(1, (dim - 1).bit_length())
    return (torch.arange(dim) >> digit) % 2 == layer % 2


class SplineFlow(nn.Module):
    """y = shift + sd T^-1(z), z ~ N(0, I), with T the map of zuko from data to latents."""

    def __init__(self, coupling: Any, log_sd: Tensor) -> None:
        super().__init__()
        self.coupling = coupling
        self.shift = nn.Parameter(torch.zeros_like(log_sd))
        self.log_sd = nn.Parameter(log_sd)

    def push(self, z: Tensor) -> Tensor:
        """Latents to points, both of shape ``(n, dim)``."""
        u: Tensor = self.coupling().inv(z)
        return self.shift + self.log_sd.exp() * u

    def log_density(self, y: Tensor) -> Tensor:
        """log N(T(u); 0, I) + log |det dT / du| - sum log sd, u = (y - shift) / sd; ``(n, dim)`` to ``(n,)``."""
        u = (y - self.shift) * (-self.log_sd).exp()
        z, log_det = self.coupling().call_and_ladj(u)
        log_density: Tensor = log_det - 0.5 * (z.square().sum(-1) + y.shape[-1] * LOG_2PI) - self.log_sd.sum()
        return log_density
