"""A store: one folder per run, written under a temporary name and renamed, so that kill -9 leaves whole runs only.

STORE/plan.json                       what belongs to the leaderboard: suite, metrics, runs
STORE/runs/<run_id>/record.json       configuration, status, counts, seconds, versions
STORE/runs/<run_id>/draws.npz         samples and what came with them (absent if the run has none)
STORE/evaluations/<run_id>.json       metric values of that run (a cache: may be deleted)
"""

import dataclasses
import fcntl
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import torch

from ..targets.draws import Draws, Estimate
from .plan import MetricItem, RunSpec

if TYPE_CHECKING:
    import pandas as pd

Status: TypeAlias = Literal[
    "ok", "budget", "diverged", "timeout", "failed", "killed", "not_installed", "not_applicable"
]
STATUSES: tuple[Status, ...] = get_args(Status)
RETRIED: tuple[Status, ...] = ("failed", "killed", "timeout", "not_installed")  # may end otherwise next time
ARRAYS = ("samples", "log_weights", "log_density", "forward_log_ratio", "chains")
SCHEMA = 1


class StoreError(RuntimeError):
    """The store cannot be read or written; the message names the file, the cause and what to do."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is kept of a run beside its draws.

    Attributes:
        counts: points per phase and kind of evaluation; fractions where minibatches were paid.
        seconds: of ``fit`` and of ``draw`` (all n samples), see ``measure.timed``.
        throughput: batches and the microseconds per draw at each, where the suite asks for them.
        peak_memory_mb: peak resident memory of the worker during the run (on CUDA: of the device).
        environment: versions, revision, machine.
        diagnostics: of the fit and of the draws.
        log_z: the sampler's own estimate.
        arrays: shapes of what draws.npz holds, by name.
        draws_sha256: of draws.npz; None if the run has no draws.
    """

    spec: RunSpec
    status: Status
    reason: str = ""
    traceback: str = ""
    counts: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    throughput: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    peak_memory_mb: float | None = None
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    diagnostics: dict[str, Any] = dataclasses.field(default_factory=dict)
    log_z: dict[str, float] | None = None
    arrays: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    draws_sha256: str | None = None


@dataclass(frozen=True)
class Plan:
    """The runs that belong to a store's leaderboard, in order, and the metrics asked of them."""

    suite: str
    description: str
    metrics: list[MetricItem]
    runs: list[RunSpec]


class Store:
    """Reads and writes one store directory."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directories, write a probe, and keep other `run` commands out while the block lasts.

        Raises:
            StoreError: if the store cannot be written, or another process is running it.
        """
        try:
            for folder in (self._runs, self._evaluations):
                folder.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise self._unwritable(error) from error
        with lock:  # released by the system when the process ends, however
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for left_over in self._runs.glob(".*"):  # of a run that was killed while it wrote
                    shutil.rmtree(left_over)
                with tempfile.TemporaryFile(dir=self.path) as probe:
                    probe.write(b"\0" * 1_000_000)
            except BlockingIOError as error:
                raise StoreError(f"store {self.path} is in use by another run; wait, or give another") from error
            except OSError as error:
                raise self._unwritable(error) from error
            yield

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(f"store {self.path} cannot be written: {error}; give another with --store")

    # --- plan ---------------------------------------------------------------------------------------------------

    def write_plan(self, plan: Plan, valid: Collection[str]) -> None:
        """Store the plan; earlier runs stay in it where they are ``valid``, so that a store can grow by parts.

        Args:
            plan: what is run now.
            valid: run ids of the whole suite as it is now; runs of an older version, label or size go.
        Raises:
            StoreError: if the store holds another suite.
        """
        runs = {run.cell: run for run in plan.runs}
        if (self.path / "plan.json").exists():
            before = self.plan()
            if before.suite != plan.suite:
                raise StoreError(f"store {self.path} holds suite {before.suite!r}, not {plan.suite!r}: give another")
            runs = {**{run.cell: run for run in before.runs if run.run_id in valid}, **runs}
        write_json(self.path / "plan.json", dataclasses.asdict(dataclasses.replace(plan, runs=list(runs.values()))))

    def plan(self) -> Plan:
        """The stored plan.

        Raises:
            StoreError: if there is none, or it cannot be read.
        """
        path = self.path / "plan.json"
        try:
            table = json.loads(path.read_text())
            metrics = [MetricItem(**metric) for metric in table["metrics"]]
            return Plan(table["suite"], table["description"], metrics, [RunSpec(**run) for run in table["runs"]])
        except FileNotFoundError as error:
            raise StoreError(f"{self.path} is not a store: it has no plan.json; make one with `run`") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} cannot be read: {error!r}; delete it and repeat `run`") from error

    # --- runs ---------------------------------------------------------------------------------------------------

    def save(self, record: Record, draws: Draws | None) -> Record:
        """Write a run; one that is there already and may not be retried wins.

        Returns:
            The record that the store holds now.
        Raises:
            StoreError: if it cannot be written (disk full, read-only); nothing half-written stays under its name.
        """
        final = self._runs / record.spec.run_id
        temporary = self._runs / f".{record.spec.run_id}-{os.getpid()}"
        try:
            temporary.mkdir(parents=True)
            if draws is not None:
                packed = _pack(draws)
                (temporary / "draws.npz").write_bytes(packed)
                shapes = {name: list(array.shape) for name, array in _arrays(draws).items()}
                digest = hashlib.sha256(packed).hexdigest()
                record = dataclasses.replace(record, draws_sha256=digest, arrays=shapes)
            write_json(temporary / "record.json", {"schema": SCHEMA, **dataclasses.asdict(record)})
            stored = self.record(record.spec.run_id) if self.is_final(record.spec.run_id) else None
            if stored is not None:
                return stored
            replaced = self._runs / f".{record.spec.run_id}-replaced"
            if final.exists():
                final.rename(replaced)
            temporary.rename(final)
            shutil.rmtree(replaced, ignore_errors=True)
            return record
        except OSError as error:
            raise StoreError(f"run {record.spec.title} cannot be stored in {self.path}: {error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def record(self, run_id: str) -> Record | None:
        """The record of a run, None if there is none.

        Raises:
            StoreError: if it is there and cannot be read.
        """
        path = self._runs / run_id / "record.json"
        try:
            table = json.loads(path.read_text())
            if table.pop("schema") != SCHEMA or table["status"] not in STATUSES:
                raise ValueError(f"schema is not {SCHEMA} or status is not one of {', '.join(STATUSES)}")
            return Record(**{**table, "spec": RunSpec(**table["spec"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"record {path} is corrupt: {error!r}; `run` does that run again") from error

    def draws(self, record: Record) -> Draws:
        """The draws of a run.

        Raises:
            StoreError: if they are missing or corrupt.
        """
        path = self._runs / record.spec.run_id / "draws.npz"
        try:
            packed = path.read_bytes()
            if hashlib.sha256(packed).hexdigest() != record.draws_sha256:
                raise ValueError("its hash is not the one in the record")
            return _unpack(packed, record)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise StoreError(f"draws {path} are corrupt: {error!r}; `run` does that run again") from error

    def is_final(self, run_id: str) -> bool:
        """Whether the run is done and whole, so that it is never run again."""
        try:
            record = self.record(run_id)
            if record is None or record.status in RETRIED:
                return False
            if record.draws_sha256 is not None:
                self.draws(record)
        except StoreError:
            return False
        return True

    # --- evaluations --------------------------------------------------------------------------------------------

    def evaluation(self, run_id: str) -> dict[str, Any]:
        """Cached metric values of a run; empty if there are none or they cannot be read (they are computed again)."""
        try:
            table = json.loads((self._evaluations / f"{run_id}.json").read_text())
        except (OSError, ValueError):
            return {}
        return table if isinstance(table, dict) else {}

    def save_evaluation(self, run_id: str, table: Mapping[str, Any]) -> None:
        """Cache metric values of a run; raises OSError if the store cannot be written."""
        self._evaluations.mkdir(exist_ok=True)
        write_json(self._evaluations / f"{run_id}.json", table)

    @property
    def _runs(self) -> Path:
        return self.path / "runs"

    @property
    def _evaluations(self) -> Path:
        return self.path / "evaluations"


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    """Write JSON atomically; numbers that JSON cannot hold (nan, infinities) become null."""
    write_text(path, json.dumps(_jsonable(table), indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table atomically, without its index, numbers with six digits."""
    write_text(path, table.to_csv(index=False, float_format="%.6g"))


def write_csvs(folder: Path, tables: Mapping[str, "pd.DataFrame"]) -> None:
    """Write tables into a folder, each as ``NAME.csv``."""
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return _jsonable(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_jsonable(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _pack(draws: Draws) -> bytes:
    arrays: dict[str, Any] = {name: array.detach().cpu().numpy() for name, array in _arrays(draws).items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _arrays(draws: Draws) -> dict[str, torch.Tensor]:
    return {name: array for name in ARRAYS if (array := getattr(draws, name)) is not None}


def _unpack(packed: bytes, record: Record) -> Draws:
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        found = {name: torch.from_numpy(arrays[name]) for name in ARRAYS if name in arrays}
    return Draws(
        samples=found["samples"],
        log_weights=found.get("log_weights"),
        log_density=found.get("log_density"),
        forward_log_ratio=found.get("forward_log_ratio"),
        chains=found.get("chains"),
        log_z=Estimate(**record.log_z) if record.log_z else None,
    )
