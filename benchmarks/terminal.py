"""What the commands print: tables, aligned sections, and the progress of long work; rich is imported when needed."""

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.progress import Progress


def print_table(frame: "pd.DataFrame") -> None:
    """A frame as a table, numbers with five digits."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for name in frame.columns:
        table.add_column(name, overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{cell:.5g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 160, markup=False).print(table)


def print_overview(tables: "Iterable[tuple[str, pd.DataFrame]]") -> None:
    """The tables of ``leaderboard.overview``, and what their columns mean."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 120)
    for target, texts in tables:
        table = Table(title=target, title_justify="left", box=SIMPLE, pad_edge=False)
        for name in texts.columns:
            table.add_column(name, justify="left" if name in ("sampler", "status") else "right")
        for row in texts.itertuples(index=False):
            table.add_row(*(Text(cell.strip("*"), style="bold" if cell.startswith("**") else "") for cell in row))
        console.print(table)
    console.print(
        "ratio: to the floor of exact draws (bold: at the floor); eq./eff. draw: gradient equivalents per effective "
        "draw; training and burn-in are in fit. All metrics: leaderboard.md"
    )


class ProgressBar:
    """A bar with what is going on and the time left, on a terminal; everywhere a line per event that has one."""

    def __init__(self, unit: str, total: int, bar: "Progress", console: "Console") -> None:
        self.unit, self.total, self.bar, self.console = unit, total, bar, console
        self.task = bar.add_task(unit, total=total)
        self.current: list[str] = []
        self.n_ended = 0

    def start(self, title: str) -> None:
        """A unit begins."""
        self.current.append(title)
        self._describe()

    def end(self, title: str, line: str = "") -> None:
        """A unit ended; ``line`` stays above the bar."""
        self.current.remove(title)
        self.n_ended += 1
        if line:
            count = f"[{self.n_ended:>{len(str(self.total))}}/{self.total}]"
            self.console.print(f"{count} {line}", markup=False, highlight=False, soft_wrap=True)
        self._describe()
        self.bar.advance(self.task)

    def _describe(self) -> None:
        self.bar.update(self.task, description=f"{self.unit}: {'; '.join(self.current)}")


@contextmanager
def progress_bar(unit: str, total: int) -> Iterator[ProgressBar]:
    """A bar of ``total`` units for as long as the block lasts."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield ProgressBar(unit, total, bar, console)


def print_section(title: str, rows: Sequence[tuple[str, ...]], *, header: tuple[str, ...] = ()) -> None:
    """A line per row in aligned columns, cut at the width of the terminal; whole where the output is piped."""
    lines = [header, *rows] if header else rows
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    typer.echo(f"{title} ({len(rows)})")
    for line in lines:
        text = "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        typer.echo(text if limit is None or len(text) <= limit else text[: limit - 1] + "…")
