"""One look for every figure: colours, markers, sizes, and files that are the same every time."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

# Okabe and Ito's palette (colour-blind safe); a marker of its own beside each colour
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LOOK: dict[Any, Any] = {  # matplotlib types its keys as an open-ended literal
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "samplerbench",
    "svg.fonttype": "path",
}
STEPS = {  # numbers beside an axis, by the range that it covers
    1.6: (1, 1.1, 1.2, 1.3, 1.4, 1.5, 2, 3, 4, 5, 6, 7, 8, 9),
    4: (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
    12: (1, 1.5, 2, 3, 5, 7),
    500: (1, 2, 5),
    math.inf: (1,),
}
RATIO = "primary ratio (1 = exact draws)"


def style(index: int) -> dict[str, Any]:
    """Colour and marker of the row of this number; the first 64 differ."""
    return {"color": COLOURS[index % 8], "marker": MARKERS[(index + index // 8) % 8], "mec": "white", "mew": 0.5}


def ratio_axis(axis: Axes) -> None:
    """A logarithmic y axis with numbers to read: as many between two powers of ten as its present range needs."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    steps = [subs for span, subs in STEPS.items() if high / low < span]
    axis.yaxis.set_major_locator(LogLocator(subs=steps[0]))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def cost_axis(axis: Axes, costs: Sequence[float]) -> None:
    """A logarithmic x axis of costs; where some are 0, with a place for 0 at its left end."""
    paid = [cost for cost in costs if cost > 0]
    n_free = len([cost for cost in costs if cost == 0])
    if paid and not n_free:
        axis.set_xscale("log")
        if math.floor(math.log10(max(paid))) - math.ceil(math.log10(min(paid))) < 1:  # one power of ten at most
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.xaxis.set_major_formatter("{x:,g}")
    else:
        first = math.floor(math.log10(min(paid, default=1.0)))  # nothing lies between 0 and the least that is paid
        last = math.ceil(math.log10(max(paid, default=1.0)))
        axis.set_xscale("symlog", linthresh=10.0**first)
        axis.set_xlim(0, max(paid) * 1.2 if paid else 1.0)
        axis.set_xticks([0, *(10.0**k for k in range(first, last) if paid)])
        axis.set_xticks([], minor=True)
    axis.xaxis.set_minor_formatter(NullFormatter())


def beside_legend(names: list[str], n_panels: int, height: float) -> tuple[Figure, int]:
    """A figure with room for panels in a row and a legend beside them, and the columns of that legend."""
    n_columns = math.ceil(len(names) / (4 * height))
    width = 2.6 * n_panels + n_columns * (0.6 + 0.075 * max(map(len, names)))
    return Figure(figsize=(width, height), layout="constrained"), n_columns


def set_title(figure: Figure, text: str) -> None:
    """A title over the whole figure, in lines that fit its width."""
    figure.suptitle(textwrap.fill(text, int(11 * figure.get_figwidth())))


def save(figure: Figure, path: Path) -> list[Path]:
    """Write ``path.png`` and ``path.svg``; inside ``rc_context(LOOK)`` the same figure gives the same bytes."""
    files = [path.with_name(path.name + ending) for ending in (".png", ".svg")]
    figure.savefig(files[0])
    figure.savefig(files[1], metadata={"Date": None})
    return files
