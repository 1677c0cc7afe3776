import math

import pytest
import torch
from scipy import integrate, stats
from torch import Generator

from samplerbench import targets
from samplerbench.targets.two_moons import TwoMoons

CONSTANTS = {"two_moons": (0.2, 0.3), "u1": (0.4, 0.6)}
# Of scipy's dblquad in polar coordinates.
LOG_Z = {"two_moons": 0.8042144486321, "u1": 1.8775016261097}
SQUARED_RADIUS = {"two_moons": 4.281637653589, "u1": 4.698779430732}

names = pytest.mark.parametrize("name", CONSTANTS)


def density(name: str, x1: float, x2: float) -> float:
    width, spread = CONSTANTS[name]
    bumps = (math.exp(-0.5 * ((x1 - a) / spread) ** 2) for a in (-2, 2))
    return math.exp(-0.5 * ((math.hypot(x1, x2) - 2) / width) ** 2) * sum(bumps)


def total(name: str) -> float:
    return math.exp(LOG_Z[name])


@names
def test_log_prob_at_fixed_points(name: str) -> None:
    points = [(2.0, 0.0), (-1.5, 1.0), (0.0, -2.0), (0.3, 0.4)]
    expected = [math.log(density(name, *point)) for point in points]
    log_prob = targets.get(name).log_prob(torch.tensor(points, dtype=torch.float64))
    torch.testing.assert_close(log_prob, torch.tensor(expected, dtype=torch.float64))


@names
def test_log_z_and_moments_by_quadrature_in_polar_coordinates(name: str) -> None:
    target = targets.get(name)
    assert math.isclose(target.log_z.value, LOG_Z[name], abs_tol=1e-12)
    assert target.log_z.std_error < 1e-12
    assert math.isclose(target.moments.mean[2:].sum(), SQUARED_RADIUS[name], rel_tol=1e-11)
    assert target.moments.mean[:2].abs().max() < 1e-14


@names
def test_distribution_functions_by_scipy(name: str) -> None:
    """Of x[0] and x[1] up to a point, and of the radius with its Jacobian r, by adaptive quadrature."""
    first, second, radius = targets.get(name).marginals

    def slab(a: float, b: float, low: float, high: float) -> float:
        value, _ = integrate.dblquad(lambda y, x: density(name, x, y), a, b, low, high, epsabs=1e-9)
        return value / total(name)

    def disc(bound: float) -> float:
        value, _ = integrate.dblquad(
            lambda r, angle: r * density(name, r * math.cos(angle), r * math.sin(angle)), 0, math.pi / 2, 0, bound
        )
        return 4 * value / total(name)

    at = torch.tensor([-1.8], dtype=torch.float64)
    assert math.isclose(first.cdf(at), slab(-6, -1.8, -6, 6), abs_tol=3e-7)
    assert math.isclose(second.cdf(-at), 1 - 2 * slab(0, 6, 1.8, 6), abs_tol=3e-7)
    assert math.isclose(radius.cdf(-at), disc(1.8), abs_tol=3e-7)


@names
def test_marginals_of_the_draws(name: str) -> None:
    target = targets.get(name)
    x = target.sample(200_000, Generator().manual_seed(0))
    for marginal in target.marginals:
        level = marginal.cdf(marginal.statistic(x)).numpy()
        assert stats.kstest(level, stats.uniform.cdf).pvalue > 1e-5, marginal.name


def test_a_forgotten_jacobian_is_caught() -> None:
    """Rejection with the radius N(2, .2^2), not tilted by r: what forgets the Jacobian."""
    generator = Generator().manual_seed(1)
    z, u = torch.randn(200_000, generator=generator), torch.rand(2, 200_000, generator=generator)
    r, angle = 2 + 0.2 * z, 2 * math.pi * u[0]
    x = r[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    x = x[u[1] < torch.exp(-0.5 * ((x[:, 0] - 2) / 0.3) ** 2)]
    radius = targets.get("two_moons").marginals[2]
    assert stats.kstest(radius.cdf(radius.statistic(x)).numpy(), stats.uniform.cdf).pvalue < 1e-5


@names
def test_modes_are_the_two_sides(name: str) -> None:
    modes = targets.get(name).modes
    points = [[-2.0, 0.0], [2.0, 0.0], [-1.9, 0.3], [0.0, 0.0], [0.0, 4.0], [2.0, 50.0]]
    assert modes.assign(torch.tensor(points, dtype=torch.float64)).tolist() == [0, 1, 0, -1, -1, -1]
    assert math.isclose(modes.masses[0], modes.masses[1], abs_tol=1e-9)
    assert math.isclose(modes.masses.sum(), 0.999, abs_tol=2e-5)


@names
def test_mode_masses_by_summation_in_polar_coordinates(name: str) -> None:
    """The midpoint rule with the Jacobian r over the points that are assigned to the right moon."""
    target = targets.get(name)
    r = (torch.arange(2_000, dtype=torch.float64) + 0.5) * (5 / 2_000)
    angle = (torch.arange(1_000, dtype=torch.float64) + 0.5) * (math.pi / 2 / 1_000)
    r, angle = torch.meshgrid(r, angle, indexing="ij")
    x = torch.stack([r * angle.cos(), r * angle.sin()], dim=-1).flatten(0, 1)
    weights = 2 * r.flatten() * target.log_prob(x).exp() * (5 / 2_000) * (math.pi / 2 / 1_000)
    mass = weights[target.modes.assign(x) == 1].sum() / total(name)
    assert math.isclose(target.modes.masses[1], mass, abs_tol=1e-5)


def test_other_constants_keep_draws_and_quadrature_together() -> None:
    target = TwoMoons(radius=5.0, width=0.3, spread=1.5)
    x = target.sample(100_000, Generator().manual_seed(2))
    for marginal in target.marginals:
        assert stats.kstest(marginal.cdf(marginal.statistic(x)).numpy(), stats.uniform.cdf).pvalue > 1e-5
    error = (target.moments.variance[2] / len(x)).sqrt()
    assert (x[:, 0].square().mean() - target.moments.mean[2]).abs() < 4.5 * error


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"radius": -1.0}, "radius must be positive and finite, got -1.0"),
        ({"width": 0.7}, "width must be 0.05 to 0.3 of the radius 2.0, got 0.7"),
        ({"spread": 0.09}, "spread must be 0.05 to 0.3 of the radius 2.0, got 0.09"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        targets.get("two_moons", **parameters)
