import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from samplerbench import targets


def test_log_prob_at_fixed_points() -> None:
    x = np.array([[0.0, -3.0], [10.0, 0.0], [-20.0, 10.0], [7.0, 2.5]])
    expected = stats.norm(0, 10).logpdf(x[:, 0]) + stats.norm(0.03 * (x[:, 0] ** 2 - 100), 1).logpdf(x[:, 1])
    torch.testing.assert_close(targets.get("banana").log_prob(torch.from_numpy(x)), torch.from_numpy(expected))


def test_marginals_of_the_draws() -> None:
    x1, x2 = targets.get("banana").sample(200_000, Generator().manual_seed(0)).T.numpy()
    assert stats.kstest(x1, stats.norm(0, 10).cdf).pvalue > 1e-5
    assert stats.kstest(x2 - 0.03 * (x1**2 - 100), stats.norm.cdf).pvalue > 1e-5


def test_distribution_functions_are_those_of_scipy() -> None:
    x = np.array([[4.0, 1.0], [-15.0, 2.5], [0.5, -3.6]])
    first, unbent = targets.get("banana", bend=0.05).marginals
    expected = [stats.norm(0, 10).cdf(x[:, 0]), stats.norm.cdf(x[:, 1] - 0.05 * (x[:, 0] ** 2 - 100))]
    for marginal, cdf in zip((first, unbent), expected, strict=True):
        torch.testing.assert_close(marginal.cdf(marginal.statistic(torch.from_numpy(x))), torch.from_numpy(cdf))


def test_moments_in_closed_form() -> None:
    """Var x1 = 100, Var x2 = 1 + 0.03^2 Var x1^2 = 19, means 0; Var x1^2 = 2 x 100^2."""
    moments = targets.get("banana").moments
    torch.testing.assert_close(moments.mean, torch.tensor([0, 0, 100, 19], dtype=torch.float64), atol=1e-8, rtol=0)
    assert math.isclose(moments.variance[2], 2 * 100**2, rel_tol=1e-9)


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ValueError, match=r"target 'banana': bend must be positive and finite, got 0.0"):
        targets.get("banana", bend=0)
