"""Ranks that noise cannot make: paired tests over seeds on each target, and mean ranks over targets.

A run is scored by the log of the worse of its primary ratios. On a target, two rows are tied unless the paired t-test
of their scores by seed tells them apart, at 5% after Holm's correction for all pairs of rows.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

PRIMARY: tuple[str, ...] = ("sliced_w2", "mode_tv")  # the worse of the two ratios judges a row
LEVEL = 0.95
MIN_SEEDS = 5  # with fewer, a paired test among many rows finds next to nothing, and ties would say next to nothing
_RATIO = ("ratio", "ratio_low", "ratio_high")
UNRANKED = ("not_applicable", "not_installed")  # no loss: the row did not take part
LEAST_RATIO = 0.01  # below, quality is not told apart, and a ratio of zero (no error at all) has a log

Array = npt.NDArray[np.float64]


def scores(metrics: pd.DataFrame) -> pd.DataFrame:
    """The log of the worse primary ratio of every run.

    A ratio below ``LEAST_RATIO`` counts as that: a hundred times closer than exact draws come is as good as any better.

    Args:
        metrics: what ``evaluate_store`` returned.
    Returns:
        One row per run: target, sampler, seed, status, score, reason, is_loss. The score is nan, and the reason says
        why, where the run is not ok or lacks a primary ratio that its target offers. That is a loss, unless the row did
        not take part, or there is nothing to judge by: no truth, no floor, or no run of the target that has a score.
    """
    primary = metrics[metrics["metric"].isin(PRIMARY)]
    rows = []
    for (target, sampler, seed), run in primary.groupby(["target", "sampler", "seed"], sort=False):
        rows.append((target, sampler, seed, *_score(run)))
    frame = pd.DataFrame(rows, columns=["target", "sampler", "seed", "status", "score", "reason", "is_loss"])
    frame = frame.astype({"score": float, "is_loss": bool})
    is_judged = frame["score"].notna().groupby(frame["target"]).transform("any")
    return frame.assign(is_loss=frame["is_loss"] & (is_judged | frame["status"].ne("ok")))


def _score(run: pd.DataFrame) -> tuple[str, float, str, bool]:
    """Status, score, reason and loss of a run, given its rows of the primary metrics."""
    status = str(run["status"].iloc[0])
    offered = run[~run["reason"].str.startswith("needs ")]
    ratios = offered["ratio"]
    if status != "ok":
        reason = next(iter(offered["reason"][offered["reason"] != ""]), status)
        return status, math.nan, reason, status not in UNRANKED
    if offered.empty:
        return status, math.nan, "nothing to judge by", False
    if np.isinf(ratios).any():
        return status, math.nan, "; ".join(offered.loc[np.isinf(ratios), "metric"] + " is infinitely far above"), True
    if ratios.isna().any():
        lacking = offered[ratios.isna()]
        reason = "; ".join(lacking["metric"] + " has no floor or value")
        return status, math.nan, reason, bool(lacking["value"].isna().any())
    return status, math.log(max(float(ratios.max()), LEAST_RATIO)), "", False


@dataclass(frozen=True)
class Comparison:
    """Which of some rows are told apart.

    Attributes:
        better: ``better[i, j]``, whether row i is significantly better than row j, shape ``(n, n)``.
        letters: of every row; two rows share a letter exactly where they are tied.
    """

    better: npt.NDArray[np.bool_]
    letters: list[str]


def compare(values: Array, level: float = LEVEL) -> Comparison:
    """Paired t-tests between all rows with Holm's correction.

    Args:
        values: scores by row and seed, shape ``(n_rows, n_seeds)``, finite, lower is better.
        level: one minus the chance of a single false difference among all pairs.
    """
    n_rows, n_seeds = values.shape
    first, second = np.triu_indices(n_rows, k=1)
    gaps = values[first] - values[second]
    mean, error = gaps.mean(1), gaps.std(1, ddof=1) / math.sqrt(n_seeds)
    with np.errstate(divide="ignore", invalid="ignore"):  # equal scores, by seed or altogether
        t = np.where(error > 0, mean / error, np.where(mean == 0, 0.0, np.copysign(np.inf, mean)))
    apart = holm(np.asarray(2 * stats.t.sf(np.abs(t), n_seeds - 1), dtype=float), 1 - level)
    better = np.zeros((n_rows, n_rows), dtype=bool)
    better[first, second] = apart & (mean < 0)
    better[second, first] = apart & (mean > 0)
    return Comparison(better, letters_of(better | better.T, np.argsort(values.mean(1), kind="stable")))


def holm(p: Array, level: float) -> npt.NDArray[np.bool_]:
    """Which hypotheses Holm's step-down rule rejects, with a chance of ``level`` at most of a false rejection.

    Reference: S. Holm, Scand. J. Statist. 6 (1979).
    """
    return holm_adjusted(p) <= level


def holm_adjusted(p: Array) -> Array:
    """p-values that may be held against any level after Holm's correction, shape ``(n,)``.

    Reference: S. Holm, Scand. J. Statist. 6 (1979).
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, steps)
    return adjusted


def letters_of(differs: npt.NDArray[np.bool_], order: Sequence[int] | npt.NDArray[np.int64]) -> list[str]:
    """Letters for rows such that two share one exactly where they do not differ; ``a`` holds the first of ``order``.

    Reference: H.-P. Piepho, J. Comput. Graph. Stat. 13 (2004), insert and absorb.
    """
    groups = [frozenset(int(row) for row in order)]
    for i, j in zip(*np.nonzero(np.triu(differs)), strict=True):
        split = [part for group in groups if {i, j} <= group for part in (group - {i}, group - {j})]
        kept = [group for group in groups if not {i, j} <= group]
        groups = _absorbed([*kept, *split])
    place = {int(row): k for k, row in enumerate(order)}
    groups.sort(key=lambda group: sorted(place[row] for row in group))
    return ["".join(_letter(k) for k, group in enumerate(groups) if row in group) for row in range(len(differs))]


def _absorbed(groups: list[frozenset[int]]) -> list[frozenset[int]]:
    distinct = list(dict.fromkeys(groups))
    return [group for group in distinct if not any(group < other for other in distinct)]


def _letter(k: int) -> str:
    """a to z, then A to Z, then numbers in brackets."""
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return alphabet[k] if k < len(alphabet) else f"({k + 1})"


def rank_targets(metrics: pd.DataFrame, development: Collection[str] = ()) -> pd.DataFrame:
    """Places of all rows on every target.

    A row's rank is 1 + the rows that are better + half of those that are tied with it: the middle of the places it may
    have, so that ranks add up and a row of wildly varying quality is not first by being told apart from nobody. A row
    of which a run is not ok (failed, missing, over budget, diverged) is last, and tied with others of its kind.

    Args:
        metrics: what ``evaluate_store`` returned.
        development: targets on which settings of some row were chosen.
    Returns:
        One row per target x sampler: target, development, sampler, n_seeds, ratio (geometric mean), ratio_low,
        ratio_high (95% t-interval of the log over seeds), rank, n_better, n_tied, n_worse, tie_group, is_best (nobody
        is better), loss (why the row is last; empty otherwise). Rank and counts are nan where the row did not take
        part in any seed or was planned with fewer seeds than others, and on targets with fewer than ``MIN_SEEDS`` seeds
        or no row that has a score in all of them; the ratio is nan where a run has no score.
    """
    rows = []
    for target, part in scores(metrics).groupby("target", sort=False):
        table = part.pivot(index="sampler", columns="seed", values="score").reindex(part["sampler"].unique())
        status = part.groupby("sampler")["status"].agg(list)
        has_loss = part.groupby("sampler")["is_loss"].any()
        took_part = [s for s in table.index if len(status[s]) == table.shape[1] and not set(status[s]) <= set(UNRANKED)]
        whole = [s for s in took_part if table.loc[s].notna().all()]
        in_part = {s for s in took_part if set(status[s]) & set(UNRANKED) and table.notna().any(axis=None)}
        losers = [s for s in took_part if s not in whole and (has_loss[s] or s in in_part)]
        is_ranked = table.shape[1] >= MIN_SEEDS and len(whole) > 0
        result = compare(table.loc[whole].to_numpy(dtype=float)) if is_ranked else None
        for sampler in table.index:
            row = {
                "target": target,
                "development": target in development,
                "sampler": sampler,
                "n_seeds": len(status[sampler]),
                **dict(zip(_RATIO, geometric_mean(table.loc[sampler].to_numpy(dtype=float)), strict=True)),
                **_nowhere(),
                "loss": _loss(part[part["sampler"] == sampler]) if sampler in losers else "",
            }
            if result is not None and sampler in whole:
                k = whole.index(sampler)
                n_better = int(result.better[:, k].sum())
                n_worse = int(result.better[k].sum()) + len(losers)
                row |= _place(n_better, len(whole) + len(losers) - 1 - n_better - n_worse, n_worse)
                row |= {"tie_group": result.letters[k], "is_best": n_better == 0}
            elif result is not None and sampler in losers:
                row |= _place(len(whole), len(losers) - 1, 0)
            rows.append(row)
    numbers = (*_RATIO, "rank", "n_better", "n_tied", "n_worse")
    return pd.DataFrame(rows, columns=[*_COLUMNS]).astype(dict.fromkeys(numbers, float) | {"development": bool})


_COLUMNS = (
    "target", "development", "sampler", "n_seeds", "ratio", "ratio_low", "ratio_high", "rank", "n_better", "n_tied",
    "n_worse", "tie_group", "is_best", "loss",
)  # fmt: skip


def geometric_mean(logs: Array) -> tuple[float, float, float]:
    """Geometric mean of the numbers with these logs, shape ``(n,)``, and the ends of its t-interval, taken in logs.

    All are nan if a log is, since a row is not judged by its other runs, and the ends of a single one too. An end that
    is too large for a number is infinite.
    """
    mean, half = logs.mean(), half_width(logs)
    with np.errstate(over="ignore"):
        value, low, high = np.exp([mean, mean - half, mean + half]).tolist()
    return value, low, high


def half_width(values: Array, level: float = LEVEL) -> float:
    """Half of the t-interval of the mean of independent ``values``, shape ``(n,)``; nan of a single one."""
    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))


def _nowhere() -> dict[str, object]:
    unknown: dict[str, object] = dict.fromkeys(("rank", "n_better", "n_tied", "n_worse"), math.nan)
    return {**unknown, "tie_group": "", "is_best": False}


def _place(n_better: int, n_tied: int, n_worse: int) -> dict[str, object]:
    return {"rank": 1 + n_better + n_tied / 2, "n_better": n_better, "n_tied": n_tied, "n_worse": n_worse}


def _loss(runs: pd.DataFrame) -> str:
    """How many runs are lost or took no part, and the first reason, that of a loss if there is one."""
    bad = runs[runs["is_loss"] | runs["status"].isin(UNRANKED)].sort_values("is_loss", ascending=False, kind="stable")
    status, reason = bad["status"].iloc[0], bad["reason"].iloc[0]
    return f"{len(bad)} of {len(runs)} runs: {status}" + ("" if reason == status else f", {reason}")


def rank_overall(places: pd.DataFrame) -> pd.DataFrame:
    """Mean ranks over the targets that are not development targets.

    Args:
        places: what ``rank_targets`` returned.
    Returns:
        One row per sampler that is ranked on some target, best first: sampler, mean_rank, rank_low, rank_high (95%
        t-interval over targets), n_targets (ranked on), n_best (nobody better), n_losses (on all targets, those where
        every row lost and nobody is ranked included). The interval is nan of a single target, and where all ranks of a
        row are equal: ties without end say nothing about the next target. Rows that are ranked on fewer targets than
        others come last, by their mean rank too: means over different targets do not compare.
    """
    rows = []
    for sampler, part in places[~places["development"]].groupby("sampler", sort=False):
        ranks = part["rank"].dropna().to_numpy(dtype=float)
        if not len(ranks):
            continue
        half = half_width(ranks) if np.ptp(ranks) > 0 else math.nan
        rows.append(
            {
                "sampler": sampler,
                "mean_rank": ranks.mean(),
                "rank_low": ranks.mean() - half,
                "rank_high": ranks.mean() + half,
                "n_targets": len(ranks),
                "n_best": int(part["is_best"].sum()),
                "n_losses": int((part["loss"] != "").sum()),
            }
        )
    columns = ["sampler", "mean_rank", "rank_low", "rank_high", "n_targets", "n_best", "n_losses"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(["n_targets", "mean_rank"], ascending=[False, True], kind="stable", ignore_index=True)
