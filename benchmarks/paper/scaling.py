"""Power laws cost ~ dim^a from runs: the exponent with its interval, and whether the runs allow a power law at all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ..ranks import LEVEL, UNRANKED

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """log y = log_factor + exponent log x + noise.

    Attributes:
        exponent: by least squares.
        low, high: its t-interval; nan of two points or one x.
        log_factor: y at x = 1, as a natural logarithm.
        curvature: of the parabola log y = ... + curvature (log x)^2 that fits best; nan below three different x.
        curvature_p: of the t-test of curvature 0; nan below four points. Where it is small, there is no one exponent.
        n_points: runs.
    """

    exponent: float
    low: float
    high: float
    log_factor: float
    curvature: float
    curvature_p: float
    n_points: int

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Values of the law."""
        law: Array = np.exp(self.log_factor + self.exponent * np.log(np.asarray(x, dtype=float)))
        return law


def fit_power_law(x: npt.ArrayLike, y: npt.ArrayLike, level: float = LEVEL) -> PowerLaw:
    """Least squares in logarithms, whose noise is taken to be independent and as wide at every x.

    Args:
        x, y: positive, both of shape ``(n,)``.
        level: of the interval.
    Raises:
        ValueError: if there are fewer than two different x, or a value is not positive and finite.
    """
    logs = [np.log(np.where(np.asarray(values, dtype=float) > 0, values, np.nan)) for values in (x, y)]
    log_x, log_y = logs
    if not all(np.isfinite(values).all() for values in logs):
        raise ValueError(
            f"x and y must be positive and finite, got {np.asarray(x).tolist()} and {np.asarray(y).tolist()}"
        )
    n_places = len(np.unique(log_x))
    if n_places < 2:
        raise ValueError(f"a power law needs at least two different x, got {sorted(set(np.asarray(x).tolist()))}")
    line, line_error = _least_squares(np.stack([np.ones_like(log_x), log_x], axis=1), log_y)
    half = stats.t.ppf(0.5 + level / 2, len(log_y) - 2) * line_error if len(log_y) > 2 else math.nan
    curvature = p = math.nan
    if n_places > 2:
        parabola, error = _least_squares(np.stack([np.ones_like(log_x), log_x, log_x**2], axis=1), log_y)
        curvature = float(parabola[2])
        p = float(2 * stats.t.sf(abs(curvature) / error, len(log_y) - 3)) if len(log_y) > 3 and error > 0 else math.nan
    return PowerLaw(
        exponent=float(line[1]),
        low=float(line[1] - half),
        high=float(line[1] + half),
        log_factor=float(line[0]),
        curvature=curvature,
        curvature_p=p,
        n_points=len(log_y),
    )


def _least_squares(design: Array, y: Array) -> tuple[Array, float]:
    """Coefficients, and the standard error of the last one; nan without degrees of freedom."""
    coefficients = np.asarray(np.linalg.lstsq(design, y, rcond=None)[0], dtype=float)
    freedom = len(y) - design.shape[1]
    if freedom < 1:
        return coefficients, math.nan
    variance = float(((y - design @ coefficients) ** 2).sum()) / freedom
    return coefficients, math.sqrt(variance * float(np.linalg.inv(design.T @ design)[-1, -1]))


def exponents_table(runs: pd.DataFrame, quantities: Sequence[str], level: float = LEVEL) -> pd.DataFrame:
    """Exponents of every family, sampler and quantity.

    A dimension of which a run has no value is left out as a whole, since the runs that ended are the better ones: the
    exponent is then of the other dimensions. ``lost_dims`` says where the method failed: where a run that is not ok has
    no value. A run that is ok has none where it is not known, for want of a floor.

    Args:
        runs: a row per run that was run: family, dim, sampler, status, and the quantities; nan where a run has none.
        quantities: columns; of a family those are left out that no run has, of a row those that are zero.
        level: of the intervals.
    Returns:
        family, sampler, quantity, exponent, low, high, factor (at dimension 1), curvature, curvature_p,
        is_power_law (curvature_p is above 1 - level; empty where that cannot be tested), n_runs, n_lost, dims,
        lost_dims (separated by spaces).
    """
    rows = []
    offered = {
        (family, quantity)
        for family, part in runs.groupby("family")
        for quantity in quantities
        if part[quantity].notna().any()
    }
    for (family, sampler), part in runs.groupby(["family", "sampler"], sort=False):
        is_lost = ~part["status"].isin(["ok", *UNRANKED])
        for quantity in quantities:
            values = part[quantity].astype(float)
            is_absent = values.isna().all() and not is_lost.any()
            if (family, quantity) not in offered or is_absent or (values == 0).any():
                continue
            lost = sorted(set(part.loc[values.isna() & is_lost, "dim"]))
            whole = part[~part["dim"].isin(part.loc[values.isna(), "dim"])]
            dims = sorted(set(whole["dim"]))
            row: dict[str, object] = {"family": family, "sampler": sampler, "quantity": quantity}
            if len(dims) > 1:
                law = fit_power_law(whole["dim"], whole[quantity], level)
                tested = math.isfinite(law.curvature_p)
                row |= {
                    "exponent": law.exponent,
                    "low": law.low,
                    "high": law.high,
                    "factor": math.exp(law.log_factor),
                    "curvature": law.curvature,
                    "curvature_p": law.curvature_p,
                    "is_power_law": law.curvature_p > 1 - level if tested else None,
                }
            row |= {"n_runs": len(whole), "n_lost": int((values.isna() & is_lost).sum())}
            row |= {"dims": " ".join(map(str, dims)), "lost_dims": " ".join(map(str, lost))}
            rows.append(row)
    columns = [
        "family", "sampler", "quantity", "exponent", "low", "high", "factor", "curvature", "curvature_p",
        "is_power_law", "n_runs", "n_lost", "dims", "lost_dims",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)
