import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.benchmarks.truth import build_truth
from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.frechet import frechet_distance
from samplerbench.targets import Draws, HasFeatures
from samplerbench.targets.image_classifier import load_classifier


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def whitened(u: Tensor) -> Tensor:
    """The sample with mean 0 and covariance I to rounding."""
    u = u - u.mean(0)
    return u @ torch.linalg.inv(torch.linalg.cholesky(u.T @ u / (len(u) - 1))).T


def test_agrees_with_the_square_root_of_a_matrix_product_by_scipy() -> None:
    u, v = normal(300, 5) @ normal(5, 5, seed=2), normal(400, 5, seed=1) @ normal(5, 5, seed=3) + 0.7
    a, b = (np.cov(w.numpy(), rowvar=False) for w in (u, v))
    gap = (u.mean(0) - v.mean(0)).square().sum().item()
    expected = gap + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert math.isclose(frechet_distance(u, v) ** 2, expected, rel_tol=1e-9)


def test_of_gaussians_with_commuting_covariances_is_that_of_means_and_sds() -> None:
    z = whitened(normal(500, 3))
    sd, shift = torch.tensor([2.0, 0.5, 0.0]).double(), torch.tensor([1.0, 0.0, -2.0]).double()
    exact = math.sqrt(shift.square().sum().item() + (sd - 1).square().sum().item())  # one covariance is singular
    assert math.isclose(frechet_distance(z, whitened(normal(400, 3, seed=1)) * sd + shift), exact, rel_tol=1e-7)


def test_samples_of_two_gaussians_are_near_their_distance() -> None:
    n, shift, sd = 100_000, 0.5, 2.0
    exact = shift**2 + (sd - 1) ** 2
    error = 2 * math.sqrt((1 + sd**2) / n * (shift**2 + (sd - 1) ** 2 / 2))  # delta method in both means and sds
    assert abs(frechet_distance(normal(n, 1), shift + sd * normal(n, 1, seed=1)) ** 2 - exact) < 5 * error


def test_the_same_sample_is_no_distance_away_even_with_fewer_rows_than_features() -> None:
    u = 10 * normal(20, 32)
    assert frechet_distance(u, u.flip(0)) < 1e-3
    assert math.isclose(frechet_distance(u, u + 1), math.sqrt(32), rel_tol=1e-6)


def test_samples_must_match() -> None:
    with pytest.raises(ValueError, match="same dim, got 2 and 3"):
        frechet_distance(normal(5, 2), normal(5, 3))


def test_metric_takes_the_features_and_not_the_view() -> None:
    draws, samples = Draws(samples=normal(50, 2).float()), normal(60, 2, seed=1)
    truth = Truth(samples=samples, features=lambda x: x.exp(), view=lambda x: 0 * x)
    expected = frechet_distance(draws.samples.double().exp(), samples.exp())
    assert METRICS.get("frechet")(draws, truth, seed=0) == {"frechet": expected}


@pytest.mark.parametrize("name", ["mfa_digits", "ebm_digits"])
def test_targets_of_images_have_the_features_of_their_classifier(name: str) -> None:
    target, x = targets.get(name), normal(7, 64)
    assert isinstance(target, HasFeatures)
    torch.testing.assert_close(target.features(x), load_classifier("digits").features(x), rtol=0, atol=0)
    features = build_truth(target, 10, 0).features
    assert features is not None
    torch.testing.assert_close(features(x), target.features(x))


def test_noise_is_far_from_images_and_exact_draws_are_near() -> None:
    target = targets.get("mfa_digits")
    truth, metric = build_truth(target, 2_000, 0), METRICS.get("frechet")
    exact = target.sample(2_000, Generator().manual_seed(0))
    noise = exact.mean(0) + exact.std(0) * normal(2_000, 64)  # the same mean and sd in every pixel
    of_exact, of_noise = (metric(Draws(samples=x), truth, seed=0)["frechet"] for x in (exact, noise))
    assert of_noise > 5 * of_exact
