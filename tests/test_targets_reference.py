"""The script behind the reference draws, on laws whose exact draws are known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.benchmarks import agreement, reference
from samplerbench.benchmarks.agreement import check_agreement
from samplerbench.benchmarks.reference import MALA, Run, Settings, long_run, make_reference
from samplerbench.samplers.base import State
from samplerbench.samplers.kernels import HMCKernel
from samplerbench.targets.gaussian import Gaussian
from samplerbench.targets.meter import Meter

SMALL = Settings(n_chains=16, n_kept=40, n_rounds=3, n_transitions=40, max_thinning=2, n_draws=500)


class KilledError(Exception):
    pass


class InterruptAfter:
    """Stands in for the progress report, which comes after each piece of work and its checkpoint."""

    def __init__(self, n_pieces: int) -> None:
        self.left = n_pieces

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError


def run_of(seed: int, folder: Path, settings: Settings = SMALL) -> Run:
    return long_run("gaussian_ill", targets.get("gaussian_ill"), MALA, settings, seed=seed, folder=folder)


def test_draws_of_an_ill_conditioned_gaussian_are_certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "MAX_STANDARD_ERRORS", 5.0)  # its four fail by chance once in 1,000 seeds, five
    monkeypatch.setattr(agreement, "MIN_P_VALUE", 1e-6)  # in a million
    target = Gaussian(dim=2, condition=1e4)
    settings = Settings(n_chains=32, n_kept=100, n_rounds=3, n_transitions=60, max_thinning=64, n_draws=2_000)
    assert make_reference("gaussian_ill", target, settings, seed=1, folder=tmp_path)
    with np.load(tmp_path / "gaussian_ill.npz") as arrays:
        draws = torch.from_numpy(arrays["samples"]).double()
    assert draws.shape == (2_000, 2)
    f = torch.cat([draws, draws.square()], dim=-1)
    errors = (f.mean(0) - target.moments.mean) / (target.moments.variance / (0.9 * len(f))).sqrt()
    assert errors.abs().max() < 5
    certificate = json.loads((tmp_path / "gaussian_ill.json").read_text())
    assert certificate["verdict"] == "certified"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gaussian_ill.json", "gaussian_ill.npz"]


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    expected = run_of(3, whole)
    for n_pieces in (2, 4):  # killed in the warm-up, and again later
        with monkeypatch.context() as patch:
            patch.setattr(reference, "_report", InterruptAfter(n_pieces))
            with pytest.raises(KilledError):
                run_of(3, broken)
    resumed = run_of(3, broken)
    assert torch.equal(resumed.kept, expected.kept)
    assert resumed.n_scores == expected.n_scores


def test_a_checkpoint_of_another_run_is_not_continued(tmp_path: Path) -> None:
    first = run_of(3, tmp_path)
    other_seed = run_of(4, tmp_path)
    assert not torch.equal(first.kept, other_seed.kept)
    longer = run_of(4, tmp_path, replace(SMALL, n_kept=50))
    assert longer.kept.shape[1] == 50


def test_constant_starts_put_an_ordered_lattice_into_its_two_modes() -> None:
    """Scattered ones leave walls between domains, which most chains keep for thousands of moves."""
    target = targets.get("phi4_l32_k05")
    ordered = {}
    for start in ("scattered", "constant"):
        settings = replace(SMALL, start=start)
        run = Run.begin("", target, reference.LONG_HMC, settings, Generator().manual_seed(0))
        ordered[start] = run.x.mean(-1).abs() / run.x.square().mean(-1).sqrt()
        assert {-1.0, 1.0} == set(run.x.mean(-1).sign().tolist())
    assert (ordered["constant"] > 0.95).all()
    assert (ordered["scattered"] < 0.95).float().mean() > 0.5


def test_hmc_keeps_exact_draws_exact() -> None:
    """Squared coordinates of exact draws before and after 20 moves, paired; steps long enough to reject some."""
    target = targets.get("funnel2")
    generator = Generator().manual_seed(0)
    start = target.sample(40_000, generator)
    meter = Meter(target, dtype=torch.float64)
    state = State.at(start, meter)
    acceptance = []
    for _ in range(20):
        state = HMCKernel(0.5, max_leapfrog=4)(state, meter, generator)
        acceptance.append(state.acceptance.mean().item())
    assert 0.5 < min(acceptance) < 0.99
    change = target.view(state.x).square() - target.view(start).square()
    assert (change.mean(0).abs() < 4.5 * change.std(0) / math.sqrt(len(change))).all()


@pytest.mark.parametrize("corrupt", ["shifted", "narrower"])
def test_runs_that_disagree_are_caught(corrupt: str) -> None:
    target = targets.get("gaussian_ill")
    x, y = (target.sample(2_000, Generator().manual_seed(seed)) for seed in (0, 1))
    assert all(check.passed for check in check_agreement(x, y, target))
    wrong: Tensor = y + 0.2 * y.std(0) if corrupt == "shifted" else 0.8 * y
    assert not all(check.passed for check in check_agreement(x, wrong, target))


def test_dependent_draws_are_not_certified(tmp_path: Path) -> None:
    hasty = replace(SMALL, n_rounds=1, n_transitions=5, max_thinning=1)
    assert not make_reference("gaussian_ill", targets.get("gaussian_ill"), hasty, seed=0, folder=tmp_path)
    certificate = json.loads((tmp_path / "gaussian_ill.json").read_text())
    assert certificate["verdict"] == "uncertified"
    assert "R-hat" in certificate["reason"]
