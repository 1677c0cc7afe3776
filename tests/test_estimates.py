"""How long runs will take: from runs of the same row, on the same target where there are any."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from samplerbench.benchmarks import estimates
from samplerbench.benchmarks.cli import app
from samplerbench.benchmarks.estimates import COLUMNS, Estimates, duration, key_of, main, seconds_of, shipped
from samplerbench.benchmarks.evaluate import evaluate_store
from samplerbench.benchmarks.plan import Suite, make_plan, parse_suite
from samplerbench.benchmarks.store import Record, Store

SUITE = """
n_samples = 50
seeds = 2
metrics = ["sliced_w2"]
targets = ["gaussian2", "mog2"]
samplers = [
    { name = "mala", label = "MALA", parameters = { n_steps = 2 } },
    { name = "ula", parameters = { n_steps = 3 } },
]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "two.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture(autouse=True)
def shipped_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of its own in the place of the shipped one."""
    monkeypatch.setattr(estimates, "_folder", lambda: tmp_path / "data")
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / estimates.FILE


def table(**seconds: float) -> pd.DataFrame:
    rows = [[key, "MALA", target, 50, "", s] for (key, target), s in ((k.split("__"), s) for k, s in seconds.items())]
    return pd.DataFrame(rows, columns=COLUMNS)


def plan(**fields: object) -> list:  # type: ignore[type-arg]
    row = {"name": "mala", "label": "MALA", "parameters": {"n_steps": 2}}
    content = {"n_samples": 50, "metrics": ["sliced_w2"], "targets": ["gaussian2"], "samplers": [row], **fields}
    return make_plan(parse_suite(content, "two"))


def test_the_same_target_counts_before_others_and_the_median_of_seeds() -> None:
    (run,) = plan()
    key = key_of(run)
    rows = table(**{f"{key}__gaussian2": 3.0, f"{key}__mog2": 100.0})
    assert Estimates(pd.concat([rows, rows.assign(seconds=[5.0, 0.0]), rows.assign(seconds=[50.0, 0.0])])).seconds(
        run
    ) == pytest.approx(5)
    assert Estimates(rows[rows["target"] == "mog2"]).seconds(run) == 100
    assert Estimates(table(other__gaussian2=3.0)).seconds(run) is None


def test_what_changes_the_work_changes_the_key() -> None:
    (run,) = plan()
    for fields in ({"n_samples": 51}, {"budget": {"total": 10.0}}, {"dtype": "float64"}):
        assert key_of(plan(**fields)[0]) != key_of(run)
    assert key_of(plan(targets=["mog2"])[0]) == key_of(run)
    assert len({key_of(each) for each in plan(seeds=3)}) == 1


def test_runs_that_did_not_end_by_themselves_say_nothing() -> None:
    (run,) = plan()
    records = [Record(spec=run, status=status, seconds={"fit": 1.0, "draw": 2.0}) for status in ("ok", "timeout")]
    assert seconds_of(records)["seconds"].tolist() == [3.0]
    assert seconds_of(records[1:]).empty


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (42, "42 s"), (420, "7 min"), (12_600, "3.5 h"), (99.9, "100 s"), (9.97, "10 s")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_dry_run_says_how_long_it_will_take_and_runs_nothing(
    suite: Path, tmp_path: Path, shipped_table: Path
) -> None:
    key = key_of(plan()[0])
    table(**{f"{key}__gaussian2": 60.0}).to_csv(shipped_table, index=False)
    store = str(tmp_path / "s")
    result = CliRunner().invoke(app, ["run", str(suite), "--store", store, "--dry-run", "--workers", "2"])
    assert result.exit_code == 0, result.output
    assert "8 runs, estimated to take 2 min on 2 workers, and 4 runs of which nothing is known" in result.output
    assert "    60 s  gaussian2 / MALA / seed 0" in result.output
    assert " unknown  mog2 / ula / seed 1" in result.output
    assert not (tmp_path / "s").exists()


def test_runs_that_take_too_long_stay_missing_with_their_estimate_and_are_no_failure(
    suite: Path, tmp_path: Path, shipped_table: Path
) -> None:
    key = key_of(plan()[0])
    table(**{f"{key}__gaussian2": 7_200.0}).to_csv(shipped_table, index=False)
    options = ["--store", str(tmp_path / "s"), "--longest", "100", "--workers", "1", "--seeds", "1", "--no-floors"]
    result = CliRunner().invoke(app, ["run", str(suite), *options])
    assert result.exit_code == 0, result.output
    assert "2 runs are left out: each is estimated to take longer than 100 s" in result.output
    rows = evaluate_store(tmp_path / "s").set_index("sampler")
    assert set(rows.loc["MALA", "status"]) == {"missing"}
    assert set(rows.loc["MALA", "reason"]) == {"not run yet; estimated to take 2.0 h"}
    assert set(rows.loc["ula", "status"]) == {"ok"}


def test_the_shipped_table_takes_in_the_runs_of_stores(
    make_suite: Callable[..., Suite],
    run_here: Callable[[Suite, Path], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here(make_suite("not", "raise", seeds=3), tmp_path / "store")
    main([str(tmp_path / "store"), str(tmp_path / "absent")])
    assert "1 rows, 1 of them new" in capsys.readouterr().out
    first = shipped()
    assert first["sampler"].tolist() == ["not"]
    main([str(tmp_path / "store")])
    pd.testing.assert_frame_equal(shipped(), first)
    (run, *_) = [run for run in Store(tmp_path / "store").plan().runs if run.sampler_label == "not"]
    assert Estimates.known().seconds(run) == first["seconds"][0]


def test_runs_go_into_the_table_under_the_labels_of_the_plan(
    make_suite: Callable[..., Suite], run_here: Callable[[Suite, Path], None], tmp_path: Path
) -> None:
    run_here(make_suite("not"), tmp_path / "store")
    plan_file = tmp_path / "store" / "plan.json"
    plan_file.write_text(plan_file.read_text().replace('"sampler_label": "not"', '"sampler_label": "renamed"'))
    main([str(tmp_path / "store")])
    assert shipped()["sampler"].tolist() == ["renamed"]
