"""Training of the shipped laws of images: the steps by hand, and that an interruption changes nothing."""

import dataclasses
import hashlib
import json
import math
from functools import partial
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from samplerbench.benchmarks import train_images, train_loop
from samplerbench.benchmarks.train_classifier import ClassifierSettings, begin_classifier, classifier_step, shifted
from samplerbench.benchmarks.train_energy import EnergySettings, begin_energy, energy_step
from samplerbench.benchmarks.train_figure import LongRunSettings, draw_figure, frechet_distance, long_run, tiled
from samplerbench.benchmarks.train_loop import State, adam, train
from samplerbench.benchmarks.train_mfa import MFASettings, begin_mfa, em_step
from samplerbench.targets.datasets import DATASETS, DataFileError
from samplerbench.targets.factor_analysers import FactorMixture
from samplerbench.targets.gaussian import Gaussian
from samplerbench.targets.image_classifier import load_classifier
from samplerbench.targets.meter import derive_generator

DATA = resources.files("samplerbench.targets.data")
TINY_MFA = MFASettings(n_components=2, n_factors=2, noise_sd=0.2, n_copies=1, n_iterations=2, n_draws=100)
TINY_ENERGY = EnergySettings(base=dataclasses.replace(TINY_MFA, n_components=1), widths=(8,), n_steps=2, n_chains=4)
TINY_CLASSIFIER = ClassifierSettings(widths=(8, 4), noise_sd=0.1, max_shift=1, n_steps=2, n_rows=16)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def images(n: int = 60, side: int = 4) -> Tensor:
    """Two kinds of images: a bright row, a bright column."""
    x = torch.full((n, side, side), -1.0, dtype=torch.float64)
    x[: n // 2, 1], x[n // 2 :, :, 2] = 1.0, 1.0
    return x.flatten(1) + 0.2 * torch.randn(n, side * side, generator=seeded(0), dtype=torch.float64)


def assert_equal(first: State, second: State) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


class KilledError(Exception):
    """Stands for a kill in the middle of a training."""


@pytest.mark.parametrize("what", ["mfa", "energy", "classifier"])
def test_interrupted_training_ends_the_same(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_loop, "SECONDS_PER_CHECKPOINT", 0.0)
    x = images()
    labels = (torch.arange(len(x)) >= 30).to(torch.int64)
    base = FactorMixture(**begin_mfa(x, TINY_ENERGY.base, seeded(1)))
    begin, step = {
        "mfa": (lambda g: begin_mfa(x, TINY_MFA, g), lambda state, i, g: em_step(state, x, TINY_MFA)),
        "energy": (
            lambda g: begin_energy(base, TINY_ENERGY, g),
            partial(energy_step, images=x.float(), base=base, bound=10.0, settings=TINY_ENERGY),
        ),
        "classifier": (
            lambda g: begin_classifier(16, TINY_CLASSIFIER, g),
            partial(classifier_step, images=x.float(), labels=labels, settings=TINY_CLASSIFIER),
        ),
    }[what]

    def killed_at_2(state: State, i: int, generator: Generator) -> tuple[State, str]:
        if i == 2:
            raise KilledError
        return step(state, i, generator)  # type: ignore[no-any-return]

    whole = train(begin, step, 4, key=(what, 0), checkpoint=tmp_path / "whole")
    with pytest.raises(KilledError):
        train(begin, killed_at_2, 4, key=(what, 0), checkpoint=tmp_path / "parts")
    parts = train(begin, step, 4, key=(what, 0), checkpoint=tmp_path / "parts")
    assert_equal(whole, parts)
    other = train(begin, step, 4, key=(what, 1), checkpoint=tmp_path / "parts")  # another run's checkpoint is not used
    if what != "mfa":  # EM itself draws nothing, and two clear clusters are found from any start
        assert not all(torch.equal(whole[name], other[name]) for name in whole)


def test_a_finished_training_is_not_run_again(tmp_path: Path) -> None:
    def step(state: State, i: int, generator: Generator) -> tuple[State, str]:
        return {"x": state["x"] + torch.rand(1, generator=generator)}, ""

    first = train(lambda g: {"x": torch.zeros(1)}, step, 3, key=(0,), checkpoint=tmp_path / "run")
    again = train(lambda g: pytest.fail("began again"), step, 3, key=(0,), checkpoint=tmp_path / "run")
    assert_equal(first, again)


def test_adam_is_that_of_torch() -> None:
    target = torch.randn(5, generator=seeded(1))
    state, parameter = {"x": torch.zeros(5)}, torch.zeros(5, requires_grad=True)
    reference = torch.optim.Adam([parameter], lr=0.1, betas=(0.5, 0.9))
    for i in range(4):
        adam(state, {"x": (state["x"] - target) ** 3}, i, 0.1, betas=(0.5, 0.9))
        parameter.grad = (parameter.detach() - target) ** 3
        reference.step()
    torch.testing.assert_close(state["x"], parameter.detach())


def test_em_never_lowers_the_likelihood_and_ends_at_the_law() -> None:
    generator = seeded(2)
    law = FactorMixture(
        torch.tensor([0.3, 0.7]),
        torch.tensor([[4.0, 0, 0, 0], [-4.0, 0, 0, 0]]),
        torch.tensor([[[0.0], [2.0], [0.0], [0.0]], [[0.0], [0.0], [0.0], [3.0]]]),
        torch.full((2, 4), 0.5),
    )
    x = law.sample(law.draw_components(20_000, generator), generator)
    settings = MFASettings(n_components=2, n_factors=1, noise_sd=0.1, n_copies=1)
    state, likelihoods = begin_mfa(x, settings, generator), []
    for _ in range(15):
        likelihoods.append(FactorMixture(**state).log_prob(x).mean().item())
        state, _ = em_step(state, x, settings)
    assert all(after >= before - 1e-10 for before, after in pairwise(likelihoods))
    fitted = FactorMixture(**state)
    order = fitted.means[:, 0].argsort(descending=True)
    n = 0.3 * len(x)
    assert fitted.weights[order].tolist() == pytest.approx([0.3, 0.7], abs=5 * math.sqrt(0.21 / len(x)))
    assert ((fitted.means[order] - law.means).abs() < 5 * law.variances.sqrt() / math.sqrt(n)).all()
    assert ((fitted.variances[order] / law.variances - 1).abs() < 5 * math.sqrt(2 / n)).all()


def test_noise_of_a_component_has_a_floor() -> None:
    x = images()
    x[:, 3] = -1.0
    state, _ = em_step(begin_mfa(x, TINY_MFA, seeded(3)), x, TINY_MFA)
    assert state["noise_sd"].min().item() == TINY_MFA.noise_sd


def test_energy_learns_two_modes_that_its_base_lacks() -> None:
    # x = +-1 with noise 0.2 in one direction, N(0, 0.2^2) in the other: the base is one normal law of variance 1.04
    signs = torch.tensor([1.0, -1.0]).repeat(50)
    x = torch.stack([signs, torch.zeros(100)], dim=-1)
    base = FactorMixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1.0], [0.0]]]), torch.full((1, 2), 0.2))
    settings = dataclasses.replace(
        TINY_ENERGY, widths=(16, 16), n_steps=300, n_chains=64, averaging=0.9, learning_rate=5e-3
    )
    generator = seeded(4)
    state = begin_energy(base, settings, generator)
    for i in range(settings.n_steps):
        state, _ = energy_step(state, i, generator, images=x, base=base, bound=10.0, settings=settings)
    share = (state["chains"][:, 0].abs() < 0.5).float().mean().item()
    assert share < 0.2  # 38% of the base, 0.6% of the data


def test_shift_moves_what_is_bright() -> None:
    x = torch.full((200, 5, 5), -1.0)
    x[:, 2, 2] = 1.0
    moved = shifted(x.flatten(1), 1, seeded(5)).reshape(200, 5, 5)
    where = (moved == 1).nonzero()
    assert len(where) == 200  # one pixel of each image
    assert {(int(row), int(column)) for _, row, column in where} == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3)}
    assert moved.sum() == x.sum()


def test_frechet_distance_of_shifted_and_scaled_normals() -> None:
    x = torch.randn(500, 3, generator=seeded(6), dtype=torch.float64)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + torch.tensor([1.0, 2.0, 2.0])) == pytest.approx(9)
    # same axes: the sum of the squared differences of the standard deviations along them
    expected = (x.mean(0) - 2 * x.mean(0)).square().sum() + x.T.cov().trace()
    assert frechet_distance(x, 2 * x) == pytest.approx(expected.item())


def test_long_run_is_resumable_and_keeps_the_second_half(tmp_path: Path) -> None:
    law, starts = Gaussian(dim=2), torch.full((50, 2), 3.0)
    settings = LongRunSettings(n_chains=50, n_transitions=100)
    run = partial(long_run, law, starts, settings, key=("long", 0), checkpoint=tmp_path / "run")
    kept, measured = run()
    again, _ = run()
    assert kept.keys() == {"noise", "base"}
    for start, x in kept.items():
        assert x.shape == (10, 50, 2)
        assert torch.equal(x, again[start])
        assert (x != 0).all()
    assert not torch.equal(kept["base"][-1], kept["base"][-2])
    assert 0.5 < measured["acceptance"] < 1


def test_figure_is_small_and_shows_every_image(tmp_path: Path) -> None:
    x = torch.linspace(-1, 1, 100)[:, None].expand(100, 64)
    grid = tiled(x)
    assert grid.shape == (89, 89)
    assert grid[0, 0] == 0
    assert grid[-1, -1] == 15
    assert grid[8, 8] not in (0, 15)  # the line between
    draw_figure({"ramp": (x, torch.arange(100) % 10)}, "title", tmp_path / "figure.png")
    assert 1_000 < (tmp_path / "figure.png").stat().st_size < 500_000


def test_command_writes_numbers_and_their_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(train_images.MFA, "digits", TINY_MFA)
    monkeypatch.setitem(train_images.ENERGY, "digits", TINY_ENERGY)
    monkeypatch.setitem(train_images.CLASSIFIER, "digits", TINY_CLASSIFIER)
    monkeypatch.setattr(train_images, "LONG_RUN", LongRunSettings(n_chains=50, n_transitions=20))
    arguments = ["digits", "--out", str(tmp_path), "--figures", str(tmp_path / "figures")]
    for what in ("mfa", "classifier", "energy", "figure"):
        assert train_images.main([what, *arguments]) == 0
    assert (tmp_path / "figures" / "images_digits.png").stat().st_size < 500_000
    for law in ("mfa_digits", "classifier_digits", "ebm_digits"):
        check_certificate(tmp_path / f"{law}.safetensors", json.loads((tmp_path / f"{law}.json").read_text()))
    judged = json.loads((tmp_path / "ebm_digits.json").read_text())["long_run"]["judged"]
    assert all(math.isclose(sum(row["class_shares"]), 1) for row in judged.values())


def check_certificate(numbers: Any, certificate: dict[str, Any]) -> None:
    """The JSON belongs to the numbers and to the data."""
    assert certificate["sha256"] == hashlib.sha256(numbers.read_bytes()).hexdigest()
    assert certificate["data"]["sha256"] == DATASETS[certificate["data"]["name"]].sha256
    assert certificate["seed"] == 0
    assert all(math.isfinite(value) for value in certificate["measured"].values())


@pytest.mark.parametrize("images", ["digits", "mnist"])
@pytest.mark.parametrize("law", ["mfa", "ebm", "classifier"])
def test_shipped_numbers_are_those_of_their_certificate(law: str, images: str) -> None:
    certificate = json.loads((DATA / f"{law}_{images}.json").read_text())
    check_certificate(DATA / f"{law}_{images}.safetensors", certificate)
    settings = {"mfa": train_images.MFA, "ebm": train_images.ENERGY, "classifier": train_images.CLASSIFIER}[law]
    assert certificate["settings"] == json.loads(json.dumps(dataclasses.asdict(settings[images])))


@pytest.mark.parametrize("images", ["digits", "mnist"])
def test_long_chains_show_all_ten_classes(images: str) -> None:
    judged = json.loads((DATA / f"ebm_{images}.json").read_text())["long_run"]["judged"]
    for start in ("noise", "base"):
        assert min(judged[f"ebm_{images} from {start}"]["class_shares"]) > 0
        assert judged[f"ebm_{images} from {start}"]["mean_confidence"] > judged["Gaussian"]["mean_confidence"]


@pytest.mark.parametrize(("images", "least"), [("digits", 0.97), ("mnist", 0.95)])
def test_shipped_classifier_is_right_about_held_out_images(images: str, least: float) -> None:
    try:
        x, labels = train_images.split_images(images).held_out
    except DataFileError:
        pytest.skip("the data set is not on this machine")
    accuracy = (load_classifier(images).predict(x.float()) == labels).double().mean().item()
    assert accuracy >= least


def test_split_is_fixed_and_disjoint() -> None:
    split = train_images.split_images("digits")
    assert (len(split.train[1]), len(split.held_out[1])) == (1_438, 359)
    rows = torch.randperm(1_797, generator=derive_generator(0, "split", "digits"))
    assert set(rows[:1_438].tolist()).isdisjoint(rows[1_438:].tolist())
    assert split.train[0].min() == -1
    assert split.train[0].max() == 1
