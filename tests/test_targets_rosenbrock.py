import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from samplerbench import targets
from samplerbench.targets.rosenbrock import Rosenbrock


def test_log_prob_at_fixed_points() -> None:
    """The normalised law is N(x1; 1, 10) N(x2; x1^2, 0.1)."""
    x = np.array([[1.0, 1.0], [-3.0, 8.5], [4.0, 17.0], [0.0, 0.0]])
    normalised = stats.norm(1, math.sqrt(10)).logpdf(x[:, 0]) + stats.norm(x[:, 0] ** 2, math.sqrt(0.1)).logpdf(x[:, 1])
    expected = torch.from_numpy(normalised + math.log(2 * math.pi))
    torch.testing.assert_close(targets.get("rosenbrock").log_prob(torch.from_numpy(x)), expected)
    assert expected[0].abs() < 1e-12


def test_marginals_of_the_draws() -> None:
    x1, x2 = targets.get("rosenbrock").sample(200_000, Generator().manual_seed(0)).T.numpy()
    assert stats.kstest(x1, stats.norm(1, math.sqrt(10)).cdf).pvalue > 1e-5
    assert stats.kstest(x2 - x1**2, stats.norm(0, math.sqrt(0.1)).cdf).pvalue > 1e-5


def test_distribution_functions_are_those_of_scipy() -> None:
    x = np.array([[2.0, 4.1], [-3.0, 8.6], [0.5, 0.0]])
    expected = [stats.norm(1, 1).cdf(x[:, 0]), stats.norm(0, 0.5).cdf(x[:, 1] - x[:, 0] ** 2)]
    for marginal, cdf in zip(Rosenbrock(temperature=2.0, curvature=4.0).marginals, expected, strict=True):
        torch.testing.assert_close(marginal.cdf(marginal.statistic(torch.from_numpy(x))), torch.from_numpy(cdf))


def test_scale_by_moments_of_scipy() -> None:
    x1 = stats.norm(1, math.sqrt(10))
    second = (x1.moment(2) + x1.moment(4) + 0.1) / 2
    assert float(f"{math.sqrt(second):.0e}") == targets.get("rosenbrock").scale == 10.0


def test_temperature_moves_log_z() -> None:
    assert math.isclose(targets.get("rosenbrock", temperature=1).log_z.value, math.log(math.pi / 10))


@pytest.mark.parametrize("field", ["temperature", "curvature"])
def test_bad_parameters_are_named(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be positive and finite, got -1.0"):
        Rosenbrock(**{field: -1.0})
