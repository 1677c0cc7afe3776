"""What an experiment is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..leaderboard import Results


@dataclass(frozen=True)
class Experiment:
    """A suite with its tables and figures.

    Attributes:
        suite: name of a shipped suite.
        write_tables: of a store, its results and a folder that holds the files of ``write_leaderboard``; writes more
            CSVs into the folder.
        write_figures: of the folder alone; writes PNG and SVG files into its folder ``figures``, returns their paths.
    """

    suite: str
    write_tables: Callable[[Path, Results, Path], None]
    write_figures: Callable[[Path], list[Path]]
