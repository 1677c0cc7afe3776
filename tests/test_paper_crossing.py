"""Where curves of k-step chains meet a level: closed forms, ends beyond the range, and coverage by simulation."""

import math

import numpy as np
import pytest

from samplerbench.benchmarks.paper.crossing import crossing

STEPS = np.array([1.0, 10.0, 100.0, 1_000.0])


def test_a_line_in_log_k_crosses_where_algebra_says() -> None:
    curve = np.repeat((3 - np.log10(STEPS))[:, None], 3, axis=1)
    found = crossing(STEPS, curve, np.full(3, 1.5))
    assert found.value == pytest.approx(10**1.5)
    assert (found.low, found.high) == (pytest.approx(found.value), pytest.approx(found.value))  # no noise
    assert found.is_monotone


def test_ends_beyond_the_steps_are_said() -> None:
    curve = np.array([[2.0, 2.1], [1.0, 1.1], [0.9, 1.0], [0.8, 0.9]])
    below, above = crossing(STEPS, curve, np.array([3.0, 3.1])), crossing(STEPS, curve, np.array([0.2, 0.3]))
    assert (below.value, below.low, below.high) == (0, 0, 1)
    assert (above.value, above.low, above.high) == (math.inf, 1_000, math.inf)
    at_first = crossing(STEPS, curve, np.array([2.0, 2.1]))
    assert (at_first.value, at_first.low) == (0, 0)  # it may be there before


def test_a_curve_that_rises_between_is_made_to_fall_and_it_is_said() -> None:
    mean = np.array([2.0, 0.5, 1.5, 0.0])  # the nearest falling curve is 2, 1, 1, 0
    found = crossing(STEPS, np.stack([mean, mean], axis=1), np.full(2, 0.5))
    assert not found.is_monotone
    assert found.value == pytest.approx(10**2.5)
    assert found.low == pytest.approx(10)  # where the raw means are at the level for the first time
    one = crossing(STEPS, mean[:, None], np.array([1.0]))
    assert one.value == pytest.approx(10)  # the plateau's beginning
    assert math.isnan(one.low)
    assert math.isnan(one.high)


@pytest.mark.parametrize("n_seeds", [2, 5])
@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_the_interval_covers_the_true_k_in_95_percent_of_cases_or_more(n_seeds: int, noise: float) -> None:
    """Noise by row and by seed; the true mean has corners at the steps, as interpolation assumes."""
    rng, n_repeats = np.random.default_rng(3), 1_000
    mean, level = np.array([2.0, 1.2, 0.3, 0.0]), 0.75
    truth = 10 * 10 ** ((1.2 - level) / 0.9)
    found = [
        crossing(
            STEPS,
            mean[:, None] + noise * (rng.normal(size=(4, n_seeds)) + (shared := rng.normal(size=n_seeds))),
            level + noise * (rng.normal(size=n_seeds) + shared),
        )
        for _ in range(n_repeats)
    ]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    error = math.sqrt(0.95 * 0.05 / n_repeats)
    assert covered > 0.95 - 4 * error
    if noise == 0.05 and n_seeds == 5:  # the set of k that are not refuted is an interval: nothing was added
        assert covered < 0.95 + 4 * error
    assert all(one.low <= one.value <= one.high for one in found)


def test_ends_that_are_never_reached_are_missed_as_rarely() -> None:
    rng, n_repeats = np.random.default_rng(4), 500
    mean = np.array([2.0, 1.5, 1.2, 1.1])
    for level, end in ((1.0, math.inf), (2.1, 0.0)):
        found = [
            crossing(STEPS, mean[:, None] + 0.2 * rng.normal(size=(4, 3)), level + 0.2 * rng.normal(size=3))
            for _ in range(n_repeats)
        ]
        missed = np.mean([one.high < end or one.low > end for one in found])
        assert missed < 0.025 + 4 * math.sqrt(0.025 * 0.975 / n_repeats)


@pytest.mark.parametrize(
    ("steps", "curve", "message"),
    [
        ([10.0, 1.0], np.zeros((2, 2)), "positive and ascending, got"),
        ([], np.zeros((0, 2)), "positive and ascending, got"),
        ([1.0, 10.0], np.zeros((2, 3)), r"\(n_steps, n_seeds\) = \(2, 2\), got \(2, 3\)"),
        ([1.0, 10.0], np.full((2, 2), math.nan), "finite"),
    ],
)
def test_what_is_no_curve_is_refused(steps: list[float], curve: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crossing(np.array(steps), curve, np.zeros(2))
