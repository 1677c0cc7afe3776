"""The certificates of all targets, in their fast form, and the files made of the full ones."""

import json
import math
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from samplerbench.benchmarks import certify
from samplerbench.benchmarks.catalogue import VERDICTS, shipped_targets
from samplerbench.benchmarks.certificates import NO_DATA
from samplerbench.benchmarks.certify import (
    certify_target,
    certify_targets,
    summary,
    to_json,
)
from samplerbench.benchmarks.cli import app
from samplerbench.benchmarks.spot_values import record_spot_values, recorded_values, spot_points
from samplerbench.benchmarks.subject import FAST
from samplerbench.targets.base import TARGETS
from samplerbench.targets.datasets import DataFileError

NAMES = shipped_targets()
CERTIFICATES = Path(__file__).parents[1] / "results" / "certificates.csv"
KEYS = ["target", "check", "value", "expected", "std_error", "verdict", "reason"]


@pytest.fixture(scope="module")
def shipped() -> dict[str, dict[str, str]]:
    text = (resources.files("samplerbench.benchmarks.data") / VERDICTS).read_text()
    table: dict[str, dict[str, str]] = json.loads(text)
    return table


@pytest.mark.parametrize("name", NAMES)
def test_fast_certificate_agrees_with_the_shipped_verdict(
    name: str, shipped: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if TARGETS.get(name).dim > 100:  # minutes otherwise; wider errors, the same rules
        monkeypatch.setattr(certify, "FAST", replace(FAST, n_draws=20_000, n_laplacian=2_000, n_drift=500, n_paths=100))
    rows, _ = certify_target(name, fast=True)
    missing = [row.reason for row in rows if row.reason == NO_DATA]
    if missing:
        pytest.skip(missing[0])
    failed = [(row.check, row.value, row.expected, row.std_error, row.reason) for row in rows if row.verdict == "fail"]
    assert not failed
    verdict = {"pass": "certified", "uncertified": "uncertified"}[rows[-1].verdict]
    assert verdict == shipped[TARGETS.versioned(name)]["verdict"]


def test_shipped_table_holds_every_target_and_no_failure(shipped: dict[str, dict[str, str]]) -> None:
    table = pd.read_csv(CERTIFICATES)
    assert list(table.columns) == KEYS
    assert set(table["target"]) == set(shipped) == {TARGETS.versioned(name) for name in NAMES}
    assert set(table["verdict"]) <= {"pass", "uncertified", "not_applicable"}
    certified = [name for name, entry in shipped.items() if entry["verdict"] == "certified"]
    assert len(certified) >= 45
    assert all(entry["reason"] for entry in shipped.values() if entry["verdict"] != "certified")
    lines = summary(table.fillna({"reason": ""})).set_index("target")
    assert {name: lines.loc[name, "certificate"] for name in shipped} == {
        name: entry["verdict"] for name, entry in shipped.items()
    }


def test_command_prints_a_table_and_json() -> None:
    result = CliRunner().invoke(app, ["certify", "gaussian2", "--fast", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "gaussian2@1" in result.stdout
    assert "stein" in result.stdout
    result = CliRunner().invoke(app, ["certify", "gaussian2", "--fast", "--json", "--workers", "1"])
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    assert [list(row) for row in rows] == [KEYS] * len(rows)
    assert rows[-1] == {
        "target": "gaussian2@1", "check": "certificate", "value": 0.0, "expected": 0.0, "std_error": 0.0,
        "verdict": "pass", "reason": "",
    }  # fmt: skip


def test_a_plug_in_whose_truth_is_wrong_fails_by_name(tmp_path: Path) -> None:
    plugin = tmp_path / "wrong.py"
    plugin.write_text(
        "import torch\n"
        "from samplerbench.targets import Estimate, from_log_prob\n"
        "from_log_prob(lambda x: -0.5 * x.square().sum(-1), dim=2, scale=1.0, name='wrong_normaliser',\n"
        "    log_z=Estimate(0.0, 0.0), sample=lambda n, g: torch.randn(n, 2, generator=g, dtype=torch.float64))\n"
    )
    arguments = ["certify", "wrong_normaliser", "--fast", "--json", "--workers", "1", "--plugin", str(plugin)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1, result.output
    rows = json.loads(result.stdout)
    assert [row["check"] for row in rows if row["verdict"] == "fail"] == ["log_z", "certificate"]
    assert rows[-1]["reason"] == "log_z: quadrature"


@pytest.mark.parametrize(
    ("error", "verdict", "reason"),
    [
        (RuntimeError("no such thing"), "fail", "RuntimeError: no such thing"),
        (FileNotFoundError("draws.npz is not here"), "uncertified", "draws.npz is not here"),
        (DataFileError("rows.csv is not in /here"), "uncertified", NO_DATA),
    ],
)
def test_an_error_is_a_verdict(monkeypatch: pytest.MonkeyPatch, error: Exception, verdict: str, reason: str) -> None:
    def broken(self: object, x: object) -> object:
        raise error

    monkeypatch.setattr(type(TARGETS.get("gaussian2")), "log_prob", broken)
    rows, _ = certify_target("gaussian2", fast=True)
    assert {row.check for row in rows} >= {"spot_values", "score", "stein", "log_z"}  # one does not hide the others
    for row in rows:
        if row.check in ("spot_values", "score", "stein", "log_z"):
            assert (row.verdict, row.reason) == (verdict, reason)
    assert rows[-1].verdict == verdict


def test_a_process_that_dies_costs_one_certificate(tmp_path: Path) -> None:
    plugin = tmp_path / "deadly.py"
    plugin.write_text(
        "import multiprocessing, os\n"
        "from samplerbench.targets import from_log_prob\n"
        "armed = False\n"
        "def log_prob(x):\n"
        "    return os._exit(9) if armed else -0.5 * x.square().sum(-1)\n"
        "from_log_prob(log_prob, dim=90, scale=1.0, name='deadly')\n"  # the largest, so the first
        "armed = multiprocessing.parent_process() is not None\n"
    )
    table = certify_targets(["gaussian2", "deadly", "ring8"], fast=True, workers=2, plugins=[plugin])
    certificates = table[table["check"] == "certificate"].set_index("target")["verdict"].to_dict()
    assert certificates == {"gaussian2@1": "pass", "deadly@1": "fail", "ring8@1": "pass"}
    assert "process died" in table.set_index("target").loc["deadly@1", "reason"]


def test_shipped_files_keep_the_rows_of_other_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts: dict[str, Any] = {}
    monkeypatch.setattr(certify, "write_json", lambda file, contents: verdicts.update(contents))
    monkeypatch.setattr(certify, "record_spot_values", lambda names: [])
    out = tmp_path / "certificates.csv"
    header, *lines = CERTIFICATES.read_text().splitlines()
    before = [header, *(line for line in lines if line.startswith(("ring8@1", "gaussian2@1")))]
    out.write_text("\n".join(before) + "\n")
    assert certify.main(["gaussian2", "--out", str(out)]) == 0
    after = out.read_text().splitlines()
    assert len(after) == len(before)
    assert [line for line in after if line.startswith("ring8")] == [line for line in before if line.startswith("ring8")]
    assert verdicts == {name: {"verdict": "certified", "reason": ""} for name in ("gaussian2@1", "ring8@1")}


def test_spot_values_are_recorded_once(tmp_path: Path) -> None:
    file = tmp_path / "spot.json"
    file.write_text('{"ring8@1": [0.0, 0.0, 0.0]}')
    assert record_spot_values(["ring8", "gaussian2"], file) == ["gaussian2@1"]
    recorded = recorded_values(file)
    assert recorded["ring8@1"] == [0.0, 0.0, 0.0]
    z = spot_points(2, 1.0)
    expected = -0.5 * z.square().sum(-1) - math.log(2 * math.pi * 0.5**2)  # standard deviation and scale 1/2
    assert recorded["gaussian2@1"] == pytest.approx(expected.tolist())
    assert record_spot_values(["ring8", "gaussian2"], file) == []


def test_spot_values_of_laws_without_their_data_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: object, x: object) -> object:
        raise DataFileError("rows.csv is not here")

    monkeypatch.setattr(type(TARGETS.get("gaussian2")), "log_prob", absent)
    (tmp_path / "spot.json").write_text("{}")
    assert record_spot_values(["gaussian2", "ring8"], tmp_path / "spot.json") == ["ring8@1"]


def test_values_that_do_not_exist_are_null_in_json() -> None:
    table = pd.DataFrame([{"target": "a@1", "value": float("nan"), "std_error": float("inf"), "verdict": "pass"}])
    assert json.loads(to_json(table)) == [{"target": "a@1", "value": None, "std_error": None, "verdict": "pass"}]
