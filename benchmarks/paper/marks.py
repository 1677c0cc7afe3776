"""Marks that figures of the paper's experiments share."""

from collections.abc import Iterable

from matplotlib.axes import Axes


def mark_lost(axis: Axes, places: Iterable[float], colour: str) -> None:
    """Crosses at the upper edge where runs were lost, which no point shows.

    Args:
        places: on the x axis.
        colour: of the row.
    """
    known = list(places)
    if known:  # an empty line that is not clipped would lie at the corner of the figure, and the layout fail
        y = [0.98] * len(known)
        axis.plot(known, y, "x", color=colour, transform=axis.get_xaxis_transform(), clip_on=False)
