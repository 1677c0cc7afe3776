"""A leaderboard in plain sentences: who is first on a target, whether noise could have done it, what it costs."""

import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pandas as pd

from .number_text import number_text
from .ranks import PRIMARY
from .unranked import why_unranked

N_NAMED = 5  # of a group; the others are counted
FIT, DRAW = "fit_gradient_equivalents", "gradient_equivalents_per_effective_draw"


def in_words(part: pd.DataFrame, restarted: Collection[str] = (), mark: Callable[[str], str] = str) -> list[str]:
    """Sentences on one target.

    Args:
        part: rows of the leaderboard of that target.
        restarted: samplers that are no rivals in cost, see ``break_even.restarted_rows``.
        mark: how the name of a row is written.
    Returns:
        Who is first and beyond noise of whom; which of the rows tied with the best is cheapest per draw; from how many
        draws on what is paid once (training, warm-up) pays. Where nothing is ranked: why, and what can be read.
    """
    part = part.assign(is_rival=~part["sampler"].isin(restarted), sampler=[mark(str(name)) for name in part["sampler"]])
    ranked = part[part["rank"].notna() & (part["loss"] == "")].sort_values("primary_ratio", kind="stable")
    if ranked.empty:
        return [_unranked(part)]
    best = ranked[ranked["is_best"]]
    return [sentence for sentence in (_first(best, ranked), _cheapest(best), _pays(best)) if sentence]


def names(rows: Sequence[str], most: int = N_NAMED) -> str:
    """``A, B and C``, or ``A, B, C and 4 more``."""
    shown = [*rows] if len(rows) <= most + 1 else [*rows[:most], f"{len(rows) - most} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def envelope(fit: Sequence[float], draw: Sequence[float]) -> list[tuple[int, float]]:
    """Which of some rows costs least in total, ``fit + n draw``, as the number of draws n grows from one.

    Args:
        fit, draw: what a row pays once, and per draw.
    Returns:
        Pairs of a row and the number of draws from which it is cheapest; the first is cheapest from one draw on.
    """
    current = min(range(len(fit)), key=lambda k: (fit[k] + draw[k], draw[k]))
    steps = [(current, 1.0)]
    while True:
        later = [k for k in range(len(fit)) if draw[k] < draw[current]]
        if not later:
            return steps
        crossings = {k: (fit[k] - fit[current]) / (draw[current] - draw[k]) for k in later}
        current = min(later, key=lambda k: (crossings[k], draw[k]))
        steps.append((current, crossings[current]))


def at_floor(row: "pd.Series[Any]") -> bool:
    """Whether the row is at the floor by every primary metric that it has, for at least half of its seeds."""
    shares = [row[f"{name}_at_floor"] for name in PRIMARY if f"{name}_at_floor" in row]
    known = [share for share in shares if not math.isnan(share)]
    return bool(known) and min(known) >= 0.5


def letters(tie_group: str) -> set[str]:
    """The letters of a row: ``ab(53)`` has three."""
    return set(re.findall(r"\(\d+\)|.", tie_group))


def _unranked(part: pd.DataFrame) -> str:
    why = f"No ranks: {why_unranked(part)}."
    known = part[part["primary_ratio"].notna()].sort_values("primary_ratio", kind="stable")
    if known.empty:
        return why
    ends = [f"{number_text(row['primary_ratio'])} ({row['sampler']})" for _, row in known.iloc[[0, -1]].iterrows()]
    there = [str(row["sampler"]) for _, row in known.iterrows() if at_floor(row)]
    passed = f"at the floor: {names(there)}" if there else "none is at the floor"
    return f"{why} Ratios to the floor of exact draws: {' to '.join(ends[: len(known)])}; {passed}."


def _with_ratio(row: "pd.Series[Any]") -> str:
    return f"{row['sampler']} ({number_text(row['primary_ratio'])}{', at the floor' if at_floor(row) else ''})"


def _first(best: pd.DataFrame, ranked: pd.DataFrame) -> str:
    lead = best.iloc[0]
    seeds = f"{lead['n_seeds']} seeds"
    if len(best) == 1:
        others = ranked[ranked["sampler"] != lead["sampler"]]
        own = letters(lead["tie_group"])
        tied = [str(row["sampler"]) for _, row in others.iterrows() if letters(row["tie_group"]) & own]
        if tied:
            return f"{_with_ratio(lead)} is first, but {seeds} do not tell it apart from {names(tied)}."
        beyond = (
            f"beyond noise it is better than every other ranked row ({len(others)})"
            if len(others)
            else "no other row is whole"
        )
        return f"{_with_ratio(lead)} is first: {beyond}."
    who = names([str(name) for name in best["sampler"]])
    if len(best) == len(ranked) and len(best) > N_NAMED:
        who = f"All {len(best)} ranked rows"
    low, high = number_text(lead["primary_ratio"]), number_text(best["primary_ratio"].iloc[-1])
    n_there = sum(at_floor(row) for _, row in best.iterrows())
    there = "all" if n_there == len(best) else "none" if not n_there else f"{n_there} of {len(best)}"
    return f"{who} share first place: {seeds} do not tell them apart (ratios {low} to {high}, {there} at the floor)."


def _cheapest(best: pd.DataFrame) -> str:
    known = _tied(best, DRAW).sort_values([DRAW, "microseconds_per_effective_draw"], kind="stable")
    if known.empty:
        return ""
    row = known.iloc[0]
    price = f"{number_text(row[DRAW])} gradient equivalents" if row[DRAW] else "no evaluation of the density"
    time = f"{number_text(row['microseconds_per_effective_draw'])} µs"
    if len(best) == 1:
        return f"A draw of it costs {price}, {time}."
    aside = "" if best["is_rival"].all() else " (chains that restart for every draw left aside)"
    quality = f"{number_text(row['primary_ratio'])}, {'at the floor' if at_floor(row) else 'not at the floor'}"
    return (
        f"Of the rows tied with the best, {row['sampler']} is cheapest per draw{aside}: {price}, {time}. "
        f"Its ratio to the floor of exact draws is {quality}."
    )


def _pays(best: pd.DataFrame) -> str:
    known = _tied(best, FIT, DRAW).reset_index(drop=True)
    if known.empty or (len(known) == 1 and (len(best) > 1 or known[FIT].iloc[0] == 0)):
        return ""
    if len(known) == 1:
        return (
            f"Before its first draw it pays {number_text(known[FIT].iloc[0])} gradient equivalents (training, warm-up)."
        )
    steps = envelope(known[FIT].to_list(), known[DRAW].to_list())
    name = [_with_ratio(known.iloc[k]) for k, _ in steps]
    if len(steps) == 1:
        return f"With training and warm-up counted, {name[0]} costs least of them for any number of draws."
    later = "".join(f", from {number_text(n)} draws {name[i]}" for i, (_, n) in enumerate(steps) if i > 1)
    return (
        f"Training or warm-up pays from {number_text(steps[1][1])} draws: then {name[1]} costs least in total{later}; "
        f"for fewer draws {name[0]} does."
    )


def _tied(best: pd.DataFrame, *costs: str) -> pd.DataFrame:
    """Rows whose costs compare: known, whole, tied with that of the lowest ratio, no restarts unless one is alone."""
    own = letters(best["tie_group"].iloc[0])
    is_tied = best["tie_group"].map(lambda group: bool(letters(str(group)) & own))
    is_whole = (best["status"] == "ok") & (best["n_ok"] == best["n_seeds"])
    is_known = best[[*costs]].notna().all(axis=1)
    return best[is_tied & is_whole & is_known & (best["is_rival"] | (len(best) == 1))]
