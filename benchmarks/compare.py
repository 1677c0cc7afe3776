"""What changed between two leaderboards beyond the noise of seeds: the same suite before and after a change of code.

A cell (target, sampler, metric) is compared by the mean over seeds of the log of its ratio to the floor; by the size
of z where the metric is centred, since far below zero is as wrong as far above; by its plain value where it has no
floor. Evaluations and seconds are compared by the mean of their log.

Two t-tests look at every cell, and p is twice the smaller one, which keeps the level whatever the two have in common.
Welch's has twice the degrees of freedom, which decides with a few seeds and Holm's correction for hundreds of cells:
at five seeds it beats the paired one unless the two sides correlate above .75, and what two runs of one seed share
(truth draws, starts) makes them correlate by .1 (measured on sliced_w2 of different samplers). The paired test is for
sides that share nearly all: a metric that moved by a hundredth on the same draws, training that rounds differently.
With other seeds there are no pairs, and Welch's stands alone.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ..metrics.base import METRICS
from .ranks import holm_adjusted

Array = npt.NDArray[np.float64]
Direction: TypeAlias = Literal["lower", "higher"] | None
Scale: TypeAlias = Literal["log", "size of z", "value"]

LEVEL = 0.05
EVALUATIONS = ("fit_log_prob", "fit_score", "fit_hvp", "draw_log_prob", "draw_score", "draw_hvp")
SECONDS = ("fit_seconds", "draw_seconds")
ABSENT = ("not_installed",)  # says nothing about the code
KEY = ["target", "sampler"]
DIGITS = 6  # that the files of a leaderboard hold
RESOLUTION = 1e-5  # relative: below it, differences are those of the last digit
COLUMNS = (
    "target", "sampler", "metric", "kind", "n_before", "n_after", "before", "after", "scale", "change", "low", "high",
    "p", "p_holm", "verdict", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """One side of a comparison.

    Attributes:
        metrics: one row per run and value, as ``evaluate_store`` returns.
        costs: one row per run, as ``run_costs`` returns; with seed nan where only the mean over seeds is known.
    """

    metrics: pd.DataFrame
    costs: pd.DataFrame


@dataclass(frozen=True)
class Change:
    """Of a mean over seeds: after less before, its interval, and p of no change; nan where they are unknown."""

    change: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


def change_of(
    before: Array, after: Array, *, paired: bool, level: float = LEVEL, resolution: float = 0.0, is_grained: bool = True
) -> Change:
    """The change of a mean with its interval and p, of two samples with at least two values each.

    Args:
        before, after: values by seed, shapes ``(n,)`` and ``(m,)``.
        paired: whether the same seed stands at the same place, so that n = m.
        level: one less the coverage of the interval.
        resolution: standard errors below it are none, and a change up to it is no change: its p is 1.
        is_grained: whether values can coincide by chance, as counts of modes do. Then a standard error of zero is no
            certainty, and p is that of the exact permutation test; otherwise the error is at least the resolution.
    """
    tests = [_welch(before, after), *([_paired(before, after)] if paired else [])]
    change = float(after.mean() - before.mean())
    halves, ps = [], []
    for error, df, exact in tests:
        if is_grained and error <= resolution:
            halves.append(math.inf)
            ps.append(exact)
        else:
            scale = max(error, resolution)
            halves.append(float(stats.t.ppf(1 - level / 2 / len(tests), df)) * scale)
            ps.append(float(2 * stats.t.sf(abs(change) / scale, df)))
    half = min(halves) if min(halves) < math.inf else math.nan
    p = 1.0 if abs(change) <= resolution else min(1.0, len(tests) * min(ps))
    return Change(change, change - half, change + half, p)


def _welch(before: Array, after: Array) -> tuple[float, float, float]:
    """Standard error, degrees of freedom, and p of the exact test if the samples do not overlap."""
    n, m = len(before), len(after)
    a, b = float(before.var(ddof=1)) / n, float(after.var(ddof=1)) / m
    fewest = min(n, m) - 1
    df = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1)) if a + b > 0 else fewest
    # with unequal numbers Satterthwaite's df fail where the smaller sample looks quiet by chance (5 against 2: twice
    # the level at 5%, 25 times at .1%); the least that they can be keeps it
    # (Mickey and Banerjee, Technometrics 8 (1966))
    return math.sqrt(a + b), df if n == m else fewest, min(1.0, 2 / math.comb(n + m, n))


def _paired(before: Array, after: Array) -> tuple[float, float, float]:
    """Standard error, degrees of freedom, and p of the exact test if all differences have one sign."""
    gaps = after - before
    return float(gaps.std(ddof=1)) / math.sqrt(len(gaps)), len(gaps) - 1, 2.0 ** (1 - len(gaps))


def compare_runs(before: Runs, after: Runs, *, level: float = LEVEL, metrics: Collection[str] = ()) -> pd.DataFrame:
    """Every cell of two leaderboards, and what became of it.

    A run is untouched where all its values and evaluations are the same to the digit; its cells are the same, and
    Holm's correction counts only the cells of others. Seconds are corrected among themselves: machines are noisy.

    Args:
        before, after: the two sides.
        level: of the tests, and one less the coverage of the intervals.
        metrics: names to compare; empty compares all.
    Returns:
        One row per target x sampler x metric in both, then evaluations, seconds, statuses that changed (metric is
        "status"), rows of one side only (metric is "row"): the columns ``COLUMNS``. ``before`` and ``after`` are means
        over the seeds that are compared (statuses in words); change, low, high are on the stated scale, log as
        log(after / before). The verdict is better, worse, changed (neither way is better), same, cannot tell, appeared
        or vanished.
    Raises:
        ValueError: if the two have no cell in common.
    """
    cells = _metric_cells(before.metrics, after.metrics, level, metrics)
    if not cells:
        asked = f" of {', '.join(metrics)}" if metrics else ""
        raise ValueError(f"no cell (target, sampler, metric){asked} is in both")
    cells += _cost_cells(before, after, level)
    tables = [_judged(cells, level), _status_rows(before.metrics, after.metrics), _one_sided(before, after)]
    return pd.DataFrame([row for table in tables for row in table], columns=[*COLUMNS])


def regressions(table: pd.DataFrame, *, time: bool = False) -> pd.DataFrame:
    """Rows of ``compare_runs`` that are worse; seconds only if ``time``."""
    return table[(table["verdict"] == "worse") & (time | (table["kind"] != "seconds"))]


# --- cells --------------------------------------------------------------------------------------------------------


def _metric_cells(
    before: pd.DataFrame, after: pd.DataFrame, level: float, metrics: Collection[str]
) -> list[dict[str, object]]:
    key = [*KEY, "metric"]
    others = dict(iter(after.groupby(key, sort=False)))
    cells = []
    for (target, sampler, metric), a in before.groupby(key, sort=False):
        b = others.get((target, sampler, metric))
        if b is None or (metrics and metric not in metrics):
            continue
        cell = {"target": target, "sampler": sampler, "metric": metric, "kind": "metric"}
        cells.append({**cell, **_metric_cell(a.set_index("seed"), b.set_index("seed"), str(metric), level)})
    return cells


def _metric_cell(a: pd.DataFrame, b: pd.DataFrame, metric: str, level: float) -> dict[str, object]:
    """The cell of one metric; both sides are indexed by seed."""
    direction, null = _registered(metric)
    known_a, known_b = a[a["value"].notna()], b[b["value"].notna()]
    if set(a["n_samples"]) != set(b["n_samples"]):
        note = f"taken on {_listed(a['n_samples'])} draws before, {_listed(b['n_samples'])} after"
        return _unknown(known_a["value"], known_b["value"], note)
    paired = set(a.index) == set(b.index)
    if paired:  # a seed that only one side survived would be set against others
        both = known_a.index.intersection(known_b.index)
        lost = known_a.index.difference(known_b.index)
        ended = b.loc[lost] if len(lost) else b[:0]
        why = [r for r in ended.loc[ended["status"] == "ok", "reason"] if not r.startswith("needs ")]
        if why and direction is not None:
            cell = _unknown(known_a["value"], known_b["value"], f"no value in {len(why)} runs: {why[0]}")
            return {**cell, "verdict": "worse"}
        known_a, known_b = known_a.loc[both], known_b.loc[both]
    if known_a.empty or known_b.empty:
        if a["value"].isna().all() and b["value"].isna().all():
            return {**_unknown(known_a["value"], known_b["value"], "no value in either"), "verdict": "same"}
        return _unknown(known_a["value"], known_b["value"], "no seed has a value in both")
    scale, (x, y) = _on_scale(known_a, known_b, null)
    floors = known_a["floor"].mean(), known_b["floor"].mean()
    moved = abs(floors[1] / floors[0] - 1) > RESOLUTION if floors[0] else False  # nan is no move
    note = f"floor {floors[0]:.6g} before, {floors[1]:.6g} after" if moved else ""
    same = paired and known_a["value"].equals(known_b["value"]) and not note
    return {
        **_means(known_a["value"], known_b["value"]),
        **_tested(x, y, scale, level, paired=paired, same=same, note=note),
        "direction": direction,
    }


def _registered(metric: str) -> tuple[Direction, str | None]:
    """Which way is better and the kind of the null law; of further outputs and unknown names, None.

    A further output of a metric (``modes_asked``, ``log_z_bias``) describes; the metric's direction is not its own.
    """
    if metric not in METRICS.names():
        return None, None
    found = METRICS.get(metric)
    return found.direction, found.null


def _on_scale(a: pd.DataFrame, b: pd.DataFrame, null: str | None) -> tuple[Scale, tuple[Array, Array]]:
    def pick(column: str) -> tuple[Array, Array]:
        return a[column].to_numpy(dtype=float), b[column].to_numpy(dtype=float)

    def all_known(x: Array, y: Array) -> bool:
        return bool(np.isfinite(x).all() and np.isfinite(y).all())

    if null == "centred":
        z, value = pick("z"), pick("value")
        return ("size of z", _each(np.abs, z)) if all_known(*z) else ("value", _each(np.abs, value))
    if null == "non-negative":
        for pair in (pick("ratio"), pick("value")):  # floors that are the same cancel
            if all_known(*pair) and min(pair[0].min(), pair[1].min()) > 0:
                return "log", _each(np.log, pair)
    return "value", pick("value")


def _each(function: np.ufunc, pair: tuple[Array, Array]) -> tuple[Array, Array]:
    return np.asarray(function(pair[0]), dtype=float), np.asarray(function(pair[1]), dtype=float)


def _cost_cells(before: Runs, after: Runs, level: float) -> list[dict[str, object]]:
    sizes = [dict(iter(runs.metrics.groupby(KEY)["n_samples"])) for runs in (before, after)]
    others = dict(iter(after.costs.groupby(KEY, sort=False)))
    cells = []
    for key, a in before.costs.groupby(KEY, sort=False):
        b = others.get(key)
        if b is None or key not in sizes[0] or key not in sizes[1]:
            continue
        n_before, n_after = (int(size[key].max()) for size in sizes)
        for name in (*EVALUATIONS, *SECONDS):
            kind = "evaluations" if name in EVALUATIONS else "seconds"
            cell = {"target": key[0], "sampler": key[1], "metric": name, "kind": kind, "direction": "lower"}
            if n_before != n_after:
                note = f"for {n_before} draws before, {n_after} after"
                cells.append({**cell, **_unknown(a[name], b[name], note)})
            else:
                own = a.set_index("seed")[name].dropna(), b.set_index("seed")[name].dropna()
                cells.append({**cell, **_cost_cell(*own, level, is_counted=kind == "evaluations")})
    return cells


def _cost_cell(a: "pd.Series[float]", b: "pd.Series[float]", level: float, *, is_counted: bool) -> dict[str, object]:
    """Of one cost, indexed by seed. Numbers of evaluations that all seeds share are exact: they have no noise."""
    if a.empty or b.empty:
        return _unknown(a, b, "not measured on one side")
    paired = bool(a.index.notna().all()) and set(a.index) == set(b.index)
    if paired:
        b = b.loc[a.index]
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    scale: Scale = "log" if min(x.min(), y.min()) > 0 else "value"
    means = _means(a, b)
    is_one = np.ptp(x) == 0 and np.ptp(y) == 0
    if scale == "log":
        x, y = _each(np.log, (x, y))
    if (paired and (x == y).all()) or (is_one and x[0] == y[0]):
        return {**means, **_tested(x, y, scale, level, paired=paired, same=True)}
    if is_counted and is_one and min(len(x), len(y)) > 1:
        change = float(y[0] - x[0])
        exact = {"change": change, "low": change, "high": change, "p": 0.0}
        return {**means, "scale": scale, **exact, "note": "the same in every seed"}
    return {**means, **_tested(x, y, scale, level, paired=paired, same=False)}


def _tested(
    x: Array, y: Array, scale: Scale, level: float, *, paired: bool, same: bool, note: str = ""
) -> dict[str, object]:
    if same:
        return {"scale": scale, "change": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "note": "identical"}
    if min(len(x), len(y)) < 2:
        result, why = Change(float(y.mean() - x.mean())), "fewer than two seeds"
        return {"scale": scale, **vars(result), "verdict": "cannot tell", "note": "; ".join(filter(None, (note, why)))}
    resolution = RESOLUTION * (1.0 if scale == "log" else float(np.abs(np.concatenate([x, y])).max()))
    result = change_of(
        x, y, paired=paired, level=level, resolution=resolution, is_grained=scale == "value"
    )  # fmt: skip
    return {"scale": scale, **vars(result), "note": note}


def _means(a: "pd.Series[float]", b: "pd.Series[float]") -> dict[str, object]:
    return {"n_before": len(a), "n_after": len(b), "before": a.mean(), "after": b.mean()}


def _unknown(a: "pd.Series[float]", b: "pd.Series[float]", note: str) -> dict[str, object]:
    nothing = {"scale": "", **vars(Change(math.nan))}
    return {**_means(a, b), **nothing, "verdict": "cannot tell", "note": note}


def _listed(values: "pd.Series[int]") -> str:
    return " and ".join(str(value) for value in sorted(set(values)))


# --- verdicts -----------------------------------------------------------------------------------------------------


def _judged(cells: list[dict[str, object]], level: float) -> list[dict[str, object]]:
    """Cells with p after Holm's correction and their verdicts."""
    frame = pd.DataFrame(cells, columns=[*COLUMNS, "direction"])
    is_identical = frame["note"] == "identical"
    untouched = (is_identical | (frame["kind"] == "seconds")).groupby([frame[name] for name in KEY]).transform("all")
    is_timed = frame["kind"] == "seconds"
    adjusted = frame["p"].astype(float)
    for family in (is_timed, ~is_timed & ~untouched):
        tested = family & frame["p"].notna()
        adjusted[tested] = holm_adjusted(frame.loc[tested, "p"].to_numpy(dtype=float))
    frame["p_holm"] = adjusted
    frame["verdict"] = [
        verdict if isinstance(verdict, str) else _verdict(float(p), float(change), direction, level)
        for verdict, p, change, direction in frame[["verdict", "p_holm", "change", "direction"]].itertuples(index=False)
    ]
    return [{str(name): value for name, value in row.items()} for row in frame[[*COLUMNS]].to_dict("records")]


def _verdict(p: float, change: float, direction: object, level: float) -> str:
    if p > level:
        return "same"
    if direction not in ("lower", "higher"):
        return "changed"
    return "better" if (change < 0) == (direction == "lower") else "worse"


def _status_rows(before: pd.DataFrame, after: pd.DataFrame) -> list[dict[str, object]]:
    """Rows of which a run ends otherwise than before: worse where a run that was ok is not, whatever the seeds.

    Seeds that only ``after`` has count against a row that was ok in all seeds of ``before``: they are expected to be.
    """
    sides = [frame[[*KEY, "seed", "status", "reason"]].drop_duplicates([*KEY, "seed"]) for frame in (before, after)]
    others = dict(iter(sides[1].groupby(KEY, sort=False)))
    rows = []
    for key, old in sides[0].groupby(KEY, sort=False):
        if key not in others:
            continue
        runs = old.merge(others[key], on="seed", how="right", suffixes=("_before", "_after"))
        runs["status_before"] = runs["status_before"].fillna("ok" if (old["status"] == "ok").all() else "")
        changed = runs[(runs["status_before"] != runs["status_after"]) & (runs["status_before"] != "")]
        if changed.empty:
            continue
        is_absent = changed["status_after"].isin(ABSENT)
        lost = changed[(changed["status_before"] == "ok") & ~is_absent]
        is_won = (changed["status_after"] == "ok").any()
        verdict = "worse" if len(lost) else "cannot tell" if is_absent.any() else "better" if is_won else "changed"
        shown = lost if len(lost) else changed
        seeds = ", ".join(f"{seed}" + ("" if seed in set(old["seed"]) else " (new)") for seed in shown["seed"])
        reason = next((str(reason) for reason in shown["reason_after"] if reason), "")
        rows.append(
            {
                "target": key[0],
                "sampler": key[1],
                "metric": "status",
                "kind": "status",
                "n_before": len(old),
                "n_after": len(runs),
                "before": shown["status_before"].iloc[0],
                "after": shown["status_after"].iloc[0],
                "verdict": verdict,
                "note": f"seed {seeds}" + (f": {reason}" if reason else ""),
            }
        )
    return rows


def _one_sided(before: Runs, after: Runs) -> list[dict[str, object]]:
    """Rows (target, sampler) of one side only: no loss, since a part of a suite may be compared with the whole."""
    sides = [runs.metrics.groupby(KEY, sort=False)["seed"].nunique() for runs in (before, after)]
    rows = []
    for own, other, number, verdict in (
        (sides[1], sides[0], "n_after", "appeared"),
        (sides[0], sides[1], "n_before", "vanished"),
    ):
        for target, sampler in own.index.difference(other.index, sort=False):
            row = {"target": target, "sampler": sampler, "metric": "row", "kind": "row", "n_before": 0, "n_after": 0}
            rows.append({**row, number: int(own[target, sampler]), "verdict": verdict, "note": ""})
    return rows
