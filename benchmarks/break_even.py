"""When training pays: how many draws make up for what a row spends before its first one."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from .plan import RunSpec
from .ranks import LEVEL, MIN_SEEDS, PRIMARY, compare, scores

Array = npt.NDArray[np.float64]
UNITS = {  # what is paid: columns of the cost of fit, of a draw (by effective size), and the unit of the latter
    "equivalents": ("fit_gradient_equivalents", "gradient_equivalents_per_effective_draw", 1.0),
    "seconds": ("fit_seconds", "microseconds_per_effective_draw", 1e-6),
}


@dataclass(frozen=True)
class BreakEven:
    """Draws from which a costs less than b in total: 0 if from the first, infinite if never.

    Attributes:
        value: from the means over seeds.
        low, high: 95% confidence interval; nan with one seed.
    """

    value: float
    low: float
    high: float


def break_even(fit_gap: Array, draw_gap: Array, level: float = LEVEL) -> BreakEven:
    """N* at which fit_a + N draw_a = fit_b + N draw_b, with Fieller's interval.

    The interval holds every N >= 0 at which a paired t-test does not tell the total costs of a and b apart; where draws
    of a are not surely cheaper it has no upper end.

    Args:
        fit_gap: fit_a - fit_b by seed, shape ``(n_seeds,)``.
        draw_gap: draw_b - draw_a by seed, per draw, shape ``(n_seeds,)``.
        level: of the interval.
    Reference: E. Fieller, J. R. Stat. Soc. B 16 (1954).
    """
    n, fit, draw = len(fit_gap), float(fit_gap.mean()), float(draw_gap.mean())
    value = _crossing(fit, draw)
    if n < 2:
        return BreakEven(value, math.nan, math.nan)
    t2 = float(stats.t.ppf(0.5 + level / 2, n - 1)) ** 2 / n
    (var_fit, cov), (_, var_draw) = np.cov(fit_gap, draw_gap)
    # costs are alike where (fit - N draw)^2 <= t^2 / n var(fit - N draw), that is a N^2 - 2 b N + c <= 0
    a, b, c = draw**2 - t2 * var_draw, fit * draw - t2 * cov, fit**2 - t2 * var_fit
    if a > 0 and draw < 0:  # draws of a are surely dearer
        return BreakEven(value, math.inf, math.inf)
    root = math.sqrt(max(0.0, b**2 - a * c))
    if a > 0:
        return BreakEven(value, max(0.0, (b - root) / a), max(0.0, (b + root) / a))
    if fit <= 0 or c <= 0:
        return BreakEven(value, 0.0, math.inf)
    return BreakEven(value, (b - root) / a if a < 0 else math.inf, math.inf)


def break_even_columns(name: str, fit_gap: Array, draw_gap: Array) -> dict[str, float]:
    """``break_even`` as the columns name, name_low and name_high of a table; none where a cost is not known."""
    if not np.isfinite([fit_gap, draw_gap]).all():
        return {}
    found = break_even(fit_gap, draw_gap)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _crossing(fit: float, draw: float) -> float:
    if draw <= 0 and (fit > 0 or draw < 0):
        return math.inf
    return max(0.0, fit / draw) if draw > 0 else 0.0


def restarted_rows(runs: Iterable[RunSpec]) -> set[tuple[str, str]]:
    """(target, sampler) of the rows whose every draw is the end of a chain of its own.

    They are no rivals in cost, in break-even as in sentences: nobody would use them so where long chains are known.
    """
    return {(run.target_label, run.sampler_label) for run in runs if run.configuration.get("mode") == "restart"}


def break_even_table(
    metrics: pd.DataFrame, costs: pd.DataFrame, restarted: Collection[tuple[str, str]], n_samples: int
) -> pd.DataFrame:
    """Break-even of every row against the cheapest row of no worse quality, on every target.

    No worse is a row whose score is not significantly worse, as in ``ranks``, which takes as many seeds as ranks do;
    the cheapest has the least total cost of ``n_samples`` draws.

    Args:
        metrics: what ``evaluate_store`` returned.
        costs: what ``costs.run_costs`` returned.
        restarted: (target, sampler) of rows that are no rivals, see ``restarted_rows``.
        n_samples: draws per run.
    Returns:
        One row per target, sampler and unit (equivalents, seconds): target, sampler, unit, against, break_even, low,
        high (draws; inf is never), and bias_shows_at, the number of draws at which the row's bias is as large as the
        noise of exact draws, so that more draws of it buy nothing. Rows without rival of their quality have none.
    """
    rows = []
    for target, part in scores(metrics).groupby("target", sort=False):
        table = part.pivot(index="sampler", columns="seed", values="score").reindex(part["sampler"].unique()).dropna()
        if len(table) < 2 or table.shape[1] < MIN_SEEDS:
            continue
        better = compare(table.to_numpy(dtype=float)).better
        own = costs[costs["target"] == target].set_index(["sampler", "seed"])
        for a, sampler in enumerate(table.index):
            rivals = [
                str(name)
                for b, name in enumerate(table.index)
                if a != b and not better[a, b] and (target, name) not in restarted
            ]
            for unit, (fit, draw, size) in UNITS.items():
                fits = own[fit].unstack("seed").reindex(columns=table.columns)
                draws = size * own[draw].unstack("seed").reindex(columns=table.columns)
                total = (fits + n_samples * draws).mean(axis=1, skipna=False).reindex(rivals).dropna()
                if sampler not in fits.index or total.empty or (fits + draws).loc[sampler].isna().any():
                    continue
                rival = str(total.idxmin())
                result = break_even(
                    (fits.loc[sampler] - fits.loc[rival]).to_numpy(dtype=float),
                    (draws.loc[rival] - draws.loc[sampler]).to_numpy(dtype=float),
                )
                rows.append((target, sampler, unit, rival, result.value, result.low, result.high))
    columns = ["target", "sampler", "unit", "against", "break_even", "low", "high"]
    frame = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(("break_even", "low", "high"), float))
    return frame.merge(bias_shows_at(metrics), on=["target", "sampler"], how="left")


def bias_shows_at(metrics: pd.DataFrame) -> pd.DataFrame:
    """Number of draws at which a row's bias is as large as the noise of exact draws.

    A squared distance to n draws is that of the laws plus that of the noise, floor^2, which falls as 1 / n; so they are
    equal at N = n floor^2 / (mean value^2 - floor^2), by the primary metric whose N is least. Infinite where at least
    half of the runs are at the floor.

    Returns:
        One row per target x sampler: target, sampler, bias_shows_at.
    """
    primary = metrics[metrics["metric"].isin(PRIMARY) & metrics["ratio"].notna()]
    rows = []
    for (target, sampler), part in primary.groupby(["target", "sampler"], sort=False):
        numbers = []
        for _, cell in part.groupby("metric"):
            excess = float((cell["ratio"] ** 2).mean()) - 1
            is_seen = excess > 0 and (cell["at_floor"] == True).mean() < 0.5  # noqa: E712
            numbers.append(float(cell["n_samples"].iloc[0]) / excess if is_seen else math.inf)
        rows.append((target, sampler, min(numbers)))
    return pd.DataFrame(rows, columns=["target", "sampler", "bias_shows_at"]).astype({"bias_shows_at": float})
