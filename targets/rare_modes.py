"""A big mode and four rare ones: the rare-fault case."""

import math
from dataclasses import dataclass

from .base import register_target
from .checks import require_at_least
from .mixture import DerivedMixture, GaussianMixture

WEIGHTS = (0.8889, 1e-1, 1e-2, 1e-3, 1e-4)
RADII = (0.0, 8.0, 12.0, 16.0, 20.0)  # the rarer, the farther out
ANGLE = math.pi * (3 - math.sqrt(5))  # the golden angle: no direction comes twice


def spiral(dim: int) -> tuple[tuple[float, ...], ...]:
    """Means at the given radii, in the directions (cos(k a), cos(2 k a), ..., cos(dim k a)), a the golden angle."""
    directions = [[math.cos(k * (i + 1) * ANGLE) for i in range(dim)] for k in range(len(RADII))]
    return tuple(
        tuple(radius / math.hypot(*direction) * part for part in direction)
        for radius, direction in zip(RADII, directions, strict=True)
    )


@register_target("rare_modes2", version=1, dim=2)
@register_target("rare_modes8", version=1, dim=8)
@register_target("rare_modes32", version=1, dim=32)
@dataclass(frozen=True)
class RareModes(DerivedMixture):
    """Gaussian mixture with rare modes, of weights 0.1, 0.01, 0.001 and 0.0001 beside a big one; log_z is 0.

    sum_k w[k] N(m[k], I), w = (.8889, 1e-1, 1e-2, 1e-3, 1e-4), |m[k]| = (0, 8, 12, 16, 20), directions as in
    ``spiral``, so that no two rare modes lie on a line through the big one.

    This is the rare-fault case: a system is nearly always in its nominal state, and what is asked is how often, and
    how, it is not. A sampler that returns the big mode alone is right in 89 draws of 100, and most distances between
    samples are small; only the shares of the modes show what it missed. Of 1,000,000 exact draws 100 lie in the rarest
    mode; of 10,000 draws, one: there is no telling whether a sampler of so few draws has it.

    Attributes:
        dim: number of coordinates, at least 2.
    """

    dim: int = 2

    def __post_init__(self) -> None:
        require_at_least(2, dim=self.dim)

    def _derive(self) -> GaussianMixture:
        return GaussianMixture(spiral(self.dim), weights=WEIGHTS)
