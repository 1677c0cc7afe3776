"""``samplerbench certify``: certificates of many targets in parallel; their table, JSON and shipped files."""

import argparse
import contextlib
import dataclasses
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import resources
from pathlib import Path

import pandas as pd
import torch

from ..targets.base import TARGETS, HasMinibatch
from ..targets.registry import load_plugin
from .catalogue import VERDICTS, shipped_targets
from .certificates import certify
from .engine import n_cores
from .spot_values import record_spot_values
from .store import write_json, write_text
from .subject import FAST, FULL, Row, Subject

WORDS = {"pass": "certified", "uncertified": "uncertified", "fail": "failed"}


def certify_target(
    name: str, *, fast: bool = False, seed: int = 0, plugins: Sequence[str] = ()
) -> tuple[list[Row], float]:
    """The rows of one registered target; a missing file makes it uncertified, whatever else goes wrong a failure.

    Args:
        name: of the target.
        fast: with fewer draws, paths and nodes.
        seed: of everything random.
        plugins: files to load first.
    Returns:
        The rows, the last of which is the certificate, and the seconds they took.
    Raises:
        UnknownNameError: for an unknown name.
    """
    began = time.monotonic()
    torch.set_num_threads(1)
    for plugin in plugins:
        load_plugin(Path(plugin))
    try:
        target = TARGETS.get(name)
    except Exception as error:  # one broken target must not take the others' certificates with it
        reason = f"{type(error).__name__}: {error}"
        return [Row(TARGETS.versioned(name), "certificate", math.nan, math.nan, math.nan, "fail", reason)], 0.0
    effort = FAST if fast else FULL
    rows = certify(Subject(TARGETS.versioned(name), target, effort, seed, is_shipped=name in shipped_targets()))
    return rows, time.monotonic() - began


def certify_targets(
    names: Sequence[str],
    *,
    fast: bool = False,
    seed: int = 0,
    workers: int = 1,
    plugins: Sequence[Path] = (),
    on_end: Callable[[str, list[Row], float], None] = lambda name, rows, seconds: None,
) -> pd.DataFrame:
    """The table of certificates, one line per check, targets in the order of ``names``.

    Args:
        names: of the project's targets, of installed packages' or of the plug-ins': what only this process has
            registered, the workers do not know.
        fast: with fewer draws, paths and nodes.
        seed: of everything random.
        workers: processes.
        plugins: files to load first.
        on_end: called with each target's name, rows and seconds when they are there.
    Raises:
        UnknownNameError: for an unknown name, before anything is computed.
    """
    for path in plugins:
        load_plugin(path)
    for name in names:
        TARGETS.entry(name)
    done: dict[str, list[Row]] = {}
    files = [str(path) for path in plugins]
    context = multiprocessing.get_context("spawn")

    def run(some: Sequence[str], n_workers: int) -> None:
        with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
            tasks = {pool.submit(certify_target, name, fast=fast, seed=seed, plugins=files): name for name in some}
            for task in as_completed(tasks):
                rows, seconds = task.result()
                done[tasks[task]] = rows
                on_end(tasks[task], rows, seconds)

    with contextlib.suppress(BrokenProcessPool):
        run(sorted(names, key=_size, reverse=True), workers)  # so that no long one is left to the end
    for name in names:
        if name in done:
            continue
        try:  # a worker died and took the others' tasks with it: by itself, each of them shows whether it was the cause
            run([name], 1)
        except BrokenProcessPool:
            reason = "the process died (killed, or out of memory)"
            done[name] = [Row(TARGETS.versioned(name), "certificate", math.nan, math.nan, math.nan, "fail", reason)]
            on_end(name, done[name], math.nan)
    return frame_of(row for name in names for row in done[name])


def _size(name: str) -> int:
    """What an evaluation costs, roughly: coordinates times data rows."""
    try:
        target = TARGETS.get(name)
    except ValueError:  # its certificate will say so
        return 0
    return target.dim * (target.n_rows if isinstance(target, HasMinibatch) else 1)


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a table with a column per field."""
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])


def line_of(rows: Sequence[Row], seconds: float) -> str:
    """What a certificate says, on one line."""
    return f"{rows[-1].target:<24} {WORDS[rows[-1].verdict]:<12} {seconds:6.1f} s  {rows[-1].reason}"


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One line per target: its verdict, how many checks passed, failed or do not apply, and why not certified."""
    lines = []
    for name, rows in table.groupby("target", sort=False):
        certificate, checks = rows.iloc[-1], rows.iloc[:-1]["verdict"].value_counts()
        counts = {word: int(checks.get(word, 0)) for word in ("pass", "fail", "uncertified", "not_applicable")}
        lines.append(
            {"target": name, "certificate": WORDS[certificate["verdict"]], **counts, "reason": certificate["reason"]}
        )
    return pd.DataFrame(lines)


def failed(table: pd.DataFrame) -> bool:
    """Whether some check failed."""
    return bool((table["verdict"] == "fail").any())


def to_json(table: pd.DataFrame) -> str:
    """The table as a JSON list of rows; a value that does not exist is null."""
    rows = [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]
    return json.dumps(rows, indent=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the shipped files: spot values of new versions, the table as CSV, and the verdicts that listings show."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.certify", description=main.__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="the others keep their rows; default: all")
    parser.add_argument("--out", type=Path, default=Path("results/certificates.csv"), help="(default %(default)s)")
    options = parser.parse_args(arguments)
    shipped = shipped_targets()
    for version in record_spot_values(shipped):
        print(f"spot values recorded: {version}")
    chosen = options.targets or shipped
    kept = pd.DataFrame()
    if options.targets and options.out.exists():
        kept = pd.read_csv(options.out, keep_default_na=False, na_values=[""]).fillna({"reason": ""})

    def write(name: str, rows: list[Row], seconds: float) -> None:
        """Nothing is lost if the next target breaks the run."""
        nonlocal kept
        print(line_of(rows, seconds), flush=True)
        new = frame_of(rows)
        kept = pd.concat([kept[kept["target"] != rows[0].target], new]) if len(kept) else new
        kept = kept.sort_values("target", kind="stable", ignore_index=True)
        write_text(options.out, kept.to_csv(index=False, float_format="%.10g"))

    table = certify_targets(chosen, workers=n_cores(), on_end=write)
    lines = summary(kept).to_dict("records")
    verdicts = {str(line["target"]): {"verdict": line["certificate"], "reason": line["reason"]} for line in lines}
    write_json(Path(str(resources.files("samplerbench.benchmarks.data") / VERDICTS)), verdicts)
    return int(failed(table))


if __name__ == "__main__":
    sys.exit(main())
