"""Bake-off: which metric sees which failure, from controlled corruptions of exact draws.

For every target and sample size, fresh independent pairs of exact sets give the null law of each metric, and fresh
corrupted draws, judged by fresh exact ones, its power. ``python -m samplerbench.benchmarks.bakeoff`` computes what is
missing and writes the tables and the figure; it may be killed at any point and goes on where it stopped.
"""

import argparse
import dataclasses
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ..metrics.base import METRICS, Metric
from ..targets.base import TARGETS, HasSample, Target
from ..targets.draws import Draws
from ..targets.meter import derive_generator
from ..targets.mixture import GaussianMixture
from .corruptions import CORRUPTIONS, Anatomy, Corruption
from .floors import SLOW, write_arrays
from .truth import TruthSource

Arrays: TypeAlias = dict[str, NDArray[np.float32]]

BIMODAL = "bimodal_8sd"
TARGET_NAMES = (BIMODAL, "funnel10", "gmm40_fab", "many_well16")
SIZES = (1_000, 10_000)
PAIRWISE = ("ksd", "ksd_paper", "mmd2")
MAX_ROWS: Mapping[str, int] = MappingProxyType(dict.fromkeys(SLOW, 2_000))  # their time grows too fast
SAME_RANKS = ("modes_found",)  # mode_recall times a constant
KNOWN = {
    "samples", "log_prob", "score", "modes", "wells", "moments", "bandwidth", "spacing", "features",
    "class_probabilities",
}  # fmt: skip
NULL = "null"
SECONDS_PER_WRITE = 20.0


@dataclass(frozen=True)
class Repeats:
    """How many values a metric gets: of exact draws, and of draws with each corruption.

    With m values of exact draws the smallest p-value is 1 / (m + 1), and a test at 5% has that level exactly where
    (m + 1) / 20 is a whole number.
    """

    null: int
    corrupted: int


def planned_repeats(metric: str, n_samples: int) -> Repeats:
    """The shipped table's: fewer where a value costs more (half a second and more for slow ones)."""
    if n_samples <= 1_000:
        return Repeats(39, 16) if metric in SLOW else Repeats(999, 100)
    return Repeats(39, 10) if metric in SLOW + PAIRWISE else Repeats(199, 40)


Plan: TypeAlias = Callable[[str, int], Repeats]


def build_target(name: str) -> Target:
    """A registered target, or the symmetric mixture of two standard normals in the plane, 8 apart."""
    return GaussianMixture(((-4.0, 0.0), (4.0, 0.0))) if name == BIMODAL else TARGETS.get(name)


def metric_names() -> list[str]:
    """Metrics that judge draws alone: no chains, weights or predictions."""
    return [name for name in METRICS.names() if set(METRICS.get(name).fields) <= KNOWN and name not in SAME_RANKS]


def n_used(metric: str, n_samples: int) -> int:
    """Rows of draws and of truth that the metric is given."""
    return min(n_samples, MAX_ROWS.get(metric, n_samples))


@dataclass
class Part:
    """The values of one target at one sample size, and the seconds that they took.

    Values are in ``file``: per corruption and metric a float32 array in the order of the repeats. Those of another
    version of the target, of a metric, or of a corruption are not taken over.

    Attributes:
        name: of the target.
        target: with exact draws.
        n_samples: of draws and truth.
        metrics: names.
        repeats: of a metric at a sample size.
        folder: of the file; it must exist.
        corruptions: by name.
    """

    name: str
    target: Target
    n_samples: int
    metrics: Sequence[str]
    repeats: Plan
    folder: Path
    corruptions: Mapping[str, Corruption] = field(default_factory=lambda: CORRUPTIONS)
    values: dict[str, list[float]] = field(init=False)
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.target, HasSample):
            raise ValueError(f"target must have exact draws, {self.name} has none")
        stored = _read(self.file)
        known = stored.get("identity", np.array("")).item() == self._identity
        self.seconds = float(stored.get("seconds", 0.0)) if known else 0.0
        self.values = {k: v.tolist() for k, v in stored.items() if v.ndim == 1} if known else {}

    @property
    def file(self) -> Path:
        """Where the values are."""
        return self.folder / f"{self.name}-{self.n_samples}.npz"

    @property
    def _identity(self) -> str:
        return TARGETS.versioned(self.name) if self.name in TARGETS.names() else repr(self.target)

    def of(self, corruption: Corruption | None, metric: str) -> NDArray[np.float32]:
        """Values of a metric, of exact draws for None, as many as there are, up to those asked for."""
        wanted = self.repeats(metric, self.n_samples)
        limit = wanted.null if corruption is None else wanted.corrupted
        return np.array(self.values.get(_key(corruption, metric), [])[:limit], np.float32)

    def compute(self, say: Callable[[str], None]) -> None:
        """Compute what is missing. Repeat k of a corruption has its own generator, so that nothing else matters.

        Args:
            say: takes a line of progress.
        """
        source, metrics = TruthSource(self.target), [METRICS.get(name) for name in self.metrics]
        _, truth = source.independent_pair(2, derive_generator("needs"))
        metrics = [metric for metric in metrics if all(getattr(truth, name) is not None for name in metric.fields)]
        anatomy = Anatomy.of(self.target)  # type: ignore[arg-type]
        cases = [None, *(c for c in self.corruptions.values() if not c.missing(anatomy))]
        seconds: dict[str, list[float]] = defaultdict(list)
        began = written = time.monotonic()
        for case in cases:
            for k in range(max((self._wanted(case, metric.name) for metric in metrics), default=0)):
                due = [m for m in metrics if self._done(case, m.name) == k < self._wanted(case, m.name)]
                if not due:
                    continue
                self._repeat(source, anatomy, case, k, due, seconds)
                if time.monotonic() - written > SECONDS_PER_WRITE:
                    self._write(time.monotonic() - began)
                    written = time.monotonic()
                    label = "exact draws" if case is None else case.label
                    say(f"{label}, repeat {k + 1}, {self._minutes_left(cases, metrics, seconds):.1f} min left")
        if seconds:
            self._write(time.monotonic() - began)
            self.seconds += time.monotonic() - began

    def _repeat(
        self,
        source: TruthSource,
        anatomy: Anatomy,
        case: Corruption | None,
        k: int,
        metrics: Sequence[Metric],
        seconds: dict[str, list[float]],
    ) -> None:
        """Append one value to every metric."""
        name = NULL if case is None else case.name
        generator = derive_generator("bakeoff", self.name, self.n_samples, name, k)
        x, truth = source.independent_pair(self.n_samples, generator)
        if case is not None:
            more = [] if case.pool_factor == 1 else [self._more(case.pool_factor - 1, generator)]
            x = case(torch.cat([x, *more]), self.n_samples, anatomy, generator)
        for metric in metrics:
            started, n = time.monotonic(), n_used(metric.name, self.n_samples)
            samples = None if truth.samples is None else truth.samples[:n]
            value = metric(Draws(samples=x[:n]), dataclasses.replace(truth, samples=samples), seed=k)[metric.name]
            self.values.setdefault(_key(case, metric.name), []).append(value)
            seconds[metric.name].append(time.monotonic() - started)

    def _more(self, factor: int, generator: torch.Generator) -> torch.Tensor:
        return self.target.sample(factor * self.n_samples, generator)  # type: ignore[attr-defined, no-any-return]

    def _wanted(self, case: Corruption | None, metric: str) -> int:
        repeats = self.repeats(metric, self.n_samples)
        return repeats.null if case is None else repeats.corrupted

    def _done(self, case: Corruption | None, metric: str) -> int:
        return len(self.values.get(_key(case, metric), ()))

    def _minutes_left(
        self, cases: Sequence[Corruption | None], metrics: Sequence[Metric], seconds: Mapping[str, list[float]]
    ) -> float:
        """By the mean time of each metric so far."""
        left = 0.0
        for name, spent in seconds.items():
            missing = sum(max(0, self._wanted(case, name) - self._done(case, name)) for case in cases)
            left += missing * sum(spent) / len(spent)
        return left / 60

    def _write(self, seconds: float) -> None:
        contents: dict[str, Any] = {key: np.array(values, np.float32) for key, values in self.values.items()}
        contents |= {"identity": np.array(self._identity), "seconds": np.array(self.seconds + seconds)}
        write_arrays(self.file, contents)


def _key(case: Corruption | None, metric: str) -> str:
    return f"{NULL if case is None else case.label}|{metric}@{METRICS.entry(metric).version}"


def _read(file: Path) -> dict[str, NDArray[Any]]:
    if not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as archive:
        return dict(archive)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: ``python -m samplerbench.benchmarks.bakeoff``."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.bakeoff", description="Which metric sees what.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: {' '.join(TARGET_NAMES)}")
    parser.add_argument("--n", type=int, nargs="+", default=list(SIZES), help="sample sizes (default %(default)s)")
    parser.add_argument("--metrics", nargs="+", help="registered names; default: all that judge draws alone")
    parser.add_argument("--store", type=Path, default=Path("store/bakeoff"), help="values (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results/bakeoff"), help="results (default %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for folder in (options.store, options.out):
        folder.mkdir(parents=True, exist_ok=True)
    parts = [
        Part(name, build_target(name), n, options.metrics or metric_names(), planned_repeats, options.store)
        for n in options.n
        for name in options.targets or TARGET_NAMES
    ]
    for i, part in enumerate(parts, 1):
        where = f"part {i} of {len(parts)}: {part.name} n={part.n_samples}"
        part.compute(lambda text, where=where: print(f"{where}: {text}", file=sys.stderr, flush=True))  # type: ignore[misc]
    from .bakeoff_report import write_report

    write_report(parts, options.out)


if __name__ == "__main__":
    main()
