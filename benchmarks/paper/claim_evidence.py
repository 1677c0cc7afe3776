"""What the tables of the experiments say of each kind of claim."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from ..ranks import half_width
from .evidence import Evidence, certain, difference_of_shares, evidence_in, losses, paired_difference, share
from .ledger import Tables
from .quality import MANY_MODES, qualities

USABLE = 10.0  # floors: a setting farther from the law is of no use; ours
CHAIN = "MALA"  # chains of ULA are in the tables; two kinds of chain are not two pieces of evidence


def more_modes(tables: Tables, one: str, other: str) -> list[Evidence]:
    """Of targets with many modes, the share of modes that one row finds less that of another."""
    metrics = tables.get("paper-2d", "metrics")
    if metrics is None:
        return []
    asked = metrics[metrics["metric"] == "modes_asked"].groupby("target")["value"].max()
    many = asked[asked >= MANY_MODES].index
    recall = metrics[metrics["target"].isin(many) & (metrics["metric"] == "mode_recall")]
    return paired_difference(recall, losses(metrics), one, other)


def lower(tables: Tables, suite: str, metric: str, one: str, other: str) -> list[Evidence]:
    """Log of another row's ratio to the floor (or value) less that of one: positive where one is better."""
    metrics = tables.get(suite, "metrics")
    if metrics is None:
        return []
    quality = qualities(metrics, [metric])
    return paired_difference(quality.assign(value=-quality["quality"].astype(float)), losses(metrics), one, other)


def no_worse(tables: Tables, metric: str, one: str, other: str) -> list[Evidence]:
    """A held-out metric of which more is better, of one row less that of another, per regression."""
    metrics = tables.get("paper-blr", "metrics")
    return (
        [] if metrics is None else paired_difference(metrics[metrics["metric"] == metric], losses(metrics), one, other)
    )


def finite(tables: Tables, method: str) -> list[Evidence]:
    """Share of the runs over start scales, noise levels and seeds that end finite; method: its registered name."""
    stability = tables.get("paper-robustness", "stability")
    n_finite, n_runs = _ended(stability, method)
    return [] if stability is None or not n_runs else [share(_laws(stability), n_finite, n_runs)]


def more_finite(tables: Tables, method: str, other: str) -> list[Evidence]:
    """That share less that of another method."""
    stability = tables.get("paper-robustness", "stability")
    ended = _ended(stability, method), _ended(stability, other)
    known = stability is not None and all(n_runs for _, n_runs in ended)
    return [difference_of_shares(_laws(stability), *ended)] if known else []


def _ended(stability: pd.DataFrame | None, method: str) -> tuple[int, int]:
    """How many runs ended finite, and of how many."""
    if stability is None:
        return 0, 0
    own = stability[stability["sampler"] == method]
    return round(float((own["share_finite"] * own["n_runs"]).sum())), int(own["n_runs"].sum())


def _laws(table: pd.DataFrame) -> str:
    return ", ".join(dict.fromkeys(table["target"]))


def insensitive(tables: Tables, sweep: str, method: str) -> list[Evidence]:
    """Best over worst setting of a sweep, by the primary ratio: near 1 where settings hardly matter.

    Where even the best setting is far from the law nothing is said: what fails everywhere is not robust.
    """
    sensitivity = tables.get("paper-robustness", "sensitivity")
    if sensitivity is None:
        return []
    own = sensitivity[
        (sensitivity["sweep"] == sweep) & (sensitivity["method"] == method) & (sensitivity["metric"] == "primary")
    ]
    found = []
    for row in own.to_dict("records"):
        low, value, high = (1 / row[name] for name in ("high", "worst_over_best", "low"))
        if row["best_ratio"] > USABLE:
            low, high = 0.0, math.inf
        found.append(
            Evidence(f"{row['target']} ({row['best_ratio']:.3g} to {row['worst_ratio']:.3g} floors)", value, low, high)
        )
    return found


def steps_equal(tables: Tables, sampler: str, metric: str) -> list[Evidence]:
    """Steps of a chain of MALA that restarts for every draw, as many as one pass is worth, on laws of images."""
    return _of_equal_steps(tables, sampler, metric, "k", "k_low", "k_high")


def times_cheaper(tables: Tables, sampler: str, metric: str) -> list[Evidence]:
    """Time of a draw by such a chain of equal quality over that of one pass."""
    columns = ("microseconds_ratio", "microseconds_ratio_low", "microseconds_ratio_high")
    return _of_equal_steps(tables, sampler, metric, *columns)


def _of_equal_steps(tables: Tables, sampler: str, metric: str, value: str, low: str, high: str) -> list[Evidence]:
    table, metrics = tables.get("paper-ebm", "equal_steps"), tables.get("paper-ebm", "metrics")
    if table is None or metrics is None:
        return []
    own = table[(table["sampler"] == sampler) & (table["metric"] == metric) & (table["chain"] == CHAIN)]
    lost = _lost_among(own["target"], losses(metrics), sampler)
    return [*lost, *evidence_in(own[own["k"].notna()], ["target"], value, low, high)]


def _lost_among(targets: Iterable[str], lost: Mapping[tuple[str, str], str], sampler: str) -> list[Evidence]:
    """Lost runs are worth nothing."""
    return [certain(f"{target} ({lost[target, sampler]})", 0.0) for target in targets if (target, sampler) in lost]


def rival_times_dearer(tables: Tables, sampler: str) -> list[Evidence]:
    """Time of an effective draw by the cheapest long chain or SMC of no worse quality over that of one pass."""
    rivals, costs, metrics = (tables.get("paper-ebm", name) for name in ("rivals", "costs", "metrics"))
    if rivals is None or costs is None or metrics is None:
        return []
    found = _lost_among(dict.fromkeys(rivals["target"]), losses(metrics), sampler)
    own = rivals[(rivals["sampler"] == sampler) & rivals["rival_seconds"].notna()]
    for target, rival in zip(own["target"], own["rival_seconds"], strict=True):
        wide = costs[costs["target"] == target].pivot(
            index="seed", columns="sampler", values="microseconds_per_effective_draw"
        )
        logs = np.log((wide[rival] / wide[sampler]).dropna().to_numpy(dtype=np.float64))
        if len(logs) < 2:
            continue
        mean, half = logs.mean(), half_width(logs)
        found.append(Evidence(f"{target}, {rival}", *np.exp([mean, mean - half, mean + half]).tolist()))
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
