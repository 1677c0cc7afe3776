"""Tables of equal steps: quality, costs and rivals of synthetic runs, by hand."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from samplerbench.benchmarks.costs import COSTS
from samplerbench.benchmarks.paper.equal_steps import COLUMNS, OUTCOME, equal_steps_table, outcome_table
from samplerbench.benchmarks.paper.quality import Rows, qualities, step_curves
from samplerbench.benchmarks.paper.rivals import against_rivals
from samplerbench.benchmarks.plan import make_plan, parse_suite

ROWS = Rows({"MALA": {1: "m1", 10: "m10", 100: "m100"}}, ["long", "smc"])
RATIOS = {"net": 4.0, "m1": 16.0, "m10": 8.0, "m100": 2.0, "long": 1.5, "smc": 40.0}
FIT = {"net": 1000.0, "m1": 1.0, "m10": 10.0, "m100": 100.0, "long": 200.0, "smc": 0.0}
PER_DRAW = {"net": 0.5, "m1": 2.0, "m10": 11.0, "m100": 101.0, "long": 40.0, "smc": 300.0}


def metrics_of(ratios: dict[str, float], n_seeds: int = 3, spread: float = 0.01) -> pd.DataFrame:
    """sliced_w2 with a floor of 0.5, and a metric without one, of runs that are ok."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for sampler, ratio in ratios.items():
        for seed in range(n_seeds):
            own = ratio * math.exp(spread * rng.normal())
            base = {"target": "t", "sampler": sampler, "seed": seed, "status": "ok", "reason": "", "n_samples": 2_000}
            base["run_id"] = f"{sampler}{seed}"
            rows.append(
                {**base, "metric": "sliced_w2", "value": 0.5 * own, "floor": 0.5, "ratio": own, "at_floor": own < 1.1}
            )
            rows.append(
                {**base, "metric": "bare", "value": 7 * own, "floor": math.nan, "ratio": math.nan, "at_floor": None}
            )
    return pd.DataFrame(rows).astype({"at_floor": object})


def costs_of(n_seeds: int = 3) -> pd.DataFrame:
    frame = pd.DataFrame(
        [{"target": "t", "sampler": sampler, "seed": seed} for sampler in RATIOS for seed in range(n_seeds)]
    )
    for name in COSTS:
        frame[name] = math.nan
    jitter = 1 + 0.001 * frame["seed"]
    frame["fit_seconds"] = jitter * frame["sampler"].map(FIT)
    frame["fit_gradient_equivalents"] = 10 * frame["sampler"].map(FIT)
    for name in ("microseconds_per_draw", "microseconds_per_effective_draw"):
        frame[name] = jitter * frame["sampler"].map(PER_DRAW)
    frame["gradient_equivalents_per_effective_draw"] = frame["sampler"].map({**PER_DRAW, "net": 0.0})
    return frame


def table_of(ratios: dict[str, float], **kwargs: Any) -> pd.Series:
    found = equal_steps_table(qualities(metrics_of(ratios, **kwargs), ["sliced_w2"]), costs_of(), ROWS, ["net"])
    assert list(found.columns) == list(COLUMNS)
    assert len(found) == 1
    return found.iloc[0]


def test_rows_are_told_apart_by_what_they_are() -> None:
    chains = [
        {"name": name, "label": f"{name} {mode} {k}", "parameters": {"mode": mode, "n_steps": k}}
        for name in ("mala", "ula")
        for mode, k in (("restart", 20), ("restart", 3), ("long", 5))
    ]
    table = {"n_samples": 10, "targets": ["donut"], "metrics": ["sliced_w2"], "samplers": [*chains, "smc", "smc_gmm"]}
    rows = Rows.of(make_plan(parse_suite(table, "rows")))
    assert rows.ladders["MALA"] == {3: "mala restart 3", 20: "mala restart 20"}
    assert list(rows.ladders["ULA"]) == [3, 20]
    assert rows.rivals == ["mala long 5", "ula long 5", "smc"]


def test_k_and_costs_are_those_of_a_line_in_logs() -> None:
    row = table_of(RATIOS, spread=0.0)
    k = 10 * 10**0.5  # from 8 at 10 steps to 2 at 100, 4 is half of the way in logs
    assert row["k"] == pytest.approx(k)
    assert (row["k_low"], row["k_high"]) == (pytest.approx(k), pytest.approx(k))
    cost = 1.001 * (11 + 90 * (k - 10) / 90)  # linear in k, mean over jitters 1, 1.001 and 1.002
    assert row["microseconds_per_draw_chain"] == pytest.approx(cost)
    assert row["microseconds_ratio"] == pytest.approx(cost / (1.001 * 0.5))
    assert row["equivalents_per_draw_chain"] == pytest.approx(1 + k)
    assert row["equivalents_per_draw_one_pass"] == 0
    assert row["break_even_equivalents"] == pytest.approx((10_000 - 10 * k) / (1 + k))
    assert row["break_even_seconds"] == pytest.approx((1_000 - k) / (1e-6 * (0.5 + k)), rel=1e-6)
    assert (row["censored"], row["left_out"], row["is_monotone"]) == ("", "", True)


def test_ends_beyond_the_steps_are_bounds() -> None:
    below, above = table_of({**RATIOS, "net": 50.0}), table_of({**RATIOS, "net": 1.2})
    assert (below["k"], below["censored"], below["k_costed"], below["microseconds_ratio_low"]) == (0, "below", 1, 0)
    assert (above["k"], above["censored"], above["k_costed"]) == (math.inf, "above", 100)
    assert above["microseconds_ratio"] == pytest.approx(202)
    assert above["microseconds_ratio_high"] == math.inf
    assert above["microseconds_ratio_low"] == pytest.approx(202)


def test_time_ratios_hold_the_noise_of_timing() -> None:
    """k is known exactly, times are not: of 400 tables 95% of the intervals hold the ratio."""
    rng, quality = np.random.default_rng(3), qualities(metrics_of(RATIOS, spread=0.0), ["sliced_w2"])
    costs, n_held = costs_of(), 0
    k = 10 * 10**0.5
    truth = (1 + k) / 0.5
    for _ in range(400):
        noisy = costs.assign(
            microseconds_per_draw=costs["sampler"].map(PER_DRAW) * np.exp(0.1 * rng.standard_normal(len(costs)))
        )
        (row,) = equal_steps_table(quality, noisy, ROWS, ["net"]).to_dict("records")
        n_held += row["microseconds_ratio_low"] < truth < row["microseconds_ratio_high"]
    assert n_held / 400 == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 400))


def test_chains_at_the_floor_are_as_good_as_anything() -> None:
    """By chance the network is below the floor's median and the chains are just above it."""
    row = table_of({**RATIOS, "net": 0.9, "m100": 1.05}, spread=0.001)
    assert (row["k"], row["at_floor_from"], row["censored"]) == (100, 100, "")
    assert row["k_high"] == math.inf
    always = table_of({**RATIOS, "net": 0.9, "m1": 1.05, "m10": 1.05, "m100": 1.05}, spread=0.001)
    assert (always["k"], always["at_floor_from"], always["censored"]) == (0, 1, "below")


def test_the_outcome_is_one_row_per_law_and_sampler_by_the_first_metric_that_the_law_has() -> None:
    quality = qualities(metrics_of(RATIOS), ["sliced_w2", "bare"])
    table = equal_steps_table(quality, costs_of(), ROWS, ["net"])
    other = table[table["metric"] == "bare"].assign(target="without floor")
    whole = pd.concat([table, table.assign(chain="ULA"), other])
    outcome = outcome_table(whole, ["sliced_w2", "bare"])
    assert list(outcome.columns) == ["target", "sampler", "metric", *OUTCOME]
    assert outcome[["target", "metric"]].to_numpy().tolist() == [["t", "sliced_w2"], ["without floor", "bare"]]
    assert outcome.loc[0, "k"] == table.loc[table["metric"] == "sliced_w2", "k"].item()


def test_runs_without_a_value_are_left_out_and_said() -> None:
    metrics = metrics_of(RATIOS)
    metrics.loc[(metrics["sampler"] == "m10") & (metrics["seed"] == 1), "status"] = "diverged"
    (row,) = equal_steps_table(qualities(metrics, ["sliced_w2"]), costs_of(), ROWS, ["net"]).to_dict("records")
    assert (row["left_out"], row["reason"]) == ("10", "")
    assert row["k"] == pytest.approx(10 ** (2 * 2 / 3), rel=0.05)  # on the line from 16 at 1 step to 2 at 100
    metrics.loc[(metrics["sampler"] == "net") & (metrics["seed"] == 1), "status"] = "failed"
    (lost,) = equal_steps_table(qualities(metrics, ["sliced_w2"]), costs_of(), ROWS, ["net"]).to_dict("records")
    assert lost["reason"] == "a run of net has no value"
    assert math.isnan(lost["k"])


def test_quality_is_clipped_at_the_floor_and_bare_metrics_are_not() -> None:
    metrics = metrics_of({"net": 0.5, "m1": 2.0}, spread=0.0)
    centred = metrics[metrics["metric"] == "sliced_w2"].assign(metric="ksd", ratio=[-3.0, 0.2, 2.0, 1.0, 1.0, 1.0])
    found = qualities(pd.concat([metrics, centred]), ["primary", "sliced_w2", "bare", "ksd", "absent"])
    by = found.set_index(["metric", "sampler", "seed"])["quality"].sort_index()
    assert by["primary", "net", 0] == by["sliced_w2", "net", 0] == 0
    assert by["primary", "m1", 0] == by["sliced_w2", "m1", 0] == pytest.approx(math.log(2))
    assert by["bare", "net", 0] == pytest.approx(math.log(3.5))
    assert list(np.exp(by["ksd", "net"])) == pytest.approx([3, 1, 2])  # far below zero is as wrong as far above
    assert set(found["metric"]) == {"primary", "sliced_w2", "bare", "ksd"}
    at_floor = found.set_index(["metric", "sampler", "seed"])["at_floor"]
    assert at_floor["primary", "net", 0] == True  # noqa: E712
    assert at_floor["bare", "net", 0] is None


def test_metrics_that_a_target_cannot_have_are_left_out() -> None:
    metrics = metrics_of({"net": 2.0})
    metrics.loc[metrics["metric"] == "bare", ["value", "reason"]] = [math.nan, "needs modes"]
    metrics.loc[metrics["metric"] == "sliced_w2", "reason"] = "needs samples"
    assert qualities(metrics, ["primary", "bare"]).empty
    lost = metrics.assign(sampler="lost", status="failed", reason="failed: it broke", value=math.nan, ratio=math.nan)
    assert qualities(pd.concat([metrics, lost]), ["primary", "bare"]).empty


def test_curves_have_a_place_a_geometric_mean_and_a_cost() -> None:
    curves = step_curves(qualities(metrics_of(RATIOS), ["sliced_w2", "bare"]), costs_of(), ROWS)
    row = curves.set_index(["metric", "sampler"]).loc[("sliced_w2", "m10")]
    assert (row["chain"], row["n_steps"], row["n_seeds"], row["n_ok"]) == ("MALA", 10, 3, 3)
    assert row["low"] < row["quality"] < row["high"]
    assert row["quality"] == pytest.approx(8, rel=0.02)
    assert row["microseconds_per_draw"] == pytest.approx(11 * 1.001)
    assert curves.set_index(["metric", "sampler"]).loc[("bare", "net"), "has_floor"] == False  # noqa: E712
    assert curves.set_index(["metric", "sampler"]).loc[("bare", "net"), "chain"] == ""


def test_the_rival_is_the_one_with_the_cheapest_draws_among_those_of_no_worse_quality() -> None:
    (row,) = against_rivals(metrics_of(RATIOS, n_seeds=5), costs_of(5), ROWS, ["net"]).to_dict("records")
    assert row["rival_seconds"] == row["rival_equivalents"] == "long"  # smc is worse, restarted chains are no rivals
    assert row["rival_seconds_ratio"] == pytest.approx(80)
    assert (row["rival_equivalents_per_draw"], row["rival_equivalents_ratio"]) == (40, math.inf)
    assert row["rival_equivalents_break_even"] == pytest.approx(10 * 800 / 40)
    assert row["rival_seconds_break_even"] == pytest.approx(800 / 39.5e-6, rel=1e-6)
    (none,) = against_rivals(metrics_of({**RATIOS, "net": 1.0}, n_seeds=5), costs_of(5), ROWS, ["net"]).to_dict(
        "records"
    )
    assert none["rival_seconds"] == ""
    assert math.isnan(none["rival_seconds_ratio"])
    both = {**RATIOS, "smc": 4.0}  # as good as the network, but dearer per draw than long chains
    (row,) = against_rivals(metrics_of(both, n_seeds=5), costs_of(5), ROWS, ["net"]).to_dict("records")
    assert row["rival_seconds"] == "long"
    (row,) = against_rivals(metrics_of({**both, "long": 9.0}, n_seeds=5), costs_of(5), ROWS, ["net"]).to_dict("records")
    assert (row["rival_seconds"], row["rival_seconds_ratio"]) == ("smc", pytest.approx(600))


def test_no_rival_is_named_where_seeds_are_too_few_to_rank() -> None:
    (row,) = against_rivals(metrics_of(RATIOS, n_seeds=4), costs_of(4), ROWS, ["net"]).to_dict("records")
    assert row["rival_seconds"] == row["rival_equivalents"] == ""
