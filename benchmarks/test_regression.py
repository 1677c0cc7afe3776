"""Measured: the suite of an earlier leaderboard, run now; fails if something is worse beyond the noise of seeds.

``pytest --benchmark benchmarks/test_regression.py --against PATH``; ``extra_info`` counts the verdicts and lists what
is worse. Seconds are not judged: ``samplerbench compare --time`` does.
"""

import dataclasses
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from samplerbench.benchmarks.compare import compare_runs, regressions
from samplerbench.benchmarks.compare_files import read_runs, suite_of, summary, texts
from samplerbench.benchmarks.engine import n_cores, run_suite
from samplerbench.benchmarks.evaluate import evaluate_store
from samplerbench.benchmarks.plan import load_suite

LEAST_SEEDS = 2


def test_nothing_is_worse(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    path = request.config.getoption("against")
    if path is None:
        pytest.skip("--against PATH, a store or a leaderboard's folder, says what to compare with")
    before = read_runs(Path(path))
    rows, there = before.metrics, before.metrics["seed"].nunique()
    n_seeds = request.config.getoption("against_seeds") or there
    if min(there, n_seeds) < LEAST_SEEDS:
        pytest.fail(f"noise is known from {LEAST_SEEDS} seeds on: {path} has {there}, to be run are {n_seeds}")
    suite = load_suite(request.config.getoption("against_suite") or suite_of(Path(path)))
    suite = dataclasses.replace(
        suite,
        seeds=n_seeds,
        throughput=False,
        targets=tuple(item for item in suite.targets if item.label in set(rows["target"])),
        samplers=tuple(item for item in suite.samplers if item.label in set(rows["sampler"])),
    )
    store = tmp_path / "store"
    benchmark.pedantic(run_suite, args=(suite, store), kwargs={"workers": n_cores()})  # type: ignore[no-untyped-call]
    evaluate_store(store, compute_floors=bool(rows["floor"].notna().any()))  # kept in the store
    table = compare_runs(before, read_runs(store))
    worse = regressions(table)
    benchmark.extra_info.update(
        suite=suite.name,
        n_seeds=n_seeds,
        verdicts=table["verdict"].value_counts().to_dict(),
        worse=[" / ".join(row) for row in worse[["target", "sampler", "metric"]].itertuples(index=False)],
    )
    assert worse.empty, f"{summary(table)}\n{texts(table.loc[worse.index]).to_string(index=False)}"
