"""Floors: the null law of every distance, computed once and shipped, so that a value can be read.

A repeat of the null law draws two independent exact sets of the same size and judges one by the other, as a perfect
sampler would be judged. ``python -m samplerbench.benchmarks.floors TARGET ...`` computes them; it may be killed at
any point and goes on where it stopped.
"""

import argparse
import importlib.resources
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ..metrics.base import METRICS, Metric, Truth
from ..targets.base import TARGETS, HasReference, HasSample, Target
from ..targets.datasets import UNREADABLE
from ..targets.draws import Draws
from ..targets.meter import derive_generator
from .truth import TruthSource

Arrays: TypeAlias = dict[str, NDArray[np.float32]]

N_SAMPLES, N_SAMPLES_TRANSPORT = 2_000, 1_000
TRANSPORT = ("w1", "w2")  # exact, so that time grows faster than n^2
REPEATS, REPEATS_SLOW = 1_000, 200
SLOW = (*TRANSPORT, "c2st")
VERSION_KEY = "target_version"
REPEATS_PER_WRITE = 20


@dataclass(frozen=True)
class Floor:
    """Null law of one metric on one target at one sample size.

    Attributes:
        null: values that exact draws took, ascending, float32, shape ``(m,)``.
        kind: "non-negative" distances have the median as floor, "centred" ones the 95% point.
    """

    null: NDArray[np.float32]
    kind: Literal["non-negative", "centred"]

    @property
    def value(self) -> float:
        """The floor itself."""
        return float(np.median(self.null)) if self.kind == "non-negative" else self.upper

    @property
    def upper(self) -> float:
        """The 95% point of the null law, one of its values."""
        return float(np.quantile(self.null, 0.95, method="higher"))

    @property
    def mean(self) -> float:
        """Mean of the null law."""
        return float(self.null.mean(dtype=np.float64))

    @property
    def sd(self) -> float:
        """Standard deviation of the null law."""
        return float(self.null.std(dtype=np.float64, ddof=1))

    def ratio(self, value: float) -> float:
        """``value`` over the floor; where the floor is 0, 1 for a value of 0 and infinite above."""
        if self.value == 0:
            return 1.0 if value == 0 else float("inf")
        return value / self.value

    def z(self, value: float) -> float:
        """Standard deviations above the mean of the null law; nan where the null law is one point."""
        return (value - self.mean) / self.sd if self.sd > 0 else float("nan")

    def p(self, value: float) -> float:
        """(1 + #{null >= value}) / (1 + m), at least 1 / (1 + m)."""
        n_below = int(np.searchsorted(self.null, np.float32(value), side="left"))  # float32: ties stay ties
        return (1 + len(self.null) - n_below) / (1 + len(self.null))

    def at_floor(self, value: float) -> bool:
        """Whether ``value``, for centred metrics its size, is at or below the 95% point of the null law.

        Far below zero a centred estimate is as wrong as far above: exact draws do not get there.
        """
        size = abs(value) if self.kind == "centred" else value
        return bool(np.float32(size) <= self.upper)


def load_floor(
    target_name: str,
    target_version: int,
    metric_name: str,
    metric_version: int,
    n_samples: int,
    folder: Traversable | None = None,
) -> Floor | None:
    """The floor of a metric on a target with its registered parameters; None where there is none.

    Args:
        target_name, target_version, metric_name, metric_version: as registered; a floor of another version is none.
        n_samples: size of the draws and of the truth.
        folder: where the floors lie, by default those that the package ships.
    """
    folder = folder or importlib.resources.files("samplerbench.benchmarks.data") / "floors"
    null = _of_version(_read(folder / f"{target_name}.npz"), target_version)
    key = _key(metric_name, metric_version, n_samples)
    kind = METRICS.get(metric_name).null
    return Floor(null[key], kind) if key in null and kind is not None else None


def compute_floors(
    name: str,
    version: int,
    target: Target,
    metrics: Mapping[str, int],
    *,
    repeats: Mapping[str, int],
    folder: Path,
) -> None:
    """Compute the null laws that ``folder/<name>.npz`` lacks, printing progress to the standard error.

    Unfinished ones are kept in ``folder/<name>.partial`` after every 20 repeats. Repeat k has its own generator, so
    an interrupted computation ends with the same file as an uninterrupted one. Metrics for which the target does not
    know enough are left out.

    Args:
        name, version: of the target's registration.
        target: with its registered parameters.
        metrics: name to the size of the draws and of the truth.
        repeats: metric name to the number of null values.
        folder: where the file is written; it must exist.
    Raises:
        ValueError: if the target has no exact draws or too few reference draws, or a metric of exact draws is not
            finite.
    """
    file, partial_file = folder / f"{name}.npz", folder / f"{name}.partial"
    finished, partial = _of_version(_read(file), version), _of_version(_read(partial_file), version)
    source = TruthSource(target)
    for n_samples in sorted(set(metrics.values())):
        found = [METRICS.get(metric) for metric, size in metrics.items() if size == n_samples]
        keys = {_key(metric.name, metric.version, n_samples): metric for metric in found}
        wanted = {key: metric for key, metric in keys.items() if key not in finished}
        null = {key: list(partial.get(key, ())) for key in wanted}
        n_repeats = max((repeats[metric.name] for metric in wanted.values()), default=0)
        started, n_done = time.monotonic(), 0
        for k in range(n_repeats):
            due = [key for key, metric in wanted.items() if len(null[key]) == k < repeats[metric.name]]
            if not due:
                continue
            sample, truth = source.independent_pair(n_samples, derive_generator("floor", name, version, n_samples, k))
            draws = Draws(samples=sample)
            for key in due:
                if not wanted[key].missing(draws, truth):
                    null[key].append(_null_value(wanted[key], draws, truth, seed=k, target=name))
            n_done += 1
            if n_done % REPEATS_PER_WRITE == 0:
                partial |= {key: np.array(values, np.float32) for key, values in null.items()}
                _write(partial_file, partial, version)
                _report(name, n_samples, k + 1, n_repeats, (time.monotonic() - started) / n_done)
        ready = {key: np.sort(np.array(values, np.float32)) for key, values in null.items() if values}
        if ready:  # beside what another process may have finished meanwhile
            finished = _of_version(_read(file), version)
            finished = {key: values for key, values in finished.items() if not _outdated(key, found)} | ready
            _write(file, finished, version)
        partial = {key: values for key, values in partial.items() if key not in keys}
    if partial:
        _write(partial_file, partial, version)
    else:
        partial_file.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: ``python -m samplerbench.benchmarks.floors [TARGET ...]``; all targets with draws by default."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.floors", description="Compute the floors.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="registered names; all with draws by default")
    parser.add_argument("--metrics", nargs="+", help="registered names; all that have a null law by default")
    parser.add_argument("--n", type=int, default=N_SAMPLES, help="size of both samples (default %(default)s)")
    parser.add_argument(
        "--transport-n", type=int, default=N_SAMPLES_TRANSPORT, help="the same for w1 and w2 (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "floors", help="folder")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.metrics or [name for name in METRICS.names() if METRICS.get(name).null is not None]
    metrics = {METRICS.get(name).name: options.transport_n if name in TRANSPORT else options.n for name in names}
    repeats = {name: n_repeats(name) for name in metrics}
    for name in options.targets or TARGETS.names():
        target = TARGETS.get(name)
        if not options.targets and not isinstance(target, HasSample | HasReference):
            continue
        compute_floors(name, TARGETS.entry(name).version, target, metrics, repeats=repeats, folder=options.out)


def n_repeats(metric_name: str) -> int:
    """How many null values a shipped or cached floor has."""
    return REPEATS_SLOW if metric_name in SLOW else REPEATS


def _key(metric_name: str, metric_version: int, n_samples: int) -> str:
    return f"{_versioned(metric_name, metric_version)}/n={n_samples}"


def _versioned(metric_name: str, metric_version: int) -> str:
    return f"{metric_name}@{metric_version}{METRICS.entry(metric_name).plugin_hash or ''}"


def _outdated(key: str, metrics: Iterable[Metric]) -> bool:
    """Whether ``key`` belongs to another version of one of the metrics."""
    own = key.partition("/n=")[0]
    return any(own.startswith(f"{m.name}@") and own != _versioned(m.name, m.version) for m in metrics)


def _null_value(metric: Metric, draws: Draws, truth: Truth, *, seed: int, target: str) -> np.float32:
    value = metric(draws, truth, seed=seed)[metric.name]
    if not math.isfinite(value):
        raise ValueError(f"{metric.name} must be finite on exact draws of {target}, got {value} in repeat {seed}")
    return np.float32(value)


def _report(name: str, n_samples: int, n_done: int, n_repeats: int, seconds: float) -> None:
    left = (n_repeats - n_done) * seconds / 60
    text = f"{name} n={n_samples}: {n_done} of {n_repeats} repeats, {seconds:.3f} s each, {left:.1f} min left"
    print(text, file=sys.stderr, flush=True)


def _of_version(arrays: Arrays, version: int) -> Arrays:
    """The null values, if they belong to this version of the target."""
    if VERSION_KEY not in arrays or int(arrays[VERSION_KEY]) != version:
        return {}
    return {key: values for key, values in arrays.items() if key != VERSION_KEY}


def _read(file: Traversable) -> Arrays:
    """What a file of null values holds; nothing if there is none, or, said on the standard error, if it is damaged."""
    if not file.is_file():
        return {}
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return dict(archive)
    except UNREADABLE:
        print(f"{file} cannot be read, its floors are left out", file=sys.stderr, flush=True)
        return {}


def _write(file: Path, arrays: Arrays, version: int) -> None:
    write_arrays(file, {VERSION_KEY: np.array(version), **arrays})


def write_arrays(file: Path, contents: Mapping[str, Any]) -> None:
    """Replace an NPZ ``file`` at once, so that it is whole at every moment."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        np.savez_compressed(stream, **contents)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


if __name__ == "__main__":
    main()
