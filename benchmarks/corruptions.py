"""Controlled corruptions of exact draws: each is one known failure of samplers, at one stated strength.

A corruption maps a pool of exact draws to draws that are wrong in exactly one way. Modes that are picked out (dropped,
shrunk) and units (widths, standard deviations) come from the law's Anatomy, so that they are the same in every repeat.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from ..metrics.points import known
from ..targets.base import HasModes, HasSample, Modes, normal, uniform
from ..targets.meter import derive_generator

N_ANATOMY = 50_000
MAD_TO_SD = 1.4826  # of a normal law
LEAST_DROPPED = 0.01
MOVED_SHARE = 0.9
FREEDOM = 5
SHRINKAGE = 0.5
COPIES = 2
START, FORGETTING = 3.0, 0.02
NOISE = 0.5


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What corruptions need to know about a law, from 50,000 exact draws that are the same every time.

    Attributes:
        modes: of the target; None if it states none.
        centres: coordinate-wise median of every mode, shape ``(n_modes, dim)``, nan for a mode without draws; of the
            whole law, shape ``(1, dim)``, without modes.
        width: 1.4826 times the median distance of a coordinate to that of its centre, shape ``(dim,)``: the standard
            deviation inside normal modes.
        sd: standard deviation of each coordinate, shape ``(dim,)``.
    """

    modes: Modes | None
    centres: Tensor
    width: Tensor
    sd: Tensor

    @classmethod
    def of(cls, target: HasSample) -> "Anatomy":
        """The anatomy of a target with exact draws."""
        x = target.sample(N_ANATOMY, derive_generator("anatomy")).double()
        modes = target.modes if isinstance(target, HasModes) else None
        if modes is None:
            centres = x.median(0, keepdim=True).values
        else:
            index = modes.assign(x)
            centres = torch.full((len(modes.masses), x.shape[1]), torch.nan, dtype=torch.float64)
            for k in range(len(centres)):
                if (index == k).any():
                    centres[k] = x[index == k].median(0).values
        width = MAD_TO_SD * (x - _nearest(x, modes, centres)).abs().median(0).values
        return cls(modes=modes, centres=centres, width=width, sd=x.std(0))

    def centre_of(self, x: Tensor) -> Tensor:
        """Centre of the mode of each point ``(n, dim)``, of the nearest one outside all modes; shape of ``x``."""
        return _nearest(x, self.modes, self.centres)


def _nearest(x: Tensor, modes: Modes | None, centres: Tensor) -> Tensor:
    index = torch.zeros(len(x), dtype=torch.int64) if modes is None else modes.assign(x)
    found = ~centres.isnan().any(-1)
    lost = (index < 0) | ~found[index]
    index = index.clone()
    index[lost] = found.nonzero()[:, 0][torch.cdist(x[lost], centres[found]).argmin(-1)]
    return centres[index]


CorruptFunction: TypeAlias = Callable[[Tensor, int, Anatomy, Generator], Tensor]


@dataclass(frozen=True)
class Corruption:
    """One way to be wrong.

    Attributes:
        name: of the function.
        label: what it does, with its strength, in a few words; part of the identity of stored values.
        function: pool ``(m, dim)``, n_samples, anatomy and generator to corrupted draws ``(n_samples, dim)``.
        pool_factor: exact draws that the pool must hold for each draw returned.
        needs_modes: whether it applies only to laws with at least two modes.
    """

    name: str
    label: str
    function: CorruptFunction
    pool_factor: int = 1
    needs_modes: bool = False

    def missing(self, anatomy: Anatomy) -> str:
        """Why it does not apply to a law; empty if it does."""
        n_modes = 0 if anatomy.modes is None else len(anatomy.modes.masses)
        return f"{self.name} needs a law with at least 2 modes" if self.needs_modes and n_modes < 2 else ""

    def __call__(self, pool: Tensor, n_samples: int, anatomy: Anatomy, generator: Generator) -> Tensor:
        """Corrupted draws in random order.

        Args:
            pool: exact draws, shape ``(m, dim)`` with m at least pool_factor * n_samples; not modified.
            n_samples: rows to return.
            anatomy: of the law.
            generator: the only source of randomness.
        Returns:
            Shape ``(n_samples, dim)``.
        Raises:
            ValueError: if the corruption does not apply to the law, or the pool is too small.
        """
        reason = self.missing(anatomy)
        if reason:
            raise ValueError(reason)
        if len(pool) < self.pool_factor * n_samples:
            raise ValueError(f"pool must hold {self.pool_factor * n_samples} draws for {self.name}, got {len(pool)}")
        x = self.function(pool, n_samples, anatomy, generator)
        return x[torch.randperm(n_samples, generator=generator)]


def nothing(pool: Tensor, n_samples: int, anatomy: Anatomy, generator: Generator) -> Tensor:
    """The first draws as they are: the control, which a test at level 5% rejects in 5% of the repeats."""
    return pool[:n_samples]


def drop_mode(pool: Tensor, n_samples: int, anatomy: Anatomy, generator: Generator) -> Tensor:
    """The lightest of the modes with at least 1% of the mass is lost: independent draws that are elsewhere."""
    modes = _modes(anatomy)
    least = min(LEAST_DROPPED, modes.masses.max().item())
    lost = modes.masses.where(modes.masses >= least, torch.inf).argmin()
    return _first(pool[modes.assign(pool) != lost], n_samples)


def move_weights(pool: Tensor, n_samples: int, anatomy: Anatomy, generator: Generator) -> Tensor:
    """The first half of the modes holds 90% of the mass in modes (two equal modes: .5/.5 becomes .9/.1).

    The first half are modes 0, ..., k with k such that their mass is nearest to half. Inside each half, and outside all
    modes, nothing changes: draws are thinned independently, and no row comes twice.
    """
    modes = _modes(anatomy)
    share = _first_half(modes)
    total, first = modes.masses.sum(), modes.masses[share].sum()
    odds = torch.where(share, MOVED_SHARE * total / first, (1 - MOVED_SHARE) * total / (total - first))
    odds = torch.cat([odds, odds.new_ones(1)])  # index -1, the outside, is the last
    keep = uniform(len(pool), generator) < odds[modes.assign(pool)] / odds.max()
    return _first(pool[keep], n_samples)


def inflate_tails(pool: Tensor, n_samples: int, anatomy: Anatomy, generator: Generator) -> Tensor:
    """Distances to the mode's centre are multiplied by sqrt(3 / chi^2), chi^2 with 5 degrees of freedom.

    E 3 / chi^2 = 1: normal modes become Student t modes of the same covariance, with kurtosis 9 instead of 3.
    """
    x = pool[:n_samples]
    centre = anatomy.centre_of(x)
    chi2 = normal(n_samples, FREEDOM, generator).square().sum(-1, keepdim=True).to(x)
    return centre + (x - centre) * ((FREEDOM - 2) / chi2).sqrt()


def shrink_mode(pool: Tensor, n_samples: int, anatomy: Anatomy, generator: Generator) -> Tensor:
    """In the heaviest mode (the first of equals) all draws go half the way to its centre."""
    modes = _modes(anatomy)
    x = pool[:n_samples]
    heaviest = int(modes.masses.argmax())
    inside = (modes.assign(x) == heaviest)[:, None]
    return torch.where(inside, torch.lerp(x, anatomy.centres[heaviest].to(x), 1 - SHRINKAGE), x)


def duplicate(pool: Tensor, n_samples: int, anatomy: Anatomy, generator: Generator) -> Tensor:
    """Every draw comes twice: half of the rows are copies, as of a chain that moves every second time."""
    n_different = -(-n_samples // COPIES)
    return pool[:n_different].repeat_interleave(COPIES, 0)[:n_samples]


def burn_in(pool: Tensor, n_samples: int, anatomy: Anatomy, generator: Generator) -> Tensor:
    """The first coordinate forgets a start 3 standard deviations away: draw i is shifted by 3 sd exp(-i / (0.02 n)).

    The shift of the mean is 0.06 sd; 6% of the draws are moved by more than 0.15 sd.
    """
    i = torch.arange(n_samples, dtype=torch.float64)
    x = pool[:n_samples].clone()
    x[:, 0] += (START * anatomy.sd[0] * torch.exp(-i / (FORGETTING * n_samples))).to(x)
    return x


def add_noise(pool: Tensor, n_samples: int, anatomy: Anatomy, generator: Generator) -> Tensor:
    """Normal noise of half the width of a mode in every coordinate: the variance inside normal modes grows by 1/4."""
    x = pool[:n_samples]
    return x + NOISE * anatomy.width.to(x) * normal(n_samples, x.shape[1], generator).to(x)


def _modes(anatomy: Anatomy) -> Modes:
    return known(anatomy.modes, "modes")


def _first_half(modes: Modes) -> Tensor:
    """Booleans ``(n_modes,)``: the first modes, whose mass is nearest to half; never all."""
    masses = modes.masses / modes.masses.sum()
    last = int((masses.cumsum(0)[:-1] - 0.5).abs().argmin())
    return torch.arange(len(masses)) <= last


def _first(x: Tensor, n_samples: int) -> Tensor:
    if len(x) < n_samples:
        raise ValueError(f"pool must leave {n_samples} draws, it left {len(x)}: make it larger")
    return x[:n_samples]


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        corruption.name: corruption
        for corruption in (
            Corruption("nothing", "nothing (control)", nothing),
            Corruption("drop_mode", "a mode dropped", drop_mode, pool_factor=4, needs_modes=True),
            Corruption("move_weights", "weights moved to .9/.1", move_weights, pool_factor=4, needs_modes=True),
            Corruption("inflate_tails", "tails of Student's t (5)", inflate_tails),
            Corruption("shrink_mode", "a mode half as wide", shrink_mode, needs_modes=True),
            Corruption("duplicate", "every draw twice", duplicate),
            Corruption("burn_in", "burn-in kept (3 sd)", burn_in),
            Corruption("add_noise", "noise of 1/2 width", add_noise),
        )
    }
)
