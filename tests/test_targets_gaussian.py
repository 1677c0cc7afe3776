import math

import numpy as np
import pytest
import torch
from scipy import fft, stats
from torch import Generator

from samplerbench import targets
from samplerbench.targets.gaussian import Gaussian


def covariance(dim: int, sd: float, condition: float) -> np.ndarray:
    basis = fft.dct(np.eye(dim), norm="ortho", axis=0)
    variances = sd**2 * condition ** (-np.arange(dim) / (dim - 1))
    return basis.T @ np.diag(variances) @ basis


@pytest.mark.parametrize(("dim", "sd", "condition"), [(2, 0.5, 1.0), (10, 1.0, 1e4), (3, 2.0, 7.0)])
def test_log_prob_equals_scipy(dim: int, sd: float, condition: float) -> None:
    x = torch.linspace(-1.5, 2.0, 4 * dim, dtype=torch.float64).sin().reshape(4, dim)
    expected = stats.multivariate_normal(cov=covariance(dim, sd, condition)).logpdf(x.numpy())
    torch.testing.assert_close(Gaussian(dim, sd, condition).log_prob(x), torch.from_numpy(expected), rtol=1e-10, atol=0)


def test_ill_conditioned_by_ten_thousand() -> None:
    target = targets.get("gaussian_ill")
    x = torch.zeros(10, dtype=torch.float64)
    precision = -torch.autograd.functional.hessian(target.log_prob, x)
    eigenvalues = torch.linalg.eigvalsh(precision)
    assert math.isclose(eigenvalues[-1] / eigenvalues[0], 1e4, rel_tol=1e-9)
    assert math.isclose(eigenvalues[0], 1.0, rel_tol=1e-9)
    assert precision.abs().min() > 0  # no axis is a principal one


def test_correlation_in_the_plane() -> None:
    moments = Gaussian(dim=2, condition=9.0)
    draws = moments.sample(100_000, Generator().manual_seed(0))
    correlation = draws.T.corrcoef()[0, 1].item()
    assert abs(correlation - (9 - 1) / (9 + 1)) < 4.5 * (1 - 0.8**2) / math.sqrt(100_000)


def test_marginals_of_the_draws() -> None:
    draws = targets.get("gaussian_ill").sample(100_000, Generator().manual_seed(1)).numpy()
    sds = np.sqrt(np.diag(covariance(10, 1.0, 1e4)))
    p_values = [stats.kstest(draws[:, i], stats.norm(scale=sds[i]).cdf).pvalue for i in range(10)]
    assert min(p_values) > 1e-6


def test_registered_presets() -> None:
    assert targets.get("gaussian10") == Gaussian(10, 1.0, 1.0)
    assert targets.get("gaussian100") == Gaussian(100, 1.0, 100.0)


def test_distribution_functions_are_those_of_scipy() -> None:
    target = Gaussian(3, 2.0, 7.0)
    x = np.array([[0.3, -1.0, 2.0], [-2.5, 0.1, 0.4]])
    c = covariance(3, 2.0, 7.0)
    expected = [stats.norm(scale=math.sqrt(c[i, i])).cdf(x[:, i]) for i in range(3)]
    expected.append(stats.chi2(3).cdf(np.einsum("ni,ij,nj->n", x, np.linalg.inv(c), x)))
    for marginal, cdf in zip(target.marginals, expected, strict=True):
        torch.testing.assert_close(marginal.cdf(marginal.statistic(torch.from_numpy(x))), torch.from_numpy(cdf))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"sd": 0.0}, "sd must be positive and finite, got 0.0"),
        ({"sd": math.nan}, "sd must be positive and finite, got nan"),
        ({"condition": 0.5}, "condition must be at least 1 and finite, got 0.5"),
        ({"dim": 1, "condition": 2.0}, "condition must be 1 in one dimension, got 2.0"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        targets.get("gaussian2", **parameters)
