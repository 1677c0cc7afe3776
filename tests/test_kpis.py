import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from samplerbench.benchmarks.kpis import KPIS, kpi_table
from samplerbench.benchmarks.report import write_leaderboard
from samplerbench.metrics.rare import mean_first_hit

COSTS = [
    "target", "sampler", "seed", "fit_gradient_equivalents", "gradient_equivalents_per_effective_draw", "fit_seconds",
    "microseconds_per_effective_draw",
]  # fmt: skip
NO_COSTS = pd.DataFrame(columns=COSTS)


def row(seed: int, metric: str, value: float, **fields: Any) -> dict[str, Any]:
    base = {"target": "t", "sampler": "s", "status": "ok", "reason": "", "floor": math.nan, "at_floor": None}
    ratio = value / fields["floor"] if "floor" in fields else math.nan
    return {**base, "ratio": ratio, "seed": seed, "metric": metric, "value": value, **fields}


def readings(rows: list[dict[str, Any]], costs: pd.DataFrame = NO_COSTS) -> dict[str, tuple[float, str]]:
    table = kpi_table(pd.DataFrame(rows), costs)
    return {name: (value, text) for name, value, text in zip(table["kpi"], table["value"], table["text"], strict=True)}


def per_seed(metric: str, *values: float, **fields: Any) -> list[dict[str, Any]]:
    return [row(seed, metric, value, **fields) for seed, value in enumerate(values)]


def test_what_does_not_apply_is_absent() -> None:
    assert readings(per_seed("ksd", 0.1, 0.2)) == {}
    no_modes = per_seed("modes_found", math.nan, reason="needs modes") + per_seed("modes_asked", math.nan)
    no_floor = per_seed("sliced_w2", 0.1)
    assert readings(no_modes + no_floor) == {}
    assert readings(per_seed("modes_found", 0.0) + per_seed("modes_asked", 0.0)) == {}


def test_share_of_modes_is_the_mean_over_runs_and_says_of_how_many() -> None:
    found = readings(per_seed("modes_found", 8, 6) + per_seed("modes_asked", 8, 8))
    assert found["modes_found"] == (0.875, "88% (7 of 8)")
    none = readings(per_seed("modes_found", 0.0) + per_seed("modes_asked", 8))
    assert none["modes_found"] == (0.0, "0% (0 of 8)")  # none found is a number; none asked for is not


def test_rarest_mode_is_that_of_the_worst_run() -> None:
    rows = per_seed("rarest_found", 0.02, 0.3, math.nan) + per_seed("rarest_asked", 0.02, 0.02, 0.02)
    assert readings(rows)["rarest_found"] == (0.3, "0.300 (of 0.0200) [2/3 runs]")


def test_first_hit_stands_beside_the_censored_geometric_law() -> None:
    n, mass = 2_000, 1e-3
    exact = mean_first_hit(mass, n)
    assert exact == pytest.approx(sum((1 - mass) ** k for k in range(n)))  # E min(T, n) = sum of P(T > k)
    rows = per_seed("first_hit", 500, 2_000) + per_seed("first_hit_censored", 0, 1)
    rows += per_seed("first_hit_exact", exact, exact)
    assert readings(rows)["first_hit"] == (1250.0, "1,250 (exact draws 865, none in 1 of 2 runs)")


def test_error_of_averages_is_the_root_of_the_median_bias_beside_that_of_the_floor() -> None:
    rows = per_seed("moment_bias2", 0.01, 0.04, 0.25, floor=0.0009)
    value, text = readings(rows)["error_of_averages"]
    assert value == pytest.approx(0.2)
    assert text == "0.20 (exact draws 0.030)"
    assert readings(per_seed("moment_bias2", 0.04))["error_of_averages"][1] == "0.20"


def test_cost_is_that_of_a_thousand_effective_draws_with_training_beside_it() -> None:
    costs = pd.DataFrame([("t", "s", 0, 1e5, 20.0, 3.0, 500.0), ("t", "s", 1, 3e5, 40.0, 5.0, 1_500.0)], columns=COSTS)
    found = readings(per_seed("ksd", 0.1, 0.2), costs)
    assert found["equivalents_per_1000"] == (30_000.0, "30,000 (+ 200,000)")
    assert found["seconds_per_1000"] == (1.0, "1 (+ 4)")
    unknown = costs.assign(gradient_equivalents_per_effective_draw=[math.nan, 40.0])
    found = readings(per_seed("ksd", 0.1, 0.2), unknown)
    assert found["equivalents_per_1000"][1] == "40,000 (+ 300,000) [1/2 runs]"


def test_spread_is_largest_over_smallest_of_the_worse_primary_ratio() -> None:
    rows = per_seed("sliced_w2", 1.0, 2.0, 3.0, floor=1.0) + per_seed("mode_tv", 0.2, 0.8, 0.1, floor=0.1)
    value, text = readings(rows)["spread"]  # worse ratios 2, 8, 3
    assert value == pytest.approx(4.0)
    assert text == "4x"
    assert "spread" not in readings(per_seed("sliced_w2", 1.0, floor=1.0))


def test_a_run_is_at_the_floor_if_it_is_so_by_every_primary_metric_and_ended_as_planned() -> None:
    rows = [
        row(seed, metric, 1.0, floor=1.0, at_floor=passes, status=status)
        for seed, by_metric, status in [(0, (True, True), "ok"), (1, (True, False), "ok"), (2, (True, True), "budget")]
        for metric, passes in zip(("sliced_w2", "mode_tv"), by_metric, strict=True)
    ]
    assert readings(rows)["at_floor"] == (1 / 3, "1 of 3")
    failed = [row(3, "sliced_w2", math.nan, floor=math.nan, status="failed", reason="failed: it broke")]
    assert readings(rows + failed)["at_floor"] == (0.25, "1 of 4")


def test_every_definition_is_one_sentence_under_a_name_of_its_own() -> None:
    assert len({kpi.name for kpi in KPIS}) == len({kpi.title for kpi in KPIS}) == len(KPIS)
    for kpi in KPIS:
        assert kpi.definition.endswith(".")
        assert ". " not in kpi.definition


def test_key_figures_are_written_and_shown_with_their_definitions(
    make_suite: Any, run_here: Any, tmp_path: Path
) -> None:
    run_here(make_suite("not", "raise", seeds=2), tmp_path / "store")
    write_leaderboard(tmp_path / "store", tmp_path)
    table = pd.read_csv(tmp_path / "kpis.csv")
    assert list(table.columns) == ["target", "sampler", "kpi", "value", "text", "unit"]
    assert set(table["sampler"]) == {"not"}
    assert set(table["kpi"]) == {"equivalents_per_1000", "seconds_per_1000"}
    text = (tmp_path / "leaderboard.md").read_text()
    assert text.count("* **grad. eq. per 1,000 draws**: ") == 1
    assert "| sampler | grad. eq. per 1,000 draws | seconds per 1,000 draws |" in text
    assert "modes found" not in text
