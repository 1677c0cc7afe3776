"""The page's table over all targets: mean ranks, and a cell for every row on every target."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .leaderboard import Results
from .page_cells import BAR, Bar, Cell, sort_value


@dataclass(frozen=True)
class Row:
    """A row of a target's table."""

    name: str
    place: str
    tie_letters: list[str]
    rank: str
    is_best: bool
    status: str
    n_runs: str
    loss: str
    ratio: Cell
    bar: Bar | None
    cells: list[Cell]


@dataclass(frozen=True)
class Standing:
    """A row over all targets: mean rank and interval, counts, and a cell per target."""

    name: str
    mean_rank: Cell
    interval: tuple[float, float, float] | None
    n_targets: str
    n_best: str
    n_losses: str
    cells: list[tuple[Cell, bool, str]]


def standings(results: Results, tables: Sequence[Sequence[Row]]) -> list[Standing]:
    """Every row, by mean rank; those that are ranked on fewer targets than others come last, then those on none.

    Args:
        results: see ``leaderboard.collect``.
        tables: the rows of every target.
    """
    ranked = {str(row["sampler"]): row for _, row in results.overall.iterrows()}
    names = [*ranked, *(str(name) for name in dict.fromkeys(results.board["sampler"]) if name not in ranked)]
    ends = [float(row[name]) for row in ranked.values() for name in ("mean_rank", "rank_high")]
    width = max((end for end in ends if not math.isnan(end)), default=1.0)
    most = max((row["n_targets"] for row in ranked.values()), default=0)
    shown = []
    for name in names:
        row = ranked.get(name)
        found = [next((row for row in rows if row.name == name), None) for rows in tables]
        cells = [
            (
                place.ratio,
                place.is_best,
                " ".join([place.place, "".join(place.tie_letters)]) if place.rank else place.status,
            )
            if place
            else (Cell("–"), False, "")
            for place in found
        ]
        if row is None:
            shown.append(Standing(name, Cell("–"), None, "", "", "", cells))
            continue
        low, high = row["rank_low"], row["rank_high"]
        is_partial = row["n_targets"] < most
        if not math.isnan(low):
            tip = f"95% interval over {row['n_targets']} targets: {low:.1f} to {high:.1f}"
        else:
            tip = "No interval: " + ("one target" if row["n_targets"] == 1 else "the same rank on every target")
        if is_partial:
            tip += f"\nRanked on {row['n_targets']} of {most} targets: it does not compare, and comes last"
        whisker = (row["mean_rank"], row["mean_rank"]) if math.isnan(low) else (low, high)
        interval = tuple(round(BAR * max(x, 0.0) / width, 1) for x in (row["mean_rank"], *whisker))
        shown.append(
            Standing(
                name,
                Cell(f"{row['mean_rank']:.1f}", sort="" if is_partial else sort_value(row["mean_rank"]), tip=tip),
                (interval[0], interval[1], interval[2]),
                str(row["n_targets"]),
                str(row["n_best"]),
                str(row["n_losses"]),
                cells,
            )
        )
    return shown
