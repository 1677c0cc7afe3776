"""Gaussian mixtures whose parameters are drawn from a seed, in any dimension."""

from dataclasses import dataclass

import torch
from torch import Generator

from .base import register_target
from .checks import require_at_least, require_positive
from .mixture import DerivedMixture, GaussianMixture

WEIGHTS_8 = (0.25, 0.20, 0.15, 0.12, 0.10, 0.08, 0.06, 0.04)
WEIGHTS_10 = (0.22, 0.16, 0.14, 0.12, 0.10, 0.08, 0.06, 0.05, 0.04, 0.03)
WEIGHTS_12 = (0.20, 0.15, 0.12, 0.10, 0.09, 0.08, 0.07, 0.05, 0.04, 0.04, 0.03, 0.03)
WEIGHTS_16 = (0.12, 0.11, 0.10, 0.09, 0.08, 0.07, 0.06, 0.05, 0.05, 0.05, 0.04, 0.04, 0.04, 0.04, 0.03, 0.03)


@register_target("mixture_2d", version=1, dim=2, n_modes=12, separation=8.0, sd_spread=1.5, weights=WEIGHTS_12, seed=4)
@register_target("mixture_8d", version=1, dim=8, n_modes=10, separation=12.0, sd_spread=1.5, weights=WEIGHTS_10)
@register_target("mixture_32d", version=1, dim=32, n_modes=16, separation=16.0, weights=WEIGHTS_16)
@register_target("mixture_128d", version=1, dim=128, n_modes=16, separation=24.0, weights=WEIGHTS_16)
@register_target("mixture_512d", version=1, dim=512, n_modes=8, separation=40.0, weights=WEIGHTS_8)
@dataclass(frozen=True)
class RandomMixture(DerivedMixture):
    """Gaussian mixture with means drawn from a seed and then spread to a given separation; log_z is 0.

    sum_k weights[k] N(c u[k], sd[k]^2 I), where u[k] is uniform on [-1, 1]^dim, log sd[k] uniform on
    [-log sd_spread, log sd_spread], and c such that the closest pair, in units of the mean sd of the pair, is exactly
    ``separation`` apart. No sampler of this package was tuned on the registered seeds. That of mixture_2d is the first
    whose closest pair is not much closer than all others, so that ``scale`` is at most 30.

    Attributes:
        dim: number of coordinates.
        n_modes: number of components, at least 2; they are as many modes if separation is at least 4 or so.
        separation: distance of the closest pair in standard deviations.
        sd_spread: at least 1; 1 for standard deviations all equal to 1.
        weights: positive with sum 1; None for equal ones.
        seed: of the means, and of the standard deviations after them.
    """

    dim: int
    n_modes: int
    separation: float
    sd_spread: float = 1.0
    weights: tuple[float, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, dim=self.dim)
        require_at_least(2, n_modes=self.n_modes)
        require_at_least(0, seed=self.seed)
        require_positive(separation=self.separation, sd_spread=self.sd_spread)
        if self.sd_spread < 1:
            raise ValueError(f"sd_spread must be at least 1, got {self.sd_spread}")
        _ = self.mixture  # checks the weights

    def _derive(self) -> GaussianMixture:
        generator = Generator().manual_seed(self.seed)
        directions = 2 * torch.rand(self.n_modes, self.dim, generator=generator, dtype=torch.float64) - 1
        sds = self.sd_spread ** (2 * torch.rand(self.n_modes, generator=generator, dtype=torch.float64) - 1)
        closest = (torch.pdist(directions) / torch.combinations(sds).mean(-1)).min()
        means = directions * (self.separation / closest)
        return GaussianMixture(tuple(map(tuple, means.tolist())), tuple(sds.tolist()), self.weights)
