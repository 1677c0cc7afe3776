"""How a column of a CSV, and a kind of CSV, are described."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number", "boolean"]
OF_METRIC = "of the metric"  # the unit of whatever metric it is
METRIC = "<metric>"  # in the name of a column: the name of any value of a metric


@dataclass(frozen=True)
class Column:
    """A column, or with ``<metric>`` in its name those of all metrics.

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


@dataclass(frozen=True)
class Table:
    """A kind of file: what a row is, the columns that identify it, and its columns."""

    rows: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
