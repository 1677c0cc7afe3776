"""``python -m samplerbench.benchmarks.budget_curves PATH PATH ...``: quality over budget, of suites at many prices.

A path is a store or a folder as ``samplerbench leaderboard`` writes it. Rows of different suites are joined by their
labels: ``budget_curves.csv``, and a figure (PNG, SVG).
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .compare import Runs
from .compare_files import read_runs, suite_of
from .look import LOOK, RATIO, ratio_axis, save, set_title, style
from .ranks import rank_targets
from .store import StoreError, write_csv

COLUMNS = ("target", "sampler", "suite", "equivalents", "seconds", "n_seeds", "ratio", "low", "high")
PER_ROW = 4
MANY = 12  # above, only the rows that are best somewhere have a colour and a name
GREY = "0.8"


def budget_table(suites: Iterable[tuple[str, Runs]]) -> pd.DataFrame:
    """What every row spent, and the quality that it bought.

    Args:
        suites: their names and runs; with common targets and samplers.
    Returns:
        One row per target, sampler and suite, by what was spent: target, sampler, suite, equivalents and seconds (of
        fit and draws together, means over runs), n_seeds, ratio (geometric mean of the primary ratio over seeds), low,
        high (95% t-interval). Rows without a ratio (a run failed or was stopped, no floor) are left out.
    Raises:
        ValueError: if two have a target and a sampler of the same labels and the same suite.
    """
    parts = []
    for suite, runs in suites:
        costs = runs.costs.assign(
            equivalents=runs.costs["fit_gradient_equivalents"] + runs.costs["draw_gradient_equivalents"],
            seconds=runs.costs["fit_seconds"] + runs.costs["draw_seconds"],
        )
        spent = costs.groupby(["target", "sampler"], as_index=False)[["equivalents", "seconds"]].mean()
        part = rank_targets(runs.metrics).rename(columns={"ratio_low": "low", "ratio_high": "high"})
        parts.append(part.merge(spent, on=["target", "sampler"]).assign(suite=suite))
    table = pd.concat(parts, ignore_index=True)[list(COLUMNS)]
    twice = table[table.duplicated(["target", "sampler", "suite"])]
    if len(twice):
        raise ValueError(f"paths must be of different suites, got {', '.join(sorted(set(twice['suite'])))} twice")
    table = table[table["ratio"].notna()]
    order = {name: list(dict.fromkeys(table[name])) for name in ("target", "sampler")}
    place = {name: table[name].map(order[name].index) for name in order}
    return (
        table.assign(_target=place["target"], _sampler=place["sampler"])
        .sort_values(["_target", "_sampler", "equivalents"], kind="stable", ignore_index=True)
        .drop(columns=["_target", "_sampler"])
    )


def budget_figure(table: pd.DataFrame) -> Figure:
    """Primary ratio with its interval over the gradient equivalents spent, a panel per target, a line per sampler.

    Of more than 12 samplers only those have a colour and a name that are best at some price on some target.

    Args:
        table: as ``budget_table`` returns it, with at least one row.
    """
    targets, samplers = list(dict.fromkeys(table["target"])), list(dict.fromkeys(table["sampler"]))
    best = set(table.loc[table.groupby(["target", "suite"])["ratio"].idxmin(), "sampler"])
    named = [name for name in samplers if name in best or len(samplers) <= MANY]
    n_rows = math.ceil(len(targets) / PER_ROW)
    n_columns = math.ceil(len(targets) / n_rows)
    width = 3.0 * n_columns + 0.6 + 0.075 * max(map(len, named))
    figure = Figure(figsize=(width, max(2.7 * n_rows + 0.5, 0.2 * len(named) + 1.0)), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for place, axis in enumerate(axes.ravel()):
        if place >= len(targets):
            axis.remove()
            continue
        part = table[table["target"] == targets[place]]
        for name in samplers:
            line = part[part["sampler"] == name]
            if name in named:
                _curve(axis, line, named.index(name), (named.index(name) + 0.5) / len(named) - 0.5)
            else:
                axis.plot(line["equivalents"], line["ratio"], "o-", ms=2.5, lw=0.8, color=GREY, zorder=1)
        axis.axhline(1.0, color="0.6", lw=1, ls="--", zorder=0)
        axis.set_xscale("log")
        ratio_axis(axis)
        axis.set_title(targets[place])
        axis.set_xlabel("gradient equivalents spent")
        if place % n_columns == 0:
            axis.set_ylabel(RATIO)
    handles = {name: figure.axes[0].plot([], [], ms=5, lw=1.2, **style(index))[0] for index, name in enumerate(named)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False)
    grey = "; grey: samplers that are best nowhere" if len(named) < len(samplers) else ""
    set_title(figure, f"Quality over budget, warm-up and training included: geometric mean and 95% interval{grey}")
    return figure


def _curve(axis: Axes, line: pd.DataFrame, index: int, shift: float) -> None:
    """One sampler; moved aside by up to 4%, so that intervals of one budget do not hide each other."""
    x = line["equivalents"] * 10 ** (0.035 * shift)
    look = style(index)
    axis.plot(x, line["ratio"], ms=5, lw=1.2, zorder=3, **look)
    axis.vlines(x, line["low"], line["high"], color=look["color"], lw=0.8, alpha=0.6, zorder=2)


def _read(path: Path) -> tuple[str, Runs]:
    """Suite and runs of a store or of a leaderboard's folder.

    Raises:
        ValueError, StoreError: naming the path and what is wrong with it.
    """
    runs = read_runs(path)
    if runs.costs.empty:
        raise ValueError(f"{path} has no costs.csv with what its runs have spent")
    return suite_of(path), runs


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table and the figure of one family of suites at different budgets."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.budget_curves", description=main.__doc__)
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="stores, or folders of their leaderboards")
    parser.add_argument("--to", type=Path, default=Path(), help="directory of the files (default: here)")
    options = parser.parse_args(arguments)
    to: Path = options.to
    try:
        table = budget_table(map(_read, options.paths))
    except (StoreError, ValueError) as error:
        parser.error(str(error))
    if table.empty:
        parser.error("no row of these suites has a primary ratio: its metrics need floors")
    to.mkdir(parents=True, exist_ok=True)
    write_csv(to / "budget_curves.csv", table)
    with matplotlib.rc_context(LOOK):
        for path in (to / "budget_curves.csv", *save(budget_figure(table), to / "budget_curves")):
            print(path)


if __name__ == "__main__":
    main()
