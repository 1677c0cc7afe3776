import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from samplerbench import targets

LAW = stats.multivariate_normal(cov=[[2, 0.25], [0.25, 0.5]])


def test_log_prob_at_fixed_points() -> None:
    x = np.array([[0.0, 0.0], [1.0, 0.5], [-1.3, 0.7], [3.0, -1.0]])
    expected = LAW.logpdf(np.stack([x[:, 0], x[:, 1] + np.sin(5 * x[:, 0])], axis=-1))
    torch.testing.assert_close(targets.get("squiggle").log_prob(torch.from_numpy(x)), torch.from_numpy(expected))


def test_marginals_of_the_draws() -> None:
    x1, x2 = targets.get("squiggle").sample(200_000, Generator().manual_seed(0)).T.numpy()
    y2 = x2 + np.sin(5 * x1)
    assert stats.kstest(x1, stats.norm(0, np.sqrt(2)).cdf).pvalue > 1e-5
    assert stats.kstest(y2 - x1 * 0.25 / 2, stats.norm(0, np.sqrt(0.5 - 0.25**2 / 2)).cdf).pvalue > 1e-5


def test_distribution_functions_are_those_of_scipy() -> None:
    """Var y1 = 2, Var y2 = 1/2, Var(y1 + y2) = 2 + 1/2 + 2/4 = 3."""
    x = np.array([[0.4, -0.3], [-2.0, 1.0], [1.1, 0.2]])
    y1, y2 = x[:, 0], x[:, 1] + np.sin(2 * x[:, 0])
    expected = [stats.norm(0, np.sqrt(v)).cdf(y) for y, v in ((y1, 2.0), (y2, 0.5), (y1 + y2, 3.0))]
    for marginal, cdf in zip(targets.get("squiggle", frequency=2.0).marginals, expected, strict=True):
        torch.testing.assert_close(marginal.cdf(marginal.statistic(torch.from_numpy(x))), torch.from_numpy(cdf))


def test_moments_in_closed_form() -> None:
    """E x2^2 = 1/2 + E sin^2(5 y1) = 1, up to terms of order exp(-25)."""
    mean = targets.get("squiggle").moments.mean
    torch.testing.assert_close(mean, torch.tensor([0, 0, 2, 1], dtype=torch.float64), atol=1e-9, rtol=0)


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ValueError, match=r"frequency must be positive and finite, got -5.0"):
        targets.get("squiggle", frequency=-5.0)
