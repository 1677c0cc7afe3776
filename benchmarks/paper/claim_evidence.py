"""What the tables of the experiments say of each kind of claim."""

import math

import numpy as np
import pandas as pd

from ..ranks import geometric_mean
from .evidence import Evidence, certain, difference_of_shares, evidence_in, losses, lost_of, paired_difference, share
from .ledger import Tables
from .quality import CHAIN, MANY_MODES, PRIMARY_RATIO, qualities

USABLE = 10.0  # floors: a setting farther from the law is of no use; ours
SETTING = ["target", "start_scale", "noise", "n_runs"]


def more_modes(tables: Tables, one: str, other: str) -> list[Evidence]:
    """Of targets with many modes, the share of modes that one row finds less that of another."""
    metrics = tables.get("paper-2d", "metrics")
    if metrics is None:
        return []
    asked = metrics[metrics["metric"] == "modes_asked"].groupby("target")["value"].max()
    of_many = metrics[metrics["target"].isin(asked[asked >= MANY_MODES].index)]
    return _higher(of_many, "mode_recall", one, other)


def higher(tables: Tables, metric: str, one: str, other: str) -> list[Evidence]:
    """A held-out metric of which more is better, of one row less that of another, per regression."""
    metrics = tables.get("paper-blr", "metrics")
    return [] if metrics is None else _higher(metrics, metric, one, other)


def _higher(metrics: pd.DataFrame, metric: str, one: str, other: str) -> list[Evidence]:
    """Of metrics that count something."""
    values = metrics[metrics["metric"] == metric]
    return paired_difference(values, losses(metrics, metric), one, other, are_counts=True)


def lower(tables: Tables, suite: str, metric: str, one: str, other: str) -> list[Evidence]:
    """Log of another row's ratio to the floor (or value) less that of one: positive where one is better."""
    metrics = tables.get(suite, "metrics")
    if metrics is None:
        return []
    quality = qualities(metrics, [metric])
    values = quality.assign(value=-quality["quality"].astype(float))
    return paired_difference(values, losses(metrics, metric), one, other, are_counts=False)


def finite(tables: Tables, method: str) -> list[Evidence]:
    """Share of the runs over start scales, noise levels and seeds that end finite; method: its registered name."""
    stability = tables.get("paper-robustness", "stability")
    if stability is None:
        return []
    own = stability[(stability["sampler"] == method) & (stability["n_runs"] > 0)]
    return [share(_laws(own), *_ended(own))] if len(own) else []


def more_finite(tables: Tables, method: str, other: str) -> list[Evidence]:
    """That share less that of another method, over the settings in which both had as many runs."""
    stability = tables.get("paper-robustness", "stability")
    if stability is None:
        return []
    known = stability[stability["n_runs"] > 0].set_index(SETTING)
    one, rival = (known[known["sampler"] == name] for name in (method, other))
    common = one.index.intersection(rival.index)
    if common.empty:
        return []
    ended = [_ended(rows.loc[common].reset_index()) for rows in (one, rival)]
    return [difference_of_shares(_laws(one.loc[common].reset_index()), *ended)]


def _ended(settings: pd.DataFrame) -> tuple[int, int]:
    """How many runs ended finite, and of how many."""
    return round(float((settings["share_finite"] * settings["n_runs"]).sum())), int(settings["n_runs"].sum())


def _laws(table: pd.DataFrame) -> str:
    return ", ".join(dict.fromkeys(table["target"]))


def insensitive(tables: Tables, sweep: str, method: str) -> list[Evidence]:
    """Best over worst setting of a sweep, by the primary ratio: near 1 where settings hardly matter.

    Where even the best setting is far from the law nothing is said, since what fails everywhere is not robust; a
    setting of which all runs were lost counts against the method everywhere.
    """
    sensitivity = tables.get("paper-robustness", "sensitivity")
    if sensitivity is None:
        return []
    own = sensitivity[
        (sensitivity["sweep"] == sweep) & (sensitivity["method"] == method) & (sensitivity["metric"] == PRIMARY_RATIO)
    ]
    found = []
    for row in own.to_dict("records"):
        low, value, high = (1 / row[name] for name in ("high", "worst_over_best", "low"))
        if row["best_ratio"] > USABLE and not math.isinf(row["low"]):
            low, high = 0.0, math.inf
        of = f"{row['target']} ({row['best_ratio']:.3g} to {row['worst_ratio']:.3g} floors)"
        found.append(Evidence(of, value, low, high))
    return found


def steps_equal(tables: Tables, sampler: str, metric: str) -> list[Evidence]:
    """Steps of a chain that restarts for every draw, as many as one pass is worth, on laws of images."""
    return _of_equal_steps(tables, sampler, metric, "k")


def times_cheaper(tables: Tables, sampler: str, metric: str) -> list[Evidence]:
    """Time of a draw by such a chain of equal quality over that of one pass.

    Where the fewest steps that were run are better already it is 0, where the most are not enough inf: not known, but
    bounded by what the table says.
    """
    return _of_equal_steps(tables, sampler, metric, "microseconds_ratio")


def _of_equal_steps(tables: Tables, sampler: str, metric: str, column: str) -> list[Evidence]:
    table, metrics = tables.get("paper-ebm", "equal_steps"), tables.get("paper-ebm", "metrics")
    if table is None or metrics is None:
        return []
    own = table[(table["sampler"] == sampler) & (table["metric"] == metric) & (table["chain"] == CHAIN)]
    known = own[own["k"].notna()]
    bounds = known["censored"].map({"below": 0.0, "above": math.inf})
    measured = evidence_in(known.assign(**{column: bounds.fillna(known[column])}), ["target"], column)
    return [*_lost(metrics, metric, sampler, set(own["target"])), *measured]


def _lost(metrics: pd.DataFrame, metric: str, sampler: str, targets: set[str]) -> list[Evidence]:
    """Lost runs of a sampler on some targets: worth nothing."""
    judged_by = metric if metric == PRIMARY_RATIO or metric in set(metrics["metric"]) else None
    lost = {target: n for (target, name), n in losses(metrics, judged_by).items() if name == sampler}
    n_seeds = metrics.groupby("target")["seed"].nunique()
    return [
        certain(f"{target} ({lost_of(n, n_seeds[target])})", 0.0) for target, n in lost.items() if target in targets
    ]


def rival_times_dearer(tables: Tables, sampler: str) -> list[Evidence]:
    """Time of an effective draw by the cheapest long chain or SMC of no worse quality over that of one pass."""
    rivals, costs, metrics = (tables.get("paper-ebm", name) for name in ("rivals", "costs", "metrics"))
    if rivals is None or costs is None or metrics is None:
        return []
    found = _lost(metrics, PRIMARY_RATIO, sampler, set(metrics["target"]))
    own = rivals[(rivals["sampler"] == sampler) & rivals["rival_seconds"].notna()]
    for target, rival in zip(own["target"], own["rival_seconds"], strict=True):
        wide = costs[costs["target"] == target].pivot(
            index="seed", columns="sampler", values="microseconds_per_effective_draw"
        )
        logs = np.log((wide[rival] / wide[sampler]).dropna().to_numpy(dtype=np.float64))
        if len(logs) < 2:
            continue
        found.append(Evidence(f"{target}, {rival}", *geometric_mean(logs)))
    return found


def falls_with_dimension(tables: Tables, sampler: str) -> list[Evidence]:
    """Exponent with which the primary ratio grows with the dimension; inf where runs in the highest one were lost."""
    exponents = tables.get("paper-dimensions", "exponents")
    if exponents is None:
        return []
    own = exponents[(exponents["sampler"] == sampler) & (exponents["quantity"] == "primary_ratio")]
    found = []
    for row in own.to_dict("records"):
        lost, dims = ([int(dim) for dim in row[name].split()] for name in ("lost_dims", "dims"))
        if lost and max(lost) > max(dims, default=0):
            found.append(certain(f"{row['family']} (runs lost in dimension {max(lost)})", math.inf))
        elif not math.isnan(row["low"]):
            curved = "" if str(row["is_power_law"]) != "False" else " (the points curve)"
            found.append(Evidence(f"{row['family']}{curved}", row["exponent"], row["low"], row["high"]))
    return found
