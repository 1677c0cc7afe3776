"""``samplerbench judge``: draws made anywhere, judged as evaluate judges a run, and what that means in words."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from ..metrics.base import METRICS
from ..targets.base import TARGETS, HasReference, HasSample, Target
from ..targets.draws import Draws
from ..targets.registry import load_plugin
from .evaluate import Evaluator
from .floor_finder import FloorFinder
from .floors import SLOW, Floor
from .plan import MetricItem, RunSpec
from .ranks import PRIMARY
from .store import Record, Store

COLUMNS = ["metric", "value", "floor", "ratio", "z", "p", "at_floor", "n_samples", "smallest_p", "note"]
LADDER = (2_000, 10_000, 50_000)
SIZES: Mapping[str, Sequence[int]] = dict.fromkeys(SLOW, (1_000, 2_000))  # of costly metrics
ON_REQUEST = ("c2st", "w1")  # their floors take many minutes where none is there, and others see what they see
MIN_DRAWS = 100
LEVEL = 0.05  # of the verdict, over all metrics together (Bonferroni)
FAR_ABOVE = 5.0  # standard deviations above the null law's mean, and above all of its values
FAR_BELOW = -3.0  # ratio of a centred metric that exact draws do not reach
MAX_SHOWN = 3  # metrics above the floor that the verdict names


def judge_draws(
    draws: Draws,
    target: str,
    *,
    metrics: Sequence[str] = (),
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    device: str = "cpu",
    compute_floors: bool = False,
    plugins: Sequence[Path] = (),
    on_start: Callable[[str], None] = lambda metric: None,
    on_end: Callable[[str], None] = lambda metric: None,
) -> pd.DataFrame:
    """The metric row of draws made anywhere, with floors; values are those that evaluate gives a run with these draws.

    Weighted draws are resampled once. A metric takes the first n of a fixed permutation, where n is the largest rung
    of 2,000, 10,000 and 50,000 (exact transport: 1,000 and 2,000) that has a floor and is not above the number of
    draws; without any floor, the smallest rung; metrics that have no null law take all draws.

    Args:
        draws: samples of shape ``(n, dim)``, maybe with weights, densities and chains.
        target: registered name.
        metrics: names; default all that apply, but for c2st and w1.
        sizes: metric name to n, instead of the rule above.
        seed: of the truth draws and of the resampling.
        device: where metrics are computed.
        compute_floors: whether floors that are neither shipped nor cached are computed, which takes minutes.
        plugins: files to load first.
        on_start, on_end: called before and after every metric.
    Returns:
        One row per value: metric, value, floor, ratio, z, p, at_floor, n_samples, smallest_p that the floor allows,
        note (why there is no value or no floor). By default, metrics that lack what they need are left out;
        ``attrs`` holds target, n_draws, left_out (metric name to the reason) and ess of the weights.
    Raises:
        UnknownNameError: for an unknown target or metric.
        ValueError: if the draws have another dim than the target, are not finite or are fewer than 100.
    """
    for path in plugins:
        load_plugin(path)
    law = TARGETS.get(target)
    names = list(metrics) or sorted({*METRICS.names()} - {*ON_REQUEST}, key=lambda name: (name not in PRIMARY, name))
    for name in names:
        METRICS.entry(name)
    check_draws(draws, target, law.dim)
    n = len(draws.samples)
    run = _run_of(target, n, seed, device)
    record = Record(spec=run, status="ok", draws_sha256="given")
    most = _most(law, n)
    items = [MetricItem(name, (sizes or {}).get(name) or judged_size(target, name, most)) for name in names]
    floors = FloorFinder(items, compute=compute_floors)
    evaluator = Evaluator(_Given(draws), floors, device)
    rows, left_out = [], {}
    for item in items:
        on_start(item.name)
        found = evaluator.rows(run, record, "", [item])
        if not metrics and found[0]["reason"].startswith("needs "):
            left_out[item.name] = found[0]["reason"]
        else:
            rows += [_with_note(row, item.name, floors.find(run, item)) for row in found]
        on_end(item.name)
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.attrs.update(target=target, n_draws=n, left_out=left_out, ess=_ess(draws))
    return table


def check_draws(draws: Draws, target: str, dim: int) -> None:
    """Refuse what cannot be draws of a target.

    Raises:
        ValueError: naming the array, the rule and the value.
    """
    x, n = draws.samples, len(draws.samples)
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"draws of {target} must have shape (n, {dim}), got {tuple(x.shape)}")
    if n < MIN_DRAWS:
        raise ValueError(f"draws must be at least {MIN_DRAWS}, got {n}")
    bad = (~x.isfinite().all(1)).nonzero()[:, 0]
    if len(bad):
        raise ValueError(f"draws must be finite, got NaN or infinities in {len(bad)} rows, first in row {bad[0] + 1}")
    if draws.chains is not None and (draws.chains.ndim != 3 or draws.chains.shape[2] != dim):
        shape = tuple(draws.chains.shape)
        raise ValueError(f"chains of {target} must have shape (n_chains, n_kept, {dim}), got {shape}")
    if draws.chains is not None and not draws.chains.isfinite().all():
        raise ValueError("chains must be finite, got NaN or infinities")
    _check_stat("log_weights", draws.log_weights, n, low=-math.inf)
    _check_stat("log_density", draws.log_density, n)
    ratio = draws.forward_log_ratio
    if ratio is not None and (ratio.ndim != 1 or ratio.isnan().any()):
        raise ValueError(f"forward_log_ratio must have shape (m,) and no NaN, got shape {tuple(ratio.shape)}")
    if draws.log_weights is not None and not draws.log_weights.max().isfinite():
        raise ValueError("log_weights must have a finite maximum, got weight 0 in every row")


def judged_size(target: str, metric: str, n: int) -> int:
    """How many of ``n`` draws a metric judges: see ``judge_draws``."""
    if METRICS.get(metric).null is None:
        return n
    fitting = [size for size in SIZES.get(metric, LADDER) if size <= n]
    known = [size for size in fitting if floor_at(target, metric, size) is not None]
    return max(known) if known else min(fitting, default=n)


def floor_at(target: str, metric: str, n_samples: int) -> Floor | None:
    """The floor of a registered metric on a registered target, shipped or cached; None where there is none."""
    item = MetricItem(metric, n_samples)
    return FloorFinder([item], compute=False).find(_run_of(target, n_samples, seed=0, device="cpu"), item)


def verdict(table: pd.DataFrame) -> str:
    """One sentence on what a table of ``judge_draws`` means."""
    target, judged = table.attrs["target"], table[table["floor"].notna()]
    if judged.empty:
        return "No metric has a floor at these sizes: the values alone do not say how good the draws are."
    above = judged[judged["at_floor"] == False].sort_values("z", key=abs, ascending=False)  # noqa: E712
    failed = table[table["value"].isna() & ~table["note"].str.startswith("needs ")]["metric"]
    said = [f"At the floor in {len(judged) - len(above)} of {len(judged)} metrics"]
    said += [_above(row) for row in above.head(MAX_SHOWN).to_dict("records")]
    said += [f"{len(above) - MAX_SHOWN} more"] if len(above) > MAX_SHOWN else []
    said += [f"no value of {', '.join(failed)}, see the notes"] if len(failed) else []
    facts = "; ".join(said)
    level = LEVEL / len(judged)
    beyond = (above["p"] == above["smallest_p"]) & (above["z"] > FAR_ABOVE)  # p can say no more than that
    significant = above[(above["p"] <= level) | beyond | (above["ratio"] <= FAR_BELOW)]
    if len(significant):
        name = str(significant["metric"].iloc[0])
        what = METRICS.entry(name).summary.partition(";")[0].rstrip(".")
        return f"{facts}: these are not draws of {target}. Clearest is {name}, the {what[0].lower()}{what[1:]}."
    if len(above):
        return f"{facts}: no more than chance, by which exact draws are above in 1 of 20 metrics."
    return (
        f"{facts}{':' if failed.empty else '; otherwise'} nothing here tells these draws from exact draws of {target}."
    )


def remarks(table: pd.DataFrame) -> list[str]:
    """What a reader of the table should know: sizes, weights, chains, and metrics that are left out."""
    n, ess, left_out = (table.attrs[key] for key in ("n_draws", "ess", "left_out"))
    independent = "floors are of independent draws"
    lines = []
    if (table["n_samples"] < n).any():
        why = ": the largest n with a floor" if table["floor"].notna().any() else ""
        lines.append(f"n of the {n:,} draws are judged, the first of a fixed permutation{why}")
    if not math.isnan(ess):
        lines.append(f"weighted draws are resampled once; they count as {ess:,.0f}, {independent}")
    lines += [
        f"draws of chains depend on each other; those kept count as {ess_bulk:,.0f}, {independent}"
        for ess_bulk in table.loc[table["metric"] == "ess_bulk", "value"].dropna()
    ]
    if left_out:
        lacks = {name: why.removeprefix("needs ").replace("samples", "truth draws") for name, why in left_out.items()}
        said = [f"{name} ({lack if lack.startswith('at least') else f'no {lack}'})" for name, lack in lacks.items()]
        lines.append("left out: " + ", ".join(said))
    return lines


def texts(table: pd.DataFrame) -> pd.DataFrame:
    """A table of ``judge_draws`` for reading."""
    shown = table[["metric"]].assign(n=[f"{n:,}" for n in table["n_samples"]])
    for name in ("value", "floor", "ratio", "z"):
        shown[name] = [_number(value) for value in table[name]]
    is_least = table["p"] == table["smallest_p"]
    shown["p"] = [_number(p) + " (least)" * least for p, least in zip(table["p"], is_least, strict=True)]
    shown["at floor"] = ["-" if at_floor is None else "yes" if at_floor else "no" for at_floor in table["at_floor"]]
    return shown if (table["note"] == "").all() else shown.assign(note=table["note"])


def to_json(table: pd.DataFrame) -> str:
    """The rows as a JSON list; what does not exist is null."""
    rows = [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]
    return json.dumps(rows, indent=1)


class _Given(Store):
    """Draws at hand in the place of a store's, so that evaluate judges them as those of a run."""

    def __init__(self, draws: Draws) -> None:
        super().__init__("")
        self.given = draws

    def draws(self, record: Record) -> Draws:
        return self.given

    def evaluation(self, run_id: str) -> dict[str, Any]:
        return {}

    def save_evaluation(self, run_id: str, table: Mapping[str, Any]) -> None:
        """Nothing is kept."""


def _run_of(target: str, n_samples: int, seed: int, device: str) -> RunSpec:
    return RunSpec(
        target=target,
        target_version=TARGETS.entry(target).version,
        target_label=target,
        target_parameters={},
        sampler="given",
        sampler_version=1,
        sampler_label="given",
        configuration={},
        seed=seed,
        n_samples=n_samples,
        device="cuda" if device == "cuda" else "cpu",
        dtype="float64",
        budget={},
        plugin_hashes=[],
        plugins=[],
        timeout=1.0,
    )


def _most(target: Target, n: int) -> int:
    """``n``, at most half of the reference draws where exact ones are impossible: the truth has no more to judge by."""
    if isinstance(target, HasReference) and not isinstance(target, HasSample):
        return min(n, len(target.reference()) // 2)
    return n


def _with_note(row: dict[str, Any], metric: str, floor: Floor | None) -> dict[str, Any]:
    floor = floor if math.isfinite(row["floor"]) else None
    has_null = METRICS.get(metric).null is not None and row["metric"] == metric
    lacks = has_null and floor is None and math.isfinite(row["value"])
    note = row["reason"] or (f"no floor for n = {row['n_samples']:,}" if lacks else "")
    return {**row, "smallest_p": 1 / (1 + len(floor.null)) if floor else math.nan, "note": note}


def _ess(draws: Draws) -> float:
    """1 / sum w_i^2, w the normalised weights (Kish); nan without weights."""
    if draws.log_weights is None:
        return math.nan
    return 1 / draws.log_weights.double().softmax(0).square().sum().item()


def _check_stat(name: str, values: Tensor | None, n: int, *, low: float | None = None) -> None:
    """One number per draw, finite, or ``low``."""
    if values is None:
        return
    if values.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), one per draw, got {tuple(values.shape)}")
    n_bad = int((~(values.isfinite() | (values == low if low is not None else False))).sum())
    if n_bad:
        raise ValueError(f"{name} must be finite{' or -inf' if low is not None else ''}, got {n_bad} that are not")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"


def _above(row: Mapping[Any, Any]) -> str:
    if row["value"] < 0:
        return f"{row['metric']} far below zero, {abs(row['ratio']):.2g} times the floor in size"
    return f"{row['metric']} {row['ratio']:.3g} times the floor (p {row['p']:.2g})"
