"""What an experiment says of a claim: values with intervals, and the verdict that follows from them by rule."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from ..ranks import LEVEL, UNRANKED, half_width, scores
from .quality import PRIMARY_RATIO

ENOUGH_EQUAL = 6  # of so many signs all are alike by chance in 3% of cases, of five in 6%
RUN = ["target", "sampler", "seed"]
ROUNDING = 1e-5  # CSVs have six digits
Verdict: TypeAlias = Literal["replicated", "partly", "not replicated", "not testable"]


@dataclass(frozen=True)
class Evidence:
    """A value with its 95% interval; nan where it is not known.

    Attributes:
        of: what it was measured on, a target as a rule.
    """

    of: str
    value: float
    low: float
    high: float


def verdict(evidence: Sequence[Evidence], threshold: float) -> Verdict:
    """The verdict on a claim that every value is above ``threshold``.

    A value supports the claim if its interval lies above the threshold, speaks against it if the interval lies below,
    and is open otherwise. All support: replicated. More support than speak against it, and more than by chance: partly.
    As many or more speak against it, and more than by chance: not replicated. Else, by these runs: not testable.
    """
    n_for, n_against, _ = counts(evidence, threshold)
    if n_for and n_for == len(evidence):
        return "replicated"
    if n_for > n_against and beyond_chance(n_for, len(evidence)):
        return "partly"
    is_refuted = n_against >= n_for and beyond_chance(n_against, len(evidence))
    return "not replicated" if is_refuted else "not testable"


def beyond_chance(n: int, n_values: int) -> bool:
    """Whether ``n`` of some intervals on one side of the truth are more than chance leaves there (5%).

    Of independent 95% intervals one in forty lies above the truth: one of three or more says nothing, nor do two of
    fifteen or more.
    """
    return n > 0 and float(stats.binom.sf(n - 1, n_values, (1 - LEVEL) / 2)) <= 1 - LEVEL


def counts(evidence: Sequence[Evidence], threshold: float) -> tuple[int, int, int]:
    """How many values support, speak against, and are open."""
    n_for = sum(part.low > threshold for part in evidence)
    n_against = sum(part.high < threshold for part in evidence)
    return n_for, n_against, len(evidence) - n_for - n_against


def losses(metrics: pd.DataFrame, metric: str | None = None) -> dict[tuple[str, str], int]:
    """Targets and samplers with runs that ended without a result, and how many: failed, diverged or beyond a limit.

    Runs that are missing, or of a row that takes no part, are not lost.

    Args:
        metrics: of ``evaluate_store``.
        metric: a run is lost too if it is ok without a finite value of this metric, which its target offers; of
            ``primary``, if ``ranks.scores`` calls it a loss.
    """
    if metric == PRIMARY_RATIO:
        runs = scores(metrics)
        is_judged = runs["score"].notna().groupby(runs["target"]).transform("any")
        is_lost = runs["is_loss"] & (runs["status"] != "missing") & is_judged
    else:
        runs = metrics.drop_duplicates(RUN) if metric is None else metrics[metrics["metric"] == metric]
        is_lost = ~runs["status"].isin(["ok", "missing", *UNRANKED])
        if metric is not None:
            has_value = runs["value"].astype(float).abs() < math.inf
            is_offered = has_value.groupby(runs["target"]).transform("any") & ~runs["reason"].str.startswith("needs ")
            is_lost |= runs["status"].eq("ok") & ~has_value & is_offered
    lost = runs[is_lost]
    return dict(Counter(zip(lost["target"], lost["sampler"], strict=True)))


def paired_difference(
    values: pd.DataFrame, lost: Mapping[tuple[str, str], int], one: str, other: str, *, are_counts: bool
) -> list[Evidence]:
    """Of each target, the mean over seeds of a value of one sampler less that of another, by a paired t-interval.

    Args:
        values: of runs on the targets to compare on: target, sampler, seed, value; more is better.
        lost: of ``losses``.
        one, other: labels of samplers.
        are_counts: whether values repeat by chance, as counts do. Then equal differences of fewer than six seeds have
            an infinite interval.
    Returns:
        One piece per target on which both have values of two seeds or more in common. A lost run is the worst there
        can be: the difference is -inf where the one lost more runs than the other, open where it lost as many or
        fewer, and inf where it lost none and the other left fewer than two seeds to compare.
    """
    found = []
    for target, part in values.groupby("target", sort=False):
        wide = part.pivot(index="seed", columns="sampler", values="value")
        if one not in wide or other not in wide:
            continue
        n_lost, n_other = (lost.get((str(target), name), 0) for name in (one, other))
        if n_lost:
            worst = certain(f"{target} ({one}: {lost_of(n_lost, len(wide))})", -math.inf)
            found.append(worst if n_lost > n_other else replace(worst, value=math.nan, high=math.inf))
            continue
        pairs = wide[[one, other]].dropna()
        difference = (pairs[one] - pairs[other]).to_numpy()
        if len(difference) < 2:
            if n_other and wide[one].notna().sum() > 1:
                found.append(certain(f"{target} ({other}: {lost_of(n_other, len(wide))})", math.inf))
            continue
        mean, half = float(difference.mean()), half_width(difference)
        is_equal = np.ptp(difference) <= ROUNDING * max(1.0, float(pairs.abs().to_numpy().max()))
        if are_counts and is_equal and len(difference) < ENOUGH_EQUAL:
            half = math.inf
        found.append(Evidence(str(target), mean, mean - half, mean + half))
    return found


def lost_of(n_lost: int, n_runs: int) -> str:
    """In words."""
    return f"{n_lost} of {n_runs} runs lost"


def certain(of: str, value: float) -> Evidence:
    """A value that needs no interval: what a lost run stands for."""
    return Evidence(of, value, value, value)


def evidence_in(table: pd.DataFrame, of: Sequence[str], value: str) -> list[Evidence]:
    """A piece per row of a table that has a value with an interval.

    Args:
        table: with these columns.
        of: columns that say what was measured.
        value: column of numbers; their intervals are in value_low and value_high.
    """
    low, high = f"{value}_low", f"{value}_high"
    known = table.dropna(subset=[value, low, high])
    names = known[list(of)].astype(str).to_numpy().tolist()
    numbers = known[[value, low, high]].to_numpy(dtype=float).tolist()
    return [Evidence(", ".join(name), *row) for name, row in zip(names, numbers, strict=True)]


def share(of: str, n_successes: int, n_runs: int) -> Evidence:
    """A share with the exact interval of Clopper and Pearson.

    Raises:
        ValueError: if there are no runs.
    """
    if n_runs < 1:
        raise ValueError(f"a share needs at least 1 run, got {n_runs}")
    interval = stats.binomtest(n_successes, n_runs).proportion_ci(LEVEL, method="exact")
    return Evidence(of, n_successes / n_runs, float(interval.low), float(interval.high))


def difference_of_shares(of: str, one: tuple[int, int], other: tuple[int, int]) -> Evidence:
    """A share less another of other runs, with Newcombe's interval from those of Wilson.

    Args:
        of: what the shares are of.
        one, other: numbers of successes and of runs.
    Reference: R. Newcombe, Statistics in Medicine 17 (1998) 873, method 10.
    """
    shares = [n_successes / n_runs for n_successes, n_runs in (one, other)]
    ends = [stats.binomtest(*pair).proportion_ci(LEVEL, method="wilson") for pair in (one, other)]
    value = shares[0] - shares[1]
    low = value - math.hypot(shares[0] - ends[0].low, ends[1].high - shares[1])
    high = value + math.hypot(ends[0].high - shares[0], shares[1] - ends[1].low)
    return Evidence(of, value, low, high)


def summary(evidence: Sequence[Evidence]) -> tuple[float, str]:
    """The median value, and an interval as text: of one piece its own, of several the range of their values."""
    known = [part for part in evidence if not math.isnan(part.value)]
    if not known:
        return math.nan, ""
    if len(evidence) == 1:
        return known[0].value, f"{known[0].low:.3g} to {known[0].high:.3g}"
    values = sorted(part.value for part in known)
    median = float(pd.Series(values).median())
    return median, f"{values[0]:.3g} to {values[-1]:.3g} over {len(values)}"
