import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Generator

from samplerbench import targets
from samplerbench.benchmarks.agreement import stein_error
from samplerbench.targets.funnel import Funnel

LAWS = [("funnel2", 2, 1.0), ("funnel10", 10, 3.0), ("funnel10_easy", 10, 1.0), ("funnel100", 100, 3.0)]


@pytest.mark.parametrize(("name", "dim", "neck_sd"), LAWS)
def test_log_prob_at_fixed_points(name: str, dim: int, neck_sd: float) -> None:
    x = np.cos(np.arange(4 * dim)).reshape(4, dim) * np.array([[1.0], [4.0], [0.1], [7.0]])
    v, rest = x[:, 0], x[:, 1:]
    expected = stats.norm(0, neck_sd).logpdf(v) + stats.norm(0, np.exp(v / 2)[:, None]).logpdf(rest).sum(-1)
    torch.testing.assert_close(targets.get(name).log_prob(torch.from_numpy(x)), torch.from_numpy(expected))


@pytest.mark.parametrize(("name", "neck_sd"), [("funnel2", 1.0), ("funnel10", 3.0)])
def test_marginals_of_the_draws(name: str, neck_sd: float) -> None:
    x = targets.get(name).sample(100_000, Generator().manual_seed(0)).numpy()
    assert stats.kstest(x[:, 0], stats.norm(0, neck_sd).cdf).pvalue > 1e-5
    assert stats.kstest((x[:, 1:] / np.exp(x[:, :1] / 2)).ravel(), stats.norm.cdf).pvalue > 1e-5


@pytest.mark.parametrize("neck_sd", [0.3, 1.0, 3.0, 6.0])
def test_distribution_functions_by_scipy(neck_sd: float) -> None:
    """Of v and of the chi^2 in closed form; of x[1] as the average of Phi(x exp(-v / 2)) over v."""
    v, mouth, body = Funnel(dim=4, neck_sd=neck_sd).marginals
    x = torch.tensor([[-0.7, 1e-4, 0.2, -0.1], [1.1, 0.3, 2.0, -1.0], [0.0, -40.0, 0.5, 0.6]], dtype=torch.float64)
    torch.testing.assert_close(v.cdf(v.statistic(x)), torch.from_numpy(stats.norm(0, neck_sd).cdf(x[:, 0].numpy())))
    radius2 = x[:, 1:].square().sum(-1) * torch.exp(-x[:, 0])
    torch.testing.assert_close(body.cdf(body.statistic(x)), torch.from_numpy(stats.chi2(3).cdf(radius2.numpy())))
    z = np.linspace(-10, 10, 20_001)
    for value, computed in zip(x[:, 1].tolist(), mouth.cdf(mouth.statistic(x)).tolist(), strict=True):
        given_v = stats.norm.cdf(value * np.exp(-neck_sd * z / 2))
        assert math.isclose(computed, integrate.simpson(stats.norm.pdf(z) * given_v, x=z), abs_tol=1e-7)
    assert mouth.cdf(torch.zeros(1)).item() == 0.5


@pytest.mark.parametrize("name", ["funnel2", "funnel10"])
def test_law_of_the_mouth_sees_clipped_draws(name: str) -> None:
    draws = targets.get(name).sample(200_000, Generator().manual_seed(2))
    mouth = targets.get(name).marginals[1]
    assert stats.kstest(mouth.cdf(mouth.statistic(draws)).numpy(), stats.uniform.cdf).pvalue > 1e-5
    clipped = draws[draws[:, 0].abs() < 1.5 * draws[:, 0].std()]
    assert stats.kstest(mouth.cdf(mouth.statistic(clipped)).numpy(), stats.uniform.cdf).pvalue < 1e-5


@pytest.mark.parametrize(
    ("name", "scale"), [("funnel2", 1.0), ("funnel10", 9.0), ("funnel10_easy", 1.0), ("funnel100", 9.0)]
)
def test_scale_by_quadrature(name: str, scale: float) -> None:
    target = targets.get(name)
    sd = target.neck_sd
    variance, _ = integrate.quad(lambda v: math.exp(v) * stats.norm(0, sd).pdf(v), -10 * sd, sd**2 + 10 * sd)
    root = math.sqrt((sd**2 + (target.dim - 1) * variance) / target.dim)
    assert float(f"{root:.0e}") == target.scale == scale


def test_draws_clipped_in_v_are_caught() -> None:
    """Published exact draws were clipped while the density was not; here v at 2 standard deviations."""
    target = targets.get("funnel2")
    draws = target.sample(100_000, Generator().manual_seed(1))
    assert abs(stein_error(draws[draws[:, 0].abs() < 2], target)) > 10


def test_parameters_can_be_overridden() -> None:
    assert targets.get("funnel10", dim=3) == Funnel(3, 3.0)
    assert targets.get("funnel10", dim=100).log_prob(torch.zeros(2, 100)).shape == (2,)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"dim": 1}, "dim must be at least 2, got 1"), ({"neck_sd": 0}, "neck_sd must be positive and finite, got 0.0")],
)
def test_bad_parameters_are_named(parameters: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        targets.get("funnel10", **parameters)
