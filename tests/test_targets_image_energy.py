"""Deep energies of images: what is provable of them, their derivatives, and that they know digits from noise."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from samplerbench.targets.base import TARGETS, HasLogZ, HasModes, HasMoments, HasReference, HasSample
from samplerbench.targets.datasets import load
from samplerbench.targets.image_classifier import load_classifier
from samplerbench.targets.image_energy import ImageEnergy, tilt, wall
from samplerbench.targets.image_networks import forward, hidden, shipped_tensors


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture(params=["digits", "mnist"])
def target(request: pytest.FixtureRequest) -> ImageEnergy:
    return ImageEnergy(str(request.param))


def near(target: ImageEnergy, n: int) -> Tensor:
    """Points where draws can be, float64."""
    return target.base.sample(torch.zeros(n, dtype=torch.int64), seeded(0))


def score_of(target: ImageEnergy, x: Tensor, *, create_graph: bool = False) -> Tensor:
    inputs = x if x.requires_grad else x.detach().requires_grad_()
    (score,) = torch.autograd.grad(target.log_prob(inputs).sum(), inputs, create_graph=create_graph)
    return score


def test_network_by_hand() -> None:
    layers = [
        (torch.tensor([[1.0], [-2.0]]), torch.tensor([0.0, 1.0])),
        (torch.tensor([[3.0, 4.0]]), torch.tensor([5.0])),
    ]
    x = torch.tensor([2.0])  # hidden: 2 sigmoid(2), -3 sigmoid(-3)
    first, second = 2 / (1 + math.exp(-2)), -3 / (1 + math.exp(3))
    assert hidden(layers, x).tolist() == pytest.approx([first, second])
    assert forward(layers, x).item() == pytest.approx(3 * first + 4 * second + 5)
    assert tilt(layers, x, 2.0).item() == pytest.approx(2 * math.tanh((3 * first + 4 * second + 5) / 2))


@pytest.mark.parametrize("width", [0.1, 1.0, 100.0, 1e4])
def test_log_density_is_below_a_normalised_one_and_a_constant(target: ImageEnergy, width: float) -> None:
    x = width * torch.randn(500, target.dim, generator=seeded(1), dtype=torch.float64)
    base, walled = target.base.log_prob(x), target.base.log_prob(x) - wall(x)
    rounding = 1e-12 * walled.abs()
    assert (target.log_prob(x) <= base + target.bound + rounding).all()
    assert ((target.log_prob(x) - walled).abs() <= target.bound + rounding).all()


def test_wall_by_hand() -> None:
    # softplus(v) / 10 of v = 10 (|x| - 1.6); the other side adds next to nothing
    x = torch.tensor([[0.0, 0.0], [1.6, 0.0], [-1.6, 1.6], [3.6, 0.0]], dtype=torch.float64)
    at_edge, nothing = 20 * (math.log(2) / 10) ** 2, 20 * (2 * math.log1p(math.exp(-16)) / 10) ** 2
    expected = [2 * nothing, at_edge + nothing, 2 * at_edge, 20 * 2.0**2 + nothing]
    assert wall(x).tolist() == pytest.approx(expected, rel=1e-8)


def test_the_base_is_one_normal_law_with_positive_noise(target: ImageEnergy) -> None:
    assert target.base.weights.tolist() == [1.0]
    assert (target.base.noise_sd > 0.1).all()


def test_energy_grows_like_the_quadratic_and_its_wall(target: ImageEnergy) -> None:
    direction = torch.randn(target.dim, generator=seeded(2), dtype=torch.float64)
    base = target.base
    covariance = base.loadings[0] @ base.loadings[0].T + torch.diag(base.noise_sd[0].square())
    curvature = direction @ torch.linalg.solve(covariance, direction)
    t = 1e4  # log_prob / t^2 is off by O(1 / t)
    expected = -0.5 * curvature - 20 * direction.square().sum()
    assert target.log_prob(t * direction).item() / t**2 == pytest.approx(expected.item(), rel=1e-3)


def test_digits_have_less_energy_than_what_the_base_draws() -> None:
    target = ImageEnergy("digits")
    pixels = load("digits")[0]
    images = 2 * pixels - 1 + 0.15 * torch.randn(pixels.shape, generator=seeded(6), dtype=torch.float64)
    of_images, of_base = (target.base.log_prob(x) - wall(x) - target.log_prob(x) for x in (images, near(target, 1_000)))
    assert of_base.mean() - of_images.mean() > 10  # nats, in the tilt alone
    assert of_images.abs().max() < 0.9 * target.bound  # where tanh would hide the network


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_prob_maps_any_batch(target: ImageEnergy, dtype: torch.dtype) -> None:
    x = near(target, 6).to(dtype)
    before, flat = x.clone(), target.log_prob(x)
    assert flat.shape == (6,)
    assert flat.dtype == dtype
    torch.testing.assert_close(target.log_prob(x.reshape(2, 3, -1)), flat.reshape(2, 3))
    torch.testing.assert_close(target.log_prob(x[0]), flat[0])
    assert torch.equal(x, before)


def test_float32_agrees_with_float64(target: ImageEnergy) -> None:
    x = near(target, 500).float()
    torch.testing.assert_close(target.log_prob(x).double(), target.log_prob(x.double()), rtol=1e-4, atol=2e-3)


def test_score_equals_finite_differences(target: ImageEnergy) -> None:
    x, h = near(target, 10), 1e-5
    directions = torch.randn(30, target.dim, generator=seeded(3), dtype=torch.float64)
    ahead, behind = (target.log_prob(x[:, None] + sign * h * directions) for sign in (1, -1))
    projected = score_of(target, x) @ directions.T
    assert ((projected - (ahead - behind) / (2 * h)).abs() <= 1e-5 * (1 + projected.abs().max())).all()


def test_double_backward_equals_finite_differences_of_the_score(target: ImageEnergy) -> None:
    x, h = near(target, 10).requires_grad_(), 1e-5
    direction = torch.randn(x.shape, generator=seeded(4), dtype=torch.float64)
    (hvp,) = torch.autograd.grad((score_of(target, x, create_graph=True) * direction).sum(), x)
    ahead, behind = (score_of(target, x.detach() + sign * h * direction) for sign in (1, -1))
    assert ((hvp - (ahead - behind) / (2 * h)).abs() <= 1e-5 * (1 + hvp.abs().max())).all()


def laplacian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Exact, by double backward: points ``(n, dim)`` to ``(n,)``."""
    inputs = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(inputs).sum(), inputs, create_graph=True)
    rows = [torch.autograd.grad(gradient[:, i].sum(), inputs, retain_graph=True)[0][:, i] for i in range(x.shape[1])]
    return torch.stack(rows).sum(0)


@pytest.mark.parametrize("width", [1.0, 100.0])
def test_laplacian_is_finite(width: float) -> None:
    x = width * torch.randn(20, 64, generator=seeded(5))
    assert laplacian(ImageEnergy("digits").log_prob, x).isfinite().all()


def test_laplacian_sees_the_network() -> None:
    target = ImageEnergy("digits")
    x = near(target, 20)
    of_the_rest = laplacian(lambda y: target.base.log_prob(y) - wall(y), x)
    assert (laplacian(target.log_prob, x) - of_the_rest).abs().min() > 1  # zero almost everywhere for a ReLU network


def test_what_is_unknown_is_absent(target: ImageEnergy) -> None:
    for knowledge in (HasSample, HasLogZ, HasModes, HasMoments, HasReference):
        assert not isinstance(target, knowledge)


def test_registered_names() -> None:
    for name, dim in (("ebm_digits", 64), ("ebm_mnist", 784)):
        target = TARGETS.get(name)
        assert isinstance(target, ImageEnergy)
        assert target.dim == dim
        assert TARGETS.entry(name).summary.endswith(".")


@pytest.mark.parametrize("images", ["digits", "mnist"])
def test_classifier_agrees_with_itself(images: str) -> None:
    classifier = load_classifier(images)
    x = near(ImageEnergy(images), 50).float().reshape(5, 10, -1)
    probabilities = classifier.class_probabilities(x)
    assert probabilities.shape == (5, 10, 10)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(5, 10))
    assert torch.equal(classifier.predict(x), probabilities.argmax(-1))
    assert classifier.features(x).shape == (5, 10, {"digits": 32, "mnist": 64}[images])
    assert classifier.class_probabilities(x.double()).dtype == torch.float64


def test_missing_numbers_say_how_to_make_them() -> None:
    with pytest.raises(FileNotFoundError, match=r"ebm_cats.safetensors.*train_images energy cats"):
        shipped_tensors("ebm_cats")


def test_unknown_images_are_refused() -> None:
    for build in (ImageEnergy, load_classifier):
        with pytest.raises(ValueError, match=r"images must be a known set of images.*'cats'"):
            build("cats")
