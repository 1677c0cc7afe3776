"""Shipped reference draws against their certificates."""

import hashlib
import io
import json
import math
from importlib import resources
from typing import Any

import numpy as np
import pytest

from samplerbench.targets.base import TARGETS, HasReference
from samplerbench.targets.shipped import reference_draws

DATA = resources.files("samplerbench.targets.data")
NAMES = [name for name in TARGETS.names() if isinstance(TARGETS.get(name), HasReference)]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def certificate(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return table


def test_there_are_reference_draws() -> None:
    assert NAMES == ["breast_cancer_full", "breast_cancer_train"]


def test_certificate_belongs_to_the_draws_and_the_law(name: str, certificate: dict[str, Any]) -> None:
    packed = (DATA / f"{name}.npz").read_bytes()
    assert hashlib.sha256(packed).hexdigest() == certificate["sha256"]
    assert certificate["target"] == f"{name}@{TARGETS.entry(name).version}"
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        assert arrays["samples"].dtype == np.float32
        assert arrays["samples"].shape == (10_000, TARGETS.get(name).dim)


def test_every_checked_value_keeps_its_rule(certificate: dict[str, Any]) -> None:
    assert certificate["verdict"] == "certified"
    values = {check["name"]: check["value"] for check in certificate["checks"]}
    for method in ("HMC", "MALA"):
        assert values[f"{method}: largest rank-normalised split R-hat"] < 1.01
        assert values[f"{method}: smallest ESS / count"] >= 0.9
        assert values[f"{method}: Stein identity, in standard errors"] < 4
    assert values["moments of both runs, in standard errors"] < 4
    assert values["KS p-value of log_prob"] > 1e-4
    assert values["C2ST above 1/2, in standard errors"] < 4
    assert all(check["passed"] for check in certificate["checks"])
    assert {"torch", "numpy", "python"} <= certificate["environment"].keys()
    assert all(run["n_scores"] > 0 and run["seconds"] > 0 for run in certificate["runs"])


def test_draws_are_in_random_order(name: str) -> None:
    target = TARGETS.get(name)
    assert isinstance(target, HasReference)
    log_prob = target.log_prob(target.reference()).numpy()
    for lag in (1, 2, 64):
        correlation = np.corrcoef(log_prob[:-lag], log_prob[lag:])[0, 1]
        assert abs(correlation) < 4.5 / math.sqrt(len(log_prob))
    halves = log_prob[:5_000].mean() - log_prob[5_000:].mean()
    assert abs(halves) < 4.5 * log_prob.std() * math.sqrt(2 / 5_000)


def test_missing_draws_say_how_to_make_them() -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing.npz are not .* samplerbench.benchmarks.reference nothing"):
        reference_draws("nothing")
