"""Friedman's test: whether mean ranks over targets differ at all, and by how much two must to be told apart."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from .ranks import LEVEL, Array


@dataclass(frozen=True)
class Friedman:
    """Whether mean ranks differ at all, and by how much two must to be told apart.

    Attributes:
        samplers, mean_ranks: of the rows that were ranked on every target, best first.
        n_targets: targets.
        p: of Friedman's test, in Iman and Davenport's form.
        critical_difference: of Nemenyi's test at 5%.

    Reference: J. Demsar, J. Mach. Learn. Res. 7 (2006).
    """

    samplers: list[str]
    mean_ranks: Array
    n_targets: int
    p: float
    critical_difference: float


def friedman(places: pd.DataFrame) -> Friedman | None:
    """Friedman's test on the ranks of ``rank_targets``; None of fewer than two targets or three whole rows.

    Ranks are made again among the rows that were ranked everywhere; midranks of ties make the test conservative.
    """
    ranked = places[~places["development"] & places["rank"].notna()]
    table = ranked.pivot(index="target", columns="sampler", values="rank").dropna(axis=1)
    n, k = table.shape
    if n < 2 or k < 3:
        return None
    ranks = table.rank(axis=1)
    mean = ranks.mean().sort_values(kind="stable")
    chi2 = 12 * n / (k * (k + 1)) * float(((mean - (k + 1) / 2) ** 2).sum())
    f = (n - 1) * chi2 / (n * (k - 1) - chi2) if chi2 < n * (k - 1) else math.inf
    width = float(stats.studentized_range.ppf(LEVEL, k, np.inf)) / math.sqrt(2)
    return Friedman(
        samplers=list(mean.index),
        mean_ranks=mean.to_numpy(dtype=float),
        n_targets=n,
        p=float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))),
        critical_difference=width * math.sqrt(k * (k + 1) / (6 * n)),
    )
