"""The ledger: claims beside what was measured, computed from the CSVs of the experiments alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from .evidence import Evidence, counts, summary, verdict

COLUMNS = ["claim", "source", "experiment", "value", "interval", "verdict", "note"]
TEXTS = ("reason", "censored", "dims", "lost_dims")  # columns that pandas may take for numbers, and empty cells for nan
INTRODUCTION = """\
# Claims, and what we measured

Written by `samplerbench paper` and `samplerbench figures --paper` from the tables of the experiments: do not edit.
All rows are our implementation with our settings, since those of the papers are not known to us, on the targets named.

A value supports its claim if its 95% interval lies above the threshold, speaks against it if the interval lies below,
and is open otherwise. All support: **replicated**. More support than speak against it: **partly**. As many or more
speak against it: **not replicated**. Otherwise, or where nothing was measured: **not testable** by these runs. Without
any effect one value in forty supports by chance, and one in forty speaks against, so **partly** and **not replicated**
take more of them than chance brings for one claim out of twenty. Of several values the ledger shows the median and the
range, and the note counts them. A run of the claimed method that failed or diverged counts against it (-inf or 0), or,
where a limit is claimed, for the limit (inf). Settings of some of our samplers, not always of those in the claim, were
chosen on targets marked (development). What the papers left out may decide: a claim that fails here failed with our
settings.
"""


class Tables:
    """The CSVs of the experiments' folders, where development targets are marked as such.

    Args:
        folder: with one folder per suite.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[tuple[str, str], pd.DataFrame] = {}

    def get(self, suite: str, name: str) -> pd.DataFrame | None:
        """One of them; None where the experiment was not run."""
        table = self._file(suite, name)
        if table is None or "target" not in table:
            return table
        return table.assign(target=table["target"].replace(self._marked(suite)))

    def _file(self, suite: str, name: str) -> pd.DataFrame | None:
        path = self.folder / suite / f"{name}.csv"
        if (suite, name) not in self._read:
            if not path.is_file():
                return None
            table = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str))
            self._read[suite, name] = table.fillna({text: "" for text in TEXTS if text in table})
        return self._read[suite, name]

    def _marked(self, suite: str) -> dict[str, str]:
        """Development targets of a suite, and what the ledger calls them."""
        board = self._file(suite, "leaderboard")
        if board is None or "development" not in board:
            return {}
        chosen_on = board.loc[board["development"].astype(bool), "target"].unique()
        return {target: f"{target} (development)" for target in chosen_on}


@dataclass(frozen=True)
class Claim:
    """A claim that can be held against numbers.

    Attributes:
        text: what is claimed.
        source: the paper.
        experiment: suite.
        measure: what is measured, with its unit, as a noun.
        threshold: the claim says that it is above.
        evidence: of the tables; empty where they are absent.
        note: what else a reader must know.
    """

    text: str
    source: str
    experiment: str
    measure: str
    threshold: float
    evidence: Callable[[Tables], Sequence[Evidence]]
    note: str = ""


@dataclass(frozen=True)
class Untestable:
    """A claim that nobody can hold against numbers, and why."""

    text: str
    source: str
    note: str


@dataclass(frozen=True)
class Ledger:
    """Claims, and the tables to hold them against."""

    claims: Sequence[Claim | Untestable]
    tables: Tables

    @cached_property
    def evidence(self) -> list[list[Evidence]]:
        """Of every claim."""
        return [[] if isinstance(claim, Untestable) else list(claim.evidence(self.tables)) for claim in self.claims]

    def table(self) -> pd.DataFrame:
        """One row per claim: claim, source, experiment, value, interval, verdict, note."""
        rows = []
        for claim, evidence in zip(self.claims, self.evidence, strict=True):
            value, interval = summary(evidence)
            if isinstance(claim, Untestable):
                rows.append((claim.text, claim.source, "", value, interval, "not testable", claim.note))
                continue
            found = verdict(evidence, claim.threshold)
            why = f"{claim.measure}; the claim: above {claim.threshold:.3g}"
            if evidence:
                n_for, n_against, n_open = counts(evidence, claim.threshold)
                why += f"; {n_for} support, {n_against} against, {n_open} open"
            if not evidence:
                is_run = self.tables.get(claim.experiment, "metrics") is not None
                why += f"; suite {claim.experiment} {'gives no such value' if is_run else 'was not run'}"
            note = f"{why}. {claim.note}" if claim.note else f"{why}."
            rows.append((claim.text, claim.source, claim.experiment, value, interval, found, note))
        return pd.DataFrame(rows, columns=COLUMNS)

    def details(self) -> pd.DataFrame:
        """One row per piece of evidence: claim, of, value, low, high."""
        rows = [
            (claim.text, part.of, part.value, part.low, part.high)
            for claim, evidence in zip(self.claims, self.evidence, strict=True)
            for part in evidence
        ]
        return pd.DataFrame(rows, columns=["claim", "of", "value", "low", "high"])

    def markdown(self) -> str:
        """The page of the ledger."""
        rows = self.table().to_dict("records")
        lines = [INTRODUCTION, "| Claim | Source | Value | Interval | Verdict |", "|---|---|---|---|---|"]
        for row in rows:
            value = "" if pd.isna(row["value"]) else f"{row['value']:.3g}"
            lines.append(f"| {row['claim']} | {row['source']} | {value} | {row['interval']} | **{row['verdict']}** |")
        for row, evidence in zip(rows, self.evidence, strict=True):
            lines += ["", f"## {row['claim']}", "", f"{row['source']}: **{row['verdict']}**. {row['note']}"]
            if evidence:
                lines += ["", "| Measured on | Value | 95% interval |", "|---|---|---|"]
            lines += [f"| {part.of} | {part.value:.3g} | {part.low:.3g} to {part.high:.3g} |" for part in evidence]
        return "\n".join(lines) + "\n"
