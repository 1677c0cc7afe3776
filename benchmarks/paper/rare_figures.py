"""Figures of rare faults: a line per sampler, a panel per weight, a dot per seed."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator
from scipy import stats

from ..look import COLOURS, set_title
from .rare_modes import OUTSIDE, weight_text

LINE = 0.21  # inches
BAND = "#E3E3E3"
FOUND, ABSENT = COLOURS[0], COLOURS[4]
SHARES = LinearSegmentedColormap.from_list("share", ["#FFFFFF", "#9CCBE8", "#0072B2"])
SPREAD = 0.5  # of a line, that seeds share


def recall_figure(modes: pd.DataFrame) -> Figure:
    """Share of the seeds in which a mode has at least 5 draws: a line per sampler, a column per weight and target.

    Args:
        modes: rare_modes.csv.
    """
    targets, samplers = _order(modes, "target"), _order(modes, "sampler")
    figure = Figure(figsize=(_margin(samplers) + 2.0 * len(targets), LINE * len(samplers) + 1.2), layout="constrained")
    axes = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    for axis, target in zip(axes, targets, strict=True):
        faults = _faults(modes[modes["target"] == target])
        weights = _order(faults, "mode")
        for line, sampler in enumerate(samplers):
            runs = faults[faults["sampler"] == sampler]
            if not len(runs):
                continue
            if runs["hits"].isna().all():
                _say(axis, line, f"no draws: {runs['status'].iloc[0]}")
                continue
            for column, mode in enumerate(weights):
                found = runs.loc[runs["mode"] == mode, "found"]
                n_found, n = int(found.sum()), len(found)
                axis.fill_between([column - 0.48, column + 0.48], line - 0.47, line + 0.47, color=SHARES(n_found / n))
                colour = "white" if n_found / n > 0.7 else "black"
                axis.text(column, line, f"{n_found}/{n}", ha="center", va="center", color=colour, fontsize=8)
        names = [weight_text(faults.loc[faults["mode"] == mode, "weight"].iloc[0]) for mode in weights]
        axis.set(title=target, xlabel="weight of the mode", xlim=(-0.5, len(weights) - 0.5))
        axis.set_xticks(range(len(weights)), names)
        axis.spines[["left", "bottom"]].set_visible(False)
        axis.tick_params(length=0)
    _lines(axes[0], samplers)
    set_title(figure, "Seeds in which a rare mode has 5 draws or more")
    return figure


def first_hit_figure(target: str, modes: pd.DataFrame) -> Figure:
    """Draws to the first in a rare mode, a panel per weight; the band holds 90% of exact draws, the line their mean.

    Args:
        target: its label.
        modes: rows of rare_modes.csv of that target.
    """
    faults = _faults(modes)
    figure, axes, samplers = _panels(faults)
    n = int(modes["n_draws"].max())
    for axis, (_, part) in zip(axes, faults.groupby("mode", sort=False), strict=True):
        weight = part["weight"].iloc[0]
        axis.axvspan(*np.minimum(stats.geom.ppf([0.05, 0.95], weight), n), color=BAND, lw=0, zorder=0)
        axis.axvline(part["first_hit_exact"].max(), color="0.45", lw=1, ls="--", zorder=1)
        _seeds(axis, part, samplers, "first_hit", part["censored"] == 1, ">")
        axis.set_xscale("log")
        axis.set_xlim(0.7, 2.2 * n)
        _decades(axis, 0.7, 2.2 * n)
        axis.set(title=f"weight {weight_text(weight)}", xlabel="draws")
    which = f"dashed and grey: mean and 90% of exact draws; open triangle: none in {n:,}"
    set_title(figure, f"{target}: draws to the first of a rare mode, a mark per seed ({which})")
    return figure


def weight_figure(target: str, modes: pd.DataFrame) -> Figure:
    """Share of the draws in a rare mode over its true weight, a panel per weight; the band holds 95% of exact draws.

    Args:
        target: its label.
        modes: rows of rare_modes.csv of that target.
    """
    faults = _faults(modes)
    figure, axes, samplers = _panels(faults)
    n = int(modes["n_draws"].max())
    there = faults.loc[faults["weight_ratio"] > 0, "weight_ratio"]
    low, high = min(0.1, there.min()) / 1.5, max(10.0, there.max()) * 1.5
    absent = low / 8
    for axis, (_, part) in zip(axes, faults.groupby("mode", sort=False), strict=True):
        weight = part["weight"].iloc[0]
        least, most = stats.binom.ppf([0.025, 0.975], n, weight) / (n * weight)
        axis.axvspan(max(least, low), most, color=BAND, lw=0, zorder=0)
        axis.axvline(1.0, color="0.45", lw=1, ls="--", zorder=1)
        shown = part.assign(shown=part["weight_ratio"].where(part["weight_ratio"] > 0, absent))
        shown["shown"] = shown["shown"].where(part["weight_ratio"].notna())
        _seeds(axis, shown, samplers, "shown", part["weight_ratio"] == 0, "<")
        axis.set_xscale("log")
        axis.set_xlim(absent / 3, high)
        _decades(axis, low, high, absent)
        axis.set(title=f"weight {weight_text(weight)}", xlabel="found / true weight")
    which = f"grey: 95% of {n:,} exact draws; open triangle: no draw"
    set_title(figure, f"{target}: found over true weight of rare modes, a mark per seed ({which})")
    return figure


def detector_figure(target: str, faults: pd.DataFrame) -> Figure:
    """Recall of the detector per fault, a panel per weight, samplers by what they cost, which the first panel shows.

    Args:
        target: its label.
        faults: rows of detector.csv of that target.
    """
    cost = faults.groupby("sampler", sort=False)["gradient_equivalents"].mean().sort_values(kind="stable")
    samplers = list(cost.index)
    modes = _by_weight(faults)
    figure, axes, _ = _panels(modes, samplers, n_before=1)
    paid = cost[cost > 0]
    axes[0].plot(paid, [samplers.index(name) for name in paid.index], "o", ms=4.5, color="0.3", mew=0)
    axes[0].set_xscale("log")
    _decades(axes[0], paid.min() / 2, paid.max() * 2)
    axes[0].set(title="cost", xlabel="gradient equivalents in all", xlim=(paid.min() / 2, paid.max() * 2))
    for axis, (_, part) in zip(axes[1:], modes.groupby("mode", sort=False), strict=True):
        _seeds(axis, part, samplers, "recall", part["n_train"] == 0, "<")
        axis.axvline(part["exact_recall"].mean(), color="0.45", lw=1, ls="--", zorder=1)
        axis.set(title=f"weight {weight_text(part['weight'].iloc[0])}", xlabel="recall", xlim=(-0.06, 1.06))
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    which = "dashed: detector trained on exact draws; open triangle: no draw of the mode to learn from"
    set_title(figure, f"{target}: recall of a detector trained on the draws, cheapest first, a mark per seed ({which})")
    return figure


def _faults(modes: pd.DataFrame) -> pd.DataFrame:
    """Rows of the modes but the heaviest and the outside, the heaviest of them first."""
    inside = modes[modes["mode"] != OUTSIDE]
    heaviest = inside.groupby("target")["weight"].transform("max")
    return _by_weight(inside[inside["weight"] < heaviest])


def _by_weight(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values("weight", ascending=False, kind="stable")


def _order(table: pd.DataFrame, name: str) -> list[str]:
    return list(dict.fromkeys(table[name]))


def _margin(samplers: Sequence[str]) -> float:
    return 0.4 + 0.075 * max(map(len, samplers))


def _panels(
    rows: pd.DataFrame, samplers: list[str] | None = None, n_before: int = 0
) -> tuple[Figure, list[Axes], list[str]]:
    """A panel per mode, with a line per sampler."""
    samplers = samplers or _order(rows, "sampler")
    n_panels = rows["mode"].nunique() + n_before
    figure = Figure(figsize=(_margin(samplers) + 2.1 * n_panels, LINE * len(samplers) + 1.5), layout="constrained")
    axes = list(figure.subplots(1, n_panels, sharey=True, squeeze=False)[0])
    for axis in axes:
        axis.grid(axis="y", color="0.93", lw=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
    _lines(axes[0], samplers)
    return figure, axes, samplers


def _lines(axis: Axes, samplers: Sequence[str]) -> None:
    axis.set_yticks(range(len(samplers)), samplers)
    axis.set_ylim(len(samplers) - 0.5, -0.5)


def _seeds(
    axis: Axes, part: pd.DataFrame, samplers: list[str], name: str, is_open: "pd.Series[bool]", marker: str
) -> None:
    """A mark per seed on its sampler's line; open ones where there was nothing to see."""
    seeds = sorted(part["seed"].unique())
    shift = {seed: SPREAD * ((k + 0.5) / len(seeds) - 0.5) for k, seed in enumerate(seeds)}
    line = part["sampler"].map(samplers.index) + part["seed"].map(shift)
    known = part[name].notna()
    kinds = ((~is_open & known, "o", FOUND, FOUND), (is_open & known, marker, "white", ABSENT))
    for chosen, kind, fill, edge in kinds:
        axis.plot(part.loc[chosen, name], line[chosen], kind, ms=4, mfc=fill, mec=edge, mew=0.9, alpha=0.9, zorder=3)
    for sampler, of_sampler in part.groupby("sampler", sort=False):
        if of_sampler[name].isna().all():
            _say(axis, samplers.index(str(sampler)), f"no draws: {of_sampler['status'].iloc[0]}")


def _say(axis: Axes, line: int, text: str) -> None:
    axis.text(
        0.5, line, text, transform=axis.get_yaxis_transform(), ha="center", va="center", fontsize=7, color="0.35",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )  # fmt: skip


def _decades(axis: Axes, low: float, high: float, absent: float | None = None) -> None:
    """Ticks at powers of ten, at most four, and at the place of what is absent."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    step = max(1, math.ceil((last - first) / 3))
    powers = [10.0**k for k in range(first, last + 1) if k % step == 0]
    names = [f"$10^{{{round(math.log10(power))}}}$" for power in powers]
    places = powers if absent is None else [absent, *powers]
    axis.xaxis.set_major_locator(FixedLocator(places))
    axis.set_xticklabels(names if absent is None else ["none", *names])
    axis.xaxis.set_minor_locator(NullLocator() if absent is not None else LogLocator(subs=(1.0,)))
    axis.xaxis.set_minor_formatter(NullFormatter())
