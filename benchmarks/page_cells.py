"""Cells of the page's tables: a number as text, what it is sorted by, and what is said of it on hover and focus."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..metrics.base import METRICS
from .in_words import at_floor
from .number_text import number_text
from .ranks import PRIMARY

CHIEF = (
    "sliced_w2",
    "mode_tv",
    "modes_found",
    "mmd2",
    "log_z_error",
)  # metrics shown at first; the others are a click away
COST_COLUMNS = {  # title, what it is, whether it is shown at first
    "fit_gradient_equivalents": ("paid once, eq.", "Gradient equivalents of training, adaptation and warm-up.", True),
    "gradient_equivalents_per_effective_draw": (
        "per draw, eq.", "Gradient equivalents per effective draw, after what is paid once.", True,
    ),
    "fit_seconds": ("paid once, s", "Seconds of training, adaptation and warm-up.", True),
    "microseconds_per_effective_draw": ("per draw, µs", "Microseconds per effective draw.", True),
    "best_microseconds_per_draw": ("per draw, best batch, µs", "Microseconds per draw in the best batch.", False),
    "peak_memory_mb": ("memory, MB", "Peak memory of the worker.", False),
}  # fmt: skip
BAR = 110  # width of the bar of a ratio


@dataclass(frozen=True)
class Column:
    """A column of the tables of targets: class of its cells, title, what it means, whether it is shown at first."""

    key: str
    title: str
    help: str
    is_shown: bool


@dataclass(frozen=True)
class Cell:
    """A number: text, what follows it in small print, value to sort by, lines shown on hover and focus."""

    text: str
    note: str = ""
    sort: str = ""
    tip: str = ""
    is_at_floor: bool = False


@dataclass(frozen=True)
class Bar:
    """Place of a ratio and its interval on a logarithmic axis, in units of the drawing; nan is not drawn."""

    x: float
    low: float
    high: float
    floor: float


def metric_column(key: str, name: str) -> Column:
    """The column of a metric; those of ``CHIEF`` are shown at first."""
    known = name in METRICS.names()
    summary = METRICS.entry(name).summary if known else "Comes with another metric; no floor of its own."
    judges = " One of the two metrics that decide places." if name in PRIMARY else ""
    return Column(key, name, summary + judges, name in CHIEF)


PAYS = [
    Column(
        "pe", "pays from, draws",
        "Number of draws from which the row costs fewer gradient equivalents, training included, than the cheapest row "
        "whose quality is no worse.", True,
    ),
    Column("ps", "pays from, by time", "The same, counted in seconds on the machine of the runs.", False),
    Column(
        "pb", "bias shows at, draws",
        "Number of draws at which the bias of the row is as large as the noise of exact draws.", False,
    ),
]  # fmt: skip


def sort_value(value: float) -> str:
    """What the script sorts by: empty where there is nothing."""
    return "" if math.isnan(value) else f"{value:.6g}".replace("inf", "Infinity")


def metric_cell(row: "pd.Series[Any]", name: str) -> Cell:
    """Mean of a metric over the seeds, with its ratio to the floor."""
    value, ratio = row[f"{name}_mean"], row[f"{name}_ratio"]
    if math.isnan(value):
        return Cell("–")
    said = []  # short: there are ten thousand of them on a large page
    if not math.isnan(row[f"{name}_low"]):
        said.append(f"95%: {number_text(row[f'{name}_low'])} to {number_text(row[f'{name}_high'])}")
    if not math.isnan(ratio):
        said.append(f"floor {number_text(row[f'{name}_floor'])}, z {number_text(row[f'{name}_z'], 2)}")
        said.append(f"at the floor: {100 * row[f'{name}_at_floor']:.0f}% of runs")
    is_at_floor = bool(row[f"{name}_at_floor"] >= 0.5)
    note = "" if math.isnan(ratio) else f"{number_text(ratio, 2)}×"
    return Cell(number_text(value), note, sort_value(value), "\n".join(said), is_at_floor)


def ratio_cell(row: "pd.Series[Any]") -> Cell:
    """The ratio that decides places."""
    ratio = row["primary_ratio"]
    if math.isnan(ratio):
        return Cell("–", tip=str(row["loss"] or row["reason"] or "not every run has a value and a floor"))
    lines = [f"{number_text(ratio)} times the floor of exact draws"]
    if not math.isnan(row["primary_low"]):
        interval = f"{number_text(row['primary_low'])} to {number_text(row['primary_high'])}"
        lines.append(f"95% interval {interval}, {row['n_seeds']} seeds")
    lines += [
        f"{name}: {number_text(row[f'{name}_ratio'])} times its floor {number_text(row[f'{name}_floor'])}"
        for name in PRIMARY
        if f"{name}_ratio" in row and not math.isnan(row[f"{name}_ratio"])
    ]
    if not math.isnan(row["rank"]):
        counts = (int(row["n_better"]), int(row["n_tied"]), int(row["n_worse"]))
        lines.append("better rows: {}, not told apart: {}, worse: {}".format(*counts))
    return Cell(number_text(ratio), "", sort_value(ratio), "\n".join(lines), at_floor(row))


def cost_cell(value: float, name: str) -> Cell:
    """A cost; times below what a clock tells are not given digits."""
    text = "<0.01" if name == "fit_seconds" and 0 < value < 0.01 else number_text(value)
    return Cell(text, sort=sort_value(value))


def pays_cells(row: "pd.Series[Any]") -> list[Cell]:
    """Cells of ``PAYS``."""
    cells = []
    for unit in ("equivalents", "seconds"):
        value, against = row[f"break_even_{unit}"], row[f"break_even_{unit}_against"]
        if not isinstance(against, str):
            cells.append(Cell("–", tip="No row of no worse quality to set it against."))
            continue
        low, high = (number_text(row[f"break_even_{unit}_{end}"]) for end in ("low", "high"))
        lines = [
            f"against {against}: of no worse quality, cheapest for the draws of a run",
            f"95% interval {low} to {high}",
        ]
        text = "never" if math.isinf(value) else "at once" if value == 0 else number_text(value)
        cells.append(Cell(text, f"vs {against}", sort_value(value), "\n".join(lines)))
    shows = row["bias_shows_at"]
    tip = "Not seen: at the floor in at least half of the runs." if math.isinf(shows) else ""
    return [*cells, Cell("not seen" if math.isinf(shows) else number_text(shows), sort=sort_value(shows), tip=tip)]


def bars(part: pd.DataFrame) -> list[Bar | None]:
    """Ratios on one axis per target; intervals end at its borders."""
    ratios = part["primary_ratio"].dropna()
    if ratios.empty:
        return [None] * len(part)
    low, high = math.log(min(0.8, ratios.min())), math.log(max(2.0, ratios.max()))
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)

    def place(ratio: float) -> float:
        if math.isnan(ratio):
            return math.nan
        share = (math.log(max(ratio, 1e-300)) - low) / (high - low) if math.isfinite(ratio) else 1.0
        return round(BAR * min(max(share, 0.0), 1.0), 1)

    return [
        None
        if math.isnan(row["primary_ratio"])
        else Bar(place(row["primary_ratio"]), place(row["primary_low"]), place(row["primary_high"]), place(1.0))
        for _, row in part.iterrows()
    ]
