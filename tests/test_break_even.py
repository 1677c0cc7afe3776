"""Break-even: its closed form, its interval on simulated costs, and whom a row is compared with."""

import math

import numpy as np
import pandas as pd
import pytest

from samplerbench.benchmarks.break_even import bias_shows_at, break_even, break_even_table, restarted_rows
from samplerbench.benchmarks.costs import COSTS
from samplerbench.benchmarks.plan import make_plan, parse_suite

TOO_LARGE = 4  # standard errors


def gaps(fit: float, draw: float, n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    return np.full(n, fit), np.full(n, draw)


@pytest.mark.parametrize(
    ("fit", "draw", "expected"),
    [(100.0, 2.0, 50.0), (-1.0, 2.0, 0.0), (0.0, 0.0, 0.0), (5.0, 0.0, math.inf), (5.0, -1.0, math.inf)],
)
def test_without_noise_it_is_the_crossing_of_the_costs_with_an_interval_of_no_width(
    fit: float, draw: float, expected: float
) -> None:
    result = break_even(*gaps(fit, draw))
    assert (result.value, result.low, result.high) == (expected, expected, expected) or draw == 0
    assert result.value == expected
    assert result.low <= expected <= result.high


def test_cheaper_to_fit_and_dearer_to_draw_is_never() -> None:
    assert break_even(*gaps(-5.0, -1.0)).value == math.inf


@pytest.mark.parametrize("draw_noise", [0.2, 1.0])
def test_the_interval_covers_at_its_level(draw_noise: float) -> None:
    rng, n, truth = np.random.default_rng(0), 3_000, 100.0 / 1.0
    covered = 0
    for _ in range(n):
        shared = rng.standard_normal(5)
        result = break_even(100 + 20 * shared, 1.0 + draw_noise * (0.6 * shared + 0.8 * rng.standard_normal(5)))
        covered += result.low <= truth <= result.high
    assert abs(covered / n - 0.95) < TOO_LARGE * math.sqrt(0.05 * 0.95 / n)


def test_one_seed_has_a_value_and_no_interval() -> None:
    result = break_even(*gaps(100.0, 2.0, n=1))
    assert result.value == 50
    assert math.isnan(result.low)
    assert math.isnan(result.high)


def metrics(ratios: dict[str, float], n_seeds: int = 5) -> pd.DataFrame:
    wiggle = np.random.default_rng(1).standard_normal((len(ratios), n_seeds))
    return pd.DataFrame(
        [
            {
                "run_id": f"{name}{seed}", "target": "t", "sampler": name, "seed": seed, "status": "ok",
                "metric": "sliced_w2", "n_samples": 2_000, "ratio": ratio * math.exp(0.01 * wiggle[k, seed]),
                "at_floor": ratio < 1.2, "reason": "", "value": 1.0,
            }
            for k, (name, ratio) in enumerate(ratios.items())
            for seed in range(n_seeds)
        ]
    )  # fmt: skip


def costs(table: dict[str, tuple[float, float]], n_seeds: int = 5) -> pd.DataFrame:
    rows = [
        dict.fromkeys(COSTS, 0.0)
        | {"target": "t", "sampler": name, "seed": seed, "fit_gradient_equivalents": fit}
        | {"gradient_equivalents_per_effective_draw": draw, "fit_seconds": 1e-3 * fit}
        | {"microseconds_per_effective_draw": draw}
        for name, (fit, draw) in table.items()
        for seed in range(n_seeds)
    ]
    return pd.DataFrame(rows)


PRICES = {"net": (1e6, 0.0), "long": (1e4, 100.0), "restart": (0.0, 50.0), "bad": (0.0, 1.0)}
RATIOS = {"net": 2.0, "long": 1.0, "restart": 1.0, "bad": 30.0}


def test_a_row_is_compared_with_the_cheapest_of_no_worse_quality_that_does_not_restart() -> None:
    table = break_even_table(metrics(RATIOS), costs(PRICES), {("t", "restart")}, n_samples=2_000)
    net = table[(table["sampler"] == "net") & (table["unit"] == "equivalents")].iloc[0]
    assert (net["against"], net["break_even"]) == ("long", (1e6 - 1e4) / 100)
    seconds = table[(table["sampler"] == "net") & (table["unit"] == "seconds")].iloc[0]
    assert seconds["break_even"] == pytest.approx((1e3 - 10) / 100e-6)
    bad = table[(table["sampler"] == "bad") & (table["unit"] == "equivalents")].iloc[0]
    assert (bad["against"], bad["break_even"]) == ("long", 0.0)
    assert set(table.loc[table["sampler"] == "long", "against"]) == set()  # nobody of its quality is left


def test_runs_without_costs_or_scores_take_no_part() -> None:
    broken = metrics(RATIOS)
    broken.loc[broken["sampler"] == "long", "ratio"] = math.nan
    assert break_even_table(broken, costs(PRICES), set(), 2_000)["against"].isin(["restart", "net", "bad"]).all()
    unpaid = costs(PRICES)
    unpaid.loc[unpaid["sampler"] == "long", "gradient_equivalents_per_effective_draw"] = math.nan
    table = break_even_table(metrics(RATIOS), unpaid, set(), 2_000)
    assert "long" not in set(table.loc[table["unit"] == "equivalents", "against"])
    assert "long" not in set(table.loc[table["unit"] == "equivalents", "sampler"])


def test_four_seeds_give_no_break_even() -> None:
    few = break_even_table(metrics(RATIOS, n_seeds=4), costs(PRICES, n_seeds=4), set(), 2_000)
    assert few.empty


def test_rows_that_restart_are_those_of_the_plan_whose_mode_says_so() -> None:
    table = {
        "n_samples": 10,
        "metrics": ["sliced_w2"],
        "targets": ["gaussian2"],
        "samplers": [
            {"name": "mala", "label": label, "parameters": {"mode": label}} for label in ("restart", "long")
        ] + ["kl"],
    }  # fmt: skip
    assert restarted_rows(make_plan(parse_suite(table, "modes"))) == {("gaussian2", "restart")}


def test_bias_shows_where_it_is_as_large_as_the_noise() -> None:
    """|bias|^2 = 3 floor^2 at n = 2,000, so a squared floor of a third as many draws equals it."""
    table = bias_shows_at(metrics({"biased": 2.0, "exact": 1.0})).set_index("sampler")["bias_shows_at"]
    assert table["biased"] == pytest.approx(2_000 / 3, rel=0.05)
    assert table["exact"] == math.inf
