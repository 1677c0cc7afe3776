"""Metrics on stored draws: cheap, repeatable, and never a reason to run a sampler again."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..metrics.base import METRICS, Truth
from ..metrics.weights import resampled, rows_of
from ..targets.base import TARGETS
from ..targets.draws import Draws
from ..targets.meter import derive_generator
from ..targets.registry import load_plugin
from .estimates import Estimates
from .floor_finder import FloorFinder
from .plan import MetricItem, RunSpec
from .store import ARRAYS, Plan, Record, Store, StoreError
from .truth import TruthSource

COLUMNS = [
    "run_id", "target", "sampler", "seed", "status", "metric", "n_samples", "value", "floor", "ratio", "z", "p",
    "at_floor", "reason",
]  # fmt: skip


class Evaluator:
    """Computes metric values of runs and keeps them in the store, so that an evaluation goes on where it stopped."""

    def __init__(self, store: Store, floors: FloorFinder, device: str = "cpu") -> None:
        self.store = store
        self.floors = floors
        self.device = device
        self._truths: dict[str, TruthSource] = {}

    def rows(
        self, run: RunSpec, record: Record | None, problem: str, metrics: list[MetricItem]
    ) -> list[dict[str, Any]]:
        """Tidy rows of one run, one per value; a run without draws has nan and the reason in every one."""
        cached = self._cached(run, record)
        wanted = {_key(metric): metric for metric in metrics}
        status = record.status if record else "missing"
        if record is None or record.draws_sha256 is None or status == "diverged":
            why = f"{status}: {record.reason}" if record else problem
            results = {key: _nothing(metric, why) for key, metric in wanted.items()}
        else:
            absent = {key: metric for key, metric in wanted.items() if not _is_whole(metric, cached.get(key))}
            results = {**cached, **self._computed(run, record, cached, absent)}
        return [row for key, metric in wanted.items() for row in self._rows(run, status, metric, results[key])]

    def _cached(self, run: RunSpec, record: Record | None) -> dict[str, Any]:
        """Values kept of earlier evaluations of the same draws."""
        table = self.store.evaluation(run.run_id)
        same = record is not None and table.get("draws_sha256", "") == record.draws_sha256
        return dict(table["values"]) if same else {}

    def _computed(
        self, run: RunSpec, record: Record, cached: dict[str, Any], metrics: dict[str, MetricItem]
    ) -> dict[str, Any]:
        """Values of the metrics that the store does not hold yet, kept in it from now on unless they failed."""
        if not metrics:
            return {}
        try:
            as_returned, resampled_once = self._prepared(run, record)
        except Exception as error:
            return {key: _nothing(metric, str(error)) for key, metric in metrics.items()}
        results, failures = {}, {}
        for key, item in metrics.items():
            try:
                takes_weights = METRICS.get(item.name).takes_weights
                results[key] = self._one(run, as_returned if takes_weights else resampled_once, item)
            except Exception as error:  # a metric that fails leaves the others whole, and is tried again next time
                failures[key] = _nothing(item, f"{type(error).__name__}: {error}")
        with contextlib.suppress(OSError):  # a read-only store is evaluated all the same; its values are not kept
            table = {"draws_sha256": record.draws_sha256, "values": {**cached, **results}}
            self.store.save_evaluation(run.run_id, table)
        return {**results, **failures}

    def _prepared(self, run: RunSpec, record: Record) -> tuple[Draws, Draws]:
        """See ``judged``."""
        return judged(_to(self.store.draws(record), self.device), run)

    def _one(self, run: RunSpec, draws: Draws, item: MetricItem) -> dict[str, Any]:
        metric = METRICS.get(item.name)
        truth = self._truth(run, item.n_samples)
        part = rows_of(draws, slice(item.n_samples))
        reason = metric.missing(part, truth)
        values = metric(part, truth, seed=run.seed)
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        kept = {name: math.nan if name in bad else value for name, value in values.items()}
        return {"values": kept, "reason": reason or (f"{', '.join(bad)} not finite" if bad else "")}

    def _rows(self, run: RunSpec, status: str, item: MetricItem, result: dict[str, Any]) -> list[dict[str, Any]]:
        metric = METRICS.get(item.name)
        own = result["values"].get(metric.name)
        floor = self.floors.find(run, item) if own is not None and math.isfinite(own) else None
        rows = []
        for name, number in result["values"].items():
            value = math.nan if number is None else float(number)
            known = floor if name == metric.name and math.isfinite(value) else None
            rows.append(
                {
                    "run_id": run.run_id,
                    "target": run.target_label,
                    "sampler": run.sampler_label,
                    "seed": run.seed,
                    "status": status,
                    "metric": name,
                    "n_samples": item.n_samples,
                    "value": value,
                    "floor": known.value if known else math.nan,
                    "ratio": known.ratio(value) if known else math.nan,
                    "z": known.z(value) if known else math.nan,
                    "p": known.p(value) if known else math.nan,
                    "at_floor": known.at_floor(value) if known else None,
                    "reason": result["reason"],
                }
            )
        return rows

    def _truth(self, run: RunSpec, n_samples: int) -> Truth:
        key = repr((run.target, run.target_parameters))
        if key not in self._truths:
            self._truths[key] = TruthSource(TARGETS.get(run.target, **run.target_parameters))
        truth = self._truths[key].at(n_samples, run.seed)
        samples = None if truth.samples is None else truth.samples.to(self.device)
        return dataclasses.replace(truth, samples=samples)


def evaluate_store(
    store: Path | str,
    *,
    device: str = "cpu",
    compute_floors: bool = False,
    on_start: Callable[[RunSpec], None] = lambda run: None,
    on_end: Callable[[RunSpec], None] = lambda run: None,
) -> pd.DataFrame:
    """Evaluate every run of a store's plan.

    Args:
        store: directory of a store.
        device: "cpu" or "cuda", where the metrics are computed.
        compute_floors: whether floors that are neither shipped nor cached are computed, which takes minutes each.
        on_start, on_end: called before and after every run.
    Returns:
        Tidy frame, one row per run and value: run_id, target, sampler, seed, status, metric, n_samples, value, floor,
        ratio, z, p, at_floor, reason. The floor is nan where there is none.
    Raises:
        StoreError: if the directory is not a store.
    """
    directory = Store(store)
    plan = directory.plan()
    evaluator = Evaluator(directory, FloorFinder(plan.metrics, compute=compute_floors), device)
    rows = []
    for run, record, problem in records(directory, plan):
        on_start(run)
        rows += evaluator.rows(run, record, problem, plan.metrics)
        on_end(run)
    return pd.DataFrame(rows, columns=COLUMNS)


def judged(draws: Draws, run: RunSpec) -> tuple[Draws, Draws]:
    """What metrics see of the draws of a run: as returned, and of equal weight.

    Weighted draws are resampled once. Both are in a fixed random order, to take the first n of.
    """
    permutation = torch.randperm(run.n_samples, generator=derive_generator("subsample", run.n_samples))
    order = permutation.to(draws.samples.device)
    return rows_of(draws, order), rows_of(resampled(draws, derive_generator("resampling", run.seed)), order)


def records(store: Store, plan: Plan) -> list[tuple[RunSpec, Record | None, str]]:
    """Planned runs with their records, and why there is none: it cannot be read, or was not run yet."""
    for plugin in sorted({plugin for run in plan.runs for plugin in run.plugins}):
        load_plugin(Path(plugin))
    found: list[tuple[RunSpec, Record | None, str]] = []
    for run in plan.runs:
        try:
            found.append((run, store.record(run.run_id), ""))
        except StoreError as error:
            found.append((run, None, str(error)))
    estimates = Estimates.known() if any(record is None for _, record, _ in found) else None
    return [
        (run, record, problem or (estimates.not_run(run) if estimates and record is None else ""))
        for run, record, problem in found
    ]


def _key(item: MetricItem) -> str:
    entry = METRICS.entry(item.name)
    return f"{item.name}@{entry.version}{entry.plugin_hash or ''}/n={item.n_samples}"


def _is_whole(item: MetricItem, kept: dict[str, Any] | None) -> bool:
    """Whether a kept result has every output that the metric gives today: one may be new, at the same version."""
    return kept is not None and set(METRICS.get(item.name).outputs) <= set(kept["values"])


def _nothing(item: MetricItem, reason: str) -> dict[str, Any]:
    return {"values": dict.fromkeys(METRICS.get(item.name).outputs, math.nan), "reason": reason}


def _to(draws: Draws, device: str) -> Draws:
    moved = {name: value.to(device) for name in ARRAYS if (value := getattr(draws, name)) is not None}
    return dataclasses.replace(draws, **moved)
