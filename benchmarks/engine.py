"""Runs a plan on several worker processes and stores every outcome.

Each slot owns one spawned process, so that a worker that is killed or out of time costs exactly its own run. (The
process pool of the standard library has no public way to stop its worker before Python 3.14.) This module imports
torch nowhere at load time: the command line answers at once, and a worker loads torch with its threads already set.
"""

import dataclasses
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from ..targets.draws import Draws
    from .plan import DeviceClass, RunSpec, Suite
    from .store import Plan, Record, Status, Store

_POLL = 0.2  # seconds between looks at the clock
_THREADS = {  # read when the libraries are loaded; spinning threads on busy cores made a job 20x slower
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True)
class Outcome:
    """How one run ended; "failed" also where its record could not be written, ``reason`` then says why."""

    spec: "RunSpec"
    status: "Status"
    reason: str
    seconds: float


@dataclass
class _Slot:
    """A worker process and the run it is busy with."""

    store: Path
    process: BaseProcess = field(init=False)
    connection: Connection = field(init=False)
    spec: "RunSpec | None" = None
    started: float = 0.0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, str(self.store)), daemon=True)
        with _environment(_THREADS):  # inherited: a script that imports torch at its top does so before _work begins
            self.process.start()
        theirs.close()

    def submit(self, spec: "RunSpec") -> None:
        self.spec, self.started = spec, time.monotonic()
        self.connection.send(spec)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_suite(
    suite: "Suite | str",
    store: Path | str,
    *,
    workers: int = 2,
    only_targets: Sequence[str] = (),
    only_samplers: Sequence[str] = (),
    device: "DeviceClass" = "cpu",
    plugins: Sequence[Path] = (),
    skip: "Callable[[RunSpec], bool]" = lambda spec: False,
    on_start: "Callable[[RunSpec], None]" = lambda spec: None,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
) -> "pd.DataFrame":
    """Plan a suite and run what its store does not hold yet.

    Workers are spawned: a script that calls this needs the usual ``if __name__ == "__main__":``.

    Args:
        suite: a Suite, the name of a shipped one, or the path of a TOML file.
        store: directory; made if absent, continued if present.
        workers: processes, one run each.
        only_targets, only_samplers: labels or names to keep; empty keeps all.
        device: "cpu" or "cuda".
        plugins: files whose registrations the suite uses.
        skip: which runs are planned and not run now; they stay missing.
        on_start, on_end: called before and after every run.
    Returns:
        One row per planned run: target, sampler, seed, status, reason, run_id.
    Raises:
        StoreError: if the store cannot be written or holds another suite.
        KeyError, ValueError: as ``make_plan``.
    """
    import pandas as pd

    from .plan import load_suite, make_plan
    from .store import Plan, Store

    if isinstance(suite, str):
        suite = load_suite(suite)
    runs = make_plan(suite, only_targets=only_targets, only_samplers=only_samplers, device=device, plugins=plugins)
    directory = Store(store)
    plan = Plan(suite.name, suite.description, list(suite.metrics), runs)
    with directory.locked():
        directory.write_plan(plan, _valid_runs(suite, directory, device, plugins))
        outcomes = run_plan(plan, Path(store), workers=workers, skip=skip, on_start=on_start, on_end=on_end)
    ended = {outcome.spec.run_id: outcome for outcome in outcomes}
    rows = []
    for run in runs:
        source = ended.get(run.run_id) or directory.record(run.run_id)
        rows.append(
            {
                "target": run.target_label,
                "sampler": run.sampler_label,
                "seed": run.seed,
                "status": source.status if source else "missing",
                "reason": source.reason if source else "",
                "run_id": run.run_id,
            }
        )
    return pd.DataFrame(rows)


def _valid_runs(suite: "Suite", store: "Store", device: "DeviceClass", plugins: Sequence[Path]) -> set[str]:
    """Run ids of the whole suite as it is now, with as many seeds as the store has seen."""
    from .plan import make_plan

    seen = max((run.seed + 1 for run in store.plan().runs), default=0) if (store.path / "plan.json").exists() else 0
    whole = dataclasses.replace(suite, seeds=max(seen, suite.seeds))
    return {run.run_id for run in make_plan(whole, device=device, plugins=plugins)}


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unfinished(plan: "Plan", store: Path) -> "list[RunSpec]":
    """Runs of the plan that the store does not hold, or holds as failed, killed, timed out or corrupt; each once."""
    from .store import Store

    directory = Store(store)
    return [run for run in {run.run_id: run for run in plan.runs}.values() if not directory.is_final(run.run_id)]


def run_plan(
    plan: "Plan",
    store: Path,
    *,
    workers: int,
    skip: "Callable[[RunSpec], bool]" = lambda spec: False,
    on_start: "Callable[[RunSpec], None]" = lambda spec: None,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run what is unfinished and not to be skipped, ``workers`` at a time.

    Raises:
        ValueError: if ``workers`` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    pending = deque(run for run in unfinished(plan, store) if not skip(run))
    slots = [_Slot(store) for _ in range(min(workers, len(pending)))]
    outcomes = []
    try:
        while pending or any(slot.spec for slot in slots):
            for slot in slots:
                if slot.spec is None and pending:
                    on_start(pending[0])
                    slot.submit(pending.popleft())
            for outcome in _collect(slots):
                outcomes.append(outcome)
                on_end(outcome)
    finally:
        for slot in slots:
            slot.stop()
    return outcomes


def _collect(slots: list[_Slot]) -> Iterator[Outcome]:
    """Outcomes of the runs that ended, were killed, or are out of time."""
    busy = [slot for slot in slots if slot.spec is not None]
    ready = wait([slot.connection for slot in busy], timeout=_POLL)
    for slot in busy:
        if slot.spec is None:
            continue
        if slot.connection in ready:
            try:
                outcome: Outcome = slot.connection.recv()
            except (EOFError, OSError):
                slot.process.join()
                code = slot.process.exitcode
                cause = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
                outcome = _lost(slot, slot.spec, "killed", f"the worker process was ended by {cause}")
        elif time.monotonic() - slot.started > slot.spec.timeout:
            outcome = _lost(slot, slot.spec, "timeout", f"not done after {slot.spec.timeout:g} s")
        else:
            continue
        if slot.spec.device == "cuda" and outcome.status == "failed":  # a CUDA error stays with its process
            slot.stop()
            slot.start()
        slot.spec = None
        yield outcome


def _lost(slot: _Slot, spec: "RunSpec", status: "Status", reason: str) -> Outcome:
    """Record a run whose worker is gone or must go, and start a new worker."""
    from .store import Record

    slot.stop()
    slot.start()
    return _save(slot.store, Record(spec=spec, status=status, reason=reason), None, time.monotonic() - slot.started)


def _save(store: Path, record: "Record", draws: "Draws | None", seconds: float) -> Outcome:
    from .store import Record, Store, StoreError

    try:
        stored = Store(store).save(record, draws)
    except StoreError as error:
        return Outcome(record.spec, "failed", str(error), seconds)
    except Exception as error:  # the sampler returned what no record can hold
        reason = f"the run cannot be recorded: {type(error).__name__}: {error}"
        bare = Record(spec=record.spec, status="failed", reason=reason, traceback=traceback.format_exc())
        return _save(store, bare, None, seconds)
    return Outcome(record.spec, stored.status, stored.reason, seconds)


def _work(connection: Connection, store: str) -> None:
    """Life of a worker: receive a spec, run it, store it, answer; ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent stops its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()

    import torch

    from .run import execute

    torch.set_num_threads(1)
    while True:
        try:
            spec: RunSpec = connection.recv()
        except EOFError:
            return
        started = time.monotonic()
        record, draws = execute(spec)
        connection.send(_save(Path(store), record, draws, time.monotonic() - started))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables while the block lasts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
