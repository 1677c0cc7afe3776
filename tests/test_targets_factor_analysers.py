"""Mixtures of factor analysers: the density against dense covariances, the known laws against draws."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from samplerbench.benchmarks.train_mfa import modes_of
from samplerbench.targets.base import TARGETS, one_digit
from samplerbench.targets.factor_analysers import FactorAnalysers, FactorMixture


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def small_mixture() -> FactorMixture:
    generator = seeded(0)
    means, noise = (torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    loadings = torch.randn(3, 5, 2, generator=generator, dtype=torch.float64)
    return FactorMixture(torch.tensor([1.0, 3.0, 4.0]), means, loadings, 0.1 + noise.abs())


def dense_log_prob(mixture: FactorMixture, x: Tensor) -> np.ndarray:
    """By scipy, from the covariances themselves."""
    log_joint = []
    for k, weight in enumerate(mixture.weights):
        A, noise_sd = mixture.loadings[k], mixture.noise_sd[k]
        covariance = A @ A.T + torch.diag(noise_sd.square())
        law = stats.multivariate_normal(mixture.means[k].numpy(), covariance.numpy())
        log_joint.append(math.log(weight) + law.logpdf(x.numpy()))
    return np.logaddexp.reduce(np.stack(log_joint), axis=0)


def test_weights_are_divided_by_their_sum() -> None:
    assert small_mixture().weights.tolist() == [0.125, 0.375, 0.5]


def test_log_prob_by_hand() -> None:
    # one component, one factor: x ~ N(0, [[1 + 1, 2], [2, 4 + 1]]), whose determinant is 6
    loadings = torch.tensor([[[1.0], [2.0]]])
    mixture = FactorMixture(torch.ones(1), torch.zeros(1, 2), loadings, torch.ones(1, 2))
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)  # inverse covariance [[5, -2], [-2, 2]] / 6
    assert mixture.log_prob(x).item() == pytest.approx(-0.5 * (5 / 6 + math.log(6) + 2 * math.log(2 * math.pi)))


def test_small_mixture_equals_dense_covariances() -> None:
    x = 3 * torch.randn(50, 5, generator=seeded(1), dtype=torch.float64)
    np.testing.assert_allclose(small_mixture().log_prob(x), dense_log_prob(small_mixture(), x), rtol=1e-11)


@pytest.mark.parametrize("name", ["mfa_digits", "mfa_mnist"])
def test_images_equal_dense_covariances_inside_and_far_out(name: str) -> None:
    target = TARGETS.get(name)
    assert isinstance(target, FactorAnalysers)
    if target.dim > 100:  # a few components are enough: each takes an eigendecomposition of 784 x 784
        whole = target.mixture
        mixture = FactorMixture(whole.weights[:4], whole.means[:4], whole.loadings[:4], whole.noise_sd[:4])
    else:
        mixture = target.mixture
    x = torch.cat([mixture.sample(torch.tensor([0, 1, 2, 3]), seeded(2)), torch.full((1, target.dim), 40.0)])
    np.testing.assert_allclose(mixture.log_prob(x), dense_log_prob(mixture, x), rtol=1e-9)


@pytest.mark.parametrize("name", ["mfa_digits", "mfa_mnist"])
def test_float32_loses_little(name: str) -> None:
    target = TARGETS.get(name)
    assert isinstance(target, FactorAnalysers)
    x = target.sample(200, seeded(3)).float()
    error = (target.log_prob(x).double() - target.log_prob(x.double())).abs().max().item()
    # rounding of sums of squares of about |x - centre|^2 / noise^2, the largest about 1e3 per 64 pixels
    assert error < 1e-5 * target.dim


def test_draws_of_a_component_have_its_mean_and_covariance() -> None:
    mixture, n = small_mixture(), 200_000
    x = mixture.sample(torch.full((n,), 1), seeded(4))
    A = mixture.loadings[1]
    covariance = A @ A.T + torch.diag(mixture.noise_sd[1].square())
    sd = covariance.diagonal().sqrt()
    assert ((x.mean(0) - mixture.means[1]).abs() < 5 * sd / math.sqrt(n)).all()
    # the variance of an entry of the sample covariance is (C_ii C_jj + C_ij^2) / n
    std_error = ((sd[:, None] * sd).square() + covariance.square()).div(n).sqrt()
    assert ((x.T.cov() - covariance).abs() < 5 * std_error).all()


@pytest.mark.parametrize("images", ["digits", "mnist"])
def test_marginals_are_those_of_the_draws(images: str) -> None:
    target = FactorAnalysers(images)
    x = target.sample(20_000, seeded(5))
    assert len(target.marginals) == 6
    for marginal in target.marginals:
        result = stats.kstest(marginal.statistic(x).numpy(), lambda v, m=marginal: m.cdf(torch.from_numpy(v)).numpy())
        assert result.pvalue > 1e-5, marginal.name


def test_marginals_notice_a_wrong_noise() -> None:
    target = FactorAnalysers("digits")
    mixture = target.mixture
    louder = FactorMixture(mixture.weights, mixture.means, mixture.loadings, 1.1 * mixture.noise_sd)
    x = louder.sample(louder.draw_components(20_000, seeded(6)), seeded(7))
    last = target.marginals[-1]
    assert stats.kstest(last.statistic(x).numpy(), lambda v: last.cdf(torch.from_numpy(v)).numpy()).pvalue < 1e-5


def test_pixel_marginal_by_hand() -> None:
    target = FactorAnalysers("digits")
    mixture = target.mixture
    sd = (mixture.noise_sd[:, 0].square() + mixture.loadings[:, 0].square().sum(-1)).sqrt()
    expected = mixture.weights.numpy() @ stats.norm.cdf((-0.9 - mixture.means[:, 0].numpy()) / sd.numpy())
    assert target.marginals[0].cdf(torch.tensor([-0.9], dtype=torch.float64)).item() == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize("images", ["digits", "mnist"])
def test_scale_is_that_of_the_moments(images: str) -> None:
    target = FactorAnalysers(images)
    assert target.scale == one_digit(math.sqrt(target.moments.mean[target.dim :].mean().item()))


@pytest.mark.parametrize(("images", "n"), [("digits", 200_000), ("mnist", 5_000)])
def test_shipped_mode_masses_are_those_of_fresh_draws(images: str, n: int) -> None:
    target = FactorAnalysers(images)
    mode = target.modes.assign(target.sample(n, seeded(8)))
    masses = target.modes.masses
    assert masses.dtype == torch.float64
    counts = torch.bincount(mode + 1, minlength=len(masses) + 1)
    shares = torch.cat([1 - masses.sum(0, keepdim=True), masses])
    assert stats.chisquare(counts.numpy(), (shares * n).numpy()).pvalue > 1e-5


def test_far_points_are_in_no_mode() -> None:
    target = FactorAnalysers("digits")
    x = torch.cat([target.mixture.means[:2].float(), torch.full((1, 64), 1e6), torch.full((1, 64), 5.0)])
    labels = target.modes.assign(x)
    assert labels[2:].tolist() == [-1, -1]
    assert (labels[:2] >= 0).all()


def test_modes_of_one_normal_is_its_region() -> None:
    mixture = FactorMixture(torch.ones(1), torch.zeros(1, 4), torch.ones(1, 4, 1), torch.ones(1, 4))
    n = 100_000
    labels, masses, std_error = modes_of(mixture, n, seeded(9))
    assert labels.tolist() == [0]
    assert abs(masses.item() - 0.999) < 4 * math.sqrt(0.999 * 0.001 / n)
    assert std_error == pytest.approx(math.sqrt(0.999 * 0.001 / n), rel=0.3)


def test_modes_merge_components_that_overlap() -> None:
    # Bayes error Phi(-d / 2): 16% at distance 2, 0.6% at distance 5
    means = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 5.0]])
    mixture = FactorMixture(torch.tensor([1.0, 1.0, 2.0]), means, torch.zeros(3, 2, 1), torch.ones(3, 2))
    labels, masses, _ = modes_of(mixture, 20_000, seeded(10))
    assert labels.tolist() == [0, 0, 1]
    # of each half, 0.1% is outside (less where the other component's region reaches), some 0.6% crosses over
    assert masses.tolist() == pytest.approx([0.5, 0.5], abs=0.01)


def test_unknown_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must be a known set of images.*'cats'"):
        FactorAnalysers("cats")
