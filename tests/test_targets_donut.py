import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.benchmarks.agreement import stein_error
from samplerbench.targets.donut import ConcentricRings, Rings

RADII = {"donut": (2.6,), "rings": (1.0, 3.0, 5.0)}
WIDTH = {"donut": 0.033, "rings": 0.01}


def radial_cdf(name: str, r: np.ndarray) -> np.ndarray:
    """Law of r = |x|: the density with the polar Jacobian r, by cumulative quadrature."""
    grid = np.linspace(0, 7, 70_001)
    density = grid * np.exp(-np.min([(grid - radius) ** 2 for radius in RADII[name]], axis=0) / WIDTH[name])
    cdf = integrate.cumulative_simpson(density, x=grid, initial=0)
    return np.interp(r, grid, cdf / cdf[-1])


def draws_without_jacobian(n_samples: int) -> Tensor:
    """The published mistake: a normal radius with a uniform angle."""
    generator = Generator().manual_seed(0)
    radius = 2.6 + math.sqrt(0.033 / 2) * torch.randn(n_samples, 1, generator=generator, dtype=torch.float64)
    angle = 2 * math.pi * torch.rand(n_samples, 1, generator=generator, dtype=torch.float64)
    return radius * torch.cat([angle.cos(), angle.sin()], dim=-1)


def test_log_prob_at_fixed_points() -> None:
    x = torch.tensor([[2.6, 0.0], [3.0, 4.0], [-0.6, 0.8], [0.0, -2.0]], dtype=torch.float64)  # r = 2.6, 5, 1, 2
    donut = [0.0, -(2.4**2) / 0.033, -(1.6**2) / 0.033, -(0.6**2) / 0.033]
    rings = [-100 * 0.4**2, 0.0, 0.0, -100.0]
    for name, expected in (("donut", donut), ("rings", rings)):
        torch.testing.assert_close(targets.get(name).log_prob(x), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("name", ["donut", "rings"])
def test_radius_and_angle_of_the_draws(name: str) -> None:
    x = targets.get(name).sample(200_000, Generator().manual_seed(2))
    assert stats.kstest(x.norm(dim=-1).numpy(), lambda r: radial_cdf(name, r)).pvalue > 1e-5
    angle = torch.atan2(x[:, 1], x[:, 0]).numpy()
    assert stats.kstest(angle, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-5


@pytest.mark.parametrize("name", ["donut", "rings"])
def test_distribution_functions_by_quadrature(name: str) -> None:
    radius, angle = targets.get(name).marginals
    r = torch.linspace(0, 7, 1_401, dtype=torch.float64)
    expected = torch.from_numpy(radial_cdf(name, r.numpy()))
    torch.testing.assert_close(radius.cdf(r), expected, atol=1e-8, rtol=0)
    x = torch.tensor([[-1.0, -1e-9], [0.0, -2.0], [3.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(
        angle.cdf(angle.statistic(x)), torch.tensor([0.0, 0.25, 0.625], dtype=torch.float64), atol=1e-9, rtol=0
    )


def test_a_forgotten_jacobian_is_caught() -> None:
    wrong = draws_without_jacobian(100_000)
    radius = targets.get("donut").marginals[0]
    assert stats.kstest(radius.cdf(radius.statistic(wrong)).numpy(), stats.uniform.cdf).pvalue < 1e-5
    assert stats.kstest(wrong.norm(dim=-1).numpy(), lambda r: radial_cdf("donut", r)).pvalue < 1e-5
    assert abs(stein_error(wrong, targets.get("donut"))) > 10


def test_mode_is_the_nearest_ring_and_nothing_far_from_it() -> None:
    modes = targets.get("rings").modes
    edge = 3.290526731491895 * math.sqrt(0.01 / 2)  # 99.9% of N(0, s^2) lie within 3.29 s
    radii = [1.0, 3.0, 5.0, 1 + 0.99 * edge, 1 + 1.01 * edge, 5 - 0.99 * edge, 2.0, 0.0, 50.0]
    x = torch.tensor([[0.6 * r, -0.8 * r] for r in radii], dtype=torch.float64)
    assert modes.assign(x).tolist() == [0, 1, 2, 0, -1, 2, -1, -1, -1]


def test_ring_masses_by_quadrature() -> None:
    """Integrals of r exp(log_prob) over |r - radius| <= 3.29 s, against the stated 0.999 x 1 : 3 : 5."""
    s = math.sqrt(0.01 / 2)
    total = 2 * math.pi * math.sqrt(math.pi * 0.01) * 9
    for k, radius in enumerate((1.0, 3.0, 5.0)):
        edge = stats.norm.ppf(0.9995) * s
        inside, _ = integrate.quad(lambda r, a=radius: r * np.exp(-100 * (r - a) ** 2), radius - edge, radius + edge)
        assert math.isclose(targets.get("rings").modes.masses[k], 2 * math.pi * inside / total, rel_tol=1e-9)


def test_fewer_or_other_rings() -> None:
    target = targets.get("rings", radii=[2.0, 4.0], width=0.02)
    assert target == Rings((2.0, 4.0), 0.02)
    assert math.isclose(target.log_z.value, math.log(2 * math.pi * 6 * math.sqrt(math.pi * 0.02)))
    assert torch.allclose(target.modes.masses, torch.tensor([0.333, 0.666], dtype=torch.float64))


@pytest.mark.parametrize(
    ("radii", "width", "message"),
    [
        ((2.6,), -1.0, "width must be positive and finite, got -1.0"),
        ((), 0.01, "radii must hold at least one radius"),
        ((1.0, math.inf), 0.01, r"radii\[1\] must be positive and finite, got inf"),
        ((0.5,), 0.01, r"8 standard deviations .* to the origin .*got \(0.5,\)"),
        ((3.0, 1.0), 0.01, r"16 to each other, increasing, got \(3.0, 1.0\)"),
    ],
)
def test_bad_parameters_are_named(radii: tuple[float, ...], width: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConcentricRings(radii, width)
