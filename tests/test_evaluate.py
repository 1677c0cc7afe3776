import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samplerbench.benchmarks import evaluate_store
from samplerbench.benchmarks.evaluate import COLUMNS
from samplerbench.benchmarks.plan import Suite, parse_suite
from samplerbench.benchmarks.store import StoreError

Run = Callable[[Suite, Path], None]


def test_one_row_per_run_and_value(make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> None:
    run_here(make_suite("not", seeds=2), tmp_path)
    frame = evaluate_store(tmp_path)
    assert list(frame.columns) == COLUMNS
    assert list(frame["metric"]) == ["sliced_w2", "mode_tv", "energy_w1", "energy_tv"] * 2
    by_metric = frame.set_index(["metric", "seed"])
    assert by_metric.loc[("sliced_w2", 0), "value"] > 0
    assert by_metric.loc[("sliced_w2", 0), "value"] != by_metric.loc[("sliced_w2", 1), "value"]
    assert np.isnan(by_metric.loc[("mode_tv", 0), "value"])
    assert by_metric.loc[("mode_tv", 0), "reason"] == "needs modes"


def test_a_run_without_draws_is_nan_with_its_reason(
    make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path
) -> None:
    run_here(make_suite("raise", "diverge"), tmp_path)
    frame = evaluate_store(tmp_path)
    assert frame["value"].isna().all()
    assert set(frame["reason"]) == {
        "failed: RuntimeError: the method broke",
        "diverged: 1 of 200 draws are not finite",
    }


def test_values_are_kept_and_a_broken_cache_is_computed_again(
    make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path
) -> None:
    run_here(make_suite(), tmp_path)
    first = evaluate_store(tmp_path)
    (cache,) = (tmp_path / "evaluations").iterdir()
    text = cache.read_text()
    assert evaluate_store(tmp_path).equals(first)
    cache.write_text("{")
    assert evaluate_store(tmp_path).equals(first)
    assert cache.read_text() == text


def test_corrupt_draws_and_records_are_named_and_leave_other_runs_whole(
    make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path
) -> None:
    run_here(make_suite(seeds=3), tmp_path)
    folders = sorted((tmp_path / "runs").iterdir())
    (folders[0] / "draws.npz").write_bytes(b"not a zip file")
    (folders[1] / "record.json").write_text("{")
    frame = evaluate_store(tmp_path)
    reasons = frame[frame["metric"] == "sliced_w2"].set_index("run_id")["reason"]
    assert "draws.npz are corrupt" in reasons[folders[0].name]
    assert "record.json is corrupt" in reasons[folders[1].name]
    assert reasons[folders[2].name] == ""
    shutil.rmtree(folders[0])
    assert "not run yet" in set(evaluate_store(tmp_path)["reason"])


def test_floors_belong_to_the_registered_parameters(run_here: Run, tmp_path: Path) -> None:
    table = {
        "n_samples": 2_000,
        "metrics": ["mode_tv"],
        "targets": ["ring8", {"name": "ring8", "label": "wide", "parameters": {"sd": 0.6}}],
        "samplers": [{"name": "misbehaving"}],
    }
    run_here(parse_suite(table, "floors"), tmp_path)
    floors = evaluate_store(tmp_path).set_index("target")["floor"]
    assert floors["ring8"] > 0
    assert np.isnan(floors["wide"])


def test_a_directory_that_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a store"):
        evaluate_store(tmp_path)


def test_values_of_other_draws_are_not_kept(make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> None:
    run_here(make_suite(), tmp_path)
    first = evaluate_store(tmp_path)
    (cache,) = (tmp_path / "evaluations").iterdir()
    table = json.loads(cache.read_text())
    for result in table["values"].values():
        result["values"] = dict.fromkeys(result["values"], 7.0)
    cache.write_text(json.dumps(table))
    assert set(evaluate_store(tmp_path)["value"].dropna()) == {7.0}  # kept
    cache.write_text(json.dumps({**table, "draws_sha256": "of other draws"}))
    assert evaluate_store(tmp_path).equals(first)
