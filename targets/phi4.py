"""Lattice phi^4: a scalar field on a periodic square lattice."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from .base import Modes, register_target
from .shipped import reference_draws

LAMBDA = 0.022  # lam of Phi4
MASS2, COUPLING = -4.75, 5.1  # m^2 and g of Phi4ByMass
OUTSIDE = 1e-6  # bound of the mass outside the region of both modes


class LatticeField(ABC):
    """Field phi on an n_side x n_side torus, log_prob = -U with three couplings that a subclass states.

    U = sum over sites of [quadratic phi^2 + quartic phi^4 - hopping phi (phi_right + phi_down)]; x is phi row by row.
    """

    n_side: int

    @property
    @abstractmethod
    def couplings(self) -> tuple[float, float, float]:
        """The three factors: hopping (not negative), quadratic, quartic."""

    @property
    def dim(self) -> int:
        """Number of sites."""
        return self.n_side**2

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, unnormalised, shape ``(..., dim)`` to ``(...)``."""
        hopping, quadratic, quartic = self.couplings
        phi = self._field(x)
        neighbours = phi.roll(-1, -1) + phi.roll(-1, -2)
        # phi outside the bracket: the difference of its two terms, each times phi, would be inf - inf far away
        density = phi * (phi * (quadratic + quartic * phi.square()) - hopping * neighbours)
        return -density.sum((-2, -1))

    def score(self, x: Tensor) -> Tensor:
        """Gradient of ``log_prob``, shape of ``x``."""
        hopping, quadratic, quartic = self.couplings
        phi = self._field(x)
        neighbours = phi.roll(-1, -1) + phi.roll(1, -1) + phi.roll(-1, -2) + phi.roll(1, -2)
        slope = phi * (2 * quadratic + 4 * quartic * phi.square()) - hopping * neighbours
        return -slope.flatten(-2)

    def scramble(self, x: Tensor, generator: Generator) -> Tensor:
        """A random sign, translation, reflection and transposition of every point's field: shape ``(n, dim)``."""

        def integers(high: int) -> Tensor:
            draws = torch.randint(high, (len(x), 1, 1), generator=generator, device=generator.device)
            return draws.to(x.device)

        site = torch.arange(self.n_side, device=x.device)
        row = ((2 * integers(2) - 1) * site[:, None] + integers(self.n_side)) % self.n_side
        column = ((2 * integers(2) - 1) * site + integers(self.n_side)) % self.n_side
        source = torch.where(integers(2) == 1, row * self.n_side + column, column * self.n_side + row)
        return (2 * integers(2) - 1)[..., 0] * x.gather(-1, source.flatten(-2))

    def invariants(self, x: Tensor) -> Tensor:
        """|mean of phi|, then means over the sites of phi^2, phi phi_right and phi phi_down, phi^4: ``(..., 4)``."""
        phi = self._field(x)
        bonds = 0.5 * phi * (phi.roll(-1, -1) + phi.roll(-1, -2))
        squares = x.square()
        columns = (x.mean(-1).abs(), squares.mean(-1), bonds.mean((-2, -1)), squares.square().mean(-1))
        return torch.stack(columns, dim=-1)

    def _field(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.n_side, self.n_side)

    def _signs_of_mean(self) -> Modes:
        """Two modes, negative and positive mean, inside the region max |phi| <= bound that holds 1 - 1e-6 of the mass.

        The masses are equal by symmetry. The bound (write a, b, c for hopping, quadratic, quartic): let |phi_i| = m be
        the largest of the field and v in [0, 1] with the sign of phi_i. As the neighbours sum to at most 4 m, putting v
        in the place of phi_i lowers U by at least D(m) = c (m^4 - 1) + (b - 4 a) m^2 - max(b, 0). So the density of m
        at site i is at most exp(-D(m)) P(0 <= phi_i <= 1) for each sign, and P(max |phi| > bound) is at most dim times
        the integral of exp(-D) beyond it. D is convex there with slope 1 or more: dim exp(-D(bound)) = OUTSIDE will do.
        """
        hopping, quadratic, quartic = self.couplings
        p = 4 * hopping - quadratic
        q = quartic + max(quadratic, 0) + math.log(self.dim / OUTSIDE)
        bound = math.sqrt((p + math.sqrt(p**2 + 4 * quartic * q)) / (2 * quartic))

        def assign(x: Tensor) -> Tensor:
            inside = x.abs().amax(-1) <= bound
            return torch.where(inside, (x.mean(-1) > 0).to(torch.int64), -1)

        return Modes(assign, torch.full((2,), 0.5 * (1 - OUTSIDE), dtype=torch.float64))


@dataclass(frozen=True)
class Phi4(LatticeField):
    """Lattice phi^4: U = sum over sites of -2 kappa phi (phi_right + phi_down) + (1 - 2 lam) phi^2 + lam phi^4.

    log_prob = -U, lam = 0.022, periodic, x = phi row by row. Only the sides and kappas that are registered are taken:
    scale, modes and reference draws are known for these.

    Source: K. Nicoli et al., Estimation of thermodynamic observables in lattice field theories with deep generative
    models, Phys. Rev. Lett. 126 (2021).

    Attributes:
        n_side: sites along a side.
        kappa: hopping parameter.
    """

    n_side: int
    kappa: float

    sides: ClassVar[tuple[int, ...]] = (8, 16, 32)
    scales: ClassVar[dict[float, float]]  # of each kappa, of HMC runs, to one digit

    def __post_init__(self) -> None:
        for name, value, known in (("n_side", self.n_side, self.sides), ("kappa", self.kappa, tuple(self.scales))):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value}")

    @property
    def scale(self) -> float:
        """Root mean square of phi, to one digit."""
        return self.scales[self.kappa]

    @property
    def couplings(self) -> tuple[float, float, float]:
        """The three factors: hopping, quadratic, quartic."""
        return 2 * self.kappa, 1 - 2 * LAMBDA, LAMBDA

    def reference(self) -> Tensor:
        """Shipped reference draws, float64, shape ``(n, dim)``; FileNotFoundError if they are missing."""
        return reference_draws(f"phi4_l{self.n_side}_k{round(10 * self.kappa):02d}")


@register_target("phi4_l8_k02", version=1, n_side=8, kappa=0.2)
@register_target("phi4_l16_k02", version=1, n_side=16, kappa=0.2)
@register_target("phi4_l32_k02", version=1, n_side=32, kappa=0.2)
@dataclass(frozen=True)
class DisorderedPhi4(Phi4):
    """Lattice phi^4 in the disordered phase, kappa = 0.2: one mode; law as in Phi4."""

    scales: ClassVar[dict[float, float]] = {0.2: 0.8}


@register_target("phi4_l8_k03", version=1, n_side=8, kappa=0.3)
@register_target("phi4_l16_k03", version=1, n_side=16, kappa=0.3)
@register_target("phi4_l32_k03", version=1, n_side=32, kappa=0.3)
@register_target("phi4_l8_k05", version=1, n_side=8, kappa=0.5)
@register_target("phi4_l16_k05", version=1, n_side=16, kappa=0.5)
@register_target("phi4_l32_k05", version=1, n_side=32, kappa=0.5)
@dataclass(frozen=True)
class OrderedPhi4(Phi4):
    """Lattice phi^4 in the ordered phase, kappa = 0.3 or 0.5: two modes, the signs of the mean; law as in Phi4."""

    scales: ClassVar[dict[float, float]] = {0.3: 2.0, 0.5: 5.0}

    @property
    def modes(self) -> Modes:
        """Sign of the mean, 0 negative, 1 positive; masses 1/2 by symmetry, to within 5e-7."""
        return self._signs_of_mean()


@register_target("phi4_l14", version=1)
@dataclass(frozen=True)
class Phi4ByMass(LatticeField):
    """Lattice phi^4 by its mass: U = sum over sites of phi (4 phi - sum of 4 neighbours) + m^2 phi^2 + g phi^4.

    log_prob = -U, 14 x 14 sites, periodic, m^2 = -4.75, g = 5.1, x = phi row by row; weakly ordered: the mean of phi
    crosses zero, with 1/50 of the density that it has at either side. The law has no parameter: the reference draws
    belong to it.

    Source: A. Matthews et al., Continual repeated annealed flow transport Monte Carlo, ICML 2022 (arXiv 2201.13117),
    with the action of M. Albergo, G. Kanwar, P. Shanahan, Phys. Rev. D 100 (2019).
    """

    n_side = 14
    scale = 0.6  # of HMC runs, to one digit

    @property
    def couplings(self) -> tuple[float, float, float]:
        """The three factors: hopping, quadratic, quartic."""
        return 2.0, 4 + MASS2, COUPLING

    @property
    def modes(self) -> Modes:
        """Sign of the mean, 0 negative, 1 positive; masses 1/2 by symmetry, to within 5e-7."""
        return self._signs_of_mean()

    def reference(self) -> Tensor:
        """Shipped reference draws, float64, shape ``(n, 196)``; FileNotFoundError if they are missing."""
        return reference_draws("phi4_l14")
