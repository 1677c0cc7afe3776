"""Costs of runs: whose they are, and how many draws they are shared by."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from samplerbench.benchmarks.compare_files import read_runs
from samplerbench.benchmarks.leaderboard import collect
from samplerbench.benchmarks.plan import Suite, make_plan, parse_suite
from samplerbench.benchmarks.store import Plan, Store

Run = Callable[[Suite, Path], None]


def two_prices(*labels: str, target: str = "gaussian2") -> Suite:
    """MALA of 2 steps and of 5, whose draws cost 3 and 6 gradient equivalents, under these labels."""
    samplers = [
        {"name": "mala", "label": label, "parameters": {"n_steps": n}} for label, n in zip(labels, (2, 5), strict=True)
    ]
    targets = [{"name": "gaussian2", "label": target, "parameters": {}}]
    return parse_suite({"n_samples": 50, "metrics": ["energy_w1"], "targets": targets, "samplers": samplers}, "prices")


def relabel(store: Path, suite: Suite) -> None:
    """What ``run`` does to a store whose runs are all there under other labels."""
    runs = make_plan(suite)
    directory = Store(store)
    before = {run.run_id for run in directory.plan().runs}
    assert {run.run_id for run in runs} == before  # labels are no part of the identity
    (store / "plan.json").unlink()
    directory.write_plan(Plan(suite.name, suite.description, list(suite.metrics), runs), before)


@pytest.mark.parametrize("labels", [("new", "names"), ("long", "short")])
def test_costs_belong_to_the_labels_of_the_plan(labels: tuple[str, str], run_here: Run, tmp_path: Path) -> None:
    run_here(two_prices("short", "long"), tmp_path)
    relabel(tmp_path, two_prices(*labels, target="renamed"))
    results = collect(tmp_path)
    expected = {labels[0]: 3.0, labels[1]: 6.0}
    for table in (results.costs, read_runs(tmp_path).costs, results.board):
        assert set(table["target"]) == {"renamed"}
        prices = table.set_index("sampler")["gradient_equivalents_per_effective_draw"]
        assert prices.to_dict() == expected


def test_two_rows_of_one_configuration_share_its_costs(run_here: Run, tmp_path: Path) -> None:
    table = {
        "n_samples": 128,
        "metrics": ["ess_bulk"],
        "targets": ["gaussian2"],
        "samplers": [
            {"name": "mala", "label": label, "parameters": {"mode": "long", "n_steps": 20, "burn_in": 50}}
            for label in ("one", "other")
        ],
    }
    run_here(parse_suite(table, "twins"), tmp_path)
    prices = collect(tmp_path).costs.set_index("sampler")["gradient_equivalents_per_effective_draw"]
    assert prices["one"] == prices["other"] > 0


def test_weighted_draws_count_by_kish(run_here: Run, tmp_path: Path) -> None:
    table = {"n_samples": 60, "metrics": ["energy_w1"], "targets": ["gaussian2"], "samplers": ["ais"]}
    run_here(parse_suite(table, "weighted"), tmp_path)
    results = collect(tmp_path)
    (record,) = results.records
    weights = Store(tmp_path).draws(record).log_weights
    assert weights is not None
    kish = 1 / weights.double().softmax(0).square().sum().item()
    assert 1 < kish < 60
    (row,) = results.costs.to_dict("records")
    paid = row["draw_gradient_equivalents"]
    assert row["gradient_equivalents_per_effective_draw"] == pytest.approx(paid / kish)
    assert row["microseconds_per_effective_draw"] == pytest.approx(1e6 * row["draw_seconds"] / kish)
    assert row["microseconds_per_draw"] == pytest.approx(1e6 * row["draw_seconds"] / 60)
    (tmp_path / "runs" / record.spec.run_id / "draws.npz").write_bytes(b"corrupt")
    assert math.isnan(collect(tmp_path).costs["gradient_equivalents_per_effective_draw"][0])
