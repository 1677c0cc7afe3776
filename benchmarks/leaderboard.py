"""From stored runs to leaderboards: one row per target x sampler, as CSV and Markdown, with provenance."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..targets.meter import Counts
from .evaluate import evaluate_store, records
from .store import STATUSES, Plan, Record, Store, write_json, write_text

PRIMARY: tuple[str, ...] = ("sliced_w2", "mode_tv")  # the worse of the two ratios judges a row
OVERVIEW = ("sliced_w2", "mode_tv", "mmd2")
LEVEL = 0.95
STATISTICS = ("mean", "low", "high", "floor", "ratio", "z", "at_floor")
COSTS = (
    "fit_seconds", "draw_seconds", "microseconds_per_draw", "best_microseconds_per_draw", "fit_log_prob", "fit_score",
    "fit_hvp", "draw_log_prob", "draw_score", "draw_hvp", "fit_gradient_equivalents", "draw_gradient_equivalents",
    "gradient_equivalents_per_effective_draw", "peak_memory_mb",
)  # fmt: skip
OVERVIEW_COSTS = {
    "fit s": "fit_seconds",
    "µs/draw": "microseconds_per_draw",
    "eq./eff. draw": "gradient_equivalents_per_effective_draw",
}
MARKDOWN_COSTS = {
    "fit s": "fit_seconds",
    "draw µs": "microseconds_per_draw",
    "draw µs, best batch": "best_microseconds_per_draw",
    "grad. eq. fit": "fit_gradient_equivalents",
    "grad. eq. / eff. draw": "gradient_equivalents_per_effective_draw",
}
_SEVERITY = tuple(reversed(STATUSES))  # a row shows its worst status: not_applicable, ..., budget, ok


def build_leaderboard(store: Path | str, *, metrics: pd.DataFrame | None = None, device: str = "cpu") -> pd.DataFrame:
    """The leaderboard of a store.

    Args:
        store: directory of a store.
        metrics: what ``evaluate_store`` returned, if it was called before.
        device: where metrics are computed.
    Returns:
        One row per target x sampler: target, sampler, status (the worst over seeds), n_ok, n_seeds; for every metric
        its mean over seeds, 95% t-interval (nan with one seed), floor, ratio and z of the mean, and the share of
        seeds at the floor; costs, means over seeds; device; primary_ratio, the worse ratio of sliced_w2 and mode_tv;
        reason.
    Raises:
        StoreError: if the directory is not a store.
    """
    directory = Store(store)
    plan = directory.plan()
    values = evaluate_store(store, device=device) if metrics is None else metrics
    names = list(dict.fromkeys(values["metric"]))
    stored = records(directory, plan)
    rows = []
    for (target, sampler), cell in values.groupby(["target", "sampler"], sort=False):
        found = [
            (record, problem)
            for run, record, problem in stored
            if (run.target_label, run.sampler_label) == (target, sampler)
        ]
        rows.append(
            {
                "target": target,
                "sampler": sampler,
                **_status(found),
                **{
                    f"{name}_{statistic}": value
                    for name in names
                    for statistic, value in _summary(cell[cell["metric"] == name]).items()
                },
                **_costs([record for record, _ in found if record], cell),
                **_primary(cell),
                "reason": _reason(found),
            }
        )
    return pd.DataFrame(rows)


def write_leaderboard(
    store: Path | str, to: Path, *, metrics: pd.DataFrame | None = None, device: str = "cpu"
) -> pd.DataFrame:
    """Write leaderboard.csv, leaderboard.md, metrics.csv and provenance.json into ``to``; returns the leaderboard.

    Where the suite measured draws over batch sizes, also throughput.csv.
    """
    directory = Store(store)
    plan = directory.plan()
    values = evaluate_store(store, device=device) if metrics is None else metrics
    board = build_leaderboard(store, metrics=values)
    to.mkdir(parents=True, exist_ok=True)
    write_text(to / "leaderboard.csv", board.to_csv(index=False, float_format="%.6g"))
    write_text(to / "metrics.csv", values.to_csv(index=False, float_format="%.6g"))
    write_text(to / "leaderboard.md", markdown(board, plan))
    curves = throughput(store)
    if len(curves):
        write_text(to / "throughput.csv", curves.to_csv(index=False, float_format="%.6g"))
    write_json(
        to / "provenance.json", provenance(plan, [record for _, record, _ in records(directory, plan) if record])
    )
    return board


def throughput(store: Path | str) -> pd.DataFrame:
    """Time of a draw over batch sizes: a row per run and batch, with the device; no rows where it was not measured."""
    directory = Store(store)
    rows = [
        (run.target_label, run.sampler_label, run.seed, record.environment.get("device", ""), batch, cost)
        for run, record, _ in records(directory, directory.plan())
        if record
        for batch, cost in record.throughput
    ]
    return pd.DataFrame(rows, columns=["target", "sampler", "seed", "device", "batch", "microseconds_per_draw"])


def markdown(board: pd.DataFrame, plan: Plan) -> str:
    """The leaderboard for reading: a table per target, the ratio to the floor in brackets, bold when at the floor."""
    names = [metric.name for metric in plan.metrics]
    lines = [f"# Leaderboard: {plan.suite}", "", plan.description, "", *_LEGEND]
    for target, part in board.groupby("target", sort=False):
        shown = [name for name in names if part[f"{name}_mean"].notna().any()]
        costs = {title: cost for title, cost in MARKDOWN_COSTS.items() if part[cost].notna().any()}
        header = ["sampler", "status", *shown, *costs, "device"]
        lines += ["", f"## {target}", "", _line(header), _line(["---"] * len(header))]
        for _, row in part.iterrows():
            status = row["status"] if row["n_seeds"] == 1 else f"{row['status']} ({row['n_ok']}/{row['n_seeds']})"
            values = (*(_cell(row, name) for name in shown), *(_number(row[cost]) for cost in costs.values()))
            lines.append(_line([row["sampler"], status, *values, row["device"]]))
        reasons = [f"* {row['sampler']}: {row['reason']}" for _, row in part.iterrows() if row["reason"]]
        lines += ["", *reasons] if reasons else []
    return "\n".join([*lines, ""])


def overview(board: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The leaderboard for a terminal: per target its name and a frame of texts, the ratios of the chief metrics."""
    for target, part in board.groupby("target", sort=False):
        table = part[["sampler", "status"]].copy()
        for name in OVERVIEW:
            if f"{name}_mean" in part and part[f"{name}_mean"].notna().any():
                table[f"{name} ratio"] = [
                    _bold(_number(row[f"{name}_ratio"], 2), row, name) for _, row in part.iterrows()
                ]
        if "modes_found_mean" in part and part["modes_found_mean"].notna().any():
            table["modes"] = [_number(value) for value in part["modes_found_mean"]]
        for title, cost in OVERVIEW_COSTS.items():
            table[title] = [_number(value) for value in part[cost]]
        yield str(target), table


def provenance(plan: Plan, stored: Sequence[Record]) -> dict[str, Any]:
    """Where the numbers come from: suite, code, versions, machine, seeds, seconds."""
    environments = [json.dumps(record.environment, sort_keys=True) for record in stored if record.environment]
    return {
        "suite": plan.suite,
        "runs": len(plan.runs),
        "statuses": {status: n for status in STATUSES if (n := sum(record.status == status for record in stored))},
        "seeds": sorted({run.seed for run in plan.runs}),
        "n_samples": sorted({run.n_samples for run in plan.runs}),
        "seconds": round(sum(sum(record.seconds.values()) for record in stored), 1),
        "environments": [json.loads(text) for text in sorted(set(environments))],
        "samplers": {
            run.sampler_label: {"version": f"{run.sampler}@{run.sampler_version}", "configuration": run.configuration}
            for run in plan.runs
        },
        "targets": {run.target_label: f"{run.target}@{run.target_version}" for run in plan.runs},
    }


_LEGEND = (
    "Each cell is the mean over seeds. In brackets, the ratio to the floor: the value that exact draws of the same "
    "number reach. **Bold** is at the floor: no worse than the 95% point of exact draws, for at least half of the "
    "seeds. Metrics without a floor are bare numbers. A gradient equivalent is the cost of one score of one point "
    "(log density alone 0.5, Hessian-vector product 2).",
)


def _reason(found: list[tuple[Record | None, str]]) -> str:
    """Reason of the first seed whose status the row shows."""
    shown = _status(found)["status"]
    reasons = [record.reason if record else problem for record, problem in found if _name(record) == shown]
    return next((reason for reason in reasons if reason), "")


def _name(record: Record | None) -> str:
    return record.status if record else "missing"


def _status(found: list[tuple[Record | None, str]]) -> dict[str, Any]:
    statuses = [_name(record) for record, _ in found]
    worst = next((status for status in ("missing", *_SEVERITY) if status in statuses), "missing")
    return {"status": worst, "n_ok": statuses.count("ok"), "n_seeds": len(statuses)}


def _summary(cell: pd.DataFrame) -> dict[str, float]:
    """Mean over seeds with a t-interval, and the place of the mean against the floor."""
    values = cell["value"].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    known = cell[cell["value"].notna()]
    if not len(values):
        return dict.fromkeys(STATISTICS, math.nan)
    half = math.nan
    if len(values) > 1:
        half = float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    mean = float(values.mean())
    # floor, ratio and z are linear in the value, so their means belong to the mean value
    return {
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "floor": float(known["floor"].mean()),
        "ratio": float(known["ratio"].mean()),
        "z": float(known["z"].mean()),
        "at_floor": float((cell["at_floor"] == True).mean()) if known["floor"].notna().any() else math.nan,  # noqa: E712
    }


def _costs(stored: list[Record], cell: pd.DataFrame) -> dict[str, Any]:
    """Means over seeds of seconds and evaluations; an effective draw of a chain is counted by its ESS."""
    ess = cell.loc[cell["metric"] == "ess_bulk"].set_index("run_id")["value"]
    rows = []
    for record in stored:
        if not record.counts or "draw" not in record.seconds:
            continue
        n = record.spec.n_samples
        effective = _effective(record, float(ess.get(record.spec.run_id, math.nan)))
        equivalents = {phase: _equivalents(counts) for phase, counts in record.counts.items()}
        rows.append(
            {
                "fit_seconds": record.seconds["fit"],
                "draw_seconds": record.seconds["draw"],
                "microseconds_per_draw": 1e6 * record.seconds["draw"] / n,
                "best_microseconds_per_draw": min((cost for _, cost in record.throughput), default=math.nan),
                **{f"{phase}_{kind}": n for phase, counts in record.counts.items() for kind, n in counts.items()},
                "fit_gradient_equivalents": equivalents["fit"],
                "draw_gradient_equivalents": equivalents["draw"],
                "gradient_equivalents_per_effective_draw": equivalents["draw"] / effective,
                "peak_memory_mb": record.peak_memory_mb,
            }
        )
    means = pd.DataFrame(rows, columns=list(COSTS), dtype=float).mean()  # of no rows: nan
    devices = sorted({record.environment["device"] for record in stored if record.environment})
    return {**{name: float(means[name]) for name in COSTS}, "device": "; ".join(devices)}


def _effective(record: Record, ess: float) -> float:
    """Effective number of draws: all of them where they are independent, the ESS of the moves for chains."""
    return ess if "chains" in record.arrays else record.spec.n_samples


def _equivalents(counts: dict[str, float]) -> float:
    return Counts(**counts).gradient_equivalents


def _primary(cell: pd.DataFrame) -> dict[str, float]:
    """Worse of the primary ratios, mean over seeds; nan if a seed lacks one that the target offers."""
    judged = cell[cell["metric"].isin(PRIMARY) & ~cell["reason"].str.startswith("needs ")]
    if judged.empty or judged["ratio"].isna().any():
        return {"primary_ratio": math.nan}
    return {"primary_ratio": float(judged.groupby("metric")["ratio"].mean().max())}


def _cell(row: "pd.Series[Any]", name: str) -> str:
    value, ratio = row[f"{name}_mean"], row[f"{name}_ratio"]
    if math.isnan(value):
        return "-"
    text = _number(value) if math.isnan(ratio) else f"{_number(value)} ({_number(ratio, digits=2)})"
    return _bold(text, row, name)


def _bold(text: str, row: "pd.Series[Any]", name: str) -> str:
    """Bold where at least half of the seeds are at the floor."""
    return f"**{text}**" if row[f"{name}_at_floor"] >= 0.5 else text


def _number(value: float, digits: int = 3) -> str:
    """A few digits; large numbers in full, as people write them."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if 10**digits - 0.5 <= abs(value) < 1e7 else f"{value:.{digits}g}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
