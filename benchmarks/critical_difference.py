"""Critical differences: which mean ranks over targets Nemenyi's test tells apart.

Reference: J. Demsar, Statistical comparisons of classifiers over multiple data sets, J. Mach. Learn. Res. 7 (2006).
"""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .friedman import Friedman
from .look import COLOURS, set_title
from .ranks import Array

MANY = 12  # above, a row each with an interval; the comb of names and bars is legible up to here
BARS_BEGIN, BAR_STEP = 0.35, 0.3  # below the axis, in the unit of one name's line


def critical_difference_figure(result: Friedman) -> Figure:
    """Mean ranks, with what is not told apart joined; left or on top is best.

    Up to 12 samplers: names on an axis of mean ranks, bars over groups within the critical difference. Above: a line
    per sampler with an interval of half a critical difference to either side; two whose intervals overlap are not told
    apart.
    """
    figure = _comb(result) if len(result.samplers) <= MANY else _dots(result)
    p = "p < 0.001" if result.p < 0.001 else f"p = {result.p:.2g}"
    what = "Bars join rows" if len(result.samplers) <= MANY else "Rows whose intervals overlap are"
    set_title(
        figure,
        f"Mean ranks over {result.n_targets} targets: Friedman's test {p}, critical difference "
        f"{result.critical_difference:.2f} (5%). {what} not told apart. "
        "Rows with failed or missing runs are last",
    )
    return figure


def groups_within(mean_ranks: Array, critical_difference: float) -> list[tuple[int, int]]:
    """Largest runs of two rows or more whose mean ranks differ by at most the critical difference.

    Args:
        mean_ranks: ascending, shape ``(n,)``.
    Returns:
        First and last index of each, none inside another.
    """
    last = np.searchsorted(mean_ranks, mean_ranks + critical_difference + 1e-12, side="right") - 1
    groups = [(first, int(end)) for first, end in enumerate(last) if end > first]
    return [(first, end) for first, end in groups if first == 0 or last[first - 1] < end]


def _comb(result: Friedman) -> Figure:
    """The better half's names to the left, the worse half's to the right, so that no two lines cross."""
    n = len(result.samplers)
    n_left = math.ceil(n / 2)
    groups = groups_within(result.mean_ranks, result.critical_difference)
    bars = BARS_BEGIN + BAR_STEP * len(groups)
    depth = bars + n_left + 0.2
    width = 6.0 + 0.15 * max(map(len, result.samplers))
    figure = Figure(figsize=(width, 1.3 + 0.24 * depth), layout="constrained")
    axis = figure.subplots()
    for place, (name, rank) in enumerate(zip(result.samplers, result.mean_ranks, strict=True)):
        is_left = place < n_left
        y = bars + (place if is_left else n - 1 - place) + 0.6
        end = 1 if is_left else n
        axis.plot([rank, rank, end], [0, y, y], color="0.35", lw=0.8, solid_joinstyle="miter")
        text = f"{name}  {rank:.2f}" if is_left else f"{rank:.2f}  {name}"
        axis.annotate(
            text, (end, y), (-4 if is_left else 4, 0), textcoords="offset points", va="center",
            ha="right" if is_left else "left", annotation_clip=False,
        )  # fmt: skip
    for k, (first, end) in enumerate(groups):
        level = BARS_BEGIN + BAR_STEP * k
        low, high = result.mean_ranks[first] - 0.01 * n, result.mean_ranks[end] + 0.01 * n
        axis.plot([low, high], [level, level], color=COLOURS[0], lw=3.5, solid_capstyle="butt", zorder=3)
    _rank_axis(axis, n)
    axis.set_ylim(depth, 0)
    return figure


def _rank_axis(axis: Axes, n: int) -> None:
    axis.xaxis.set_ticks_position("top")
    axis.xaxis.set_label_position("top")
    axis.set_xlabel("mean rank (1 = best)")
    axis.set_xlim(1, n)
    axis.set_xticks([*range(1, n + 1)] if n <= MANY else [1, *range(5, n + 1, 5)])
    axis.set_yticks([])
    axis.spines[["left", "bottom", "right"]].set_visible(False)
    axis.spines["top"].set_visible(True)


def _dots(result: Friedman) -> Figure:
    n, half = len(result.samplers), result.critical_difference / 2
    figure = Figure(figsize=(7.0, 1.2 + 0.19 * n), layout="constrained")
    axis = figure.subplots()
    y = np.arange(n)
    is_tied = result.mean_ranks - result.mean_ranks[0] <= result.critical_difference + 1e-12
    for chosen, colour in ((is_tied, COLOURS[0]), (~is_tied, "0.45")):
        axis.errorbar(
            result.mean_ranks[chosen], y[chosen], xerr=half, fmt="o", color=colour, ms=5, elinewidth=1.2, capsize=0
        )
    axis.axvline(result.mean_ranks[0] + half, color=COLOURS[0], lw=1, ls="--", zorder=0)
    axis.grid(axis="y", color="0.92", lw=0.8)
    axis.set_axisbelow(True)
    _rank_axis(axis, n)
    axis.set_xlim(0.5, n + 0.5)
    axis.set_yticks(y, result.samplers)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(n - 0.4, -0.6)
    axis.set_xlabel("mean rank (1 = best); blue: not told apart from the first")
    return figure
