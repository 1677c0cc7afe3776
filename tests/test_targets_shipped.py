"""Shipped reference draws against their certificates."""

import hashlib
import io
import json
import math
from importlib import resources
from typing import Any

import numpy as np
import pytest

from samplerbench.targets.base import TARGETS
from samplerbench.targets.draws import Estimate
from samplerbench.targets.shipped import reference_draws, shipped_log_z

DATA = resources.files("samplerbench.targets.data")
CLAIMED = [name for name in TARGETS.names() if hasattr(type(TARGETS.get(name)), "reference")]
NAMES = [name for name in CLAIMED if (DATA / f"{name}.npz").is_file()]
STATED = [name for name in NAMES if hasattr(type(TARGETS.get(name)), "log_z")]
EVIDENCES = [name for name in STATED if (DATA / f"{name}.evidence.json").is_file()]
MAX_BYTES = 40_000_000


def read(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return table


@pytest.mark.parametrize("name", NAMES)
def test_certificate_belongs_to_the_draws_and_the_law(name: str) -> None:
    certificate, dim = read(name), TARGETS.get(name).dim
    packed = (DATA / f"{name}.npz").read_bytes()
    assert hashlib.sha256(packed).hexdigest() == certificate["sha256"]
    assert certificate["target"] == f"{name}@{TARGETS.entry(name).version}"
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        assert arrays["samples"].dtype == np.float32
        n_draws, n_columns = arrays["samples"].shape
        assert n_columns == dim
        assert n_draws == 10_000 if dim <= 100 else 1_000_000 <= 4 * dim * (n_draws + 1) <= 1_500_000


@pytest.mark.parametrize("name", NAMES)
def test_every_checked_value_keeps_its_rule(name: str) -> None:
    certificate = read(name)
    assert certificate["verdict"] == "certified"
    values = {check["name"]: check["value"] for check in certificate["checks"]}
    first, second = (run["method"].split(",")[0] for run in certificate["runs"])
    for method in (first, second):
        assert values[f"{method}: largest rank-normalised split R-hat"] < 1.01
        assert values[f"{method}: smallest ESS / count"] >= 0.9
        assert values[f"{method}: Stein identity, in standard errors"] < 4
    assert values["moments of both runs, in standard errors"] < 5.2
    assert values["KS p-value of log_prob"] > 1e-4
    assert values["C2ST above 1/2, in standard errors"] < 4
    assert all(check["passed"] for check in certificate["checks"])
    assert {"torch", "numpy", "python"} <= certificate["environment"].keys()
    assert all(run["n_scores"] > 0 and run["seconds"] > 0 for run in certificate["runs"])


@pytest.mark.parametrize("name", NAMES)
def test_draws_are_in_random_order(name: str) -> None:
    """First statistic of the draws: what is alike in neighbouring rows would bias blocks of them."""
    x = reference_draws(name)
    values = x.square().sum(-1).numpy()
    for lag in (1, 2, 64):
        correlation = np.corrcoef(values[:-lag], values[lag:])[0, 1]
        assert abs(correlation) < 5 / math.sqrt(len(values))
    half = len(values) // 2
    halves = values[:half].mean() - values[half:].mean()
    assert abs(halves) < 5 * values.std() * math.sqrt(2 / half)


@pytest.mark.parametrize("name", EVIDENCES)
def test_evidence_is_that_of_two_estimators_that_agree(name: str) -> None:
    evidence = read(f"{name}.evidence")
    assert evidence["target"] == f"{name}@{TARGETS.entry(name).version}"
    assert evidence["verdict"] == "certified"
    up, down, log_z = evidence["up"], evidence["down"], evidence["log_z"]
    assert abs(up["value"] - down["value"]) < 4 * math.hypot(up["std_error"], down["std_error"])
    assert min(up["ess"], down["ess"]) >= min(100, evidence["n_paths_each"] / 2)
    assert 0 < log_z["std_error"] < 0.2
    assert shipped_log_z(name) == Estimate(log_z["value"], log_z["std_error"])


def test_what_is_not_shipped_yet_is_not_certified() -> None:
    verdicts = json.loads((resources.files("samplerbench.benchmarks.data") / "certified.json").read_text())
    for name in set(CLAIMED) - set(NAMES):
        entry = verdicts[f"{name}@{TARGETS.entry(name).version}"]
        assert entry["verdict"] == "uncertified"
        assert f"{name}.npz are not among this installation's data" in entry["reason"]
    for name in set(STATED) - set(EVIDENCES):
        entry = verdicts[f"{name}@{TARGETS.entry(name).version}"]
        assert entry["verdict"] == "uncertified"
        assert f"{name}.evidence.json is not among this installation's data" in entry["reason"]


def test_shipped_files_stay_under_40_mb() -> None:
    sizes = {file.name: len(file.read_bytes()) for file in DATA.iterdir() if file.is_file()}
    assert sum(sizes.values()) < MAX_BYTES, sizes


def test_missing_evidence_says_how_to_make_it() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"nothing.evidence.json is not .* samplerbench.benchmarks.evidence nothing"
    ):
        shipped_log_z("nothing")


def test_missing_draws_say_how_to_make_them() -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing.npz are not .* samplerbench.benchmarks.reference nothing"):
        reference_draws("nothing")
