"""Suite ``paper-rare``: does a sampler find rare faults, weigh them, and teach a detector to know them?"""

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from ..break_even import restarted_rows
from ..leaderboard import Results
from ..look import LOOK, save
from ..store import Plan, write_csvs, write_text
from . import audit, detector, rare_modes
from .rare_draws import fault_targets, mode_draws
from .rare_figures import detector_figure, first_hit_figure, recall_figure, weight_figure
from .rare_modes import OUTSIDE, weight_text
from .rivals import no_worse

CELL = ["target", "sampler"]
CLASSIC = ("mala", "mala_long", "hmc", "hmc_long", "tempering", "tempering_long", "smc", "smc_10x", "ais")


def write_tables(store: Path, results: Results, to: Path) -> None:
    """rare_modes.csv, detector.csv, detector_runs.csv, audit.csv, audit.md and rare_faults.csv.

    See ``rare_modes.mode_rows``, ``detector.Bench.rows``, ``audit.audit_rows`` and ``summary``.

    Args:
        store: directory of the store.
        results: of that store.
        to: where the files go.
    Raises:
        ValueError: for a target without modes or exact draws.
    """
    targets = fault_targets(results)
    bench = detector.Bench(targets)
    first_seed = min(run.seed for run in results.plan.runs)
    of_modes, of_faults, of_runs, audited = [], [], [], []
    for draws in mode_draws(store, results, targets):
        target = targets[draws.run.target_label]
        of_modes += rare_modes.mode_rows(draws, target)
        faults, whole = bench.rows(draws)
        of_faults += faults
        of_runs.append(whole)
        if draws.run.seed == first_seed:
            audited += audit.audit_rows(draws, target)
    costs = total_costs(results.costs)
    modes = pd.DataFrame(of_modes, columns=rare_modes.COLUMNS)
    examples = pd.DataFrame(audited, columns=audit.COLUMNS)
    faults_table = detector.with_costs(of_faults, detector.COLUMNS, costs)
    runs_table = detector.with_costs(of_runs, detector.RUN_COLUMNS, costs)
    tables = {
        "rare_modes": modes,
        "detector": faults_table,
        "detector_runs": runs_table,
        "audit": examples,
        "rare_faults": summary(modes, faults_table, runs_table, results.metrics, classic_rows(results.plan)),
    }
    write_csvs(to, tables)
    write_text(to / "audit.md", audit.audit_markdown(examples, modes))


def write_figures(folder: Path) -> list[Path]:
    """rare_recall, and for each target first_hits_, weights_ and detector_TARGET (.png, .svg), from the CSVs."""
    modes, faults = pd.read_csv(folder / "rare_modes.csv"), pd.read_csv(folder / "detector.csv")
    (folder / "figures").mkdir(exist_ok=True)
    per_target: dict[str, tuple[Callable[[str, pd.DataFrame], Figure], pd.DataFrame]] = {
        "first_hits": (first_hit_figure, modes),
        "weights": (weight_figure, modes),
        "detector": (detector_figure, faults),
    }
    with matplotlib.rc_context(LOOK):
        written = save(recall_figure(modes), folder / "figures" / "rare_recall")
        for name, (figure, table) in per_target.items():
            for target, of_target in table.groupby("target", sort=False):
                written += save(figure(str(target), of_target), folder / "figures" / f"{name}_{target}")
    return written


def total_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """What fit and draw cost together.

    Args:
        costs: of ``costs.run_costs``.
    Returns:
        target, sampler, seed, gradient_equivalents, seconds.
    """
    return costs[["target", "sampler", "seed"]].assign(
        gradient_equivalents=costs["fit_gradient_equivalents"] + costs["draw_gradient_equivalents"],
        seconds=costs["fit_seconds"] + costs["draw_seconds"],
    )


def classic_rows(plan: Plan) -> set[str]:
    """Labels of the rows that are long chains, SMC or AIS: what a one-pass sampler must be cheaper than."""
    restarted = {sampler for _, sampler in restarted_rows(plan.runs)}
    return {run.sampler_label for run in plan.runs if run.sampler in CLASSIC} - restarted


def is_wide(sampler: str) -> bool:
    """Whether a row's start is widened by what is known of the faults, as its label says."""
    return sampler.endswith(" wide")


def summary(
    modes: pd.DataFrame, faults: pd.DataFrame, runs: pd.DataFrame, metrics: pd.DataFrame, classic: set[str]
) -> pd.DataFrame:
    """What reads off: one row per target and sampler, in the order of the plan.

    Args:
        modes, faults, runs: rare_modes.csv, detector.csv and detector_runs.csv.
        metrics: of ``evaluate_store``.
        classic: of ``classic_rows``.
    Returns:
        target, sampler, n_seeds, n_ok; rarest_found, the weight of the rarest mode with at least 5 draws in every seed
        (empty if none); for the faults of weight W (to one digit) first_hit_W (draws to the first hit, mean over seeds,
        those without any counting as n), never_W (seeds without any; empty where none has draws) and detector_recall_W;
        outside_share (of all draws outside every mode, the wrong alarms) and outside_exact; weight_error
        (rare_weight_error, mean over seeds) and its ratio to the floor of exact draws; false_alarm_rate of the
        detector; gradient_equivalents and seconds of fit and draw; cheapest_as_good, of the other classic rows of no
        worse weight_error (``rivals.no_worse``) the one of fewest gradient equivalents (none: empty), told no more than
        the sampler of how far away faults are (``is_wide``), and cost_ratio, own gradient equivalents over its. Means
        are over the seeds that have a value.
    """
    weight_errors = metrics[metrics["metric"] == "rare_weight_error"]
    errors = weight_errors.groupby(CELL)[["value", "ratio"]].mean().to_dict("index")
    told = runs.groupby(CELL)
    detected = faults.groupby([*CELL, faults["weight"].map(weight_text)])["recall"].mean().to_dict()
    rows = []
    for cell, part in modes.groupby(CELL, sort=False):
        inside, outside = part[part["mode"] != OUTSIDE], part[part["mode"] == OUTSIDE]
        row: dict[str, object] = dict(zip(CELL, cell, strict=True))
        row |= {"n_seeds": len(outside), "n_ok": int((outside["status"] == "ok").sum())}
        always = inside["found"].eq(1).groupby(inside["mode"]).all()
        row["rarest_found"] = inside.loc[inside["mode"].map(always), "weight"].min()
        by_weight = inside.sort_values("weight", ascending=False, kind="stable")
        by_weight = by_weight[by_weight["mode"] != by_weight["mode"].iloc[0]]
        for name, of_weight in by_weight.groupby(by_weight["weight"].map(weight_text), sort=False):
            row[f"first_hit_{name}"] = of_weight["first_hit"].mean()
            row[f"never_{name}"] = of_weight["censored"].astype(float).sum(min_count=1)
            row[f"detector_recall_{name}"] = detected.get((*cell, name), math.nan)
        of_run = told.get_group(cell)
        row["outside_share"] = (outside["hits"] / outside["n_draws"]).mean()
        row["outside_exact"] = outside["weight"].iloc[0]
        known = errors.get(cell, {})
        row |= {"weight_error": known.get("value", math.nan), "weight_error_ratio": known.get("ratio", math.nan)}
        row |= {name: of_run[name].mean() for name in ("false_alarm_rate", "gradient_equivalents", "seconds")}
        rows.append(row)
    table = pd.DataFrame(rows)
    counts = [name for name in table if str(name).startswith("never_")]
    return with_cheapest(table.astype(dict.fromkeys(counts, "Int64")), weight_errors, classic)


def with_cheapest(table: pd.DataFrame, errors: pd.DataFrame, classic: set[str]) -> pd.DataFrame:
    """The columns cheapest_as_good and cost_ratio, see ``summary``.

    Args:
        table: target, sampler, gradient_equivalents.
        errors: weight errors of runs: target, sampler, seed, status, value.
        classic: of ``classic_rows``.
    """
    by_target = errors[errors["status"] == "ok"].groupby("target")
    values = {key: part.pivot(index="sampler", columns="seed", values="value") for key, part in by_target}
    paid = table.set_index(CELL)["gradient_equivalents"]
    names, ratios = [], []
    for target, sampler in paid.index:
        others = sorted(name for name in classic - {sampler} if is_wide(sampler) or not is_wide(name))
        as_good = no_worse(values[target], sampler, others) if target in values else []
        as_good = [name for name in as_good if math.isfinite(paid[target, name])]
        rival = min(as_good, key=lambda name: float(paid[target, name]), default="")
        names.append(rival)
        ratios.append(paid[target, sampler] / paid[target, rival] if rival else math.nan)
    return table.assign(cheapest_as_good=names, cost_ratio=ratios)
