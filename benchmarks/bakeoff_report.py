"""The bake-off's results: table of power (CSV), heat map (PNG, SVG) and provenance."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..metrics.base import METRICS
from ..targets.base import TARGETS
from .bakeoff import Part, build_target, n_used
from .corruptions import N_ANATOMY, Corruption
from .floors import Floor
from .look import LOOK
from .measure import environment
from .store import write_json, write_text

LEVEL = 0.05
# columns of the heat map, by what they look at; others follow by name
FAMILIES = (
    ("sliced_w2", "w1", "w2", "mmd2", "c2st"),
    ("energy_w1", "ksd", "ksd_paper", "moment_bias2"),
    ("mode_tv", "mode_js", "emc", "mode_recall", "rare_recall", "first_hit", "well_error", "joint_modes"),
)
COLUMNS = (
    "target",
    "n",
    "corruption",
    "strength",
    "metric",
    "n_used",
    "n_null",
    "n_repeats",
    "power",
    "std_error",
    "median_exact",
    "median_corrupted",
)
WHITE_TO_BLUE = LinearSegmentedColormap.from_list("power", ["#FFFFFF", "#9ECAE1", "#0072B2", "#003A5D"])
NOT_THERE = "#E6E6E6"


def p_values(null: NDArray[np.float32], values: NDArray[np.float32], direction: str | None) -> NDArray[np.float64]:
    """Rank p-values (1 + r) / (1 + m), r of the m null values being as bad as the value or worse.

    Args:
        null: values of exact draws, shape ``(m,)``.
        values: to be judged, shape ``(k,)``.
        direction: "lower" if large values are bad, "higher" if small ones are; None: both are, and the smaller of both
            p-values is doubled.
    Returns:
        Shape ``(k,)``.
    """
    above, below = (
        np.array([Floor(np.sort(sign * null), "non-negative").p(sign * value) for value in values]) for sign in (1, -1)
    )
    if direction is None:
        two_sided: NDArray[np.float64] = np.minimum(1.0, 2 * np.minimum(above, below))
        return two_sided
    return above if direction == "lower" else below


def standard_error(n_hits: int, n_repeats: int) -> float:
    """Of a share of independent repeats, at (hits + 1) / (repeats + 2), so that it is not zero where all agree."""
    share = (n_hits + 1) / (n_repeats + 2)
    return math.sqrt(share * (1 - share) / n_repeats)


def power_table(parts: Sequence[Part]) -> pd.DataFrame:
    """Power of every metric against every corruption: share of the repeats whose p-value is at most 5%.

    Args:
        parts: with their values; what is not whole is left out.
    Returns:
        One row per target, size, corruption and metric, with columns as in COLUMNS; power is empty where the metric is
        not finite at this size, as rare_recall with too few draws.
    """
    rows = [
        row
        for part in parts
        for corruption in part.corruptions.values()
        for metric in _in_order(part.metrics)
        if (row := _row(part, corruption, metric)) is not None
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(part: Part, corruption: Corruption, metric: str) -> dict[str, object] | None:
    null, values = part.of(None, metric), part.of(corruption, metric)
    wanted = part.repeats(metric, part.n_samples)
    if len(null) < wanted.null or len(values) < wanted.corrupted:
        return None
    finite = bool(np.isfinite(null).all() and np.isfinite(values).all())
    n_hits = int((p_values(null, values, METRICS.get(metric).direction) <= LEVEL).sum()) if finite else 0
    return {
        "target": part.name,
        "n": part.n_samples,
        "corruption": corruption.name,
        "strength": corruption.label,
        "metric": metric,
        "n_used": n_used(metric, part.n_samples),
        "n_null": len(null),
        "n_repeats": len(values),
        "power": n_hits / len(values) if finite else math.nan,
        "std_error": round(standard_error(n_hits, len(values)), 4) if finite else math.nan,
        "median_exact": float(f"{np.median(null):.4g}") if finite else math.nan,
        "median_corrupted": float(f"{np.median(values):.4g}") if finite else math.nan,
    }


def power_figure(table: pd.DataFrame) -> Figure:
    """Heat map: rows corruptions, columns metrics, a panel per target (down) and size (across), power in the cells."""
    targets, sizes = list(dict.fromkeys(table["target"])), sorted(set(table["n"]))
    seen = table.dropna(subset="power")
    metrics = _in_order(list(dict.fromkeys(seen["metric"])))
    labels = list(dict.fromkeys(table["strength"]))
    size = (0.5 * len(metrics) * len(sizes) + 2.4, (0.3 * len(labels) + 0.35) * len(targets) + 1.7)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(targets), len(sizes), squeeze=False, sharex=True, sharey=True)
    for row, target in zip(axes, targets, strict=True):
        for axis, n in zip(row, sizes, strict=True):
            part = seen[(seen["target"] == target) & (seen["n"] == n)]
            cells = part.pivot(index="strength", columns="metric", values="power").reindex(labels, columns=metrics)
            _heat(axis, cells)
            axis.set_title(f"{target}, n = {n:,}", loc="left")
    figure.suptitle(
        "Power at level 5%: share of corrupted samples that a metric tells from exact draws (grey: does not apply, or "
        "was not computed)"
    )
    return figure


def _heat(axis: Axes, cells: pd.DataFrame) -> None:
    values = cells.to_numpy(dtype=float)
    axis.set_facecolor(NOT_THERE)
    axis.pcolormesh(np.ma.masked_invalid(values), cmap=WHITE_TO_BLUE, vmin=0, vmax=1, edgecolors="white", lw=1)
    for (i, j), value in np.ndenumerate(values):
        if math.isfinite(value):
            text = f"{value:.2f}".lstrip("0") if value < 0.995 else "1"
            colour = "white" if value > 0.55 else "black"
            axis.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=8, color=colour)
    axis.set_xticks(np.arange(len(cells.columns)) + 0.5, cells.columns, rotation=50, ha="right", rotation_mode="anchor")
    axis.set_yticks(np.arange(len(cells.index)) + 0.5, cells.index)
    axis.set_ylim(len(cells.index), 0)
    sizes = [sum(name in cells.columns for name in family) for family in FAMILIES[:-1]]
    for edge in np.cumsum(sizes):
        axis.axvline(edge, color="0.25", lw=1.2)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def write_report(parts: Sequence[Part], folder: Path) -> pd.DataFrame:
    """Write power.csv, power.png, power.svg and provenance.json; returns the table.

    Args:
        parts: with their values.
        folder: it must exist.
    """
    table = power_table(parts)
    write_text(folder / "power.csv", table.to_csv(index=False, lineterminator="\n"))
    with matplotlib.rc_context(LOOK):
        figure = power_figure(table)
        figure.savefig(folder / "power.png", facecolor="white")
        figure.savefig(folder / "power.svg", facecolor="white", metadata={"Date": None})
    write_json(folder / "provenance.json", _provenance(parts, table))
    return table


def _provenance(parts: Sequence[Part], table: pd.DataFrame) -> dict[str, object]:
    names = dict.fromkeys(part.name for part in parts)
    repeats = table[["n", "metric", "n_used", "n_null", "n_repeats"]].drop_duplicates(["n", "metric"])
    return {
        "level": LEVEL,
        "targets": {n: TARGETS.versioned(n) if n in TARGETS.names() else repr(build_target(n)) for n in names},
        "metrics": [METRICS.versioned(name) for name in dict.fromkeys(table["metric"])],
        "corruptions": {
            name: " ".join((corruption.function.__doc__ or "").split())
            for part in parts
            for name, corruption in part.corruptions.items()
        },
        "seeds": "repeat k draws from the generator of the SHA-256 of ('bakeoff', target, n, corruption or 'null', k); "
        "units of the corruptions come from that of 'anatomy'",
        "draws_behind_units": N_ANATOMY,
        "repeats": repeats.to_dict("records"),
        "seconds": {f"{part.name}, n = {part.n_samples}": round(part.seconds, 1) for part in parts},
        "environment": environment("cpu"),
    }


def _in_order(metrics: Sequence[str]) -> list[str]:
    """Families together, others behind them by name."""
    known = [name for family in FAMILIES for name in family]
    return [name for name in known if name in metrics] + sorted(set(metrics) - set(known))
