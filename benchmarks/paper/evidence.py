"""What an experiment says of a claim: values with intervals, and the verdict that follows from them by rule."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pandas as pd
from scipy import stats

from ..ranks import LEVEL, UNRANKED, half_width

ENOUGH_EQUAL = 6  # of so many signs all are alike by chance in 3% of cases, of five in 6%
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

    Of independent 95% intervals one in forty lies above the truth: one of three to fourteen says nothing.
    """
    return n > 0 and float(stats.binom.sf(n - 1, n_values, (1 - LEVEL) / 2)) <= 1 - LEVEL


def counts(evidence: Sequence[Evidence], threshold: float) -> tuple[int, int, int]:
    """How many values support, speak against, and are open."""
    n_for = sum(part.low > threshold for part in evidence)
    n_against = sum(part.high < threshold for part in evidence)
    return n_for, n_against, len(evidence) - n_for - n_against


def losses(metrics: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Targets and samplers with runs that ended without a result, with how many, as "2 of 5 runs lost".

    Runs that are missing, or of a row that takes no part, are not lost.

    Args:
        metrics: of ``evaluate_store``.
    """
    runs = metrics.drop_duplicates(["target", "sampler", "seed"])
    is_lost = ~runs["status"].isin(["ok", "missing", *UNRANKED])
    counted = is_lost.groupby([runs["target"], runs["sampler"]]).agg(["sum", "size"])
    return {key: f"{row['sum']} of {row['size']} runs lost" for key, row in counted.iterrows() if row["sum"]}


def paired_difference(
    values: pd.DataFrame, lost: Mapping[tuple[str, str], str], one: str, other: str
) -> list[Evidence]:
    """Of each target, the mean over seeds of a value of one sampler less that of another, by a paired t-interval.

    Args:
        values: of runs on the targets to compare on: target, sampler, seed, value; more is better.
        lost: of ``losses``.
        one, other: labels of samplers.
    Returns:
        One piece per target on which both have values of two seeds or more in common. A lost run is the worst there
        can be: where the one lost any the difference is -inf, where it lost none and the other left fewer than two
        seeds to compare it is inf. Equal differences other than 0 of fewer than six seeds have an infinite interval:
        counts of modes repeat by chance.
    """
    found = []
    for target, part in values.groupby("target", sort=False):
        wide = part.pivot(index="seed", columns="sampler", values="value")
        if one not in wide or other not in wide:
            continue
        if (target, one) in lost:
            found.append(certain(f"{target} ({one}: {lost[target, one]})", -math.inf))
            continue
        difference = (wide[one] - wide[other]).dropna().to_numpy()
        if len(difference) < 2:
            if (target, other) in lost and wide[one].notna().sum() > 1:
                found.append(certain(f"{target} ({other}: {lost[target, other]})", math.inf))
            continue
        mean, half = float(difference.mean()), half_width(difference)
        if half == 0 and mean != 0 and len(difference) < ENOUGH_EQUAL:
            half = math.inf
        found.append(Evidence(str(target), mean, mean - half, mean + half))
    return found


def certain(of: str, value: float) -> Evidence:
    """A value that needs no interval: what a lost run stands for."""
    return Evidence(of, value, value, value)


def evidence_in(table: pd.DataFrame, of: Sequence[str], value: str, low: str, high: str) -> list[Evidence]:
    """A piece per row of a table that has a value with an interval.

    Args:
        table: with these columns.
        of: columns that say what was measured.
        value, low, high: columns of numbers.
    """
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
    if not evidence:
        return math.nan, ""
    if len(evidence) == 1:
        return evidence[0].value, f"{evidence[0].low:.3g} to {evidence[0].high:.3g}"
    values = sorted(part.value for part in evidence)
    median = float(pd.Series(values).median())
    return median, f"{values[0]:.3g} to {values[-1]:.3g} over {len(values)}"
