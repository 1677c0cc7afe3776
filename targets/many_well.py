"""Many wells: products of double wells and standard normals, in two conventions."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .base import LOG_2PI, Marginal, Modes, Moments, PerDevice, Wells, normal, one_digit, register_target
from .checks import require_at_least
from .double_well import DoubleWell
from .draws import Estimate
from .marginals import coordinate, normal_marginal

REGION = 0.999
MOST_WELLS = 10  # with modes: 1,024 of them


def ends(indices: list[int]) -> list[int]:
    """The first and the last of increasing indices, once each."""
    return sorted({*indices[:1], *indices[-1:]})


@dataclass(frozen=True)
class Factors:
    """Which coordinates follow which law.

    Attributes:
        well: the law of each coordinate in ``wells``.
        wells, normals: slices of the coordinates; those in ``normals`` are N(0, 1).
        height: what log_prob adds to the log densities of the factors.
    """

    well: DoubleWell
    wells: slice
    normals: slice
    height: float = 0.0


class WellProduct(ABC):
    """Independent coordinates, double wells and standard normals: what both conventions share."""

    dim: int

    @cached_property
    @abstractmethod
    def _factors(self) -> Factors:
        """The factors of the law."""

    @cached_property
    def _is_well(self) -> Tensor:
        is_well = torch.zeros(self.dim, dtype=torch.bool)
        is_well[self._factors.wells] = True
        return is_well

    @property
    def _n_wells(self) -> int:
        return int(self._is_well.sum())

    @property
    def log_z(self) -> Estimate:
        """By quadrature in one dimension."""
        wells = self._n_wells * self._factors.well.log_z
        return Estimate(self._factors.height + wells + 0.5 * (self.dim - self._n_wells) * LOG_2PI, std_error=0.0)

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit."""
        return one_digit(math.sqrt(self.moments.mean[self.dim :].mean().item()))

    @cached_property
    def moments(self) -> Moments:
        """By quadrature in one dimension."""
        is_well = self._is_well.double()
        first, second, fourth = (
            self._factors.well.moment(power) * is_well + of_normal * (1 - is_well)
            for power, of_normal in ((1, 0.0), (2, 1.0), (4, 3.0))
        )
        return Moments(torch.cat([first, second]), torch.cat([second - first**2, fourth - second**2]))

    @cached_property
    def wells(self) -> Wells:
        """Signs of the coordinates that follow a well; masses by quadrature."""
        right = 1 - self._factors.well.cdf(torch.zeros((), dtype=torch.float64))
        return Wells(lambda x: x[..., self._factors.wells] > 0, right.repeat(self._n_wells))

    @cached_property
    def marginals(self) -> tuple[Marginal, ...]:
        """The first and the last coordinate of each kind: by quadrature, or normal."""
        wells, normals = (kind.nonzero()[:, 0].tolist() for kind in (self._is_well, ~self._is_well))
        return (
            *(Marginal(f"x[{i}]", coordinate(i), self._factors.well.cdf) for i in ends(wells)),
            *(normal_marginal(f"x[{i}]", coordinate(i)) for i in ends(normals)),
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, unnormalised, shape ``(..., dim)`` to ``(...)``."""
        wells = self._factors.well.log_density(x[..., self._factors.wells]).sum(-1)
        return self._factors.height + wells - 0.5 * x[..., self._factors.normals].square().sum(-1)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, the wells by rejection, float64, shape ``(n_samples, dim)``."""
        x = torch.empty(n_samples, self.dim, device=generator.device, dtype=torch.float64)
        x[:, self._factors.wells] = self._factors.well.sample(n_samples * self._n_wells, generator).reshape(
            n_samples, -1
        )
        x[:, self._factors.normals] = normal(n_samples, self.dim - self._n_wells, generator)
        return x

    def _sign_modes(self) -> Modes:
        """Mode sum_i 2^i [well coordinate i > 0], within a box that holds 99.9% of each mode.

        Every side of the box is the central interval of its factor (a well, or the normal) with probability
        0.999^(1 / dim), so the masses are products of the masses of these intervals.
        """
        share = REGION ** (1 / self.dim)
        intervals, well_masses = self._factors.well.intervals(share)
        ends = PerDevice(intervals)
        edge = torch.special.ndtri(torch.tensor(0.5 + 0.5 * share, dtype=torch.float64)).item()
        powers = 2 ** torch.arange(self._n_wells)
        masses = torch.full((1,), share ** (self.dim - self._n_wells), dtype=torch.float64)
        for _ in range(self._n_wells):
            masses = (well_masses[:, None] * masses).flatten()

        def assign(x: Tensor) -> Tensor:
            wells = x[..., self._factors.wells]
            right = (wells > 0).long()
            low, high = ends.like(x)[right].unbind(-1)
            inside = ((low <= wells) & (wells <= high)).all(-1) & (x[..., self._factors.normals].abs() <= edge).all(-1)
            return torch.where(inside, (right * powers.to(x.device)).sum(-1), -1)

        return Modes(assign, masses)


@register_target("many_well32", version=1, dim=32)
@register_target("many_well128", version=1, dim=128)
@dataclass(frozen=True)
class ManyWell(WellProduct):
    """Many well of FAB: the sum over pairs (a, b) = (x[2i], x[2i+1]) of -(a^4 - 6 a^2 - a / 2) - b^2 / 2.

    As a^4 - 6 a^2 = (a^2 - 3)^2 - 9, a follows a tilted double well with unequal sides and b ~ N(0, 1). There are
    2^(dim / 2) modes; log_z is dim / 2 times 10.2934797.

    Source: L. Midgley et al., Flow annealed importance sampling bootstrap, arXiv 2208.01893, section 4.2.
    """

    dim: int = 32

    def __post_init__(self) -> None:
        require_at_least(2, dim=self.dim)
        if self.dim % 2:
            raise ValueError(f"dim must be even, got {self.dim}")

    @cached_property
    def _factors(self) -> Factors:
        return Factors(DoubleWell(delta=3.0, tilt=0.5), slice(0, None, 2), slice(1, None, 2), height=9.0 * self.dim / 2)


@register_target("many_well6", version=1, dim=6)
@register_target("many_well16", version=1, dim=16)
@dataclass(frozen=True)
class ManyWellWithModes(ManyWell):
    """Many well of FAB in so few dimensions (at most 20) that its modes can be counted.

    The law is that of ManyWell.
    """

    dim: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim > 2 * MOST_WELLS:
            raise ValueError(f"dim must be at most {2 * MOST_WELLS} for the modes to be counted, got {self.dim}")

    @cached_property
    def modes(self) -> Modes:
        """Signs of the coordinates that follow a well; masses are products."""
        return self._sign_modes()


MIN_DELTA, MAX_DELTA = 0.5, 50.0  # beyond them rejection or quadrature of a well is too costly


@register_target("many_well_sde5", version=1, dim=5, n_wells=5, delta=4.0)
@register_target("many_well_sde50", version=1, dim=50, n_wells=5, delta=2.0)
@dataclass(frozen=True)
class ManyWellSDE(WellProduct):
    """Many well of the diffusion samplers: -sum_{i <= m} (x_i^2 - delta)^2 - .5 sum_{i > m} x_i^2, m = n_wells.

    2^m modes of equal mass.

    Source: L. Richter and J. Berner, Improved sampling via learned diffusions, arXiv 2307.01198.

    Attributes:
        dim: number of coordinates.
        n_wells: of them follow a double well, the others N(0, 1); at most 10.
        delta: the wells lie at +-sqrt(delta).
    """

    dim: int = 5
    n_wells: int = 5
    delta: float = 4.0

    def __post_init__(self) -> None:
        require_at_least(1, dim=self.dim)
        if not MIN_DELTA <= self.delta <= MAX_DELTA:
            raise ValueError(f"delta must be from {MIN_DELTA} to {MAX_DELTA}, got {self.delta}")
        if not 1 <= self.n_wells <= min(self.dim, MOST_WELLS):
            raise ValueError(f"n_wells must be 1 to {min(self.dim, MOST_WELLS)}, got {self.n_wells}")

    @cached_property
    def _factors(self) -> Factors:
        return Factors(DoubleWell(self.delta), slice(self.n_wells), slice(self.n_wells, None))

    @cached_property
    def modes(self) -> Modes:
        """Signs of the coordinates that follow a well; masses are products."""
        return self._sign_modes()
