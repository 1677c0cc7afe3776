"""Lennard-Jones clusters in a harmonic trap."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from .base import register_target
from .particles import Particles
from .shipped import reference_draws

CORE2 = 1e-4  # squared distance below which the energy is constant, 1e24 or more: keeps derivatives finite in float32
SPACING, JITTER = 1.2, 0.2  # of the lattice that starting points stand on: no two are closer than 0.8
NEIGHBOURS, SOFTNESS = 1.5, 0.1  # distance within which a pair is bound, and the width of that step

TIMES_COUNTED = {"bgflow": 1, "efm": 2}


def inverse_sixth(distance2: Tensor) -> Tensor:
    """d^-6 from the squared distance d^2, constant below CORE2."""
    inverse = distance2.clamp(min=CORE2).reciprocal()
    return inverse * inverse.square()


@dataclass(frozen=True)
class LennardJones(Particles):
    """Lennard-Jones cluster: U = c sum over pairs of (d^-12 - 2 d^-6) + .5 sum |x_i - mean|^2, log_prob = -U.

    d is the distance of the pair; x_i are positions in space. In orthonormal coordinates of the mean-free space (see
    ``Particles``). Two laws go by this name: c = 1 ("bgflow": every pair counted once) and c = 2 ("efm": twice).

    Sources: bgflow: J. Koehler, L. Klein, F. Noe, Equivariant flows, ICML 2020, as in the library bgflow. efm:
    L. Klein, A. Kraemer, F. Noe, Equivariant flow matching, NeurIPS 2023, whose data arXiv 2402.06121 uses.

    Attributes:
        convention: how often a pair is counted, "bgflow" or "efm".
    """

    convention: Literal["bgflow", "efm"] = "bgflow"

    space_dim = 3
    wild_score = "the score grows like distance^-13"
    scales: ClassVar[dict[str, float]]  # of long HMC runs, to one digit

    def __post_init__(self) -> None:
        if self.convention not in TIMES_COUNTED:
            raise ValueError(f"convention must be bgflow or efm, got {self.convention!r}")

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit."""
        return self.scales[self.convention]

    def pair_energy(self, distance2: Tensor) -> Tensor:
        """Lennard-Jones energy and the pair's share of the trap's."""
        attraction = inverse_sixth(distance2)
        # sum |x_i - mean|^2 = sum over pairs of d^2 / n
        return self._strength * attraction * (attraction - 2) + distance2 / (2 * self.n_particles)

    def pair_slope(self, distance2: Tensor) -> Tensor:
        """Derivative of ``pair_energy`` in the squared distance."""
        attraction = inverse_sixth(distance2)
        slope = torch.where(distance2 < CORE2, 0, 6 * attraction * (1 - attraction) / distance2.clamp(min=CORE2))
        return self._strength * slope + 1 / (2 * self.n_particles)

    def invariants(self, x: Tensor) -> Tensor:
        """Seven statistics of shape and energy: ``(..., dim)`` to ``(..., 7)``.

        Squared radius of gyration, sum of d^-6, sum of d^-12, number of bound pairs (a smooth step at 1.5), smallest
        distance, mean distance, largest distance from the centre.
        """
        distance2 = self.distances2(x)
        distance, attraction = distance2.sqrt(), inverse_sixth(distance2)
        columns = (
            x.square().sum(-1) / self.n_particles,
            attraction.sum(-1),
            attraction.square().sum(-1),
            torch.sigmoid((NEIGHBOURS - distance) / SOFTNESS).sum(-1),
            distance.amin(-1),
            distance.mean(-1),
            self.to_particles(x).norm(dim=-1).amax(-1),
        )
        return torch.stack(columns, dim=-1)

    def start(self, n_samples: int, generator: Generator) -> Tensor:
        """Particles on random sites of a cubic lattice, jittered, none close to another: ``(n_samples, dim)``."""
        n_side = math.ceil(self.n_particles ** (1 / self.space_dim))
        axis = torch.arange(n_side, dtype=torch.float64, device=generator.device)
        sites = torch.cartesian_prod(*[axis] * self.space_dim)
        keys = torch.rand(n_samples, len(sites), generator=generator, device=generator.device)
        site = keys.argsort(-1)[:, : self.n_particles]
        shape = (n_samples, self.n_particles, self.space_dim)
        u = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
        return self.from_particles(SPACING * sites[site] + JITTER * (2 * u - 1))

    @property
    def _strength(self) -> int:
        return TIMES_COUNTED[self.convention]


@register_target("lj13_bgflow", version=1, convention="bgflow")
@register_target("lj13_efm", version=1, convention="efm")
@dataclass(frozen=True)
class LennardJones13(LennardJones):
    """LJ-13: U = c sum over pairs of (d^-12 - 2 d^-6) + .5 sum |x_i - mean|^2, c = 1 (bgflow) or 2 (efm), dim 36."""

    n_particles = 13
    scales: ClassVar[dict[str, float]] = {"bgflow": 0.9, "efm": 0.7}

    def reference(self) -> Tensor:
        """Shipped reference draws, float64, shape ``(n, 36)``; FileNotFoundError if they are missing."""
        return reference_draws(f"lj13_{self.convention}")


@register_target("lj55_bgflow", version=1, convention="bgflow")
@register_target("lj55_efm", version=1, convention="efm")
@dataclass(frozen=True)
class LennardJones55(LennardJones):
    """LJ-55: U = c sum over pairs of (d^-12 - 2 d^-6) + .5 sum |x_i - mean|^2, c = 1 (bgflow) or 2 (efm), dim 162."""

    n_particles = 55
    scales: ClassVar[dict[str, float]] = {"bgflow": 1.0, "efm": 1.0}
