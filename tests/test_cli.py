"""The command line as a user calls it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
description = "tests"
n_samples = 100
metrics = ["sliced_w2", "energy_w1"]
targets = ["plain_normal"]
samplers = [{ name = "misbehaving", label = "well", parameters = { how = "not" } }]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    return path


def samplerbench(*arguments: object, at: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "samplerbench.benchmarks.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=at)


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from samplerbench.benchmarks import cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'torch', 'ot', 'pandas', 'matplotlib', 'arviz', 'sklearn', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip().endswith("[]")


def test_list_names_everything_and_loads_nothing_heavy_but_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from samplerbench.benchmarks import cli\n"
        "try: cli.app(['list'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(sorted({'ot', 'matplotlib', 'arviz', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip().endswith("[]")
    for name in ("donut@1", "mala@1", "sliced_w2@1", "quick"):
        assert name in done.stdout


def test_run_leaderboard_and_figures_from_a_plug_in(suite: Path, plugin: Path, tmp_path: Path) -> None:
    dry = samplerbench("run", suite, "--plugin", plugin, "--dry-run", at=tmp_path)
    assert "plain_normal / well / seed 0" in dry.stdout
    assert not (tmp_path / "store").exists()
    run = samplerbench("run", suite, "--plugin", plugin, "--workers", 1, "--no-floors", at=tmp_path)
    assert run.returncode == 0, run.stderr
    assert re.search(r"well +ok", run.stdout)
    assert "[1/1] plain_normal / well / seed 0" in run.stderr
    store = tmp_path / "store" / "mine"
    for name in ("leaderboard.csv", "leaderboard.md", "metrics.csv", "provenance.json"):
        assert (store / name).stat().st_size > 0
    latex = ("--latex", tmp_path / "paper.tex", "--targets", "plain_normal", "--metrics", "energy_w1,sliced_w2")
    written = samplerbench("leaderboard", store, "--to", tmp_path / "elsewhere", "--no-floors", *latex, at=tmp_path)
    assert written.returncode == 0, written.stderr
    assert r"energy\_w1 & sliced\_w2 \\" in (tmp_path / "paper.tex").read_text()
    assert (tmp_path / "elsewhere" / "leaderboard.csv").read_bytes() == (store / "leaderboard.csv").read_bytes()
    figures = samplerbench("figures", store, at=tmp_path)
    assert figures.returncode == 0, figures.stderr
    assert (store / "figures" / "draws_plain_normal.png").stat().st_size > 1_000
    of_tables = samplerbench("figures", tmp_path / "elsewhere", at=tmp_path)
    assert of_tables.returncode == 0, of_tables.stderr
    assert [path.name for path in sorted((tmp_path / "elsewhere" / "figures").iterdir())] == [
        "quality_cost.png",
        "quality_cost.svg",
    ]


def test_failed_runs_give_exit_code_1_and_diverged_ones_do_not(suite: Path, plugin: Path, tmp_path: Path) -> None:
    suite.write_text(SUITE.replace("not", "diverge"))
    assert samplerbench("run", suite, "--plugin", plugin, "--no-floors", at=tmp_path).returncode == 0
    suite.write_text(SUITE.replace("not", "raise").replace('"well"', '"bad"'))
    run = samplerbench("run", suite, "--plugin", plugin, "--no-floors", at=tmp_path)
    assert run.returncode == 1
    assert "failed: plain_normal / bad / seed 0: RuntimeError: the method broke" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quik"], "unknown suite 'quik'; did you mean 'quick'"),
        (["run", "quick", "--only-targets", "donat", "--dry-run"], "did you mean 'donut'"),
        (["run", "absent.toml"], "suite file absent.toml does not exist"),
        (["run", "quick", "--plugin", "absent.py"], "absent.py"),
        (["leaderboard", "nowhere"], "nowhere is not a store"),
        (["leaderboard", "nowhere", "--targets", "ring8"], "--targets: what --latex FILE shows"),
        (["run", "quick", "--device", "cuda", "--dry-run"], "finds no CUDA device"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    done = samplerbench(*arguments, at=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
