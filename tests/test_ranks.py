"""Ranks, on simulated leaderboards whose truth is known."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from samplerbench.benchmarks.friedman import friedman
from samplerbench.benchmarks.ranks import (
    LEAST_RATIO,
    compare,
    half_width,
    holm,
    letters_of,
    rank_overall,
    rank_targets,
    scores,
)

Array = npt.NDArray[np.float64]
TOO_LARGE = 4  # standard errors


def board(values: dict[str, Array], target: str = "t", seed: int = 0) -> pd.DataFrame:
    """Metrics of one target: log ratios by sampler, shape ``(n_seeds,)``, as sliced_w2; mode_tv is not offered."""
    rows = []
    for sampler, logs in values.items():
        for k, log in enumerate(logs):
            for metric in ("sliced_w2", "mode_tv"):
                has = metric == "sliced_w2"
                rows.append(
                    {
                        "target": target,
                        "sampler": sampler,
                        "seed": seed + k,
                        "status": "ok",
                        "metric": metric,
                        "value": math.exp(log) if has else math.nan,
                        "ratio": math.exp(log) if has else math.nan,
                        "reason": "" if has else "needs modes, target offers none",
                    }
                )
    return pd.DataFrame(rows)


def normal(n_rows: int, n_seeds: int, rng: np.random.Generator, means: Array | float = 0.0) -> Array:
    """Scores with an effect of the seed that all rows share, which pairing removes, and noise of each."""
    return (
        np.asarray(means)[..., None] + 2.0 * rng.standard_normal(n_seeds) + 0.2 * rng.standard_normal((n_rows, n_seeds))
    )


def test_of_equal_rows_a_difference_is_claimed_in_a_twentieth_of_leaderboards_at_most() -> None:
    rng, n = np.random.default_rng(0), 2_000
    false = sum(compare(normal(6, 5, rng)).better.any() for _ in range(n))
    assert false / n < 0.05 + TOO_LARGE * math.sqrt(0.05 * 0.95 / n)
    assert false > 0  # a test that never errs at 5% has no power


def test_a_single_pair_is_tested_at_its_level() -> None:
    rng, n = np.random.default_rng(1), 4_000
    false = sum(compare(normal(2, 5, rng)).better.any() for _ in range(n))
    assert abs(false / n - 0.05) < TOO_LARGE * math.sqrt(0.05 * 0.95 / n)


def test_true_differences_are_found_and_true_ties_kept_with_a_shared_effect_of_the_seed() -> None:
    rng, n = np.random.default_rng(2), 400
    means = np.array([0.0, 0.0, 2.0])  # the noise of a difference is .28, that of a seed 2
    found = [compare(normal(3, 5, rng, means)).better for _ in range(n)]
    assert np.mean([b[0, 2] and b[1, 2] for b in found]) > 0.95
    assert np.mean([b[0, 1] or b[1, 0] for b in found]) < 0.05 + TOO_LARGE * math.sqrt(0.05 * 0.95 / n)
    assert not any(b[2, 0] or b[2, 1] for b in found)


def test_intervals_cover_at_their_level() -> None:
    rng, n = np.random.default_rng(3), 4_000
    values = rng.standard_normal((n, 5))
    covered = np.mean([abs(v.mean()) < half_width(v) for v in values])
    assert abs(covered - 0.95) < TOO_LARGE * math.sqrt(0.05 * 0.95 / n)


def test_the_interval_of_a_ratio_covers_its_geometric_mean() -> None:
    rng, n = np.random.default_rng(4), 300
    places = pd.concat(
        [rank_targets(board({"a": math.log(3) + 0.5 * rng.standard_normal(5)}, f"t{k}")) for k in range(n)]
    )
    covered = ((places["ratio_low"] < 3) & (places["ratio_high"] > 3)).mean()
    assert abs(covered - 0.95) < TOO_LARGE * math.sqrt(0.05 * 0.95 / n)


def test_holm_is_the_step_down_rule() -> None:
    p = np.array([0.04, 0.001, 0.02, 0.9, 0.012])
    assert holm(p, 0.05).tolist() == [False, True, False, False, True]  # .001 <= .05/5, .012 <= .05/4, .02 > .05/3


def test_letters_are_shared_exactly_by_rows_that_do_not_differ() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        differs = np.triu(rng.random((7, 7)) < 0.4, 1)
        differs |= differs.T
        letters = letters_of(differs, list(range(7)))
        for i, j in itertools.combinations(range(7), 2):
            assert bool(set(letters[i]) & set(letters[j])) == (not differs[i, j])
        assert "a" in letters[0]


def test_ranks_add_up_and_are_the_middle_of_the_places_a_row_may_have() -> None:
    seeds = np.array([0.0, 0.1, -0.1, 0.05, -0.05])
    wiggle = np.array([0.01, -0.01, 0.02, 0.0, -0.02])
    places = rank_targets(board({"a": seeds, "b": seeds + wiggle, "c": seeds + 1 + wiggle, "d": seeds + 5 - wiggle}))
    assert places["rank"].tolist() == [1.5, 1.5, 3.0, 4.0]
    assert places["tie_group"].tolist() == ["a", "a", "b", "c"]
    assert places["is_best"].tolist() == [True, True, False, False]
    assert places["rank"].sum() == 4 * 5 / 2


def test_a_row_of_wildly_varying_quality_is_not_first_by_being_told_apart_from_nobody() -> None:
    rng = np.random.default_rng(6)
    steady = {f"s{k}": k + 0.001 * rng.standard_normal(5) for k in range(4)}
    places = rank_targets(board({**steady, "wild": np.array([0.0, 9.0, -4.0, 8.0, 3.0])})).set_index("sampler")
    assert places.loc["s0", "rank"] < places.loc["wild", "rank"] == 3.0


@pytest.mark.parametrize("status", ["failed", "missing", "budget", "timeout", "diverged", "killed"])
def test_a_row_with_a_run_that_is_not_ok_is_last_and_says_why(status: str) -> None:
    metrics = board({"a": np.ones(5), "b": np.ones(5) + np.arange(5) / 100, "bad": -np.ones(5)})
    bad = (metrics["sampler"] == "bad") & (metrics["seed"] == 3)
    metrics.loc[bad, ["status", "reason", "ratio"]] = [status, f"{status}: out of luck", math.nan]
    places = rank_targets(metrics).set_index("sampler")
    assert places.loc["bad", "rank"] == 3
    assert places.loc["bad", "loss"] == f"1 of 5 runs: {status}, {status}: out of luck"
    assert not places.loc["bad", "is_best"]
    assert places.loc["a", "n_worse"] >= 1
    assert rank_overall(places.reset_index()).set_index("sampler").loc["bad", "n_losses"] == 1


def test_losers_share_the_last_places_and_rows_that_take_no_part_have_none() -> None:
    metrics = board({name: np.arange(5.0) + k for k, name in enumerate(["a", "b", "lost", "gone", "absent"])})
    for name, status in (("lost", "failed"), ("gone", "missing"), ("absent", "not_applicable")):
        metrics.loc[metrics["sampler"] == name, ["status", "ratio"]] = [status, math.nan]
    places = rank_targets(metrics).set_index("sampler")
    assert places.loc["lost", "rank"] == places.loc["gone", "rank"] == 3.5
    assert math.isnan(places.loc["absent", "rank"])
    assert places.loc["absent", "loss"] == ""


def test_the_worse_primary_ratio_is_the_score_and_a_missing_one_is_no_score() -> None:
    metrics = board({"a": np.zeros(2), "b": np.zeros(2)})
    modes = metrics["metric"] == "mode_tv"
    metrics.loc[modes, ["ratio", "reason"]] = [4.0, ""]
    assert scores(metrics)["score"].tolist() == [math.log(4)] * 4
    metrics.loc[modes & (metrics["sampler"] == "b"), ["ratio", "reason"]] = [math.nan, "mode_tv not finite"]
    result = scores(metrics).set_index("sampler")
    assert result.loc["b", "score"].isna().all()
    assert set(result.loc["b", "reason"]) == {"mode_tv has no floor or value"}


def test_a_ratio_of_zero_is_as_good_as_the_least_that_is_told_apart_and_an_infinite_one_is_a_loss() -> None:
    metrics = board({"a": np.zeros(5), "none": np.zeros(5), "far": np.zeros(5)})
    chosen = metrics["metric"] == "sliced_w2"
    metrics.loc[chosen & (metrics["sampler"] == "none"), ["value", "ratio"]] = 0.0
    metrics.loc[chosen & (metrics["sampler"] == "far") & (metrics["seed"] == 2), "ratio"] = math.inf
    places = rank_targets(metrics).set_index("sampler")
    assert places["rank"].to_dict() == {"none": 1, "a": 2, "far": 3}
    assert places.loc["none", "ratio"] == pytest.approx(LEAST_RATIO)
    assert places.loc["far", "loss"] == "1 of 5 runs: ok, sliced_w2 is infinitely far above"


def test_an_end_of_an_interval_that_is_too_large_for_a_number_is_infinite() -> None:
    places = rank_targets(board({"a": np.array([0.0, 700.0, 0.0, 700.0, 0.0])}))
    assert places["ratio_high"][0] == math.inf


def test_without_truth_or_floor_nothing_is_ranked_and_nothing_is_lost() -> None:
    metrics = board({"a": np.zeros(5), "b": np.ones(5)})
    floorless = metrics.assign(ratio=math.nan)
    truthless = metrics.assign(ratio=math.nan, value=math.nan, reason="needs samples")
    broken = metrics.assign(ratio=math.nan, value=math.nan, reason="data file is not there")  # of every row
    for frame in (floorless, truthless, broken):
        places = rank_targets(frame)
        assert places["rank"].isna().all()
        assert set(places["loss"]) == {""}
    mine = metrics.copy()
    mine.loc[(mine["sampler"] == "b") & (mine["metric"] == "sliced_w2"), ["value", "ratio"]] = math.nan
    assert (
        rank_targets(mine).set_index("sampler").loc["b", "loss"] == "5 of 5 runs: ok, sliced_w2 has no floor or value"
    )


@pytest.mark.parametrize("absent", ["not_installed", "not_applicable"])
def test_a_seed_that_took_no_part_does_not_hide_the_failures_of_others(absent: str) -> None:
    metrics = board({"a": np.arange(5.0), "b": np.arange(5.0) + 9, "mixed": np.zeros(5)})
    for seed, status in ((0, absent), (1, "failed")):
        chosen = (metrics["sampler"] == "mixed") & (metrics["seed"] == seed)
        metrics.loc[chosen, ["status", "value", "ratio", "reason"]] = [status, math.nan, math.nan, f"{status}: so"]
    places = rank_targets(metrics).set_index("sampler")
    assert places.loc["mixed", "rank"] == 3
    assert places.loc["mixed", "loss"] == "2 of 5 runs: failed, failed: so"


def test_a_target_on_which_every_row_failed_is_a_loss_of_every_row_and_no_rank() -> None:
    lost = board({"a": np.arange(5.0), "b": np.arange(5.0) + 9}, "y").assign(status="failed", ratio=math.nan)
    places = rank_targets(pd.concat([board({"a": np.arange(5.0), "b": np.arange(5.0) + 9}, "x"), lost]))
    overall = rank_overall(places).set_index("sampler")
    assert overall["n_targets"].to_dict() == {"a": 1, "b": 1}
    assert overall["n_losses"].to_dict() == {"a": 1, "b": 1}
    assert places.loc[places["target"] == "y", "rank"].isna().all()


def test_mean_ranks_of_equal_ranks_have_no_interval() -> None:
    rng = np.random.default_rng(11)
    values = [normal(1, 5, rng)[0] for _ in range(3)]
    tied = pd.concat([board({"a": v, "b": v}, f"t{k}") for k, v in enumerate(values)])
    overall = rank_overall(rank_targets(tied))
    assert overall["mean_rank"].tolist() == [1.5, 1.5]
    assert overall[["rank_low", "rank_high"]].isna().all(axis=None)
    moved = pd.concat([tied, board({"a": values[0], "b": values[0] + 9}, "t3")])
    assert rank_overall(rank_targets(moved))["rank_low"].notna().all()


def test_a_row_of_fewer_seeds_than_others_has_no_rank_and_is_no_loss() -> None:
    metrics = pd.concat([board({"a": np.arange(5.0), "b": np.arange(5.0) + 9}), board({"few": np.zeros(1)})])
    places = rank_targets(metrics).set_index("sampler")
    assert places["n_seeds"].to_dict() == {"a": 5, "b": 5, "few": 1}
    assert math.isnan(places.loc["few", "rank"])
    assert places.loc["few", "loss"] == ""
    assert places.loc["a", "rank"] == 1


def test_four_seeds_give_no_rank_and_five_do() -> None:
    wiggle = np.array([0.01, -0.01, 0.02, 0.0, -0.02])
    four = rank_targets(board({"a": wiggle[:4], "b": 9 + wiggle[1:]}))
    assert four["rank"].isna().all()
    assert not four["is_best"].any()
    assert set(four["tie_group"]) == {""}
    assert four["ratio_high"].notna().all()
    assert rank_overall(four).empty
    assert rank_targets(board({"a": wiggle, "b": 9 + wiggle[::-1]}))["rank"].tolist() == [1, 2]


def test_one_seed_gives_no_rank_and_no_interval() -> None:
    places = rank_targets(board({"a": np.zeros(1), "b": np.ones(1)}))
    assert places["rank"].isna().all()
    assert places["ratio_low"].isna().all()
    assert places["ratio"].tolist() == [1.0, math.e]


def test_development_targets_have_places_and_no_part_in_mean_ranks() -> None:
    rng = np.random.default_rng(7)
    metrics = pd.concat([board({"a": normal(1, 5, rng)[0], "b": normal(1, 5, rng)[0] + 9}, t) for t in ("x", "y", "z")])
    places = rank_targets(metrics, development=["y"])
    assert places[places["target"] == "y"]["rank"].notna().all()
    assert rank_overall(places)["n_targets"].tolist() == [2, 2]


def test_mean_ranks_of_partial_rows_come_last() -> None:
    rng = np.random.default_rng(8)
    parts = [board({"a": normal(1, 5, rng)[0] + 50, "b": normal(1, 5, rng)[0] + 100}, t) for t in ("x", "y")]
    parts.append(board({"c": normal(1, 5, rng)[0] - 50}, "x"))
    overall = rank_overall(rank_targets(pd.concat(parts)))
    assert overall["sampler"].tolist() == ["a", "b", "c"]


def simulated_places(n_targets: int, shift: float, rng: np.random.Generator) -> pd.DataFrame:
    """Ranks of five rows on targets; the first is better by ``shift`` standard deviations of a target's effect."""
    values = rng.standard_normal((n_targets, 5))
    values[:, 0] -= shift
    ranks = values.argsort(1).argsort(1) + 1.0
    return pd.DataFrame(
        [
            {"target": t, "development": False, "sampler": f"s{k}", "rank": ranks[t, k]}
            for t in range(n_targets)
            for k in range(5)
        ]
    )


def test_friedman_errs_at_its_level_and_its_critical_difference_holds_for_all_pairs() -> None:
    rng, n = np.random.default_rng(9), 1_000
    results = [friedman(simulated_places(12, 0.0, rng)) for _ in range(n)]
    assert all(result is not None for result in results)
    rejected = np.mean([result.p < 0.05 for result in results if result])
    assert rejected < 0.05 + TOO_LARGE * math.sqrt(0.05 * 0.95 / n)
    apart = np.mean([np.ptp(result.mean_ranks) > result.critical_difference for result in results if result])
    assert 0.01 < apart < 0.05 + TOO_LARGE * math.sqrt(0.05 * 0.95 / n)
    found = [friedman(simulated_places(12, 3.0, rng)) for _ in range(50)]
    assert np.mean([result.p < 0.05 and result.samplers[0] == "s0" for result in found if result]) > 0.95


def test_friedman_agrees_with_scipy_where_there_are_no_ties() -> None:
    places = simulated_places(12, 0.5, np.random.default_rng(10))
    result = friedman(places)
    assert result is not None
    table = places.pivot(index="target", columns="sampler", values="rank")
    chi2 = stats.friedmanchisquare(*(table[name] for name in table)).statistic
    assert math.isclose(result.p, stats.f.sf(11 * chi2 / (12 * 4 - chi2), 4, 44), rel_tol=1e-9)
    expected = 2.728 * math.sqrt(5 * 6 / (6 * 12))  # Demsar, table 5
    assert math.isclose(result.critical_difference, expected, rel_tol=1e-3)


def test_friedman_needs_two_targets_and_three_rows() -> None:
    assert friedman(simulated_places(1, 0.0, np.random.default_rng(0))) is None
