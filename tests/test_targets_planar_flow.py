import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import Generator

from samplerbench import targets
from samplerbench.targets.planar_flow import SineBands

X1 = np.linspace(-16, 16, 3_201)  # of N(0, 4), and fine enough for a sharp gap

names = pytest.mark.parametrize("name", ["sine2", "sine3", "sine4"])


def bands(name: str, x1: float) -> list[tuple[float, float]]:
    """Mean and standard deviation of x2 in each band, from table 1 of arXiv 1505.05770."""
    w1 = math.sin(2 * math.pi * x1 / 4)
    w2 = 3 * math.exp(-0.5 * ((x1 - 1) / 0.6) ** 2)
    w3 = 3 / (1 + math.exp(-(x1 - 1) / 0.3))
    return {"sine2": [(w1, 0.4)], "sine3": [(w1, 0.35), (w1 - w2, 0.35)], "sine4": [(w1, 0.4), (w1 - w3, 0.35)]}[name]


def conditional_density(name: str, x1: float, x2: float) -> float:
    return float(np.mean([stats.norm.pdf((x2 - mean) / sd) / sd for mean, sd in bands(name, x1)]))


def conditional_cdf(name: str, x1: float, x2: float) -> float:
    return float(np.mean([special.ndtr((x2 - mean) / sd) for mean, sd in bands(name, x1)]))


@names
def test_log_prob_at_fixed_points(name: str) -> None:
    points = [(0.0, 0.0), (1.0, -2.0), (-3.0, 1.2), (1.7, 0.4)]
    expected = [stats.norm(0, 2).logpdf(x1) + math.log(conditional_density(name, x1, x2)) for x1, x2 in points]
    log_prob = targets.get(name).log_prob(torch.tensor(points, dtype=torch.float64))
    torch.testing.assert_close(log_prob, torch.tensor(expected, dtype=torch.float64))


def test_spot_values() -> None:
    """At x1 = 1: w1 = 1, w2 = 3, w3 = 3/2; so with x2 = 1 the first band has residual 0."""
    x = torch.tensor([1.0, 1.0], dtype=torch.float64)
    base = -0.125 - math.log(2) - math.log(2 * math.pi)
    expected = {
        "sine2": base - math.log(0.4),
        "sine3": base - math.log(0.7) + math.log1p(math.exp(-0.5 * (3 / 0.35) ** 2)),
        "sine4": base + math.log(0.5 / 0.4 + 0.5 / 0.35 * math.exp(-0.5 * (1.5 / 0.35) ** 2)),
    }
    for name, value in expected.items():
        assert math.isclose(targets.get(name).log_prob(x), value, rel_tol=1e-12)


@names
def test_moments_by_quadrature_over_x1(name: str) -> None:
    """Given x1, x2 has the mixed moments m, m^2 + s^2 and m^4 + 6 m^2 s^2 + 3 s^4 of its bands."""

    def average(power: int) -> float:
        moments = {1: lambda m, s: m, 2: lambda m, s: m**2 + s**2, 4: lambda m, s: m**4 + 6 * m**2 * s**2 + 3 * s**4}
        inner = [np.mean([moments[power](m, s) for m, s in bands(name, x1)]) for x1 in X1]
        return integrate.simpson(inner * stats.norm(0, 2).pdf(X1), x=X1)

    first, second, fourth = (average(power) for power in (1, 2, 4))
    moments = targets.get(name).moments
    expected_mean = torch.tensor([0.0, first, 4.0, second], dtype=torch.float64)
    expected_variance = torch.tensor([4.0, second - first**2, 32.0, fourth - second**2], dtype=torch.float64)
    torch.testing.assert_close(moments.mean, expected_mean, atol=1e-7, rtol=0)
    torch.testing.assert_close(moments.variance, expected_variance, atol=1e-6, rtol=0)


@names
def test_distribution_functions_by_scipy(name: str) -> None:
    first, second, level = targets.get(name).marginals
    at = torch.tensor([-2.1, -0.4, 0.9], dtype=torch.float64)
    torch.testing.assert_close(first.cdf(at), torch.from_numpy(stats.norm(0, 2).cdf(at.numpy())))
    for value, computed in zip(at.tolist(), second.cdf(at).tolist(), strict=True):
        inner = [conditional_cdf(name, x1, value) for x1 in X1]
        expected = integrate.simpson(inner * stats.norm(0, 2).pdf(X1), x=X1)
        assert math.isclose(computed, expected, abs_tol=1e-6)
    point = torch.tensor([[1.3, -0.6]], dtype=torch.float64)
    assert math.isclose(level.statistic(point), conditional_cdf(name, 1.3, -0.6), rel_tol=1e-12)


@names
def test_marginals_of_the_draws(name: str) -> None:
    target = targets.get(name)
    x = target.sample(200_000, Generator().manual_seed(0))
    for marginal in target.marginals:
        level = marginal.cdf(marginal.statistic(x)).numpy()
        assert stats.kstest(level, stats.uniform.cdf).pvalue > 1e-5, marginal.name


def test_draws_of_another_law_are_caught() -> None:
    """The draws of sine4 with both bands as wide as its first: .4 for .35."""
    generator = Generator().manual_seed(0)
    x1 = 2 * torch.randn(200_000, generator=generator, dtype=torch.float64)
    gap = torch.where(torch.rand(200_000, generator=generator) < 0.5, 3 * torch.sigmoid((x1 - 1) / 0.3), 0.0)
    noise = 0.4 * torch.randn(200_000, generator=generator, dtype=torch.float64)
    wrong = torch.stack([x1, torch.sin(math.pi * x1 / 2) - gap + noise], dim=-1)
    level = targets.get("sine4").marginals[2]
    assert stats.kstest(level.cdf(level.statistic(wrong)).numpy(), stats.uniform.cdf).pvalue < 1e-5


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ValueError, match="gap must be one of none, bump, step, got 'fork'"):
        SineBands("fork")  # type: ignore[arg-type]
