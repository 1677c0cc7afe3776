"""Suite ``paper-robustness``: quality over settings of training and over its length, at equal evaluations."""

import math
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ..leaderboard import Results
from ..look import LOOK, ratio_axis, save, set_title, style
from ..stability import settings, stability_figure, stability_table
from ..store import write_csvs
from . import blindness
from .marks import mark_lost
from .quality import PRIMARY_RATIO
from .sensitivity import sensitivity_table
from .sweeps import GRID, LENGTH, METHODS, robustness_table, sweep_runs

LEAST = 0.3  # better than half of exact draws: centred metrics have no logarithm there
SHOWN = {"sliced_w2": "sliced W2 / floor", "mode_tv": "mode TV / floor", "mmd2": f"MMD$^2$ / floor (at least {LEAST})"}
WORSE = "worse of sliced W2 and mode TV / floor"
LOOKS = {label: style(index) for index, label in enumerate(METHODS.values())}


def write_tables(store: Path, results: Results, to: Path) -> None:
    """Write robustness.csv, sensitivity.csv, stability.csv (of the grid) and the tables of ``blindness``."""
    sweeps = sweep_runs(results.plan.runs)
    grid = set(sweeps.loc[sweeps["sweep"] == GRID.name, "run_id"])
    of_grid = settings(store)
    tables = {
        "robustness": robustness_table(results.metrics, results.costs, sweeps),
        "sensitivity": sensitivity_table(results.metrics, sweeps),
        "stability": stability_table(results.metrics, of_grid[of_grid["run_id"].isin(grid)]),
    }
    write_csvs(to, tables)
    blindness.write_tables(store, results, to)


def write_figures(folder: Path) -> list[Path]:
    """Draw settings, sensitivity, training_curves, stability_TARGET and blindness from the tables in ``folder``."""
    robustness, sensitivity, stability = (
        pd.read_csv(folder / f"{name}.csv", dtype={"setting": str, "best": str, "worst": str})
        for name in ("robustness", "sensitivity", "stability")
    )
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    written: list[Path] = []
    with matplotlib.rc_context(LOOK):
        written += save(settings_figure(robustness), figures / "settings")
        written += save(sensitivity_figure(sensitivity), figures / "sensitivity")
        written += save(training_figure(robustness), figures / "training_curves")
        for target, part in stability.groupby("target", sort=False):
            written += save(stability_figure(part), figures / f"stability_{target}")
    return [*written, *blindness.write_figures(folder)]


def settings_figure(table: pd.DataFrame) -> Figure:
    """Primary ratio over each one-dimensional sweep: a row of panels per target, a line per method.

    Args:
        table: of ``sweeps.robustness_table``.
    """
    shown = table[~table["sweep"].isin([GRID.name, LENGTH.name])]
    targets, names = list(dict.fromkeys(shown["target"])), list(dict.fromkeys(shown["sweep"]))
    figure = Figure(figsize=(3.1 * len(names) + 1.0, 2.7 * len(targets) + 1.0), layout="constrained")
    axes = figure.subplots(len(targets), len(names), squeeze=False, sharey="row")
    for target, row in zip(targets, axes, strict=True):
        for name, axis in zip(names, row, strict=True):
            part = shown[(shown["target"] == target) & (shown["sweep"] == name)]
            order = list(dict.fromkeys(part["setting"]))
            for index, (method, line) in enumerate(part.groupby("method", sort=False)):
                x = [order.index(text) + 0.12 * (index - 1) for text in line["setting"]]
                _spread(axis, x, line, PRIMARY_RATIO, str(method))
            axis.set_xticks(
                range(len(order)), [text.replace(" to ", " to\n").replace(" in ", "\nin ") for text in order]
            )
            axis.set_xlabel(name)
            axis.set_title(target)
        ratio_axis(row[0])
        row[0].set_ylabel(WORSE)
    _legend(figure, axes[0, 0])
    set_title(figure, "Quality over settings of training, at equal evaluations: median over seeds, and range")
    return figure


def training_figure(table: pd.DataFrame) -> Figure:
    """Training curves: ratios over the gradient equivalents of training, a row of panels per target.

    Args:
        table: of ``sweeps.robustness_table``.
    """
    shown = table[table["sweep"] == LENGTH.name]
    targets = list(dict.fromkeys(shown["target"]))
    figure = Figure(figsize=(3.3 * len(SHOWN) + 1.0, 2.7 * len(targets) + 0.8), layout="constrained")
    axes = figure.subplots(len(targets), len(SHOWN), squeeze=False)
    for target, row in zip(targets, axes, strict=True):
        part = shown[shown["target"] == target]
        for (metric, title), axis in zip(SHOWN.items(), row, strict=True):
            if f"{metric}_ratio_median" not in part or part[f"{metric}_ratio_median"].isna().all():
                axis.remove()
                continue
            for index, (method, line) in enumerate(part.groupby("method", sort=False)):
                x = [paid * 1.05 ** (index - 1) for paid in line["fit_gradient_equivalents"]]
                _spread(axis, x, line, metric, str(method))
            axis.set_xscale("log")
            axis.set(xlabel="gradient equivalents of training", ylabel=title, title=target)
            ratio_axis(axis)
    _legend(figure, axes[0, 0])
    set_title(figure, "Training curves, every point a training of its own: median over seeds, and range")
    return figure


def sensitivity_figure(table: pd.DataFrame) -> Figure:
    """Worst over best setting of each sweep by the primary ratio, with its interval; a panel per target.

    Args:
        table: of ``sensitivity.sensitivity_table``.
    """
    shown = table[table["metric"] == PRIMARY_RATIO]
    targets, names = list(dict.fromkeys(shown["target"])), list(dict.fromkeys(shown["sweep"]))
    ends = shown[["worst_over_best", "high"]].to_numpy(dtype=float)
    edge = 1.25 * max([2.0, *ends[np.isfinite(ends)]])  # what is infinite ends there
    figure = Figure(figsize=(3.6 * len(targets) + 3.2, 0.55 * len(names) + 1.6), layout="constrained")
    axes = figure.subplots(1, len(targets), squeeze=False, sharey=True)[0]
    for target, axis in zip(targets, axes, strict=True):
        part = shown[shown["target"] == target]
        for index, (method, rows) in enumerate(part.groupby("method", sort=False)):
            look = LOOKS[str(method)]
            y = [names.index(name) + 0.2 * (index - 1) for name in rows["sweep"]]
            axis.plot(rows["worst_over_best"], y, ls="", ms=6, label=method, **look)
            axis.hlines(y, rows["low"], rows["high"].clip(upper=edge), color=look["color"], lw=1.2)
            for place in (place for place, high in zip(y, rows["high"], strict=True) if math.isinf(high)):
                axis.plot(edge, place, ">", ms=5, color=look["color"], clip_on=False)
        axis.axvline(1.0, color="0.6", lw=1, ls="--", zorder=0)
        axis.set_xscale("log")
        axis.set_xlim(0.9, edge)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if edge < 500 else (1,)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set(title=target, xlabel="worst setting / best setting")
    axes[0].set_yticks(range(len(names)), [_lines(name) for name in names])
    axes[0].invert_yaxis()
    _legend(figure, axes[0])
    text = "ratio of medians, 95% interval over all pairs; arrow: a setting lost runs"
    set_title(figure, f"How far settings lie apart ({WORSE}): {text}")
    return figure


def _lines(name: str) -> str:
    return name.replace(" of the score /", " of the\nscore /").replace(" per ", "\nper ").replace(" / that", "\n/ that")


def _spread(axis: Axes, x: list[float], line: pd.DataFrame, metric: str, method: str) -> None:
    """Medians with ranges of one method, and the level of exact draws; a cross at the top where runs were lost."""
    look = LOOKS[method]
    low, middle, high = (line[f"{metric}_ratio_{end}"].clip(lower=LEAST) for end in ("min", "median", "max"))
    axis.plot(x, middle, ms=5, lw=1.2, label=method, zorder=3, **look)
    axis.vlines(x, low, high, color=look["color"], lw=1.0, alpha=0.7, zorder=2)
    mark_lost(axis, [place for place, share in zip(x, line["share_finite"], strict=True) if share < 1], look["color"])
    axis.axhline(1.0, color="0.6", lw=1, ls="--", zorder=0)


def _legend(figure: Figure, axis: Axes) -> None:
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False)
