"""A target under examination: what its certificate's checks share, and the rows that they return."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

from ..targets.base import HasReference, HasSample, HasView, Target
from ..targets.meter import derive_generator
from .agreement import MAX_STANDARD_ERRORS, MIN_ESS_SHARE
from .grid import Grid, integrate

Verdict: TypeAlias = Literal["pass", "fail", "uncertified", "not_applicable"]

MAX_NUMBERS = 64_000_000  # draws times coordinates; above 64 coordinates, fewer draws than asked for


@dataclass(frozen=True)
class Row:
    """One line of the table of certificates."""

    target: str
    check: str
    value: float
    expected: float
    std_error: float
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Effort:
    """How much is spent: numbers of draws, of annealed paths, and of grid nodes per axis."""

    n_draws: int
    n_laplacian: int
    n_drift: int
    n_paths: int
    n_nodes: int


FULL = Effort(n_draws=1_000_000, n_laplacian=100_000, n_drift=10_000, n_paths=2_000, n_nodes=2_001)
FAST = Effort(n_draws=100_000, n_laplacian=10_000, n_drift=2_000, n_paths=500, n_nodes=1_001)


class Subject:
    """A target under examination.

    Args:
        name: ``name@version``, for the rows.
        target: as built from the registry.
        effort: what may be spent.
        seed: of everything random.
        is_shipped: whether the project records spot values for it.
    """

    def __init__(
        self, name: str, target: Target, effort: Effort = FULL, seed: int = 0, *, is_shipped: bool = True
    ) -> None:
        self.name, self.target, self.effort, self.seed = name, target, effort, seed
        self.is_shipped = is_shipped

    def row(
        self, check: str, value: float, expected: float, std_error: float, verdict: bool | Verdict, reason: str = ""
    ) -> Row:
        """A row about this target; a verdict given as a truth value is pass or fail."""
        if isinstance(verdict, bool):
            verdict = "pass" if verdict else "fail"
        return Row(self.name, check, value, expected, std_error, verdict, reason)

    def without(self, check: str, reason: str, verdict: Verdict = "not_applicable") -> list[Row]:
        """The row of a check that was not made."""
        return [self.row(check, math.nan, math.nan, math.nan, verdict, reason)]

    def mean_row(self, check: str, values: Tensor, expected: float, reason: str = "") -> Row:
        """Whether the mean of ``values``, shape ``(n,)``, is ``expected`` within 4 standard errors."""
        mean, n_effective = values.mean().item(), len(values) * (1 if self.is_exact else MIN_ESS_SHARE)
        std_error = (values.std() / math.sqrt(n_effective)).item()
        passed = abs(mean - expected) < MAX_STANDARD_ERRORS * std_error + 1e-12 * max(1.0, abs(expected))
        return self.row(check, mean, expected, std_error, passed, reason)

    @property
    def is_exact(self) -> bool:
        """Whether independent exact draws are possible."""
        return isinstance(self.target, HasSample)

    @property
    def has_draws(self) -> bool:
        """Whether there are exact or reference draws."""
        return self.is_exact or (isinstance(self.target, HasReference) and not self.missing_reference)

    @cached_property
    def missing_reference(self) -> str:
        """Why the reference draws that the target speaks of are not there; empty if they are."""
        try:
            if isinstance(self.target, HasReference):
                self.target.reference()
        except FileNotFoundError as error:
            return str(error)
        return ""

    def generator(self, purpose: str) -> Generator:
        """The source of randomness of one purpose."""
        return derive_generator("certify", self.name, self.seed, purpose)

    def draws(self, n_samples: int, purpose: str) -> Tensor:
        """Exact draws, or as many of the reference draws in another order, float64, ``(n, dim)``."""
        n_samples = max(1, min(n_samples, MAX_NUMBERS // self.target.dim))
        generator = self.generator(purpose)
        if isinstance(self.target, HasSample):
            per_block = max(1, 4_000_000 // self.target.dim)
            sizes = [per_block] * (n_samples // per_block) + [n_samples % per_block] * (n_samples % per_block > 0)
            return torch.cat([self.target.sample(size, generator) for size in sizes])
        if not isinstance(self.target, HasReference):
            raise ValueError(f"{self.name} must have exact or reference draws, it has neither")
        reference = self.target.reference().to(torch.float64)
        return reference[torch.randperm(len(reference), generator=generator)[:n_samples]]

    @cached_property
    def main_draws(self) -> Tensor:
        """The draws that identities, marginals and masses are computed from."""
        return self.draws(self.effort.n_draws, "main")

    @cached_property
    def pilot(self) -> Tensor:
        """Other draws where exact ones are possible: for centres, covariances and boxes."""
        return self.draws(20_000, "pilot")

    @cached_property
    def grid(self) -> Grid:
        """Quadrature of a planar target."""
        return integrate(self.target, self.draws(100_000, "box"), self.effort.n_nodes)

    def blocks(self, x: Tensor) -> tuple[Tensor, ...]:
        """``x`` in parts small enough for a graph of the density."""
        return torch.split(x, max(50, min(20_000, 200_000 // self.target.dim)))

    def view(self, x: Tensor) -> Tensor:
        """The target's view of ``x``."""
        return self.target.view(x) if isinstance(self.target, HasView) else x
