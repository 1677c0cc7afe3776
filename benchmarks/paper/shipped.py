"""Draws that are shipped with an experiment, so that its figures can be drawn without its store: ``panels.npz``."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..floors import write_arrays
from ..leaderboard import Results
from ..panels import first_draws
from ..store import Store

Array = npt.NDArray[np.float64]
Cells: TypeAlias = dict[str, Array | str]
"""Of rows their draws ``(n, dim)``, or the sentence that says why there are none."""
PANELS = "panels.npz"
LARGEST = float(np.finfo(np.float16).max)


def draws_to_ship(store: Path, results: Results, rows: Collection[str], n: int) -> dict[str, Cells]:
    """The first ``n`` draws of the first seed.

    Args:
        store: directory of the store.
        results: of it.
        rows: labels of the rows, in the order wanted; those that the plan lacks are left out.
        n: of every row, at most.
    Returns:
        By label of the target, then of the row.
    """
    first_seed = min((run.seed for run in results.plan.runs), default=0)
    found: dict[str, Cells] = {run.target_label: {} for run in results.plan.runs}
    cells = {
        (run.target_label, run.sampler_label): (record, problem)
        for run, record, problem in results.stored
        if run.seed == first_seed
    }
    for target, own in found.items():
        for row in rows:
            if (target, row) in cells:
                own[row] = first_draws(Store(store), *cells[target, row], n)
    return found


def write_panels(folder: Path, panels: Mapping[str, Mapping[str, Array | str]]) -> None:
    """Write draws as float16 and sentences as they are, under ``TARGET/ROW``; replaces the file at once."""
    arrays: dict[str, Any] = {
        f"{target}/{row}": np.array(cell) if isinstance(cell, str) else _half(cell)
        for target, cells in panels.items()
        for row, cell in cells.items()
    }
    write_arrays(folder / PANELS, arrays)


def _half(draws: Array) -> npt.NDArray[np.float16]:
    return np.clip(draws, -LARGEST, LARGEST).astype(np.float16)


def read_panels(folder: Path) -> dict[str, Cells]:
    """What ``write_panels`` wrote, draws in float64."""
    found: dict[str, Cells] = {}
    with np.load(folder / PANELS, allow_pickle=False) as arrays:
        for key, cell in arrays.items():
            target, row = key.split("/", 1)
            found.setdefault(target, {})[row] = str(cell) if cell.dtype.kind == "U" else cell.astype(np.float64)
    return found
