"""The place of judged draws in a leaderboard, by the worse of the two primary ratios."""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..targets.draws import Draws
from .board_file import board_file, read_board
from .judge import LADDER, judge_draws
from .ranks import PRIMARY

N_RANKED = LADDER[0]
NEEDED = ("target", "sampler", "primary_ratio")
DIGITS = 1e-4  # leaderboard.csv holds 6 digits


@dataclass(frozen=True)
class Place:
    """Where draws stand among the rows of one target.

    Attributes:
        primary_ratio: the worse of the two primary ratios of the draws.
        better, equal, worse: (sampler, primary_ratio) of the rows, best first; a row without ratio (failed, missing)
            is worse than all.
    """

    primary_ratio: float
    better: list[tuple[str, float]]
    equal: list[tuple[str, float]]
    worse: list[tuple[str, float]]

    @property
    def rank(self) -> int:
        """From 1."""
        return 1 + len(self.better)

    def __str__(self) -> str:
        n = 1 + len(self.better) + len(self.equal) + len(self.worse)
        text = f"place {self.rank} of {n} by the worse primary ratio, {self.primary_ratio:.3g}"
        for word, rows in (("better", self.better), ("equal", self.equal), ("worse", self.worse)):
            if rows:
                shown = (f"{name} ({'no ratio' if math.isnan(ratio) else f'{ratio:.3g}'})" for name, ratio in rows)
                text += f"; {word}: {', '.join(shown)}"
        return f"{text}. One set of draws has no interval: near ratios may change places."


def read_leaderboard(path: Path, target: str) -> pd.DataFrame:
    """The rows of one target in a leaderboard.csv as ``samplerbench leaderboard`` writes it.

    Args:
        path: of the file, or of its folder.
        target: its label there.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no leaderboard, or has no row of the target.
    """
    board = read_board(path, NEEDED)
    rows = board[board["target"] == target]
    if rows.empty:
        raise ValueError(
            f"leaderboard {board_file(path)} has rows of {', '.join(board['target'].unique())}, none of {target}"
        )
    return rows


def place_of(draws: Draws, target: str, rows: pd.DataFrame, *, seed: int = 0, device: str = "cpu") -> Place:
    """The place of draws among the rows of their target; all are judged at n = 2,000, which is ranked.

    Args:
        draws, target, seed, device: as ``judge_draws`` takes them.
        rows: of the leaderboard.
    Raises:
        ValueError: if the draws are fewer than 2,000, a primary metric that applies has no ratio, or the floors of
            the leaderboard are others (of another n or version), so that ratios do not compare; as ``judge_draws``.
    """
    if len(draws.samples) < N_RANKED:
        raise ValueError(f"a place needs at least {N_RANKED:,} draws, got {len(draws.samples):,}")
    sizes = dict.fromkeys(PRIMARY, N_RANKED)
    row = judge_draws(draws, target, metrics=PRIMARY, sizes=sizes, seed=seed, device=device)
    judged = row[~row["note"].str.startswith("needs ")]
    if judged.empty:
        raise ValueError(f"a place needs truth draws or modes, {target} has neither")
    for metric, ratio, floor, note in judged[["metric", "ratio", "floor", "note"]].itertuples(index=False):
        if math.isnan(ratio):
            raise ValueError(f"a place needs the ratio of {metric} to its floor, which {target} lacks: {note}")
        theirs = rows.get(f"{metric}_floor", pd.Series(dtype=float)).dropna()
        if theirs.empty or not (theirs / floor - 1).abs().max() < DIGITS:
            got = "none" if theirs.empty else f"{theirs.iloc[0]:.6g}"
            raise ValueError(
                f"to compare ratios, the leaderboard's floor of {metric} must be that of n = {N_RANKED:,}, "
                f"{floor:.6g}, got {got}"
            )
    own = float(judged["ratio"].max())
    pairs = [(str(name), float(ratio)) for name, ratio in zip(rows["sampler"], rows["primary_ratio"], strict=True)]
    pairs.sort(key=lambda pair: math.inf if math.isnan(pair[1]) else pair[1])
    return Place(
        own,
        better=[pair for pair in pairs if pair[1] < own],
        equal=[pair for pair in pairs if pair[1] == own],
        worse=[pair for pair in pairs if not pair[1] <= own],
    )
