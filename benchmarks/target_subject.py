"""A target under examination, at points of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from ..targets.base import TARGETS, HasReference, HasSample, Target
from ..targets.meter import Meter


def seeded(seed: int) -> Generator:
    """A generator for one purpose."""
    return Generator().manual_seed(seed)


@dataclass
class TargetSubject:
    """A target under examination, at points of its own.

    Attributes:
        name: as registered.
        target: as built with its defaults.
        plugins: files that register it, for another process.
    """

    name: str
    target: Target
    plugins: Sequence[str] = ()

    @classmethod
    def registered(cls, name: str, plugins: Sequence[str] = ()) -> "TargetSubject":
        """The target of that name with its defaults; UnknownNameError, ValueError as in the registry."""
        return cls(name, TARGETS.get(name), plugins)

    @cached_property
    def x(self) -> Tensor:
        """10,000 exact draws, or reference draws, or public starting points: float64, shape ``(n, dim)``.

        Raises:
            FileNotFoundError: if a data file of the target is missing.
        """
        target = self.target
        target.log_prob(torch.zeros(1, target.dim, dtype=torch.float64))  # reads its data
        if isinstance(target, HasSample):
            return target.sample(10_000, seeded(0))
        if isinstance(target, HasReference):
            try:
                return target.reference()
            except FileNotFoundError:  # not made yet: the catalogue says so
                pass
        return Meter(target, dtype=torch.float64).start(1_000, seeded(0))
