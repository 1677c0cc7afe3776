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
    (found,) = paired_difference(pd.concat([both, single]), {}, "A", "B", are_counts=True)
    half = 12.7062 * 0.25  # of .5 and 1: t with one degree times the standard error
    assert (found.of, found.value) == ("t", 0.75)
    assert (found.low, found.high) == (pytest.approx(0.75 - half, rel=1e-4), pytest.approx(0.75 + half, rel=1e-4))
    assert paired_difference(both, {}, "A", "absent", are_counts=True) == []


def test_a_claim_of_no_difference_is_called_replicated_at_the_level_at_most() -> None:
    generator, n_trials, n_false = np.random.default_rng(0), 1_000, 0
    for _ in range(n_trials):
        noise = generator.normal(size=(2, 5)).tolist()
        n_false += (
            verdict(paired_difference(frame(dict(zip("AB", noise, strict=True))), {}, "A", "B", are_counts=True), 0)
            == "replicated"
        )
    assert n_false / n_trials == pytest.approx(0.025, abs=4 * math.sqrt(0.025 * 0.975 / n_trials))


def test_many_targets_without_a_difference_are_seldom_called_partly_or_not_replicated() -> None:
    generator, n_trials, verdicts = np.random.default_rng(1), 400, []
    for _ in range(n_trials):
        frames = [
            frame(dict(zip("AB", generator.normal(size=(2, 5)).tolist(), strict=True)), target=str(k))
            for k in range(11)
        ]
        verdicts.append(verdict(paired_difference(pd.concat(frames), {}, "A", "B", are_counts=True), 0))
    for name in ("partly", "not replicated"):  # two or more of eleven: 3%
        assert verdicts.count(name) / n_trials < 0.05 + 3 * math.sqrt(0.05 * 0.95 / n_trials)
    assert not beyond_chance(0, 0)


def test_runs_that_ended_without_a_result_are_losses_and_runs_that_never_began_are_not() -> None:
    values = frame({"A": [1.0, 2.0], "B": [1.0, np.nan], "C": [np.nan, np.nan], "D": [np.nan, 1.0]})
    statuses = ["ok", "ok", "ok", "diverged", "missing", "not_installed", "budget", "ok"]
    metrics = values.assign(status=statuses, metric="m", reason="")
    lost = losses(metrics)
    assert lost == losses(metrics, "m") == {("t", "B"): 1, ("t", "D"): 1}
    no_value = metrics.assign(status="ok")
    assert losses(no_value) == {}
    assert losses(no_value, "m") == {("t", "B"): 1, ("t", "C"): 2, ("t", "D"): 1}
    assert losses(no_value.assign(value=np.nan), "m") == {}  # the target does not offer it
    assert losses(no_value.assign(reason="needs modes"), "m") == {}
    against = paired_difference(values, lost, "B", "A", are_counts=True)
    assert against == [certain("t (B: 1 of 2 runs lost)", -math.inf)]
    (found,) = paired_difference(values, lost, "A", "B", are_counts=True)
    assert (found.of, found.low) == ("t (B: 1 of 2 runs lost)", math.inf)
    (both,) = paired_difference(values, lost, "B", "D", are_counts=True)
    assert (both.low, both.high) == (-math.inf, math.inf)  # each lost one: who is better is open
    assert math.isnan(both.value)
    assert paired_difference(values, lost, "A", "C", are_counts=True) == []


def test_losses_by_the_primary_ratio_are_those_of_ranks() -> None:
    rows = [
        {"target": target, "sampler": sampler, "seed": 0, "metric": "sliced_w2", "value": ratio, "ratio": ratio,
         "status": status, "reason": ""}
        for target, sampler, ratio, status in (
            ("t", "A", 1.0, "ok"), ("t", "B", math.inf, "ok"), ("t", "C", math.nan, "killed"),
            ("t", "D", math.nan, "missing"), ("bare", "A", math.nan, "ok"), ("bare", "B", math.nan, "failed"),
        )
    ]  # fmt: skip
    assert losses(pd.DataFrame(rows), "primary") == {("t", "B"): 1, ("t", "C"): 1}


def test_a_difference_of_shares_has_the_published_interval() -> None:
    found = difference_of_shares("x", (56, 70), (48, 80))  # Newcombe 1998, table II, method 10: .0524 to .3339
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(("n_seeds", "half"), [(2, math.inf), (5, math.inf), (6, 0.0)])
def test_equal_differences_of_few_counts_say_nothing(n_seeds: int, half: float) -> None:
    first, second = [0.925, 0.95, 0.9, 0.975, 0.9, 0.9][:n_seeds], [0.9, 0.925, 0.875, 0.95, 0.875, 0.875][:n_seeds]
    (found,) = paired_difference(frame({"A": first, "B": second}), {}, "A", "B", are_counts=True)
    assert (found.value, found.low, found.high) == pytest.approx((0.025, 0.025 - half, 0.025 + half))
    (same,) = paired_difference(frame({"A": [1.0] * n_seeds, "B": [1.0] * n_seeds}), {}, "A", "B", are_counts=True)
    assert (same.low, same.high) == (-half, half)
    (floor,) = paired_difference(frame({"A": [0.0] * 2, "B": [0.0] * 2}), {}, "A", "B", are_counts=False)
    assert (floor.low, floor.high) == (0, 0)  # both are at the floor of exact draws, which is no chance


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
    open_ = Evidence("both lost", math.nan, -math.inf, math.inf)
    assert math.isnan(summary([open_])[0])
    assert summary([FOR, open_]) == (2.0, "2 to 2 over 1")
