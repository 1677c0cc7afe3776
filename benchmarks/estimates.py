"""How long runs will take, from runs that have been done: in the store itself, or in a shipped table.

``python -m samplerbench.benchmarks.estimates STORE ...`` brings the shipped table up to date.
"""

import dataclasses
import hashlib
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd

from .plan import RunSpec
from .store import Record, Store, StoreError, write_text

DATA = "samplerbench.benchmarks.data"
FILE = "seconds.csv"
COLUMNS = ["key", "sampler", "target", "n_samples", "device", "seconds"]


def key_of(run: RunSpec) -> str:
    """Hash of what decides how long a run takes, but for target and seed; 12 hexadecimal digits."""
    parts = [run.sampler, run.sampler_version, run.configuration, run.n_samples, run.device, run.dtype, run.budget]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


class Estimates:
    """Seconds of a run: the median of runs of the same row on the same target, else on all targets.

    Args:
        table: with the columns ``COLUMNS``.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self._same: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._row: dict[str, list[float]] = defaultdict(list)
        for key, target, seconds in zip(table["key"], table["target"], table["seconds"], strict=True):
            self._same[key, target].append(float(seconds))
            self._row[key].append(float(seconds))

    @classmethod
    def known(cls, store: Store | None = None) -> "Estimates":
        """From the shipped table and the finished runs of a store, which weigh as much."""
        return cls(pd.concat([shipped(), seconds_of([] if store is None else _records(store))]))

    def seconds(self, run: RunSpec) -> float | None:
        """Estimated seconds of fit and draw; None where no run of the row is known."""
        key = key_of(run)
        found = self._same.get((key, run.target_label)) or self._row.get(key)
        return statistics.median(found) if found else None

    def not_run(self, run: RunSpec) -> str:
        """The sentence about a run that is missing."""
        seconds = self.seconds(run)
        return "not run yet" + ("" if seconds is None else f"; estimated to take {duration(seconds)}")

    def total(self, runs: Sequence[RunSpec], workers: int) -> str:
        """The sentence about the time that some runs take together."""
        known = [seconds for run in runs if (seconds := self.seconds(run)) is not None]
        unknown = len(runs) - len(known)
        text = f"estimated to take {duration(sum(known) / workers)} on {workers} workers"
        return text + (f", and {unknown} runs of which nothing is known" if unknown else "")


def duration(seconds: float) -> str:
    """Seconds as people say them: ``42 s``, ``7 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def seconds_of(stored: Iterable[Record]) -> pd.DataFrame:
    """Seconds of runs that ended by themselves, the median over seeds: a row per row of a suite and target."""
    rows = [
        (key_of(run), run.sampler_label, run.target_label, run.n_samples, record.environment.get("device", ""), seconds)
        for record in stored
        for run, seconds in [(record.spec, sum(record.seconds.values()))]
        if record.status in ("ok", "budget") and seconds > 0
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.groupby(["key", "target"], as_index=False, sort=True).agg(
        {name: "first" for name in COLUMNS if name not in ("key", "target", "seconds")} | {"seconds": "median"}
    )[COLUMNS]


def shipped() -> pd.DataFrame:
    """The table that comes with the package."""
    with resources.as_file(_folder() / FILE) as path:
        table = pd.read_csv(path, dtype={"key": str}) if path.is_file() else pd.DataFrame(columns=COLUMNS)
    return table.astype({"seconds": float})


def _folder() -> Traversable:
    return resources.files(DATA)


def _records(store: Store) -> list[Record]:
    """Records of a store that can be read, under the labels of its plan; none where there is no store."""
    found = []
    try:
        runs = store.plan().runs
    except StoreError:
        return []
    for run in runs:
        try:
            record = store.record(run.run_id)
        except StoreError:
            continue
        if record is not None:
            found.append(dataclasses.replace(record, spec=run))  # a record keeps the labels of the day it ran
    return found


def main(stores: Sequence[str]) -> None:
    """Merge the runs of stores into the shipped table; new measurements replace old ones."""
    new = seconds_of(record for path in stores for record in _records(Store(path)))
    both = pd.concat([new, shipped()]).drop_duplicates(["key", "target"])
    table = both.sort_values(["sampler", "target", "key"], ignore_index=True)
    path = Path(str(_folder() / FILE))
    write_text(path, table.to_csv(index=False, float_format="%.4g"))
    print(f"written: {path}, {len(table)} rows, {len(new)} of them new")


if __name__ == "__main__":
    main(sys.argv[1:])
