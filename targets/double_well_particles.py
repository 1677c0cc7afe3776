"""Four particles whose distances prefer two values."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import register_target
from .particles import Particles
from .shipped import reference_draws

TOUCHING = 1e-20  # squared distance below which the energy is constant: at 0 the distance has no derivative


@register_target("dw4", version=1)
@dataclass(frozen=True)
class DoubleWellParticles(Particles):
    """DW-4: four particles in the plane, U = sum over the 6 pairs of .9 (d - 4)^4 - 4 (d - 4)^2, log_prob = -U.

    d is the distance of the pair. In orthonormal coordinates of the mean-free space (see ``Particles``), dim 6. The
    law has no parameter: the reference draws belong to it.

    Source: J. Koehler, L. Klein, F. Noe, Equivariant flows, ICML 2020, with the constants of arXiv 2402.06121.
    """

    n_particles = 4
    space_dim = 2
    scale = 2.0  # of long HMC runs, to one digit

    def pair_energy(self, distance2: Tensor) -> Tensor:
        """Double well in the distance."""
        well2 = (distance2.clamp(min=TOUCHING).sqrt() - 4).square()
        return well2 * (0.9 * well2 - 4)  # a product: the difference of powers would be inf - inf far away

    def pair_slope(self, distance2: Tensor) -> Tensor:
        """Derivative of ``pair_energy`` in the squared distance."""
        distance = distance2.clamp(min=TOUCHING).sqrt()
        offset = distance - 4
        slope = offset * (1.8 * offset.square() - 4) / distance
        return torch.where(distance2 < TOUCHING, 0, slope)

    def invariants(self, x: Tensor) -> Tensor:
        """The six distances in increasing order: ``(..., 6)`` to ``(..., 6)``."""
        return self.distances2(x).sqrt().sort(-1).values

    def reference(self) -> Tensor:
        """Shipped reference draws, float64, shape ``(n, 6)``; FileNotFoundError if they are missing."""
        return reference_draws("dw4")
