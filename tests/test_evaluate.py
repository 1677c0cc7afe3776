import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from samplerbench import targets
from samplerbench.benchmarks import evaluate_store
from samplerbench.benchmarks.evaluate import COLUMNS
from samplerbench.benchmarks.plan import Suite, make_plan, parse_suite
from samplerbench.benchmarks.run import execute
from samplerbench.benchmarks.store import Plan, Store, StoreError
from samplerbench.benchmarks.truth import build_truth
from samplerbench.metrics.normaliser import effective_share
from samplerbench.metrics.sliced import sliced_wasserstein
from samplerbench.targets import derive_generator

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


def test_a_kept_value_that_lacks_an_output_of_today_is_computed_again(run_here: Run, tmp_path: Path) -> None:
    table = {"n_samples": 200, "metrics": ["modes_found"], "targets": ["ring8"], "samplers": [{"name": "ula"}]}
    run_here(parse_suite(table, "modes"), tmp_path)
    first = evaluate_store(tmp_path)
    (cache,) = (tmp_path / "evaluations").iterdir()
    kept = json.loads(cache.read_text())
    (result,) = kept["values"].values()
    del result["values"]["rarest_found"]
    cache.write_text(json.dumps(kept))
    assert evaluate_store(tmp_path).equals(first)
    assert "rarest_found" in cache.read_text()


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


IMPORTANCE = Path(__file__).parent / "plugins" / "importance.py"


def test_metrics_of_weights_take_draws_as_they_are_and_others_resampled_ones(tmp_path: Path) -> None:
    target, n, n_metric = targets.get("gaussian2"), 11_000, 10_000
    names = ("elbo", "ess_reverse", "eubo", "ess_forward", "sliced_w2")
    metrics = [{"name": name, "n_samples": n_metric} for name in names]
    table = {"n_samples": n, "metrics": metrics, "targets": ["gaussian2"], "samplers": ["importance"]}
    suite, store = parse_suite(table, "weighted"), Store(tmp_path)
    (run,) = make_plan(suite, plugins=[IMPORTANCE])
    with store.locked():
        store.write_plan(Plan(suite.name, suite.description, list(suite.metrics), [run]), set())
        store.save(*execute(run))
    record = store.record(run.run_id)
    assert record is not None
    draws = store.draws(record)
    assert draws.log_weights is not None
    assert draws.log_density is not None

    value = evaluate_store(tmp_path).set_index("metric")["value"]
    first = torch.randperm(n, generator=derive_generator("subsample", n))[:n_metric]
    x, log_weights = draws.samples[first].double(), draws.log_weights[first]
    log_ratio = target.log_prob(x) - draws.log_density[first]
    assert value["elbo"] == pytest.approx(log_ratio.mean().item(), rel=1e-12)
    assert value["ess_reverse"] == pytest.approx(effective_share(log_weights), rel=1e-12)
    assert 0.1 < value["ess_reverse"] < 0.9
    exact = target.sample(n, derive_generator(run.seed, "forward"))  # as many as the run has draws
    sd = 2 * target.scale
    log_density = -0.5 * (exact / sd).square().sum(-1) - 2 * math.log(sd) - math.log(2 * math.pi)
    forward = target.log_prob(exact) - log_density
    assert value["eubo"] == pytest.approx(forward.mean().item(), rel=1e-5)  # the run's density is float32
    assert value["elbo"] < 0 < value["eubo"]  # log Z is 0
    assert value["ess_forward"] == pytest.approx(value["ess_reverse"], rel=0.05)
    truth = build_truth(target, n_metric, run.seed).samples
    assert truth is not None
    assert value["sliced_w2"] < 0.2 * sliced_wasserstein(x, truth)


def test_too_few_draws_are_a_reason(make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> None:
    table = {"metrics": ["rare_recall"], "targets": ["ring8"], "samplers": ["misbehaving"], "n_samples": 100}
    run_here(parse_suite(table, "few"), tmp_path)
    (row,) = evaluate_store(tmp_path).to_dict("records")
    assert np.isnan(row["value"])
    assert row["reason"] == "needs at least 160 draws, got 100"
