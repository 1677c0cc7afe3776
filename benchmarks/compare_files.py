"""The two sides of ``samplerbench compare`` as they lie on disk, and its result in words."""

import json
import math
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from .compare import COLUMNS, DIGITS, KEY, Runs, regressions
from .costs import COSTS, run_costs
from .evaluate import evaluate_store, records
from .store import STATUSES, Store, write_text

NUMBERS = ("seed", "n_samples", "value", "floor", "ratio", "z")
NEEDED = (*KEY, "status", "metric", "reason", *NUMBERS)
SHOWN = ("better", "worse", "changed")
CALLED = {"cannot tell": "cannot be told", "appeared": "rows appeared", "vanished": "rows vanished"}


def read_runs(path: Path, *, device: str = "cpu") -> Runs:
    """One side of a comparison, with the six digits that files hold.

    Args:
        path: of a store, of a folder as ``samplerbench leaderboard`` writes it, or of a metrics.csv. Costs of single
            runs come from the store or costs.csv; a leaderboard.csv alone knows their means.
        device: where metrics that the store does not hold yet are computed.
    Raises:
        ValueError, StoreError: naming the path and what is wrong with it.
    """
    if path.is_file():
        return Runs(_read_metrics(path), _read_costs(path.parent))
    if (path / "plan.json").exists():
        store = Store(path)
        metrics = evaluate_store(path, device=device)
        costs = run_costs(store, records(store, store.plan()), metrics)
        return Runs(_rounded(metrics, NUMBERS), _rounded(costs, COSTS))
    if (path / "metrics.csv").is_file():
        return Runs(_read_metrics(path / "metrics.csv"), _read_costs(path))
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    raise ValueError(f"{path} is neither a store (no plan.json) nor the folder of a leaderboard (no metrics.csv)")


def suite_of(path: Path) -> str:
    """Name of the suite of a store or of a leaderboard's folder.

    Raises:
        ValueError, StoreError: if it cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    if (folder / "plan.json").exists():
        return Store(folder).plan().suite
    file = folder / "provenance.json"
    try:
        return str(json.loads(file.read_text())["suite"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} does not name a suite: {error!r}") from error


def _read_metrics(file: Path) -> pd.DataFrame:
    frame = _read(file, NEEDED, NUMBERS)
    for name in ("seed", "n_samples"):
        if not (frame[name] % 1 == 0).all():
            raise ValueError(f"{file}: column {name} must hold whole numbers")
    wrong = sorted(set(frame["status"]) - {*STATUSES, "missing"})
    if wrong:
        raise ValueError(f"{file}: a status must be missing or one of {', '.join(STATUSES)}, got {', '.join(wrong)}")
    twice = frame[frame.duplicated([*KEY, "seed", "metric"])]
    if len(twice):
        target, sampler, seed, metric = twice.iloc[0][[*KEY, "seed", "metric"]]
        raise ValueError(f"{file}: {target} / {sampler} / seed {seed:.0f} has two rows of {metric}")
    return frame.astype({"seed": int, "n_samples": int})


def _read_costs(folder: Path) -> pd.DataFrame:
    """Costs of runs, of rows where only those are known, or none."""
    if (folder / "costs.csv").is_file():
        return _read(folder / "costs.csv", (*KEY, "seed", *COSTS), ("seed", *COSTS))
    if (folder / "leaderboard.csv").is_file():
        means = _read(folder / "leaderboard.csv", KEY, ())
        known = {name: pd.to_numeric(means.get(name, math.nan), errors="coerce") for name in COSTS}
        return means[KEY].assign(seed=math.nan, **known)
    return pd.DataFrame(columns=[*KEY, "seed", *COSTS]).astype(dict.fromkeys(COSTS, float))


def _read(file: Path, needed: Collection[str], numbers: Collection[str]) -> pd.DataFrame:
    try:
        frame = pd.read_csv(file, keep_default_na=False, dtype=str)
    except (ValueError, OSError) as error:  # parser and encoding errors are ValueErrors
        raise ValueError(f"{file} cannot be read: {str(error).strip()}") from error
    absent = [name for name in needed if name not in frame]
    if absent:
        raise ValueError(f"{file} must have columns {', '.join(needed)}, lacks {', '.join(absent)}")
    if frame.empty:
        raise ValueError(f"{file} has no rows")
    for name in numbers:
        try:
            frame[name] = pd.to_numeric(frame[name].replace("", None))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}: column {name} must hold numbers: {error}") from error
    if frame.isna()[frame.columns.intersection(["seed", "n_samples"])].any(axis=None):
        raise ValueError(f"{file} has rows without seed or n_samples: it is cut short or corrupt")
    return frame


def _rounded(frame: pd.DataFrame, columns: Collection[str]) -> pd.DataFrame:
    """As the files hold them, so that a store equals the leaderboard that was made of it."""
    return frame.assign(
        **{name: [float(f"{value:.{DIGITS}g}") for value in frame[name].astype(float)] for name in columns}
    )


def texts(table: pd.DataFrame, *, time: bool = False) -> pd.DataFrame:
    """What changed beyond noise, the worst first, as a person reads it.

    Args:
        table: what ``compare_runs`` returned.
        time: whether seconds that got worse count as worse.
    """
    order = {"worse": 0, "changed": 1, "better": 2, "cannot tell": 3}
    found = table[table["verdict"].isin(SHOWN) | ((table["kind"] == "status") & (table["verdict"] == "cannot tell"))]
    found = found.assign(place=found["verdict"].map(order)).sort_values("place", kind="stable")
    counted = set(regressions(table, time=time).index)
    rows = []
    for index, row in zip(found.index, found.to_dict("records"), strict=True):
        is_free = row["verdict"] == "worse" and index not in counted
        rows.append(
            {
                "verdict": "worse (not judged)" if is_free else str(row["verdict"]),
                **{name: str(row[name]) for name in (*KEY, "metric")},
                "before": _shown(row["before"]),
                "after": _shown(row["after"]),
                "change": _change(row),
                "p (Holm)": _shown(row["p_holm"], digits=2),
                "note": str(row["note"]),
            }
        )
    return pd.DataFrame(rows, columns=["verdict", *KEY, "metric", "before", "after", "change", "p (Holm)", "note"])


def _change(row: Mapping[Hashable, object]) -> str:
    """A factor where the scale is a log, otherwise a difference; the interval in brackets."""
    values = [
        float(str(row[name])) for name in ("change", "low", "high") if row["scale"] in ("log", "value", "size of z")
    ]
    if not values or math.isnan(values[0]):
        return ""
    shown = [f"{math.exp(min(value, 700.0)):.4g}" if row["scale"] == "log" else f"{value:+.4g}" for value in values]
    sign = "x " if row["scale"] == "log" else ""
    end = " of |z|" if row["scale"] == "size of z" else ""
    return f"{sign}{shown[0]}{end}" + ("" if math.isnan(values[1]) else f" [{shown[1]}, {shown[2]}]")


def _shown(value: object, digits: int = 4) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.{digits}g}"
    return str(value)


def summary(table: pd.DataFrame) -> str:
    """How many cells ended how, in a line."""
    kinds = table["verdict"].value_counts()
    identical = int((table["note"] == "identical").sum())
    parts = [f"{kinds.get(name, 0)} {CALLED.get(name, name)}" for name in (*SHOWN, "same", *CALLED)]
    return f"{len(table)} cells: {', '.join(parts)}; {identical} identical to the digit".replace(
        " same,", " the same within noise,"
    )


def to_json(table: pd.DataFrame) -> str:
    """The rows as a JSON list; what does not exist is null."""
    rows = [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]
    return json.dumps(rows, indent=1, default=np.generic.item)


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """All rows, the columns of ``compare_runs``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, table[[*COLUMNS]].to_csv(index=False, float_format=f"%.{DIGITS}g"))
