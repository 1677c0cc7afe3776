"""Figures of chains of many lengths beside one pass: quality over steps, and over the time of a draw."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..look import ratio_axis, set_title, style
from .marks import mark_lost

CHAINS = ("MALA", "ULA")  # the first two looks
PER_ROW = 4


def steps_figure(curves: pd.DataFrame, rows: Sequence[str], *, y_label: str | Mapping[str, str], title: str) -> Figure:
    """Quality over the number of steps, a panel per target: chains as lines with 95% intervals, others as levels.

    The level of a row that takes no steps ends in a mark with its interval, to the right of all steps. A number of
    steps of which a run has no value interrupts the line, with a cross at the upper edge; rows without a value are
    named there.

    Args:
        curves: rows of one metric, as ``quality.step_curves`` returns them.
        rows: labels of the rows that take no steps, in the order of the legend.
        y_label: of what is measured; by target where that differs.
        title: of the figure.
    """
    targets = list(dict.fromkeys(curves["target"]))
    shown = [row for row in rows if row in set(curves["sampler"])]
    looks = looks_of(shown)
    figure, axes = _grid(targets, [*CHAINS, *shown])
    for place, (axis, target) in enumerate(zip(axes, targets, strict=True)):
        part = curves[curves["target"] == target]
        ladder = part[part["chain"] != ""]
        ends = ladder["n_steps"].min(), ladder["n_steps"].max()
        for chain in CHAINS:
            _line(axis, ladder[ladder["chain"] == chain].sort_values("n_steps"), "n_steps", looks[chain])
        lost = []
        for index, name in enumerate(shown):
            row = part[part["sampler"] == name]
            if len(row) and math.isfinite(row["quality"].iloc[0]):
                _level(axis, row.iloc[0], ends, (index + 1) / (len(shown) + 1), looks[name])
            elif len(row):
                lost.append(name)
        axis.set_xscale("log")
        axis.set_xlim(ends[0] / 1.4, beyond(ends, 1.0))
        axis.set_xticks([k for k in (1, 10, 100, 1_000, 10_000) if ends[0] <= k <= ends[1]])
        axis.xaxis.set_major_formatter("{x:,g}")
        axis.set_xticks([], minor=True)
        _finish(axis, part, target, lost)
        axis.set_xlabel("steps per draw")
        _label(axis, y_label, target, place)
    _legend(figure, looks)
    set_title(figure, title)
    return figure


def time_figure(curves: pd.DataFrame, rows: Sequence[str], *, y_label: str | Mapping[str, str], title: str) -> Figure:
    """Quality over the time of a draw, a panel per target: chains that restart as lines, others as marks.

    Args:
        curves, rows, y_label, title: as of ``steps_figure``; of chains that go on a draw counts by effective size.
    """
    targets = list(dict.fromkeys(curves["target"]))
    shown = [row for row in rows if row in set(curves["sampler"])]
    looks = looks_of(shown)
    figure, axes = _grid(targets, [*CHAINS, *shown])
    for place, (axis, target) in enumerate(zip(axes, targets, strict=True)):
        part = curves[curves["target"] == target]
        for chain in CHAINS:
            ladder = part[part["chain"] == chain].sort_values("n_steps")
            _line(axis, ladder, "microseconds_per_draw", looks[chain])
            known = ladder[np.isfinite(ladder["quality"])]
            for end, shift, side in (
                ((0, (0, 7), "center"), (-1, (0, -12), "center")) if len(known) and chain == CHAINS[0] else ()
            ):
                row = known.iloc[end]
                axis.annotate(
                    f"k = {row['n_steps']:,g}", (row["microseconds_per_draw"], row["quality"]), fontsize=7,
                    xytext=shift, textcoords="offset points", ha=side,
                )  # fmt: skip
        lost = []
        for name in shown:
            row_of = part[part["sampler"] == name]
            if len(row_of) and np.isfinite(row_of[["quality", "microseconds_per_draw"]].iloc[0].astype(float)).all():
                _mark(axis, row_of.iloc[0], float(row_of["microseconds_per_draw"].iloc[0]), looks[name])
            elif len(row_of):
                lost.append(name)
        axis.set_xscale("log")
        axis.margins(x=0.12)
        _finish(axis, part, target, lost)
        axis.set_xlabel("microseconds per draw")
        _label(axis, y_label, target, place)
    _legend(figure, looks, lines=False)
    set_title(figure, title)
    return figure


def looks_of(rows: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colours and markers of the chains, then of some rows; chains that go on have those of their kind, hollow."""
    own = [row for row in rows if row.removesuffix(" long") not in CHAINS]
    looks = {name: style(index) for index, name in enumerate([*CHAINS, *own])}
    for row in rows:
        if row not in looks:
            of_kind = looks[row.removesuffix(" long")]
            looks[row] = {**of_kind, "mfc": "white", "mec": of_kind["color"], "mew": 1.2}
    return {name: looks[name] for name in [*CHAINS, *rows]}


def beyond(ends: tuple[float, float], share: float) -> float:
    """A place to the right of all steps, at a share of the strip there (0.45 of the width of the steps in logs)."""
    width = math.log(max(ends[1] / ends[0], 10.0))
    return float(ends[1] * math.exp((0.08 + 0.37 * share) * width))


def _grid(targets: Sequence[str], names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    n_columns = min(PER_ROW, len(targets))
    n_rows = math.ceil(len(targets) / n_columns)
    width = max(2.7 * n_columns + 0.7 + 0.075 * max(map(len, names)), 6.5)  # room for the title
    figure = Figure(figsize=(width, max(2.5 * n_rows + 0.5, 0.22 * len(names) + 1.0)), layout="constrained")
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).ravel())
    for axis in axes[len(targets) :]:
        axis.remove()
    return figure, axes[: len(targets)]


def _label(axis: Axes, y_label: str | Mapping[str, str], target: str, place: int) -> None:
    """What is measured: beside the first panel of a line, or beside every one where they differ."""
    if not isinstance(y_label, str):
        axis.set_ylabel(y_label[target])
    elif place % PER_ROW == 0:
        axis.set_ylabel(y_label)


def _line(axis: Axes, ladder: pd.DataFrame, x: str, look: dict[str, Any]) -> None:
    axis.plot(ladder[x], ladder["quality"], ms=4.5, lw=1.2, zorder=3, **look)
    axis.vlines(ladder[x], ladder["low"], ladder["high"], color=look["color"], lw=0.9, alpha=0.6, zorder=2)
    mark_lost(axis, ladder.loc[ladder["quality"].isna() & ladder[x].notna(), x], look["color"])


def _level(axis: Axes, row: pd.Series, ends: tuple[float, float], share: float, look: dict[str, Any]) -> None:
    x = beyond(ends, share)
    axis.plot([ends[0] / 1.4, x], [row["quality"]] * 2, color=look["color"], lw=0.9, zorder=1)
    _mark(axis, row, x, look)


def _mark(axis: Axes, row: pd.Series, x: float, look: dict[str, Any]) -> None:
    axis.plot([x], [row["quality"]], ms=6, ls="", zorder=4, clip_on=False, **look)
    axis.vlines([x], [row["low"]], [row["high"]], color=look["color"], lw=1.4, zorder=2)


def _finish(axis: Axes, part: pd.DataFrame, target: str, lost: Sequence[str]) -> None:
    values = part["quality"].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    if len(values):  # intervals of two seeds may cover decades: what lies far beyond the values is cut
        low, high = float(values.min()), float(values.max())
        if part["has_floor"].any():
            low = min(low, 1.0)
        room = max((high / low) ** 0.08, 1.05)
        axis.set_ylim(low / room**1.5, high * room**2)
    if part["has_floor"].any():
        axis.axhline(1.0, color="0.6", lw=1, ls="--", zorder=0)
    ratio_axis(axis)
    axis.set_title(target)
    if lost:
        axis.text(
            0.98, 0.97, f"no value: {', '.join(lost)}", transform=axis.transAxes, ha="right", va="top", fontsize=7
        )


def _legend(figure: Figure, looks: dict[str, dict[str, Any]], *, lines: bool = True) -> None:
    """``lines``: whether rows other than chains are drawn with one."""
    handles = [
        Line2D([], [], ms=5, lw=1.2 if name in CHAINS else 0.9, ls="-" if lines or name in CHAINS else "", **look)
        for name, look in looks.items()
    ]
    labels = [f"{name}, k steps" if name in CHAINS else name for name in looks]
    figure.legend(handles, labels, loc="outside right center", frameon=False)
