"""Where a falling curve over numbers of steps meets a level, both measured with noise by seed."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from ..ranks import LEVEL

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Crossing:
    """Number of steps k at which a curve has come down to a level.

    Attributes:
        value: 0 if it is there at the smallest k already (so "at most the smallest k"), infinite if not at the largest.
        low, high: ends of the confidence interval, 0 and infinite likewise; nan with one seed.
        is_monotone: whether the means fell all the way by themselves; else ``value`` is that of the falling curve
            nearest to them by least squares.
    """

    value: float
    low: float
    high: float
    is_monotone: bool


def crossing(steps: Array, curve: Array, level: Array, confidence: float = LEVEL) -> Crossing:
    """The k at which the mean of ``curve`` over seeds falls to the mean of ``level``, linear in log k between steps.

    The interval holds every k at which a paired t-test over seeds does not tell curve and level apart, and what lies
    between such k. Where gaps are normal and the mean curve is linear in log k between the steps, the test at the true
    k errs in 1 - ``confidence`` of all cases, so the interval misses it no more often, whatever the number of seeds.

    Args:
        steps: numbers of steps, positive and ascending, shape ``(n_steps,)``.
        curve: what falls, a log of quality, shape ``(n_steps, n_seeds)``.
        level: of the same seeds, shape ``(n_seeds,)``.
        confidence: of the interval.
    Raises:
        ValueError: if steps are not positive and ascending, the shapes do not match or something is not finite.
    """
    if len(steps) == 0 or steps[0] <= 0 or (np.diff(steps) <= 0).any():
        raise ValueError(f"steps must be positive and ascending, got {steps.tolist()}")
    if curve.shape != (len(steps), len(level)):
        raise ValueError(f"curve must have shape (n_steps, n_seeds) = {len(steps), len(level)}, got {curve.shape}")
    if not (np.isfinite(curve).all() and np.isfinite(level).all()):
        raise ValueError("curve and level must be finite, got nan or infinite values")
    gaps = curve - level
    mean = gaps.mean(1)
    falling = IsotonicRegression(increasing=False).fit_transform(np.log(steps), mean)
    value = _first_at_most_0(steps, falling)
    is_monotone = bool((np.diff(mean) <= 0).all())
    if len(level) < 2:
        return Crossing(value, math.nan, math.nan, is_monotone)
    t2 = float(stats.t.ppf(0.5 + confidence / 2, len(level) - 1)) ** 2 / len(level)
    low, high = _sure_until(steps, gaps, t2, 0.0), _sure_until(steps[::-1], -gaps[::-1], t2, math.inf)
    return Crossing(value, min(low, value), max(high, value), is_monotone)


def _first_at_most_0(steps: Array, falling: Array) -> float:
    reached = np.flatnonzero(falling <= 0)
    if len(reached) == 0:
        return math.inf
    i = int(reached[0])
    if i == 0:
        return 0.0
    return _between(steps, i - 1, falling[i - 1] / (falling[i - 1] - falling[i]))


def _between(steps: Array, i: int, share: float) -> float:
    """k at a share of the way from step i to step i + 1, in logs."""
    return float(steps[i] * (steps[i + 1] / steps[i]) ** share)


def _sure_until(steps: Array, gaps: Array, t2: float, never: float) -> float:
    """k up to which, from the first on, the mean gap is surely positive; ``never`` if it is not at the first."""
    mean, variance = gaps[0].mean(), gaps[0].var(ddof=1)
    if not (mean > 0 and mean**2 > t2 * variance):
        return never
    for i in range(len(steps) - 1):
        share = _first_doubt(gaps[i], gaps[i + 1] - gaps[i], t2)
        if share is not None:
            return _between(steps, i, share)
    return float(steps[-1])


def _first_doubt(gap: Array, change: Array, t2: float) -> float | None:
    """The least w in [0, 1] where mean^2 = t^2 / n variance of gap + w change, a quadratic; None if there is none."""
    covariance = np.cov(gap, change)
    a = change.mean() ** 2 - t2 * covariance[1, 1]
    b = 2 * (gap.mean() * change.mean() - t2 * covariance[0, 1])
    c = gap.mean() ** 2 - t2 * covariance[0, 0]
    discriminant = b**2 - 4 * a * c
    if discriminant < 0:
        return None
    s = -0.5 * (b + math.copysign(math.sqrt(discriminant), b))
    roots = [top / bottom for top, bottom in ((s, a), (c, s)) if bottom != 0]
    inside = [root for root in roots if 0 <= root <= 1]
    return min(inside, default=None)
