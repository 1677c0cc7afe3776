"""Quality against cost as a small SVG: places of marks, ticks and the front, in whole units of the drawing."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from .number_text import number_text

WIDTH, HEIGHT = 340, 236
LEFT, RIGHT, TOP, BOTTOM = 38, 330, 12, 194
LINE = 12  # between names of the front


@dataclass(frozen=True)
class Mark:
    """A row: its place, whether nobody is better (is_best), whether it is on the front, and where its name goes."""

    name: str
    x: float
    y: float
    tip: str
    is_best: bool
    on_front: bool
    label_x: float = 0.0
    label_y: float = 0.0
    anchor: str = ""  # of the name; empty if it is not written


@dataclass(frozen=True)
class Front:
    """One drawing.

    Attributes:
        title: the cost on the axis to the right.
        marks: front last, so that it lies above the others.
        steps: points of the line through the front.
        x_ticks, y_ticks: places and texts.
        floor: y of ratio 1.
        summary: the front in words.
    """

    title: str
    marks: list[Mark]
    steps: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    floor: float
    summary: str


def pareto_front(cost: npt.ArrayLike, loss: npt.ArrayLike) -> list[int]:
    """Rows that no other row beats: none is as good in both and better in one.

    Args:
        cost, loss: of the rows, shape ``(n,)``, lower is better; rows with a nan are on no front.
    Returns:
        Indices, from the cheapest to the dearest and so from the worst to the best; of equal rows all.
    """
    costs, losses = np.asarray(cost, dtype=float), np.asarray(loss, dtype=float)
    known = [
        int(row) for row in np.lexsort((losses, costs)) if math.isfinite(costs[row]) and math.isfinite(losses[row])
    ]
    front: list[int] = []
    for row in known:
        is_equal = bool(front) and (costs[row], losses[row]) == (costs[front[-1]], losses[front[-1]])
        if not front or losses[row] < losses[front[-1]] or is_equal:
            front.append(row)
    return front


def front(part: pd.DataFrame, cost: "pd.Series[float]", title: str) -> Front | None:
    """Primary ratio over a cost.

    Args:
        part: rows of the leaderboard of one target.
        cost: of every row, aligned with ``part``; zero has a place of its own to the left of the logarithmic axis.
        title: of that cost.
    Returns:
        None if no row has both.
    """
    known = part.assign(cost=cost)
    known = known[np.isfinite(known["cost"]) & np.isfinite(known["primary_ratio"]) & (known["cost"] >= 0)]
    if known.empty:
        return None
    known = known.sort_values(["cost", "primary_ratio"], kind="stable", ignore_index=True)
    on_front = set(pareto_front(known["cost"], known["primary_ratio"]))
    x_of, x_ticks = _x_axis(known["cost"].to_list())
    y_of, y_ticks = _y_axis(known["primary_ratio"].to_list())
    marks = [
        Mark(
            name=str(row["sampler"]),
            x=x_of(row["cost"]),
            y=y_of(row["primary_ratio"]),
            tip=f"{row['sampler']}: ratio {number_text(row['primary_ratio'])}, cost {number_text(row['cost'])}",
            is_best=bool(row["is_best"]),
            on_front=place in on_front,
        )
        for place, (_, row) in enumerate(known.iterrows())
    ]
    corners = [mark for mark in marks if mark.on_front]
    named = ", ".join(
        f"{mark.name} ({number_text(known['primary_ratio'].iloc[marks.index(mark)])})" for mark in corners
    )
    return Front(
        title=title,
        marks=[*(mark for mark in marks if not mark.on_front), *_named(corners)],
        steps=_steps(corners),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        floor=y_of(1.0),
        summary=f"Nobody is cheaper and better by {title}, cheapest first, with ratios: {named}",
    )


def _x_axis(costs: Sequence[float]) -> tuple["_Scale", list[tuple[float, str]]]:
    positive = [cost for cost in costs if cost > 0]
    if not positive:
        return _Scale(0.0, 1.0, LEFT + 14, LEFT + 15), [(LEFT + 14, "0")]
    low, high = math.log10(min(positive)), math.log10(max(positive))
    low, high = (low - 0.5, high + 0.5) if high - low < 0.5 else (low, high)
    has_zero = len(positive) < len(costs)
    scale = _Scale(low, high, LEFT + (48 if has_zero else 14), RIGHT - 12, zero=LEFT + 14)
    ticks = [(scale(tick), _tick(tick)) for tick in _nice(low, high)]
    return scale, [*([(LEFT + 14, "0")] if has_zero else []), *ticks]


def _y_axis(ratios: Sequence[float]) -> tuple["_Scale", list[tuple[float, str]]]:
    low, high = math.log10(min(0.9, *ratios)), math.log10(max(2.2, *ratios))
    pad = 0.05 * (high - low)
    scale = _Scale(low - pad, high + pad, BOTTOM, TOP)
    return scale, [(scale(tick), _tick(tick)) for tick in _nice(low - pad, high + pad)]


@dataclass(frozen=True)
class _Scale:
    """Logarithmic, from exponents ``low`` and ``high`` to places ``first`` and ``last``; ``zero`` is that of 0."""

    low: float
    high: float
    first: float
    last: float
    zero: float = LEFT + 14

    def __call__(self, value: float) -> float:
        if value <= 0:
            return self.zero
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 1)


def _nice(low: float, high: float) -> list[float]:
    """Ticks between two exponents: decades, with 2 and 5 where there are few of them."""
    parts = (1, 2, 5) if high - low < 2 else (1,)
    ticks = [m * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for m in parts]
    inside = [tick for tick in ticks if low - 1e-9 <= math.log10(tick) <= high + 1e-9]
    return inside[:: max(1, math.ceil(len(inside) / 6))]


def _tick(value: float) -> str:
    """0.01, 5, 20,000, 10⁶, 2·10⁷."""
    k = math.floor(math.log10(value) + 1e-9)
    if -3 <= k <= 4:
        return f"{value:,.{max(0, -k)}f}"
    power = "10" + str(k).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    first = round(value / 10.0**k)
    return power if first == 1 else f"{first}·{power}"


def _steps(corners: Sequence[Mark]) -> str:
    """The front as a staircase: between two corners the cheaper one is the best that money buys."""
    points = [(corners[0].x, corners[0].y)]
    for mark in corners[1:]:
        points += [(mark.x, points[-1][1]), (mark.x, mark.y)]
    points.append((RIGHT, points[-1][1]))
    return " ".join(f"{x:g},{y:g}" for x, y in dict.fromkeys(points))  # equal rows share a corner


def _named(corners: Sequence[Mark]) -> list[Mark]:
    """Names beside their marks, moved down a little where lines would meet, and left out where that is not enough."""
    named, lowest = {}, -math.inf
    for mark in sorted(corners, key=lambda mark: mark.y):
        y = max(mark.y - 7, lowest + LINE)
        if y > mark.y + LINE:
            continue
        is_right = mark.x > (LEFT + RIGHT) / 2
        x, anchor = (mark.x - 7, "end") if is_right else (mark.x + 7, "start")
        named[mark.name] = dataclasses.replace(mark, label_x=round(x, 1), label_y=round(y, 1), anchor=anchor)
        lowest = y
    return [named.get(mark.name, mark) for mark in corners]
