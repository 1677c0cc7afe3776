"""The script behind log normalisers: on a law whose normaliser is known, and what makes its estimators agree."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from samplerbench.benchmarks.evidence import agrees, main, make_evidence
from samplerbench.targets.base import TARGETS
from samplerbench.targets.registry import UnknownNameError


class Posterior:
    """N(1, diag(0.25, 4)) times exp(3), with draws that stand for those of a long run."""

    dim = 2
    scale = 2.0
    sd = torch.tensor([0.5, 2.0], dtype=torch.float64)

    def __init__(self, n: int) -> None:
        z = torch.randn(n, 2, generator=Generator().manual_seed(1), dtype=torch.float64)
        self._draws = 1 + self.sd * z

    def log_prob(self, x: Tensor) -> Tensor:
        return 3 - 0.5 * ((x - 1) / self.sd).square().sum(-1) - math.log(2 * math.pi)

    def reference(self) -> Tensor:
        return self._draws


@pytest.mark.parametrize("n", [7, 2_000])  # few draws: the Laplace approximation; many: a base fitted to half of them
def test_log_z_of_a_gaussian(n: int, tmp_path: Path) -> None:
    assert make_evidence("gaussian2", Posterior(n), seed=0, folder=tmp_path, n_paths=500)
    record = json.loads((tmp_path / "gaussian2.evidence.json").read_text())
    assert record["target"] == "gaussian2@1"
    assert record["verdict"] == "certified"
    assert record["n_paths_each"] == (7 if n == 7 else 500)
    assert ("Laplace" in record["how"]) == (n == 7)
    log_z = record["log_z"]
    assert abs(log_z["value"] - 3) < 4 * log_z["std_error"] + 1e-9


def test_a_target_without_reference_draws_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gaussian2 must have reference draws to anneal from"):
        make_evidence("gaussian2", TARGETS.get("gaussian2"), seed=0, folder=tmp_path)


@pytest.mark.parametrize(
    ("gap", "ess", "n", "expected"),
    [(1.0, 120, 5_000, True), (4.1, 5_000, 5_000, False), (-4.1, 5_000, 5_000, False), (1.0, 99, 5_000, False),
     (1.0, 80, 156, True), (1.0, 70, 156, False)],
)  # fmt: skip
def test_estimators_agree_within_errors_that_mean_something(gap: float, ess: float, n: int, expected: bool) -> None:
    record = {"gap_in_standard_errors": gap, "up": {"ess": ess}, "down": {"ess": 10_000}, "n_paths_each": n}
    assert agrees(record) is expected


def test_command_knows_its_targets(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown target 'nothing'"):
        main(["nothing", "--out", str(tmp_path)])
