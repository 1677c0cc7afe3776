"""The paper's report from stores, and again from its tables alone; the commands that write it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from samplerbench.benchmarks.croissant import undescribed
from samplerbench.benchmarks.engine import run_suite
from samplerbench.benchmarks.paper.experiments import EXPERIMENTS, chosen_suites
from samplerbench.benchmarks.paper.report import redraw, write_paper
from samplerbench.benchmarks.plan import load_suite, make_plan, parse_suite

TABLE = {
    "n_samples": 40,
    "seeds": 2,
    "targets": ["breast_cancer_train"],
    "metrics": ["accuracy", "nll", "ece", "moment_bias2"],
    "samplers": ["laplace", {"name": "mala", "parameters": {"n_steps": 3}}],
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of one experiment, with very short runs."""
    path = tmp_path_factory.mktemp("stores")
    run_suite(parse_suite(TABLE, "paper-blr"), path / "paper-blr", workers=1)
    return path


def test_the_report_is_the_same_again_and_its_figures_need_no_store(stores: Path, tmp_path: Path) -> None:
    written = write_paper(stores, tmp_path / "one", compute_floors=False)
    assert {path.name for path in written} == {
        "claims.csv",
        "claims_evidence.csv",
        "claims.md",
        "predictive_breast_cancer_train.png",
        "predictive_breast_cancer_train.svg",
    }
    assert (tmp_path / "one" / "paper-blr" / "leaderboard.html").is_file()
    assert undescribed(tmp_path / "one") == []
    write_paper(stores, tmp_path / "two", compute_floors=False)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    drawn = {path: path.read_bytes() for path in written}
    shutil.rmtree(tmp_path / "one" / "paper-blr" / "figures")
    assert {path: path.read_bytes() for path in redraw(tmp_path / "one")} == drawn


def test_a_folder_without_experiments_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path} must hold a store of one of paper-2d"):
        write_paper(tmp_path, tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path} must hold tables of the paper's experiments"):
        redraw(tmp_path)


def test_every_experiment_has_a_suite_with_a_small_scale() -> None:
    assert chosen_suites() == [experiment.suite for experiment in EXPERIMENTS]
    for suite in chosen_suites():
        small, full = (make_plan(load_suite(suite, scale=scale)) for scale in ("small", "full"))
        assert {run.seed for run in small} == {0, 1}
        assert {run.run_id for run in small} < {run.run_id for run in full}


def test_suites_are_chosen_by_name() -> None:
    assert chosen_suites(["paper-ebm", "paper-2d"]) == ["paper-2d", "paper-ebm"]
    with pytest.raises(KeyError, match="unknown suite of the paper 'quick'"):
        chosen_suites(["quick"])


def test_a_dry_run_states_the_cost_and_runs_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "samplerbench.benchmarks.cli", "paper", "--dry-run", "--store", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    for experiment in EXPERIMENTS:
        assert f"suite {experiment.suite}: " in answer.stdout
    assert f"{len(EXPERIMENTS)} suites, " in answer.stdout
    assert list(tmp_path.iterdir()) == []
