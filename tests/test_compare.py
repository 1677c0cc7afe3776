"""What changed between two leaderboards, on simulated ones whose truth is known."""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from samplerbench.benchmarks.compare import EVALUATIONS, Runs, change_of, compare_runs, regressions
from samplerbench.benchmarks.costs import COSTS
from samplerbench.benchmarks.ranks import holm_adjusted

Array = npt.NDArray[np.float64]
TOO_LARGE = 4  # standard errors


def board(values: dict[str, Array], metric: str = "sliced_w2", **fields: object) -> Runs:
    """One target; ``values`` by sampler, shape ``(n_seeds,)``, are ratios to a floor of 1 (z too), or bare values."""
    rows = [
        {
            "target": "t", "sampler": sampler, "seed": seed, "status": "ok", "metric": metric, "n_samples": 2_000,
            "value": value, "floor": 1.0, "ratio": value, "z": value, "reason": "", **fields,
        }
        for sampler, row in values.items()
        for seed, value in enumerate(row)
    ]  # fmt: skip
    return Runs(pd.DataFrame(rows), pd.DataFrame(columns=["target", "sampler", "seed", *COSTS]).astype({"seed": float}))


def with_costs(runs: Runs, **costs: dict[str, Array]) -> Runs:
    """The same runs with costs by name and sampler; others are 1."""
    rows = [
        {"target": "t", "sampler": sampler, "seed": seed, **dict.fromkeys(COSTS, 1.0)}
        | {name: by_sampler[sampler][seed] for name, by_sampler in costs.items()}
        for sampler, seed in runs.metrics[["sampler", "seed"]].drop_duplicates().itertuples(index=False)
    ]
    return Runs(runs.metrics, pd.DataFrame(rows))


def cell(table: pd.DataFrame, sampler: str = "s", metric: str = "sliced_w2") -> "pd.Series[object]":
    (found,) = [row for _, row in table.iterrows() if (row["sampler"], row["metric"]) == (sampler, metric)]
    return found


def simulated(rng: np.random.Generator, n_rows: int, n_seeds: int, correlation: float) -> tuple[Array, Array]:
    """Log ratios before and after, shapes ``(n_rows, n_seeds)``, that nothing changed but the noise."""
    shared = math.sqrt(correlation) * rng.standard_normal((n_rows, n_seeds))
    own = math.sqrt(1 - correlation) * rng.standard_normal((2, n_rows, n_seeds))
    return shared + own[0], shared + own[1]


def named(rows: Array) -> dict[str, Array]:
    return {f"s{k}": np.exp(0.2 * row) for k, row in enumerate(rows)}


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_no_change_is_found_at_the_level_at_most(n_seeds: int, correlation: float) -> None:
    rng, n = np.random.default_rng(0), 1_500
    before, after = simulated(rng, n, n_seeds, correlation)
    found = [change_of(a, b, paired=True) for a, b in zip(before, after, strict=True)]
    false = np.mean([result.p <= 0.05 for result in found])
    assert 0.01 < false < 0.05 + TOO_LARGE * math.sqrt(0.05 * 0.95 / n)
    assert all((result.low <= 0 <= result.high) == (result.p > 0.05) for result in found)


@pytest.mark.parametrize(("n_before", "n_after", "sd"), [(5, 2, 1.0), (5, 2, 5.0), (20, 3, 5.0), (2, 5, 5.0)])
def test_other_numbers_of_seeds_and_other_noise_keep_the_level(n_before: int, n_after: int, sd: float) -> None:
    rng, n = np.random.default_rng(1), 1_500
    before, after = rng.standard_normal((n, n_before)), sd * rng.standard_normal((n, n_after))
    false = np.mean([change_of(a, b, paired=False).p <= 0.05 for a, b in zip(before, after, strict=True)])
    assert false < 0.05 + TOO_LARGE * math.sqrt(0.05 * 0.95 / n)


@pytest.mark.parametrize("n_modes", [1, 8])
@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_counts_that_coincide_by_chance_keep_the_level(n_seeds: int, n_modes: int) -> None:
    rng, n = np.random.default_rng(2), 1_500
    values = rng.binomial(n_modes, 0.8, (n, 2, n_seeds)).astype(float)
    false = np.mean([change_of(a, b, paired=True).p <= 0.05 for a, b in values if (a != b).any()])
    assert false < 0.05 + TOO_LARGE * math.sqrt(0.05 * 0.95 / n)


def test_of_unchanged_leaderboards_a_twentieth_at_most_has_a_change_anywhere() -> None:
    rng, n = np.random.default_rng(3), 200
    false = 0
    for _ in range(n):
        before, after = simulated(rng, 6, 5, 0.3)
        table = compare_runs(board(named(before)), board(named(after)))
        false += (table["verdict"] != "same").any()
    assert false / n < 0.05 + TOO_LARGE * math.sqrt(0.05 * 0.95 / n)


def test_a_true_change_is_found_and_the_other_cells_are_the_same() -> None:
    rng, n, found = np.random.default_rng(4), 50, 0
    for _ in range(n):
        before, after = simulated(rng, 6, 5, 0.1)
        after[2] += 8  # of noise 1
        after[4] -= 8
        verdicts = compare_runs(board(named(before)), board(named(after)))["verdict"]
        found += verdicts[2] == "worse" and verdicts[4] == "better"
    assert found > 0.95 * n


def test_pairing_sees_a_small_change_that_the_noise_of_seeds_hides() -> None:
    before, after = simulated(np.random.default_rng(5), 1, 5, 0.9999)
    assert change_of(before[0], after[0] + 0.2, paired=False).p > 0.5
    assert change_of(before[0], after[0] + 0.2, paired=True).p < 0.01


def test_among_hundreds_of_cells_five_seeds_find_what_pairs_alone_do_not() -> None:
    rng, n = np.random.default_rng(6), 200
    before, after = simulated(rng, n, 5, 0.1)
    after += 6  # of noise 1
    ps = np.array([change_of(a, b, paired=True).p for a, b in zip(before, after, strict=True)])
    pairs = np.array([stats.ttest_rel(a, b).pvalue for a, b in zip(before, after, strict=True)])
    assert np.mean(ps < 0.05 / 300) > np.mean(pairs < 0.05 / 300) + 0.3


def test_the_interval_of_a_ratio_covers() -> None:
    rng, n = np.random.default_rng(7), 1_500
    before, after = simulated(rng, n, 4, 0.0)
    found = [change_of(a, b + 1, paired=True) for a, b in zip(before, after, strict=True)]
    covered = np.mean([result.low < 1 < result.high for result in found])
    assert covered > 0.95 - TOO_LARGE * math.sqrt(0.05 * 0.95 / n)


def test_adjusted_p_rejects_what_holm_rejects() -> None:
    rng = np.random.default_rng(8)
    for _ in range(50):
        p = rng.random(7) ** 4
        stepped = np.logical_and.accumulate(np.sort(p) <= 0.05 / np.arange(len(p), 0, -1))  # Holm's rule as published
        assert ((holm_adjusted(p) <= 0.05)[np.argsort(p)] == stepped).all()


def test_identical_leaderboards_are_the_same_in_every_cell() -> None:
    runs = with_costs(board({"a": np.array([1.0, 1.2, 1.1]), "b": np.array([2.0, 2.0, 2.0])}))
    table = compare_runs(runs, runs)
    assert set(table["verdict"]) == {"same"}
    assert set(table["note"]) == {"identical"}
    assert (table[["change", "low", "high"]] == 0).all(axis=None)
    assert regressions(table, time=True).empty


def test_cells_of_untouched_runs_do_not_count_in_the_correction() -> None:
    rng = np.random.default_rng(9)
    before, after = simulated(rng, 400, 5, 0.0)
    after[1:] = before[1:]
    after[0] += 4
    row = cell(compare_runs(board(named(before)), board(named(after))), "s0")
    assert row["p_holm"] == row["p"]
    assert row["verdict"] == "worse"


@pytest.mark.parametrize(
    ("metric", "verdict"),
    [("mode_recall", "better"), ("accuracy", "better"), ("nll", "worse"), ("rhat", "worse"), ("emc", "changed"),
     ("modes_asked", "changed"), ("log_z_bias", "changed"), ("sliced_w2", "worse"), ("of_a_plug_in", "changed")],
)  # fmt: skip
def test_which_way_is_better_is_as_registered(metric: str, verdict: str) -> None:
    noise = np.array([0.01, -0.01, 0.02, 0.0, -0.02])
    row = cell(compare_runs(board({"s": 1 + noise}, metric), board({"s": 2 + noise[::-1]}, metric)), metric=metric)
    assert row["verdict"] == verdict
    assert row["scale"] == ("log" if metric == "sliced_w2" else "value")


def test_centred_metrics_are_as_wrong_below_zero_as_above() -> None:
    noise = np.array([0.1, -0.1, 0.2, 0.0, -0.2])
    row = cell(compare_runs(board({"s": noise}, "ksd"), board({"s": noise[::-1] - 50}, "ksd")), metric="ksd")
    assert (row["scale"], row["verdict"]) == ("size of z", "worse")
    back = cell(compare_runs(board({"s": noise - 50}, "ksd"), board({"s": noise[::-1]}, "ksd")), metric="ksd")
    assert back["verdict"] == "better"


def test_one_seed_cannot_tell_unless_it_is_the_same_to_the_digit() -> None:
    one, other = board({"s": np.array([1.0])}), board({"s": np.array([9.0])})
    row = cell(compare_runs(one, other))
    assert (row["verdict"], row["note"]) == ("cannot tell", "fewer than two seeds")
    assert math.isclose(float(str(row["change"])), math.log(9))
    assert cell(compare_runs(one, one))["verdict"] == "same"


def test_values_of_other_sizes_do_not_compare_and_moved_floors_are_said() -> None:
    values = {"s": np.array([1.0, 1.1, 1.2])}
    row = cell(compare_runs(board(values), board(values, n_samples=1_000)))
    assert (row["verdict"], row["note"]) == ("cannot tell", "taken on 2000 draws before, 1000 after")
    assert "floor 1 before, 2 after" in str(cell(compare_runs(board(values), board(values, floor=2.0)))["note"])


@pytest.mark.parametrize("status", ["failed", "diverged", "budget", "missing", "timeout", "not_applicable"])
def test_a_run_that_was_ok_and_is_not_is_a_regression_with_one_seed_too(status: str) -> None:
    before = board({"s": np.array([1.0])})
    lost = Runs(before.metrics.assign(status=status, value=math.nan, ratio=math.nan, reason="no luck"), before.costs)
    row = cell(regressions(compare_runs(before, lost)), metric="status")
    assert (row["before"], row["after"], row["note"]) == ("ok", status, "seed 0: no luck")
    assert cell(compare_runs(lost, before), metric="status")["verdict"] == "better"


def test_a_lost_seed_is_not_hidden_by_its_survivors_and_a_package_that_is_absent_is_no_regression() -> None:
    before = board({"s": np.array([1.0, 1.1, 9.0])})
    lost = before.metrics.copy()
    lost.loc[2, ["status", "value", "ratio"]] = ["diverged", math.nan, math.nan]
    table = compare_runs(before, Runs(lost, before.costs))
    assert cell(table)["note"] == "identical"  # the seeds that both sides have
    assert cell(table, metric="status")["note"] == "seed 2"
    assert list(regressions(table)["metric"]) == ["status"]
    absent = before.metrics.assign(status="not_installed", value=math.nan, ratio=math.nan)
    assert regressions(compare_runs(before, Runs(absent, before.costs))).empty


def test_a_value_that_is_not_finite_any_more_is_a_regression() -> None:
    before = board({"s": np.array([1.0, 1.1])})
    gone = Runs(before.metrics.assign(value=math.nan, ratio=math.nan, reason="sliced_w2 not finite"), before.costs)
    row = cell(regressions(compare_runs(before, gone)))
    assert row["note"] == "no value in 2 runs: sliced_w2 not finite"


@pytest.mark.parametrize("metric", ["mode_recall", "sliced_w2"])
def test_equal_values_are_the_same_whatever_the_numbers_of_seeds(metric: str) -> None:
    """Of 5 and 10 equal values none overlap, so the exact test alone would call a change of nothing significant."""
    few, many = board({"s": np.full(5, 1.3)}, metric), board({"s": np.full(10, 1.3)}, metric)
    for a, b in ((few, many), (many, few)):
        row = cell(compare_runs(a, b), metric=metric)
        assert (row["verdict"], row["p"]) == ("same", 1.0)


def test_a_change_of_the_last_digit_is_none_and_a_larger_one_of_quiet_values_is_tested() -> None:
    old = np.full(5, 1.0)
    assert change_of(old, np.full(10, 1.0 + 1e-6), paired=False, resolution=1e-5).p == 1
    assert change_of(old, np.full(10, 1.0 + 1e-4), paired=False, resolution=1e-5).p == 2 / math.comb(15, 5)


def test_a_failure_in_a_seed_that_only_the_new_side_has_is_a_regression_of_a_row_that_was_ok() -> None:
    before = board({"s": np.array([1.0, 1.1])})
    metrics = board({"s": np.array([1.0, 1.1, 1.2, 1.3])}).metrics
    metrics.loc[3, ["status", "value", "ratio", "reason"]] = ["failed", math.nan, math.nan, "it broke"]
    row = cell(regressions(compare_runs(before, Runs(metrics, before.costs))), metric="status")
    assert (row["before"], row["after"], row["note"]) == ("ok", "failed", "seed 3 (new): it broke")
    assert (row["n_before"], row["n_after"]) == (2, 4)
    partly = before.metrics.copy()
    partly.loc[1, ["status", "value", "ratio"]] = ["failed", math.nan, math.nan]
    same = metrics.assign(status=["ok", "failed", "ok", "failed"])  # nothing says that new seeds should be ok
    assert regressions(compare_runs(Runs(partly, before.costs), Runs(same, before.costs))).empty
    absent = metrics.assign(status=["ok", "ok", "ok", "not_installed"])
    assert regressions(compare_runs(before, Runs(absent, before.costs))).empty


def test_a_run_that_is_won_does_not_make_an_absent_package_a_loss() -> None:
    before = board({"s": np.array([1.0, 1.1])})
    a = before.metrics.assign(status=["failed", "ok"], value=[math.nan, 1.1], ratio=[math.nan, 1.1])
    b = before.metrics.assign(status=["ok", "not_installed"], value=[1.0, math.nan], ratio=[1.0, math.nan])
    row = cell(compare_runs(Runs(a, before.costs), Runs(b, before.costs)), metric="status")
    assert row["verdict"] == "cannot tell"


def test_rows_that_appear_or_vanish_are_said_and_no_regression() -> None:
    ab, bc = (board({name: np.array([1.0, 1.1]) for name in names}) for names in ("ab", "bc"))
    table = compare_runs(ab, bc)
    assert table.set_index("sampler")["verdict"].to_dict() == {"b": "same", "c": "appeared", "a": "vanished"}
    assert regressions(table).empty


def test_nothing_in_common_is_an_error() -> None:
    a, b = board({"a": np.ones(2)}), board({"b": np.ones(2)})
    with pytest.raises(ValueError, match="no cell"):
        compare_runs(a, b)
    with pytest.raises(ValueError, match="of w2 is in both"):
        compare_runs(a, a, metrics=["w2"])


def test_exact_counts_are_compared_exactly_and_noisy_ones_by_their_noise() -> None:
    runs = board({"s": np.array([1.0, 1.1])})
    before = with_costs(runs, fit_score={"s": np.array([100.0, 100.0])}, draw_score={"s": np.array([100.0, 120.0])})
    after = with_costs(runs, fit_score={"s": np.array([101.0, 101.0])}, draw_score={"s": np.array([125.0, 99.0])})
    table = compare_runs(before, after)
    exact = cell(table, metric="fit_score")
    assert exact["verdict"] == "worse"
    assert exact["low"] == exact["high"] == pytest.approx(math.log(1.01))
    assert cell(table, metric="draw_score")["verdict"] == "same"
    assert set(table.loc[table["kind"] == "evaluations", "metric"]) == set(EVALUATIONS)
    assert cell(compare_runs(after, before), metric="fit_score")["verdict"] == "better"


def test_seconds_are_a_regression_only_when_asked() -> None:
    runs = board({"s": np.array([1.0, 1.1, 1.2])})
    noise = np.array([1.0, 1.01, 0.99])
    slow = with_costs(runs, draw_seconds={"s": 9 * noise})
    table = compare_runs(with_costs(runs, draw_seconds={"s": noise[::-1]}), slow)
    assert regressions(table).empty
    row = cell(regressions(table, time=True), metric="draw_seconds")
    assert float(str(row["low"])) < math.log(9) < float(str(row["high"]))
