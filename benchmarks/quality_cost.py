"""Quality against cost: the primary ratio over what a draw costs, and the front of rows that none beats in both."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from .fronts import pareto_front
from .look import RATIO, cost_axis, ratio_axis, set_title, style

COSTS = {
    "gradient_equivalents_per_effective_draw": "grad. eq. per effective draw",
    "microseconds_per_draw": "microseconds per draw",
}
MANY = 12  # above, only rows on a front have a colour and a name
PER_ROW = 5  # targets beside each other, where each panel has a legend of its own
GREY = "0.75"


def quality_cost_figure(board: pd.DataFrame) -> Figure:
    """Primary ratio (1 is the floor of exact draws) against cost per draw, a pair of panels per target.

    Upper panel: gradient equivalents per effective draw (0 for one-pass samplers); lower one: microseconds per draw.
    The line is the front: rows to which no other is preferable in quality and cost. Of more than 12 rows only those on
    a front have a colour, and each panel names its own, from the cheapest on.
    """
    targets, samplers = list(dict.fromkeys(board["target"])), list(dict.fromkeys(board["sampler"]))
    parts = {target: board[board["target"] == target].reset_index(drop=True) for target in targets}
    fronts = {
        (target, cost): pareto_front(part[cost], part["primary_ratio"])
        for target, part in parts.items()
        for cost in COSTS
    }
    is_crowded = len(samplers) > MANY
    on_front = {parts[target]["sampler"][row] for (target, _), rows in fronts.items() for row in rows}
    named = [name for name in samplers if name in on_front or not is_crowded]
    looks = {name: style(index) for index, name in enumerate(named)}
    figure, pairs = _grid(targets, max(map(len, fronts.values())) if is_crowded else 0, [] if is_crowded else samplers)
    below = ScaledTranslation(0, -0.45, figure.dpi_scale_trans)  # inches: under the label of the axis
    handles: dict[str, Any] = {}
    for target, part in parts.items():
        for axis, (cost, title) in zip(pairs[target], COSTS.items(), strict=True):
            _panel(axis, part, cost, fronts[target, cost], looks)
            axis.set_xlabel(title)
            known = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
            handles = {**known, **handles}
            if is_crowded and known:
                axis.legend(
                    loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=axis.transAxes + below, frameon=False,
                    fontsize=8, borderaxespad=0.0,
                )  # fmt: skip
        pairs[target][0].set_title(target)
    if not is_crowded:
        shown = [name for name in samplers if name in handles]
        figure.legend([handles[name] for name in shown], shown, loc="outside right center", frameon=False)
    grey = "; grey: rows that another one beats in both" if is_crowded else ""
    text = "Quality against cost of a draw, in gradient equivalents and in time (training and burn-in excluded)"
    set_title(figure, f"{text}. Line: the front{grey}")
    return figure


def _grid(targets: list[str], n_named: int, beside: list[str]) -> tuple[Figure, dict[str, tuple[Axes, Axes]]]:
    """A figure with two panels per target, one below the other.

    Args:
        n_named: names that a panel may have below it.
        beside: names in the legend of the figure.
    """
    n_blocks = math.ceil(len(targets) / PER_ROW)
    n_columns = math.ceil(len(targets) / n_blocks)
    width = 3.0 * n_columns + (0.6 + 0.075 * max(map(len, beside)) if beside else 0)
    figure = Figure(figsize=(width, 2 * n_blocks * (2.4 + 0.17 * n_named) + 0.5), layout="constrained")
    axes = figure.subplots(2 * n_blocks, n_columns, squeeze=False)
    pairs = {}
    for place in range(n_blocks * n_columns):
        block, column = divmod(place, n_columns)
        upper, lower = axes[2 * block : 2 * block + 2, column]
        lower.sharey(upper)
        if place < len(targets):
            pairs[targets[place]] = upper, lower
        else:
            upper.remove()
            lower.remove()
        if column == 0:
            upper.set_ylabel(RATIO)
            lower.set_ylabel(RATIO)
    return figure, pairs


def _panel(axis: Axes, part: pd.DataFrame, cost: str, front: list[int], looks: dict[str, dict[str, Any]]) -> None:
    is_crowded = not set(part["sampler"]) <= set(looks)
    order = [*(row for row in range(len(part)) if row not in front), *front]
    for row in order:
        name, x, y = part["sampler"][row], part[cost][row], part["primary_ratio"][row]
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        if row in front or not is_crowded:
            axis.plot(x, y, ls="", ms=7, label=name, clip_on=False, **looks[name])
        else:
            axis.plot(x, y, "o", ms=4, color=GREY, mew=0, clip_on=False, zorder=1)
    if front:
        best = part.loc[front]
        axis.step(best[cost], best["primary_ratio"], where="post", color="0.35", lw=1, zorder=1.5)
    axis.axhline(1.0, color="0.6", lw=1, ls="--", zorder=0)
    shown = np.isfinite(part[cost]) & np.isfinite(part["primary_ratio"])
    if not shown.any():
        axis.text(0.5, 0.6, "no row has a primary ratio", transform=axis.transAxes, ha="center", fontsize=8)
    cost_axis(axis, list(part.loc[shown, cost]))
    ratio_axis(axis)
