"""``samplerbench compare`` on stores and files, its exit codes, and the gate of ``pytest --benchmark``."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from samplerbench.benchmarks.cli import main
from samplerbench.benchmarks.compare import compare_runs
from samplerbench.benchmarks.compare_files import read_runs, suite_of
from samplerbench.benchmarks.engine import run_suite
from samplerbench.benchmarks.plan import Suite, load_suite
from samplerbench.benchmarks.report import write_leaderboard

ROOT = Path(__file__).parent.parent
SUITE = """
n_samples = 200
seeds = 3
metrics = ["energy_w1", "mode_tv"]
targets = ["ring8"]
samplers = [{ name = "mala", label = "MALA", parameters = { mode = "restart", n_steps = STEPS } }]
"""
Compare = Callable[..., tuple[int, str, str]]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Compare:
    """The command in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["samplerbench", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


@pytest.fixture
def store(make_suite: Callable[..., Suite], run_here: Callable[[Suite, Path], None], tmp_path: Path) -> Path:
    run_here(make_suite("not", "diverge", seeds=3), tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def folder(store: Path, tmp_path: Path) -> Path:
    write_leaderboard(store, tmp_path / "folder")
    return tmp_path / "folder"


def edited(folder: Path, to: Path, edit: Callable[[pd.DataFrame], object]) -> Path:
    """A copy of a folder's metrics.csv, changed in place by ``edit``."""
    frame = pd.read_csv(folder / "metrics.csv")
    edit(frame)
    frame.to_csv(to, index=False)
    return to


def worsened(frame: pd.DataFrame) -> None:
    frame.loc[frame["metric"] == "energy_w1", "value"] *= 1e4


def test_a_store_its_folder_and_its_file_are_one_leaderboard(store: Path, folder: Path) -> None:
    for path in (folder, folder / "metrics.csv"):
        table = compare_runs(read_runs(store), read_runs(path))
        assert set(table["verdict"]) == {"same"}
        assert set(table["note"]) <= {"identical", "no value in either"}
    assert suite_of(store) == suite_of(folder) == "misbehaving"


def test_costs_are_those_of_runs_or_else_of_rows(store: Path, folder: Path) -> None:
    assert list(read_runs(folder).costs["seed"].dropna()) == list(read_runs(store).costs["seed"])
    (folder / "costs.csv").unlink()
    means = read_runs(folder).costs
    assert means["seed"].isna().all()
    table = compare_runs(read_runs(store), read_runs(folder)).set_index("metric")
    assert (table.loc["draw_score", "verdict"] == "same").all()
    assert table.loc["draw_seconds", "note"].isin(["fewer than two seeds", "not measured on one side"]).all()


def test_exit_codes(folder: Path, tmp_path: Path, compare: Compare) -> None:
    code, out, _ = compare(folder, folder, "--fail-on-regression")
    assert code == 0
    assert "0 better, 0 worse, 0 changed" in out
    bad = edited(folder, tmp_path / "bad.csv", worsened)
    code, out, _ = compare(folder, bad)
    assert code == 0
    assert re.search(r"worse .*plain_normal.*not.*energy_w1", out)
    code, _, err = compare(folder, bad, "--fail-on-regression")
    assert (code, err) == (1, "1 regressions\n")
    assert compare(bad, folder, "--fail-on-regression")[0] == 0
    assert compare(folder, bad, "--fail-on-regression", "--metrics", "energy_tv")[0] == 0
    assert compare(folder, bad, "--fail-on-regression", "--level", "1e-12")[0] == 0


def test_failed_where_it_was_ok_is_a_regression(folder: Path, tmp_path: Path, compare: Compare) -> None:
    def fail(frame: pd.DataFrame) -> None:
        frame.loc[(frame["sampler"] == "not") & (frame["seed"] == 1), ["status", "reason"]] = ["failed", "it broke"]

    code, out, _ = compare(folder, edited(folder, tmp_path / "bad.csv", fail), "--fail-on-regression")
    assert code == 1
    assert re.search(r"worse .*status +ok +failed", out)


def test_all_rows_as_csv_and_as_json(folder: Path, tmp_path: Path, compare: Compare) -> None:
    code, out, err = compare(folder, folder, "--json", "--to", tmp_path / "deep" / "all.csv")
    rows = json.loads(out)
    table = pd.read_csv(tmp_path / "deep" / "all.csv")
    assert code == 0
    assert len(rows) == len(table)
    assert list(table["verdict"]) == [row["verdict"] for row in rows]
    assert err.startswith(f"{len(rows)} cells: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("\0\1\2", "must have columns target"),
        ("target,sampler\na,b\n", "lacks status"),
        ("HEADER\nr,t,s,0,ok,w2,10,much,,,,,,\n", "column value must hold numbers"),
        ("HEADER\nr,t,s,0,ok,w2,10,1,,,,,,\nr,t,s\n", "cut short"),
        ("HEADER\nr,t,s,0,ok,w2,10,1,,,,,,\nr,t,s,0,ok,w2,10,1,,,,,,\n", "has two rows of w2"),
        ("HEADER\nr,t,s,0,fine,w2,10,1,,,,,,\n", "got fine"),
        ("HEADER\nr,t,other,0,ok,w2,10,1,,,,,,\n", "do not compare: no cell"),
        ("HEADER\n", "has no rows"),
    ],
)
def test_a_file_that_is_no_leaderboard_is_named_with_what_is_wrong(
    text: str, message: str, folder: Path, tmp_path: Path, compare: Compare
) -> None:
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    file = tmp_path / "corrupt.csv"
    file.write_text(text.replace("HEADER", header))
    code, _, err = compare(folder, file)
    assert code == 2
    assert message in err
    assert str(file) in err
    assert len(err.splitlines()) == 1


def test_a_path_that_is_nothing_is_named(tmp_path: Path, compare: Compare) -> None:
    code, _, err = compare(tmp_path, tmp_path)
    assert code == 2
    assert f"{tmp_path} is neither a store (no plan.json) nor the folder of a leaderboard (no metrics.csv)" in err
    assert compare(tmp_path / "no", tmp_path)[::2] == (2, f"samplerbench: {tmp_path / 'no'} does not exist\n")
    assert "--level must be between 0 and 1" in compare(tmp_path, tmp_path, "--level", "5")[2]


def gate(*options: object) -> "subprocess.CompletedProcess[str]":
    case = ROOT / "benchmarks" / "test_regression.py"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", case, "--benchmark", *options]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False, env=outside)


def test_the_gate_skips_without_a_path() -> None:
    assert "--against PATH, a store or a leaderboard's folder, says what to compare with" in gate().stdout


def test_the_gate_passes_on_the_same_code_fails_on_worse_and_asks_for_seeds(tmp_path: Path) -> None:
    better, worse = tmp_path / "better.toml", tmp_path / "worse.toml"
    better.write_text(SUITE.replace("STEPS", "300"))
    worse.write_text(SUITE.replace("STEPS", "1"))
    run_suite(load_suite(str(better)), tmp_path / "store", workers=1)
    passed = gate("--against", tmp_path / "store", "--against-suite", better)
    assert passed.returncode == 0, passed.stdout
    failed = gate("--against", tmp_path / "store", "--against-suite", worse)
    assert failed.returncode == 1
    assert re.search(r"worse +ring8 +MALA +energy_w1", failed.stdout)
    few = gate("--against", tmp_path / "store", "--against-suite", better, "--against-seeds", 1)
    assert "noise is known from 2 seeds on" in few.stdout
