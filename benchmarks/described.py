"""What every column of a written CSV means: one place for the metadata and the datasheet of results."""

import re
from dataclasses import replace

from ..metrics.base import METRICS
from ..targets.registry import unknown
from .column import METRIC, OF_METRIC, WEIGHT, Column, Table
from .columns import TABLES as LEADERBOARDS
from .paper import (
    claim_columns,
    dimension_columns,
    rare_columns,
    regression_columns,
    robustness_columns,
    step_columns,
)

TABLES: dict[str, Table] = {
    **LEADERBOARDS,
    **step_columns.TABLES,
    **regression_columns.TABLES,
    **robustness_columns.TABLES,
    **dimension_columns.TABLES,
    **rare_columns.TABLES,
    **claim_columns.TABLES,
}
PLACEHOLDERS = {METRIC: r"(.+)", WEIGHT: r"(\de-?\d+)"}  # what may stand in the name instead


def table_of(file: str) -> Table:
    """The kind of a file by its name without ``.csv``.

    Raises:
        UnknownNameError: for a kind that is not described in ``TABLES``.
    """
    if file not in TABLES:
        raise unknown("kind of CSV", file, TABLES)
    return TABLES[file]


def pattern_of(file: str, column: str) -> Column:
    """The described column that a column of a file is: of its very name, or else with the longest text around a value.

    Raises:
        UnknownNameError: for a column that is not described in ``TABLES``.
    """
    columns = table_of(file).columns
    exact = next((known for known in columns if known.name == column), None)
    if exact:
        return exact
    patterns = [known for known in columns if _stands_for(known.name, column)]
    if not patterns:
        raise unknown(f"column of {file}.csv", column, [known.name for known in columns])
    return min(patterns, key=lambda known: len(_stands_for(known.name, column)))  # at_floor before floor


def column_of(file: str, column: str) -> Column:
    """A column of a file with its own name, and of a metric with what that measures.

    Raises:
        UnknownNameError: see ``pattern_of``.
    """
    pattern = pattern_of(file, column)
    value = _stands_for(pattern.name, column)
    if WEIGHT in pattern.name:
        return replace(pattern, name=column, meaning=f"weight {value}: {pattern.meaning}")
    if METRIC not in pattern.name:
        return pattern
    owner, unit = _owner(value), pattern.unit
    if unit == OF_METRIC and owner:
        unit = METRICS.get(owner).unit if value == owner else ""  # of a further value the metric states none
    meaning = f"{value}, {pattern.meaning}"
    if owner and pattern.meaning.startswith(("mean over", "median over")):  # once per table, where the value stands
        meaning += f" ({owner}: {METRICS.entry(owner).summary.rstrip('.')})"
    return replace(pattern, name=column, meaning=meaning, unit="" if unit == "1" else unit)


def _stands_for(pattern: str, column: str) -> str:
    """What a column's name has in the place of the pattern's placeholder; empty if the pattern is not of it."""
    if pattern == METRIC and not _owner(column):  # any name would be of this pattern
        return ""
    for placeholder, form in PLACEHOLDERS.items():
        before, found, after = pattern.partition(placeholder)
        if found and (match := re.fullmatch(f"{re.escape(before)}{form}{re.escape(after)}", column)):
            return match.group(1)
    return ""


def _owner(value: str) -> str | None:
    """The registered metric that returns a value of this name."""
    return next((name for name in METRICS.names() if value in METRICS.get(name).outputs), None)
