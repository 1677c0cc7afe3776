"""A leaderboard.csv as ``samplerbench leaderboard`` writes it, read again."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd


def board_file(path: Path) -> Path:
    """The file of a leaderboard, given it or its folder."""
    return path / "leaderboard.csv" if path.is_dir() else path


def read_board(path: Path, needed: Collection[str]) -> pd.DataFrame:
    """The table of a leaderboard.

    Args:
        path: of the file, or of its folder.
        needed: columns that it must have.
    Returns:
        Its rows, one per target and sampler; empty cells are nan.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no leaderboard, or has no rows.
    """
    file = board_file(path)
    if not file.is_file():
        raise FileNotFoundError(f"leaderboard {file} does not exist; `samplerbench leaderboard STORE` writes it")
    try:
        board = pd.read_csv(file, keep_default_na=False, na_values=[""], dtype={"target": str, "sampler": str})
    except ValueError as error:
        raise ValueError(f"leaderboard {file} cannot be read: {str(error).strip()}") from error
    absent = [name for name in needed if name not in board]
    if absent:
        raise ValueError(f"leaderboard {file} must have columns {', '.join(needed)}, lacks {', '.join(absent)}")
    if board.empty:
        raise ValueError(f"leaderboard {file} has no rows")
    return board
