"""Verdicts by rule, and the cover of the intervals that they rest on."""

import math

import numpy as np
import pandas as pd
import pytest

from samplerbench.benchmarks.paper.evidence import (
    Evidence,
    beyond_chance,
    certain,
    difference_of_shares,
    losses,
    paired_difference,
    share,
    summary,
    verdict,
)

FOR, AGAINST, OPEN = Evidence("a", 2.0, 1.5, 2.5), Evidence("b", 0.5, 0.2, 0.8), Evidence("c", 1.1, 0.5, 1.7)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ([FOR], "replicated"),
        ([FOR, FOR], "replicated"),
        ([FOR, OPEN], "partly"),
        ([FOR, *[OPEN] * 2], "not testable"),  # one of three by chance: 7%
        ([FOR, FOR, *[OPEN] * 10], "partly"),
        ([FOR, FOR, *[OPEN] * 13], "not testable"),
        ([AGAINST, *[OPEN] * 2], "not testable"),
        ([certain("lost", -math.inf), FOR], "not replicated"),
        ([FOR, AGAINST], "not replicated"),
        ([FOR, FOR, AGAINST], "partly"),
        ([AGAINST, OPEN], "not replicated"),
        ([OPEN], "not testable"),
        ([Evidence("d", math.nan, math.nan, math.nan)], "not testable"),
        ([], "not testable"),
    ],
)
def test_a_verdict_follows_from_the_intervals(evidence: list[Evidence], expected: str) -> None:
    assert verdict(evidence, 1.0) == expected


def frame(values: dict[str, list[float]], target: str = "t") -> pd.DataFrame:
    rows = [
        {"target": target, "sampler": sampler, "seed": seed, "value": value}
        for sampler, found in values.items()
        for seed, value in enumerate(found)
    ]
    return pd.DataFrame(rows)


def test_differences_are_paired_by_seed_and_need_two() -> None:
    both = frame({"A": [1.0, 2.0, 4.0], "B": [0.5, 1.0, np.nan]})
    single = frame({"A": [1.0], "B": [2.0]}, target="u")
    (found,) = paired_difference(pd.concat([both, single]), {}, "A", "B")
    half = 12.7062 * 0.25  # of .5 and 1: t with one degree times the standard error
    assert (found.of, found.value) == ("t", 0.75)
    assert (found.low, found.high) == (pytest.approx(0.75 - half, rel=1e-4), pytest.approx(0.75 + half, rel=1e-4))
    assert paired_difference(both, {}, "A", "absent") == []


def test_a_claim_of_no_difference_is_called_replicated_at_the_level_at_most() -> None:
    generator, n_trials, n_false = np.random.default_rng(0), 1_000, 0
    for _ in range(n_trials):
        noise = generator.normal(size=(2, 5)).tolist()
        n_false += (
            verdict(paired_difference(frame(dict(zip("AB", noise, strict=True))), {}, "A", "B"), 0) == "replicated"
        )
    assert n_false / n_trials == pytest.approx(0.025, abs=4 * math.sqrt(0.025 * 0.975 / n_trials))


def test_many_targets_without_a_difference_are_seldom_called_partly_or_not_replicated() -> None:
    generator, n_trials, verdicts = np.random.default_rng(1), 400, []
    for _ in range(n_trials):
        frames = [
            frame(dict(zip("AB", generator.normal(size=(2, 5)).tolist(), strict=True)), target=str(k))
            for k in range(11)
        ]
        verdicts.append(verdict(paired_difference(pd.concat(frames), {}, "A", "B"), 0))
    for name in ("partly", "not replicated"):  # two or more of eleven: 3%
        assert verdicts.count(name) / n_trials < 0.05 + 3 * math.sqrt(0.05 * 0.95 / n_trials)
    assert not beyond_chance(0, 0)


def test_runs_that_ended_without_a_result_are_losses_and_runs_that_never_began_are_not() -> None:
    values = frame({"A": [1.0, 2.0], "B": [1.0, np.nan], "C": [np.nan, np.nan], "D": [np.nan, 1.0]})
    statuses = ["ok", "ok", "ok", "diverged", "missing", "not_installed", "over_budget", "ok"]
    lost = losses(values.assign(status=statuses))
    assert lost == {("t", "B"): "1 of 2 runs lost", ("t", "D"): "1 of 2 runs lost"}
    assert paired_difference(values, lost, "B", "A") == [certain("t (B: 1 of 2 runs lost)", -math.inf)]
    (found,) = paired_difference(values, lost, "A", "B")
    assert (found.of, found.low) == ("t (B: 1 of 2 runs lost)", math.inf)
    assert paired_difference(values, lost, "A", "C") == []


def test_a_difference_of_shares_has_the_published_interval() -> None:
    found = difference_of_shares("x", (56, 70), (48, 80))  # Newcombe 1998, table II, method 10: .0524 to .3339
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(("n_seeds", "half"), [(2, math.inf), (5, math.inf), (6, 0.0)])
def test_equal_differences_of_few_seeds_say_nothing(n_seeds: int, half: float) -> None:
    (found,) = paired_difference(frame({"A": [1.0] * n_seeds, "B": [0.875] * n_seeds}), {}, "A", "B")
    assert (found.value, found.low, found.high) == (0.125, 0.125 - half, 0.125 + half)
    (same,) = paired_difference(frame({"A": [1.0] * n_seeds, "B": [1.0] * n_seeds}), {}, "A", "B")
    assert (same.low, same.high) == (0, 0)  # both have everything, or are at the floor


def test_a_share_has_the_exact_interval() -> None:
    found = share("x", 20, 20)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 20))  # the share of which 20 of 20 has chance 2.5%
    with pytest.raises(ValueError, match="at least 1 run, got 0"):
        share("x", 0, 0)


def test_a_summary_is_one_interval_or_a_range() -> None:
    assert summary([FOR]) == (2.0, "1.5 to 2.5")
    assert summary([FOR, AGAINST, OPEN]) == (1.1, "0.5 to 2 over 3")
    assert math.isnan(summary([])[0])
