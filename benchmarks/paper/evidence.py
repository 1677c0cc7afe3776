"""What an experiment says of a claim: values with intervals, and the verdict that follows from them by rule."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pandas as pd
from scipy import stats

from ..ranks import LEVEL, half_width

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
    and is open otherwise. All support: replicated. More support than speak against it: partly. As many or more speak
    against it: not replicated. All are open, or there are none: not testable, by these runs. Of many values without any
    effect one in forty supports by chance, and one in forty speaks against: read the counts beside the verdict.
    """
    n_for, n_against, _ = counts(evidence, threshold)
    if n_for and n_for == len(evidence):
        return "replicated"
    if n_for > n_against:
        return "partly"
    return "not replicated" if n_against else "not testable"


def counts(evidence: Sequence[Evidence], threshold: float) -> tuple[int, int, int]:
    """How many values support, speak against, and are open."""
    n_for = sum(part.low > threshold for part in evidence)
    n_against = sum(part.high < threshold for part in evidence)
    return n_for, n_against, len(evidence) - n_for - n_against


def paired_difference(metrics: pd.DataFrame, metric: str, one: str, other: str) -> list[Evidence]:
    """Of each target, the mean over seeds of a metric of one sampler less that of another, by a paired t-interval.

    Args:
        metrics: of ``evaluate_store``, of the targets to compare on.
        metric: its name.
        one, other: labels of samplers.
    Returns:
        One piece per target on which both have values of two seeds or more in common. Equal differences other
        than 0 of fewer than six seeds have an infinite interval: counts of modes repeat by chance.
    """
    of_metric = metrics[metrics["metric"] == metric]
    found = []
    for target, part in of_metric.groupby("target", sort=False):
        wide = part.pivot_table(index="seed", columns="sampler", values="value")
        if one not in wide or other not in wide:
            continue
        difference = (wide[one] - wide[other]).dropna().to_numpy()
        if len(difference) < 2:
            continue
        mean, half = float(difference.mean()), half_width(difference)
        if half == 0 and mean != 0 and len(difference) < ENOUGH_EQUAL:
            half = math.inf
        found.append(Evidence(str(target), mean, mean - half, mean + half))
    return found


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


def summary(evidence: Sequence[Evidence]) -> tuple[float, str]:
    """The median value, and an interval as text: of one piece its own, of several the range of their values."""
    if not evidence:
        return math.nan, ""
    if len(evidence) == 1:
        return evidence[0].value, f"{evidence[0].low:.3g} to {evidence[0].high:.3g}"
    values = sorted(part.value for part in evidence)
    median = float(pd.Series(values).median())
    return median, f"{values[0]:.3g} to {values[-1]:.3g} over {len(values)}"
