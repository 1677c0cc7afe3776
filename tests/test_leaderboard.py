import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from samplerbench.benchmarks import build_leaderboard, evaluate_store
from samplerbench.benchmarks.leaderboard import collect, provenance, throughput
from samplerbench.benchmarks.plan import Suite, make_plan, parse_suite
from samplerbench.benchmarks.report import write_leaderboard
from samplerbench.benchmarks.store import Store

Run = Callable[[Suite, Path], None]


@pytest.fixture
def store(make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> Path:
    run_here(make_suite("not", "raise", "diverge", seeds=3), tmp_path / "store")
    return tmp_path / "store"


def test_one_row_per_target_and_sampler_in_the_stated_columns(store: Path) -> None:
    board = build_leaderboard(store)
    assert list(board.columns[:5]) == ["target", "sampler", "status", "n_ok", "n_seeds"]
    assert list(board.columns[5:12]) == [
        f"sliced_w2_{part}" for part in ("mean", "low", "high", "floor", "ratio", "z", "at_floor")
    ]
    assert list(board["sampler"]) == ["not", "raise", "diverge"]
    assert list(board["status"]) == ["ok", "failed", "diverged"]
    assert list(board["n_ok"]) == [3, 0, 0]
    assert set(board["n_seeds"]) == {3}
    assert "the method broke" in board.loc[1, "reason"]


def test_mean_and_interval_are_those_of_the_seeds(store: Path) -> None:
    values = evaluate_store(store).query("metric == 'energy_w1' and sampler == 'not'")["value"].to_numpy()
    row = build_leaderboard(store).iloc[0]
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / math.sqrt(3)
    assert row["energy_w1_mean"] == pytest.approx(values.mean())
    assert row["energy_w1_high"] - row["energy_w1_mean"] == pytest.approx(half)
    assert row["energy_w1_mean"] - row["energy_w1_low"] == pytest.approx(half)


def test_one_seed_has_no_interval(make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> None:
    run_here(make_suite(), tmp_path)
    row = build_leaderboard(tmp_path).iloc[0]
    assert row["energy_w1_mean"] > 0
    assert np.isnan(row["energy_w1_low"])


def test_costs_come_from_the_records(store: Path) -> None:
    row = build_leaderboard(store).iloc[0]
    records = [Store(store).record(run.run_id) for run in Store(store).plan().runs if run.sampler_label == "not"]
    seconds = [record.seconds["draw"] for record in records if record]
    assert row["microseconds_per_draw"] == pytest.approx(1e6 * np.mean(seconds) / 200)
    assert row["draw_gradient_equivalents"] == 0


def test_files_are_the_same_every_time_and_carry_provenance(store: Path, tmp_path: Path) -> None:
    names = ("leaderboard.csv", "overall.csv", "leaderboard.md", "metrics.csv", "costs.csv", "provenance.json")
    for folder in ("a", "b"):
        write_leaderboard(store, tmp_path / folder)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    board = pd.read_csv(tmp_path / "a" / "leaderboard.csv")
    assert len(board) == 3
    origin = json.loads((tmp_path / "a" / "provenance.json").read_text())
    assert origin["runs"] == 9
    assert origin["statuses"] == {"ok": 3, "diverged": 3, "failed": 3}
    assert origin["environments"][0]["torch"]


def test_provenance_tells_the_configurations_of_a_row_that_differs_between_targets(
    run_here: Run, tmp_path: Path
) -> None:
    on = [
        {"label": "ULA", "parameters": {"n_steps": n}, "targets": [target]} for n, target in ((2, "mog2"), (3, "donut"))
    ]
    samplers = [{"name": "ula", **entry} for entry in on]
    samplers.append({"name": "mala", "label": "MALA", "parameters": {"n_steps": 4}})
    table = {"n_samples": 10, "metrics": ["energy_w1"], "targets": ["mog2", "donut"], "samplers": samplers}
    run_here(parse_suite(table, "rows"), tmp_path)
    results = collect(tmp_path)
    assert sorted(zip(results.board["target"], results.board["sampler"], strict=True)) == [
        ("donut", "MALA"), ("donut", "ULA"), ("mog2", "MALA"), ("mog2", "ULA"),
    ]  # fmt: skip
    known = provenance(results.plan, results.records)["samplers"]
    steps = {name: entry["configuration"]["n_steps"] for name, entry in known.items()}
    assert steps == {"ULA on mog2": 2, "ULA on donut": 3, "MALA": 4}


def test_markdown_shows_statuses_and_reasons(store: Path, tmp_path: Path) -> None:
    write_leaderboard(store, tmp_path)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "| not | ok (3/3) |" in text
    assert "| raise | failed (0/3) |" in text
    assert "* raise: RuntimeError: the method broke" in text


def test_a_row_with_a_lost_seed_is_not_judged_by_its_survivors(store: Path) -> None:
    values = evaluate_store(store)
    lost = (values["sampler"] == "not") & (values["seed"] > 0)
    chosen = values["metric"] == "sliced_w2"
    values.loc[chosen, ["floor", "ratio", "z"]] = 1.0
    values["at_floor"] = np.where(chosen, True, None)
    whole = build_leaderboard(store, metrics=values).iloc[0]
    assert (whole["primary_ratio"], whole["sliced_w2_at_floor"]) == (1.0, 1.0)
    values.loc[lost, ["value", "floor", "ratio", "z"]] = np.nan
    values.loc[lost, "at_floor"] = None
    values.loc[lost, "reason"] = "diverged"
    survivor = build_leaderboard(store, metrics=values).iloc[0]
    assert np.isnan(survivor["primary_ratio"])
    assert survivor["sliced_w2_at_floor"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("absent", ["not_installed", "not_applicable"])
def test_a_row_shows_the_failure_and_not_the_seed_that_took_no_part(
    absent: str, make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path
) -> None:
    run_here(make_suite("not", seeds=3), tmp_path)
    for run, status in zip(Store(tmp_path).plan().runs, (absent, "failed"), strict=False):
        file = tmp_path / "runs" / run.run_id / "record.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "status": status, "reason": f"{status}: so"}))
    row = build_leaderboard(tmp_path).iloc[0]
    assert (row["status"], row["n_ok"], row["reason"]) == ("failed", 1, "failed: so")
    assert row["loss"] == "2 of 3 runs: failed"


def test_draws_of_chains_count_by_their_effective_size(run_here: Run, tmp_path: Path) -> None:
    table = {
        "n_samples": 128,
        "metrics": ["ess_bulk"],
        "targets": ["plain_normal"],
        "samplers": [
            {"name": "mala", "label": mode, "parameters": {"mode": mode, "n_steps": 20, "burn_in": 100, "thinning": 5}}
            for mode in ("restart", "long")
        ],
    }
    run_here(parse_suite(table, "chains"), tmp_path)
    board = build_leaderboard(tmp_path).set_index("sampler")
    per_draw = board["gradient_equivalents_per_effective_draw"]
    assert per_draw["restart"] == 21
    assert per_draw["long"] == pytest.approx(64 * 11 / board.loc["long", "ess_bulk_mean"])
    values = evaluate_store(tmp_path)
    unknown = values.assign(value=np.nan)
    assert np.isnan(build_leaderboard(tmp_path, metrics=unknown).set_index("sampler").loc["long", per_draw.name])


def test_throughput_has_a_row_per_run_and_batch(run_here: Run, tmp_path: Path) -> None:
    table = {
        "n_samples": 20,
        "throughput": True,
        "metrics": ["sliced_w2"],
        "targets": ["gaussian2"],
        "samplers": [{"name": "mala", "parameters": {"n_steps": 2, "n_chains": 2}}],
    }
    suite = parse_suite(table, "batches")
    run_here(suite, tmp_path)
    curves = throughput(collect(tmp_path).stored)
    assert list(curves["batch"][:3]) == [1, 4, 16]
    assert (curves["microseconds_per_draw"] > 0).all()
    assert (curves["device"] != "").all()
    board = write_leaderboard(tmp_path, tmp_path / "files").board
    assert board["best_microseconds_per_draw"][0] == curves["microseconds_per_draw"].min()
    assert (tmp_path / "files" / "throughput.csv").is_file()
    (run,) = make_plan(suite)
    (plain,) = make_plan(dataclasses.replace(suite, throughput=False))
    assert run.run_id == plain.run_id  # how it is timed does not decide its outcome
    (record,) = [Store(tmp_path).record(run.run_id)]
    assert record is not None
    assert record.counts["draw"]["score"] == 20 * 3  # the timed draws are not counted
