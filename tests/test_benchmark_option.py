"""``pytest --benchmark`` beside the options of pytest-benchmark."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CASE = """
def test_measured(benchmark):
    benchmark.pedantic(sum, args=([1, 2],), rounds=2)
    benchmark.extra_info["quality"] = 0.5


def test_plain():
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    (tmp_path / "test_case.py").write_text(CASE)
    return tmp_path


def outcome(project: Path, *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=True, env=outside).stdout


def test_plain_pytest_runs_tests_and_skips_measured_cases(project: Path) -> None:
    assert "1 passed, 1 skipped" in outcome(project)


def test_with_the_option_both_run_and_the_json_carries_extra_info(project: Path) -> None:
    assert "2 passed" in outcome(project, "--benchmark", "--benchmark-json", "out.json")
    (case,) = json.loads((project / "out.json").read_text())["benchmarks"]
    assert case["extra_info"] == {"quality": 0.5}


def test_the_plug_ins_own_options_still_work(project: Path) -> None:
    assert "1 passed, 1 skipped" in outcome(project, "--benchmark-only")
    assert "2 passed" in outcome(project, "--benchmark", "--benchmark-disable")
    assert "1 passed, 1 skipped" in outcome(project, "--benchmark-skip")
