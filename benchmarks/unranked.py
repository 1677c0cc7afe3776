"""Why nothing is ranked, in words that every page, table and sentence shares."""

import pandas as pd

from .ranks import MIN_SEEDS


def why_unranked(part: pd.DataFrame) -> str:
    """Why no row of a target has a rank; empty where one has.

    Args:
        part: rows of the leaderboard of that target.
    """
    if part["rank"].notna().any():
        return ""
    if (part["n_ok"] == 0).all():
        return f"no run is ok: {', '.join(sorted(set(part['status'])))}"
    n_seeds = int(part["n_seeds"].max())
    if n_seeds < MIN_SEEDS:
        return f"ranks need {MIN_SEEDS} seeds, there {'is' if n_seeds == 1 else 'are'} {n_seeds}"
    return "no row has a value and a floor in every seed"


def why_no_mean_ranks(board: pd.DataFrame) -> str:
    """Why there are no mean ranks over targets; empty where there are some.

    Args:
        board: the leaderboard.
    """
    counted = board if board["development"].all() else board[~board["development"]]
    reasons = {str(target): why_unranked(part) for target, part in counted.groupby("target", sort=False)}
    if all(reasons.values()):
        return "; ".join(dict.fromkeys(reasons.values()))
    return "every target is a development target" if board["development"].all() else ""
