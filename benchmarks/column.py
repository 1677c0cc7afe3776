"""How a column of a CSV, and a kind of CSV, are described."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number", "boolean"]
OF_METRIC = "of the metric"  # the unit of whatever metric it is
METRIC = "<metric>"  # in the name of a column: the name of any value of a metric
WEIGHT = "<weight>"  # in the name of a column: the weight of a mode to one digit, as 1e-4


@dataclass(frozen=True)
class Column:
    """A column, or with ``<metric>`` or ``<weight>`` in its name those of all metrics or weights.

    Attributes:
        name: as in the file.
        meaning: a sentence without its full stop.
        unit: of the numbers; empty for counts, shares, ratios and text.
        kind: of the cells; any cell may be empty, which means unknown or not applicable.
    """

    name: str
    meaning: str
    unit: str = ""
    kind: Kind = "number"


def text(name: str, meaning: str) -> Column:
    """A column of text."""
    return Column(name, meaning, kind="text")


def count(name: str, meaning: str, unit: str = "") -> Column:
    """A column of integers."""
    return Column(name, meaning, unit, "integer")


def flag(name: str, meaning: str) -> Column:
    """A column of True and False."""
    return Column(name, meaning, kind="boolean")


@dataclass(frozen=True)
class Table:
    """A kind of file: what a row is, the columns that identify it (none where rows may repeat), and its columns."""

    rows: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
