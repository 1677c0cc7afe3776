"""What the tables of rare faults are made of: draws of runs by mode, and exact draws of every mode."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Generator, Tensor

from ...targets.base import TARGETS, HasModes, HasSample, Modes, Target
from ...targets.meter import derive_generator
from ..evaluate import judged
from ..leaderboard import Results
from ..plan import RunSpec
from ..store import Store, StoreError
from ..truth import in_blocks

BLOCK = 200_000  # exact draws at once
N_EACH, N_HEAVIEST = 2_000, 100_000  # exact draws per mode; of the heaviest more, since false alarms are rare
LOW, HIGH = 0.005, 0.995  # a mode's typical range holds 99% of its exact draws


@dataclass(frozen=True)
class ModeDraws:
    """Draws of one run, of equal weight, in the random order in which metrics take them.

    Attributes:
        run: whose.
        status: of the run, "missing" if there is none.
        x: float64, shape ``(n, dim)``; without rows if there are no draws, or some are not finite.
        mode: of every draw, -1 outside all, shape ``(n,)``.
        log_prob: in nats, shape ``(n,)``.
    """

    run: RunSpec
    status: str
    x: Tensor
    mode: Tensor
    log_prob: Tensor

    @classmethod
    def of(cls, run: RunSpec, status: str, x: Tensor, target: "FaultTarget") -> "ModeDraws":
        """Assign draws, shape ``(n, dim)``, to the modes of their target."""
        x = x.double() if x.isfinite().all() else x[:0].double()
        if not len(x):
            return cls(run, status, x, torch.empty(0, dtype=torch.int64), x.new_empty(0))
        return cls(run, status, x, target.modes.assign(x), target.log_prob(x))


@dataclass(frozen=True)
class FaultTarget:
    """A target whose lighter modes are the faults, with exact draws of every mode.

    Attributes:
        label: of the suite.
        log_prob: points ``(n, dim)`` to ``(n,)``, in nats.
        modes: of the target.
        draw: exact draws, from their number and a generator.
        n_each, n_heaviest: exact draws of every mode, and of the heaviest.
    """

    label: str
    log_prob: Callable[[Tensor], Tensor]
    modes: Modes
    draw: Callable[[int, Generator], Tensor]
    n_each: int = N_EACH
    n_heaviest: int = N_HEAVIEST

    @classmethod
    def of(cls, label: str, target: Target) -> "FaultTarget":
        """A target of a suite.

        Raises:
            ValueError: if it has no modes or no exact draws, naming it.
        """
        if not isinstance(target, HasModes) or not isinstance(target, HasSample):
            raise ValueError(f"a target of rare faults must have modes and exact draws, {label} has not")
        return cls(label, in_blocks(target.log_prob), target.modes, target.sample)

    @property
    def heaviest(self) -> int:
        """The mode that is no fault."""
        return int(self.modes.masses.argmax())

    def sample(self, n_samples: int, *purpose: object) -> tuple[Tensor, Tensor]:
        """Exact draws ``(n_samples, dim)`` and their modes ``(n_samples,)``, of a generator of their own."""
        x = self.draw(n_samples, derive_generator("rare faults", self.label, *purpose))
        return x, self.modes.assign(x)

    @cached_property
    def exact(self) -> list[Tensor]:
        """Exact draws of every mode, see ``exact_by_mode``."""
        sizes = [self.n_heaviest if mode == self.heaviest else self.n_each for mode in range(len(self.modes.masses))]
        return exact_by_mode(self, sizes)

    @cached_property
    def typical(self) -> list["Typical"]:
        """Of every mode."""
        return [Typical.of(x, self.log_prob(x)) for x in self.exact]


@dataclass(frozen=True)
class Typical:
    """What the exact draws of one mode look like.

    Attributes:
        centre, sd: mean and standard deviation of every coordinate, shape ``(dim,)``.
        log_prob: its 0.5% and 99.5% quantiles, in nats.
        distance: from the centre in units of ``sd``, the 99.5% quantile.
    """

    centre: Tensor
    sd: Tensor
    log_prob: tuple[float, float]
    distance: float

    @classmethod
    def of(cls, x: Tensor, log_prob: Tensor) -> "Typical":
        """Of exact draws of a mode, shape ``(n, dim)``, and their log densities, shape ``(n,)``."""
        low, high = log_prob.quantile(torch.tensor([LOW, HIGH], dtype=torch.float64)).tolist()
        known = cls(x.mean(0), x.std(0), (low, high), math.nan)
        return dataclasses.replace(known, distance=known.distances(x).quantile(HIGH).item())

    def distances(self, x: Tensor) -> Tensor:
        """|(x - centre) / sd|, shape ``(n, dim)`` to ``(n,)``."""
        distances: Tensor = torch.linalg.vector_norm((x - self.centre) / self.sd, dim=-1)
        return distances

    def holds(self, log_prob: Tensor) -> Tensor:
        """Whether log densities are in the range of 99% of the exact draws."""
        return (self.log_prob[0] <= log_prob) & (log_prob <= self.log_prob[1])


def exact_by_mode(target: FaultTarget, sizes: Sequence[int]) -> list[Tensor]:
    """Independent draws of the law within each mode, by drawing from the whole law until every mode has enough.

    A mode of mass w takes n / w draws: 2,000 of a mode of 1e-4 take twenty million, half a minute.

    Args:
        target: what is drawn from.
        sizes: draws of each mode.
    Returns:
        For each mode float64 of shape ``(size, dim)``.
    """
    found: list[list[Tensor]] = [[] for _ in sizes]
    missing, block = list(sizes), 0
    while max(missing) > 0:
        x, mode = target.sample(BLOCK, "of every mode", block)
        for k in range(len(sizes)):
            if missing[k] > 0:
                rows = x[mode == k][: missing[k]]
                found[k].append(rows)
                missing[k] -= len(rows)
        block += 1
    return [torch.cat(parts) for parts in found]


def fault_targets(results: Results) -> dict[str, FaultTarget]:
    """Targets of a plan by label.

    Raises:
        ValueError: for one without modes or exact draws, naming it.
    """
    first = {run.target_label: run for run in reversed(results.plan.runs)}
    labels = dict.fromkeys(run.target_label for run in results.plan.runs)
    return {
        label: FaultTarget.of(label, TARGETS.get(first[label].target, **first[label].target_parameters))
        for label in labels
    }


def mode_draws(store: Path, results: Results, targets: Mapping[str, FaultTarget]) -> Iterator[ModeDraws]:
    """Draws of all planned runs, target by target; runs without draws have no rows."""
    directory = Store(store)
    for label, target in targets.items():
        for run, record, _ in results.stored:
            if run.target_label != label:
                continue
            x = torch.empty(0, 1)
            if record is not None and record.draws_sha256 is not None and record.status != "diverged":
                try:
                    x = judged(directory.draws(record), run)[1].samples
                except StoreError:  # its status is shown, and metrics say why
                    x = x[:0]
            yield ModeDraws.of(run, record.status if record else "missing", x, target)
