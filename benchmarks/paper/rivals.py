"""What one pass is held against: MCMC that goes on, or SMC, of no worse quality and at the least cost."""

import math
from collections.abc import Sequence

import pandas as pd

from ..break_even import UNITS, break_even_columns
from ..ranks import MIN_SEEDS, compare, scores
from .quality import Rows


def no_worse(values: pd.DataFrame, sampler: str, rivals: Sequence[str]) -> list[str]:
    """Rivals that a paired test over seeds does not call worse than a sampler (5%, Holm, among it and all of them).

    Break-even in leaderboards asks the same of all pairs of rows, as ranks do, so that both tell the same ties.

    Args:
        values: by sampler and seed, of which less is better. Samplers with a seed without a value are not in question,
            neither as the one nor as a rival.
        sampler: the one.
        rivals: labels.
    Returns:
        None of them with fewer than five seeds, which cannot tell.
    """
    whole = values.dropna()
    field = [sampler, *(name for name in rivals if name in whole.index)]
    if sampler not in whole.index or len(field) < 2 or whole.shape[1] < MIN_SEEDS:
        return []
    better = compare(whole.loc[field].to_numpy(dtype=float)).better
    return [name for k, name in enumerate(field) if k > 0 and not better[0, k]]


def against_rivals(metrics: pd.DataFrame, costs: pd.DataFrame, rows: Rows, one_pass: Sequence[str]) -> pd.DataFrame:
    """One pass against the long chains or SMC of no worse quality whose draws are cheapest, without what is paid once.

    Which rivals are no worse says ``no_worse``. A draw of chains counts by its effective size, and SMC pays everything
    per draw.

    Args:
        metrics: what ``evaluate_store`` returned.
        costs, rows: as of ``quality.step_curves``.
        one_pass: labels of the rows that are held against rivals.
    Returns:
        One row per target and one-pass sampler that has a score: target, sampler, and in seconds and equivalents:
        rival_UNIT (its label; empty if none is of its quality), rival_UNIT_per_draw (microseconds or equivalents),
        rival_UNIT_ratio (that over the draw of one pass; inf where that is free), rival_UNIT_break_even (draws from
        which training is paid for) with _low and _high.
    """
    table: list[dict[str, object]] = []
    for target, part in scores(metrics).groupby("target", sort=False):
        score = part.pivot(index="sampler", columns="seed", values="score").dropna()
        own = costs[costs["target"] == target].pivot(index="sampler", columns="seed")
        for sampler in one_pass:
            if sampler in score.index and sampler in own.index:
                rivals = no_worse(score, sampler, [name for name in rows.rivals if name in own.index])
                table.append({"target": target, "sampler": sampler, **_cheapest(own, sampler, rivals)})
    return pd.DataFrame(table, columns=["target", "sampler", *_RIVAL_COLUMNS])


_RIVAL_COLUMNS = [
    f"rival_{unit}{part}"
    for unit in UNITS
    for part in ("", "_per_draw", "_ratio", "_break_even", "_break_even_low", "_break_even_high")
]


def _cheapest(own: pd.DataFrame, sampler: str, rivals: Sequence[str]) -> dict[str, object]:
    row: dict[str, object] = {}
    for unit, (fit, draw, size) in UNITS.items():
        paid = {name: float(own[draw].loc[name].to_numpy(dtype=float).mean()) for name in [sampler, *rivals]}
        known = [name for name in rivals if math.isfinite(paid[name])]
        row[f"rival_{unit}"] = rival = min(known, key=paid.__getitem__, default="")
        if rival:
            cost, of_one = paid[rival], paid[sampler]
            row[f"rival_{unit}_per_draw"] = cost
            row[f"rival_{unit}_ratio"] = cost / of_one if of_one else math.inf
            fits, draws = (own[column].loc[[sampler, rival]].to_numpy(dtype=float) for column in (fit, draw))
            gaps = fits[0] - fits[1], size * (draws[1] - draws[0])
            row |= break_even_columns(f"rival_{unit}_break_even", *gaps)
    return row
