"""How many steps of MCMC one pass of a network is worth, and what those cost."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..break_even import UNITS, break_even_columns
from ..ranks import geometric_mean
from .crossing import crossing
from .quality import CHAIN, Rows

Array = npt.NDArray[np.float64]
COLUMNS = (
    "target", "metric", "sampler", "chain", "n_seeds", "k", "k_low", "k_high", "censored", "at_floor_from",
    "is_monotone", "left_out", "k_costed", "microseconds_per_draw_one_pass", "microseconds_per_draw_chain",
    "microseconds_ratio", "microseconds_ratio_low", "microseconds_ratio_high", "equivalents_per_draw_one_pass",
    "equivalents_per_draw_chain", "break_even_equivalents", "break_even_equivalents_low",
    "break_even_equivalents_high", "break_even_seconds", "break_even_seconds_low", "break_even_seconds_high", "reason",
)  # fmt: skip
OUTCOME = (
    "n_seeds", "k", "k_low", "k_high", "censored", "microseconds_ratio", "microseconds_ratio_low",
    "microseconds_ratio_high", "reason",
)  # fmt: skip


def equal_steps_table(quality: pd.DataFrame, costs: pd.DataFrame, rows: Rows, one_pass: Sequence[str]) -> pd.DataFrame:
    """The number of steps k at which chains that restart for every draw are as good as one pass, and both costs there.

    Where chains are at the floor in at least half of their runs from some k on (``at_floor_from``), they count as equal
    from there, since nothing is better; the interval remains that of the paired tests. Costs of chains are interpolated
    linearly between the numbers of steps that were run; where k is below or above all of these (``censored``), they
    are those of the smallest or the largest, and the ratios bounds.

    Args:
        quality, costs, rows: as of ``quality.step_curves``.
        one_pass: labels of the rows that chains are held against.
    Returns:
        One row per target, metric, one-pass sampler and kind of chain: target, metric, sampler, chain, n_seeds, k,
        k_low, k_high (see ``crossing``; 0 is below the smallest number of steps, inf above the largest), censored
        ("below", "above" or empty), at_floor_from, is_monotone, left_out (numbers of steps of which a run has no
        value), k_costed (where costs are taken), microseconds_per_draw and equivalents_per_draw of the one pass
        (``_one_pass``) and of the chain (``_chain``), microseconds_ratio of chain over one pass, geometric mean over
        seeds, with the outer ends of its 95% t-intervals at k_low and k_high, draws from which training is paid for
        against chains of k_costed steps (break_even_equivalents, break_even_seconds, each with _low and _high), reason
        (why there is no k).
    """
    table: list[dict[str, object]] = []
    for (target, metric), part in quality.groupby(["target", "metric"], sort=False):
        values = part.pivot(index="sampler", columns="seed", values="quality")
        at_floor = part.assign(at_floor=part["at_floor"] == True).groupby("sampler")["at_floor"].mean()  # noqa: E712
        own = costs[costs["target"] == target].pivot(index="sampler", columns="seed")
        for sampler in one_pass:
            for chain, steps in rows.ladders.items():
                ladder = {k: label for k, label in steps.items() if label in values.index}
                if sampler in values.index and ladder:
                    found = _against(values, at_floor, own, sampler, ladder)
                    table.append({"target": target, "metric": metric, "sampler": sampler, "chain": chain, **found})
    return pd.DataFrame(table, columns=list(COLUMNS))


def outcome_table(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """One number per law and one-pass sampler: the steps of CHAIN that its pass is worth, and the ratio of times there.

    Args:
        table: of ``equal_steps_table``.
        metrics: what a law is judged by, the first of these that it has.
    Returns:
        target, sampler, metric, and of ``equal_steps_table`` the columns of OUTCOME.
    """
    own = table[(table["chain"] == CHAIN) & table["metric"].isin(metrics)]
    place = own["metric"].map({name: number for number, name in enumerate(metrics)})
    best = own.assign(place=place).groupby(["target", "sampler"], sort=False)["place"].transform("min")
    return own.loc[place == best, ["target", "sampler", "metric", *OUTCOME]].reset_index(drop=True)


def _against(
    values: pd.DataFrame, at_floor: pd.Series, own: pd.DataFrame, sampler: str, ladder: Mapping[int, str]
) -> dict[str, object]:
    """One row of the table; ``values`` and ``own`` are quality and costs by sampler and seed."""
    whole = {k: label for k, label in ladder.items() if values.loc[label].notna().to_numpy().all()}
    lost = " ".join(str(k) for k in ladder if k not in whole)
    if values.loc[sampler].isna().to_numpy().any() or not whole:
        why = f"a run of {sampler if whole else 'every number of steps'} has no value"
        return {"n_seeds": values.shape[1], "left_out": lost, "reason": why}
    ks = np.array([*whole], dtype=float)
    curve, level = values.loc[[*whole.values()]].to_numpy(dtype=float), values.loc[sampler].to_numpy(dtype=float)
    found = crossing(ks, curve, level)
    enough = _from_where([bool(at_floor[label] >= 0.5) for label in whole.values()], ks)
    there = 0.0 if enough == ks[0] else enough  # at the smallest number of steps already
    k = found.value if math.isnan(enough) else min(found.value, there)
    ends = {"low": found.low if math.isnan(found.low) else min(found.low, k), "high": found.high}
    return {
        "n_seeds": values.shape[1], "k": k, "k_low": ends["low"], "k_high": ends["high"],
        "censored": "below" if k == 0 else "above" if math.isinf(k) else "", "at_floor_from": enough,
        "is_monotone": found.is_monotone, "left_out": lost, **_costs(own, sampler, whole, k, ends), "reason": "",
    }  # fmt: skip


def _from_where(is_there: Sequence[bool], ks: Array) -> float:
    """The first k from which on all are there; nan if the last is not."""
    n_last = next((n for n, flag in enumerate(reversed(is_there)) if not flag), len(is_there))
    return float(ks[len(ks) - n_last]) if n_last else math.nan


def _costs(
    own: pd.DataFrame, sampler: str, ladder: Mapping[int, str], k: float, ends: Mapping[str, float]
) -> dict[str, object]:
    """Costs of one pass and of chains of k steps; nan where one was not measured."""
    ks = np.array([*ladder], dtype=float)

    def paid(column: str, label: str) -> Array:
        table = own[column]
        return table.loc[label].to_numpy(dtype=float) if label in table.index else np.full(table.shape[1], math.nan)

    def at(column: str, steps: float) -> Array:
        """By seed; ``np.interp`` holds what lies beyond the steps at their ends."""
        chains = np.stack([paid(column, label) for label in ladder.values()])
        return np.array([np.interp(steps, ks, of_seed) for of_seed in chains.T])

    one, chain = paid("microseconds_per_draw", sampler), at("microseconds_per_draw", k)
    result: dict[str, object] = {
        "k_costed": float(np.clip(k, ks[0], ks[-1])),
        "microseconds_per_draw_one_pass": one.mean(), "microseconds_per_draw_chain": chain.mean(),
        "microseconds_ratio": geometric_mean(np.log(chain / one))[0],
    }  # fmt: skip
    for which, end in enumerate(("low", "high"), start=1):
        steps = ends[end]
        is_known = steps > 0 and math.isfinite(steps)  # else 0, inf or nan stand for themselves
        ratio = geometric_mean(np.log(at("microseconds_per_draw", steps) / one))[which] if is_known else steps
        result[f"microseconds_ratio_{end}"] = ratio
    for unit, (fit, draw, size) in UNITS.items():
        own_draw, chain_draw = size * paid(draw, sampler), size * at(draw, k)
        if unit == "equivalents":
            result["equivalents_per_draw_one_pass"] = own_draw.mean()
            result["equivalents_per_draw_chain"] = chain_draw.mean()
        result |= break_even_columns(f"break_even_{unit}", paid(fit, sampler) - at(fit, k), chain_draw - own_draw)
    return result
