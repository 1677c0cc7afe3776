"""How sensitive a method is: its worst setting over its best one, with an interval that knows how many were tried."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ..ranks import LEVEL
from .quality import PRIMARY_RATIO
from .run_values import run_values

Array = npt.NDArray[np.float64]
JUDGED = (
    f"{PRIMARY_RATIO}_ratio",
    "sliced_w2_ratio",
    "mode_tv_ratio",
)  # positive by nature, so their ratios mean something
COLUMNS = [
    "method", "sweep", "target", "metric", "n_settings", "n_runs", "n_lost", "best", "worst", "best_ratio",
    "worst_ratio", "worst_over_best", "low", "high",
]  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """The worst setting over the best.

    Attributes:
        value: ratio of the largest to the least median over runs; a lost run counts as infinitely bad. Infinite where
            that leaves no median finite.
        low, high: simultaneous confidence interval; nan where no setting has two runs. Where runs were lost the upper
            end is infinite, and the lower that of the settings without lost runs, 1 if these are fewer than two; where
            all runs of a setting were lost both are infinite.
        best, worst: places of these settings.
        best_median, worst_median: of their values.
    """

    value: float
    low: float
    high: float
    best: int
    worst: int
    best_median: float
    worst_median: float


def worst_over_best(settings: Sequence[npt.ArrayLike], level: float = LEVEL, least: float = 0.0) -> Spread:
    """How far settings lie apart: the range of their centres, not of what noise makes of them.

    Tukey and Kramer's simultaneous intervals for all pairs of centres of the logarithms cover, with probability
    ``level`` at least, the largest gap among them too, which the range of the sample is too large for. They take it
    that logarithms spread over seeds as much in one setting as in another (where they spread up to three times as much,
    92% are covered), and normally; medians and geometric means of ratios then estimate the same thing. The interval is
    of the settings without lost runs; with lost ones it has no upper end.

    Args:
        settings: of each the positive values of its runs, shape ``(n_runs,)``; not finite is a lost run.
        level: of the interval.
        least: what values below count as; how far runs spread is still told from the values as they are.
    Raises:
        ValueError: if there are fewer than two settings.
    Reference: J. Tukey, The problem of multiple comparisons (1953); C. Kramer, Biometrics 12 (1956).
    """
    if len(settings) < 2:
        raise ValueError(f"there must be at least 2 settings, got {len(settings)}")
    values = [np.asarray(setting, dtype=float) for setting in settings]
    medians = np.array([np.median(np.where(np.isfinite(v), v, np.inf).clip(least)) for v in values])
    best, worst = int(medians.argmin()), int(medians.argmax())
    ratio = float(medians[worst] / medians[best]) if np.isfinite(medians[best]) else math.inf
    whole = [np.log(v) for v in values if np.isfinite(v).all()]
    low, high = _gap(whole, level, math.log(least) if least > 0 else -math.inf)
    if len(whole) < len(values):
        high = math.inf
        if any(not np.isfinite(v).any() for v in values):
            low = math.inf
        elif math.isnan(low):
            low = 1.0
    return Spread(ratio, low, high, best, worst, float(medians[best]), float(medians[worst]))


def _gap(logs: list[Array], level: float, least: float) -> tuple[float, float]:
    """Ratio of the largest to the least centre, its simultaneous interval; logs below ``least`` count as that."""
    n_runs = np.array([len(v) for v in logs])
    freedom = int((n_runs - 1).sum())
    if len(logs) < 2 or freedom < 1:
        return math.nan, math.nan
    sd = math.sqrt(sum(float(((v - v.mean()) ** 2).sum()) for v in logs) / freedom)
    means = np.array([v.clip(least).mean() for v in logs])
    first, second = np.triu_indices(len(logs), k=1)
    gaps = np.abs(means[first] - means[second])
    half = _quantile(len(logs), freedom, level) * sd * np.sqrt((1 / n_runs[first] + 1 / n_runs[second]) / 2)
    with np.errstate(over="ignore"):  # of two runs an interval may have any width
        low, high = np.exp([max(0.0, (gaps - half).max()), (gaps + half).max()])
    return float(low), float(high)


@cache
def _quantile(n_settings: int, freedom: int, level: float) -> float:
    """Of the studentized range; half a second each."""
    return float(stats.studentized_range.ppf(level, n_settings, freedom))


def sensitivity_table(metrics: pd.DataFrame, sweeps: pd.DataFrame) -> pd.DataFrame:
    """Worst over best setting, per sweep, target, method and metric.

    Args:
        metrics: what ``evaluate_store`` returned.
        sweeps: of ``sweeps.sweep_runs``.
    Returns:
        One row each: method, sweep, target, metric (primary, sliced_w2, mode_tv: ratios to the floor), n_settings,
        n_runs (that were run), n_lost (of these without a value), best, worst (settings), best_ratio, worst_ratio
        (their medians; ratios below the floor count as the floor), worst_over_best, low, high (95%). Sweeps of one
        setting and metrics that the target does not offer are left out; which it offers is not known where all runs
        were lost.
    """
    values = run_values(metrics)
    values = values[values["status"] != "missing"]
    joined = sweeps.merge(values.reset_index(), on="run_id")
    rows = []
    for key, part in joined.groupby(["sweep", "target", "method"], sort=False):
        sweep, target, method = key
        settings = {str(name): cell for name, cell in part.groupby("setting", sort=False)}
        for name in JUDGED:
            is_ok = part["status"] == "ok"
            if len(settings) < 2 or name not in part or (is_ok.any() and part.loc[is_ok, name].isna().all()):
                continue
            spread = worst_over_best([cell[name].to_numpy(dtype=float) for cell in settings.values()], least=1.0)
            names = list(settings)
            rows.append(
                {
                    "method": method,
                    "sweep": sweep,
                    "target": target,
                    "metric": name.removesuffix("_ratio"),
                    "n_settings": len(names),
                    "n_runs": len(part),
                    "n_lost": int(part[name].isna().sum()),
                    "best": names[spread.best],
                    "worst": names[spread.worst],
                    "best_ratio": spread.best_median,
                    "worst_ratio": spread.worst_median,
                    "worst_over_best": spread.value,
                    "low": spread.low,
                    "high": spread.high,
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)
