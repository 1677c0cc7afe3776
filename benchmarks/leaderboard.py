"""From stored runs to leaderboards: one row per target x sampler, one per sampler over all targets, with provenance."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .break_even import UNITS, break_even_table, restarted_rows
from .costs import COSTS, run_costs
from .development import development_targets
from .evaluate import evaluate_store, records
from .plan import RunSpec
from .ranks import half_width, rank_overall, rank_targets
from .store import STATUSES, Plan, Record, Store

STATISTICS = ("mean", "low", "high", "floor", "ratio", "z", "at_floor")
_SEVERITY = (  # a row shows its worst status; a seed that took no part does not hide how the others ended
    "killed", "failed", "timeout", "missing", "diverged", "budget", "not_installed", "not_applicable", "ok",
)  # fmt: skip


@dataclass(frozen=True)
class Results:
    """All that tables, pages and figures of a store are made of.

    Attributes:
        plan: of the store.
        stored: planned runs with their records, and what is wrong with a record that cannot be read.
        metrics: see ``evaluate_store``.
        costs: see ``run_costs``.
        board: see ``build_leaderboard``.
        places: see ``rank_targets``.
        overall: see ``rank_overall``.
    """

    plan: Plan
    stored: list[tuple[RunSpec, Record | None, str]]
    metrics: pd.DataFrame
    costs: pd.DataFrame
    board: pd.DataFrame
    places: pd.DataFrame
    overall: pd.DataFrame

    @property
    def records(self) -> list[Record]:
        """Records that could be read."""
        return [record for _, record, _ in self.stored if record]


def collect(store: Path | str, *, metrics: pd.DataFrame | None = None, device: str = "cpu") -> Results:
    """Everything about a store.

    Args:
        store: directory of a store.
        metrics: what ``evaluate_store`` returned, if it was called before.
        device: where metrics are computed.
    Raises:
        StoreError: if the directory is not a store.
    """
    directory = Store(store)
    plan = directory.plan()
    values = evaluate_store(store, device=device) if metrics is None else metrics
    stored = records(directory, plan)
    costs = run_costs(directory, stored, values)
    development = development_targets(plan.runs)
    places = rank_targets(values, development)
    board = _board(values, stored, costs).merge(
        places.drop(columns="n_seeds").rename(
            columns={"ratio": "primary_ratio", "ratio_low": "primary_low", "ratio_high": "primary_high"}
        ),
        on=["target", "sampler"],
        how="left",
    )
    board["development"] = board["target"].isin(development)  # also where nothing ranks
    board["is_best"] = board["is_best"].eq(True)
    board[["tie_group", "loss"]] = board[["tie_group", "loss"]].fillna("")
    board = board.merge(_break_even(values, costs, plan), on=["target", "sampler"], how="left")
    board = board[[name for name in board if name != "reason"] + ["reason"]]
    return Results(plan, stored, values, costs, board, places, rank_overall(places))


def build_leaderboard(store: Path | str, *, metrics: pd.DataFrame | None = None, device: str = "cpu") -> pd.DataFrame:
    """The leaderboard of a store.

    Args:
        store, metrics, device: see ``collect``.
    Returns:
        One row per target x sampler: target, sampler, status (the worst over seeds), n_ok, n_seeds; for every metric
        its mean over seeds, 95% t-interval (nan with one seed), floor, ratio and z of the mean, and the share of
        seeds at the floor; costs, means over seeds; device; primary_ratio, the geometric mean over seeds of the worse
        ratio of sliced_w2 and mode_tv, with its interval (primary_low, primary_high; nan unless all runs are ok);
        places, see ``ranks.rank_targets``; break-even in equivalents and in seconds, see ``break_even``; reason.
    Raises:
        StoreError: if the directory is not a store.
    """
    return collect(store, metrics=metrics, device=device).board


def _board(
    metrics: pd.DataFrame, stored: list[tuple[RunSpec, Record | None, str]], costs: pd.DataFrame
) -> pd.DataFrame:
    """The leaderboard without ranks."""
    names = list(dict.fromkeys(metrics["metric"]))
    means = {
        (part["target"].iloc[0], part["sampler"].iloc[0]): part[list(COSTS)].mean()
        for _, part in costs.groupby(["target", "sampler"])
    }
    rows = []
    for (target, sampler), cell in metrics.groupby(["target", "sampler"], sort=False):
        found = [
            (record, problem)
            for run, record, problem in stored
            if (run.target_label, run.sampler_label) == (target, sampler)
        ]
        known = means.get((target, sampler), dict.fromkeys(COSTS, math.nan))
        devices = {record.environment["device"] for record, _ in found if record and record.environment}
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
                **{name: float(known[name]) for name in COSTS},
                "device": "; ".join(sorted(devices)),
                "reason": _reason(found),
            }
        )
    return pd.DataFrame(rows)


def _break_even(metrics: pd.DataFrame, costs: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Break-even, wide: per unit the draws with their interval and against whom; bias_shows_at."""
    n_samples = max((run.n_samples for run in plan.runs), default=0)
    table = break_even_table(metrics, costs, restarted_rows(plan.runs), n_samples)
    wide = table[["target", "sampler", "bias_shows_at"]].drop_duplicates()
    for unit in UNITS:
        names = {"break_even": f"break_even_{unit}", "low": f"break_even_{unit}_low", "high": f"break_even_{unit}_high"}
        part = table[table["unit"] == unit].rename(columns={**names, "against": f"break_even_{unit}_against"})
        wide = wide.merge(part.drop(columns=["unit", "bias_shows_at"]), on=["target", "sampler"], how="left")
    return wide


def throughput(stored: list[tuple[RunSpec, Record | None, str]]) -> pd.DataFrame:
    """Time of a draw over batch sizes: a row per run and batch, with the device; no rows where it was not measured."""
    rows = [
        (run.target_label, run.sampler_label, run.seed, record.environment.get("device", ""), batch, cost)
        for run, record, _ in stored
        if record
        for batch, cost in record.throughput
    ]
    return pd.DataFrame(rows, columns=["target", "sampler", "seed", "device", "batch", "microseconds_per_draw"])


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
        "samplers": _configurations(plan.runs),
        "targets": {run.target_label: f"{run.target}@{run.target_version}" for run in plan.runs},
    }


def _configurations(runs: Sequence[RunSpec]) -> dict[str, dict[str, Any]]:
    """Version and configuration of every row; "ROW on TARGET" where they differ between targets."""
    of_rows: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        entry = {"version": f"{run.sampler}@{run.sampler_version}", "configuration": run.configuration}
        of_rows.setdefault(run.sampler_label, {})[run.target_label] = entry
    named: dict[str, dict[str, Any]] = {}
    for label, of_targets in of_rows.items():
        first, *others = of_targets.values()
        if all(entry == first for entry in others):
            named[label] = first
        else:
            named |= {f"{label} on {target}": entry for target, entry in of_targets.items()}
    return named


def _reason(found: list[tuple[Record | None, str]]) -> str:
    """Reason of the first seed whose status the row shows."""
    shown = _status(found)["status"]
    reasons = [record.reason if record else problem for record, problem in found if _name(record) == shown]
    return next((reason for reason in reasons if reason), "")


def _name(record: Record | None) -> str:
    return record.status if record else "missing"


def _status(found: list[tuple[Record | None, str]]) -> dict[str, Any]:
    statuses = [_name(record) for record, _ in found]
    worst = next((status for status in _SEVERITY if status in statuses), "missing")
    return {"status": worst, "n_ok": statuses.count("ok"), "n_seeds": len(statuses)}


def _summary(cell: pd.DataFrame) -> dict[str, float]:
    """Mean over seeds with a t-interval, and the place of the mean against the floor."""
    values = cell["value"].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    known = cell[cell["value"].notna()]
    if not len(values):
        return dict.fromkeys(STATISTICS, math.nan)
    mean, half = float(values.mean()), half_width(values)
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
