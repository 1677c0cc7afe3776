"""What every column of a written CSV means: one place for the metadata and the datasheet of results."""

from dataclasses import replace

from ..metrics.base import METRICS
from ..targets.registry import unknown
from .column import METRIC, OF_METRIC, Column, Table
from .columns import TABLES as LEADERBOARDS
from .paper import step_columns

TABLES: dict[str, Table] = {**LEADERBOARDS, **step_columns.TABLES}


def table_of(file: str) -> Table:
    """The kind of a file by its name without ``.csv``.

    Raises:
        UnknownNameError: for a kind that is not described in ``TABLES``.
    """
    if file not in TABLES:
        raise unknown("kind of CSV", file, TABLES)
    return TABLES[file]


def pattern_of(file: str, column: str) -> Column:
    """The described column that a column of a file is: of its very name, or of its ending after the metric's name.

    Raises:
        UnknownNameError: for a column that is not described in ``TABLES``.
    """
    columns = table_of(file).columns
    exact = next((known for known in columns if known.name == column), None)
    if exact:
        return exact
    endings = [known for known in columns if METRIC in known.name and column.endswith(known.name.removeprefix(METRIC))]
    if not endings:
        raise unknown(f"column of {file}.csv", column, [known.name for known in columns])
    return max(endings, key=lambda known: len(known.name))  # at_floor before floor


def column_of(file: str, column: str) -> Column:
    """A column of a file with its own name, and of a metric with what that measures.

    Raises:
        UnknownNameError: see ``pattern_of``.
    """
    pattern = pattern_of(file, column)
    if METRIC not in pattern.name:
        return pattern
    value = column.removesuffix(pattern.name.removeprefix(METRIC))
    owner = next((name for name in METRICS.names() if value in METRICS.get(name).outputs), None)
    unit = pattern.unit
    if unit == OF_METRIC and owner:
        unit = METRICS.get(owner).unit if value == owner else ""  # of a further value the metric states none
    meaning = f"{value}, {pattern.meaning}"
    if owner and pattern.name.endswith(("_mean", "_median")):  # said once per table, where the value itself stands
        meaning += f" ({owner}: {METRICS.entry(owner).summary.rstrip('.')})"
    return replace(pattern, name=column, meaning=meaning, unit="" if unit == "1" else unit)
