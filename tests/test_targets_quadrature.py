"""log Z of every planar target against quadrature, and the quadrature behind the moments."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from samplerbench.targets.base import TARGETS, HasLogZ
from samplerbench.targets.quadrature import PlanarDensity, cdf_of_density, moments_of_map

Axis = tuple[float, float, float]  # first node, last node, step

# The trapezoid rule converges geometrically once the step resolves the narrower direction of the ridge.
GRIDS: dict[str, tuple[Axis, Axis]] = {
    "banana": ((-80, 80, 1.0), (-20, 200, 0.4)),
    "donut": ((-4.5, 4.5, 0.03), (-4.5, 4.5, 0.03)),
    "funnel2": ((-7, 7, 0.2), (-150, 150, 0.02)),
    "gaussian2": ((-5, 5, 0.1), (-5, 5, 0.1)),
    **{f"gmm40_{which}": ((-55, 55, 0.5), (-55, 55, 0.5)) for which in ("fab", "seed1", "seed2", "seed3")},
    "grid25": ((-15, 15, 0.15), (-15, 15, 0.15)),
    "grid9": ((-10, 10, 0.15), (-10, 10, 0.15)),
    "himmelblau": ((-6, 6, 0.05), (-6, 6, 0.05)),
    "mixture_2d": ((-70, 70, 0.2), (-70, 70, 0.2)),
    "mog2": ((-10, 10, 0.2), (-10, 10, 0.2)),
    "rare_modes2": ((-25, 25, 0.2), (-25, 25, 0.2)),
    "ring8": ((-9, 9, 0.1), (-9, 9, 0.1)),
    "ring8_stein": ((-24, 24, 0.3), (-24, 24, 0.3)),
    "rings": ((-6, 6, 0.02), (-6, 6, 0.02)),
    "rosenbrock": ((-22, 24, 0.25), (-5, 600, 0.12)),
    "sine2": ((-18, 18, 0.05), (-6, 6, 0.1)),
    "sine3": ((-18, 18, 0.03), (-8, 5, 0.1)),
    "sine4": ((-18, 18, 0.03), (-8, 5, 0.1)),
    "squiggle": ((-12, 12, 0.2), (-9, 9, 0.1)),
    "two_moons": ((-4, 4, 0.05), (-4, 4, 0.05)),
    "u1": ((-6, 6, 0.05), (-6, 6, 0.05)),
}
# Heavy tails: the axes are those of t, x = sinh(t).
SINH_GRIDS: dict[str, tuple[Axis, Axis]] = {
    "student_mixture": ((-10, 10, 0.05), (-10, 10, 0.05)),
    "student_mixture_nu2": ((-16, 16, 0.05), (-16, 16, 0.05)),
}


def log_integral(log_prob: Callable[[Tensor], Tensor], *axes: Axis) -> float:
    """Log of the integral of exp(log_prob) over a rectangle, by the trapezoid rule (its ends must be negligible)."""
    nodes = [torch.linspace(a, b, round((b - a) / step) + 1, dtype=torch.float64) for a, b, step in axes]
    cell = math.prod((axis[1] - axis[0]).item() for axis in nodes)
    rows = [log_prob(torch.cartesian_prod(block, nodes[1])).logsumexp(0) for block in nodes[0].split(50)]
    return torch.stack(rows).logsumexp(0).item() + math.log(cell)


NO_GRID = ["funnel2_wide"]  # a neck of width exp(-10) is narrower than any grid: the formula is that of funnel2
PLANAR = [name for name in TARGETS.names() if TARGETS.get(name).dim == 2 and name not in NO_GRID]


@pytest.mark.parametrize("name", PLANAR)
def test_log_z_equals_quadrature(name: str) -> None:
    target = TARGETS.get(name)
    assert isinstance(target, HasLogZ)
    if name in SINH_GRIDS:

        def log_prob(t: Tensor) -> Tensor:
            return target.log_prob(t.sinh()) + t.cosh().log().sum(-1)

        value = log_integral(log_prob, *SINH_GRIDS[name])
    else:
        assert name in GRIDS, f"give {name} a grid"
        value = log_integral(target.log_prob, *GRIDS[name])
    assert abs(value - target.log_z.value) < 1e-5


def test_stated_constants() -> None:
    for name, value in (("donut", 1.660130), ("rosenbrock", math.log(2 * math.pi)), ("squiggle", 0.0)):
        target = TARGETS.get(name)
        assert isinstance(target, HasLogZ)
        assert abs(target.log_z.value - value) < 5e-7


def test_quadrature_sees_a_wrong_normaliser() -> None:
    target = TARGETS.get("donut")
    forgotten_jacobian = 0.5 * math.log(math.pi * 0.033) + math.log(2 * math.pi)  # the radial integral without r
    assert abs(log_integral(target.log_prob, *GRIDS["donut"]) - forgotten_jacobian) > 0.9


def test_moments_of_a_lognormal_and_a_shifted_square() -> None:
    moments = moments_of_map(lambda z: torch.stack([torch.exp(0.5 * z[:, 0]), 1 + z[:, 1].square()], dim=-1))

    def lognormal(k: float) -> float:
        return math.exp(k**2 / 8)  # E exp(k z / 2)

    # E (1 + z^2)^k = 2, 6, 28, 188 for k = 1, 2, 3, 4, by E z^2 = 1, E z^4 = 3, E z^6 = 15, E z^8 = 105
    mean = [lognormal(1), 2, lognormal(2), 6]
    variance = [lognormal(2) - lognormal(1) ** 2, 6 - 4, lognormal(4) - lognormal(2) ** 2, 188 - 36]
    torch.testing.assert_close(moments.mean, torch.tensor(mean, dtype=torch.float64), rtol=1e-10, atol=0)
    torch.testing.assert_close(moments.variance, torch.tensor(variance, dtype=torch.float64), rtol=1e-9, atol=0)


def correlated_normal(x: Tensor) -> Tensor:
    """Unnormalised log density of N(0, [[1, .6], [.6, 1]]): log Z = log 2 pi + log .8."""
    return -0.5 * (x[..., 0] ** 2 - 1.2 * x[..., 0] * x[..., 1] + x[..., 1] ** 2) / 0.64


def test_planar_density_of_a_correlated_normal() -> None:
    """E x_i^2 = 1, Var x_i^2 = 2, orthant probability 1/4 + asin(.6) / (2 pi)."""
    density = PlanarDensity(correlated_normal, (9.0, 9.0), (0.05, 0.05))
    assert math.isclose(density.log_z.value, math.log(2 * math.pi * 0.8), abs_tol=1e-12)
    assert density.log_z.std_error < 1e-12
    exact = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2], dtype=torch.float64)
    torch.testing.assert_close(torch.cat([density.moments.mean, density.moments.variance]), exact, atol=1e-12, rtol=0)
    orthants = density.masses(lambda x: 2 * (x[:, 0] > 0).long() + (x[:, 1] > 0).long(), 4)
    same = 0.25 + math.asin(0.6) / (2 * math.pi)
    expected = torch.tensor([same, 0.5 - same, 0.5 - same, same], dtype=torch.float64)
    torch.testing.assert_close(orthants, expected, atol=5e-5, rtol=0)
    assert math.isclose(density.level(0.999), math.log(1 - 0.999), abs_tol=0.05)  # -.5 q, q the chi^2(2) quantile
    at = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    for marginal in density.marginals[:2]:
        torch.testing.assert_close(marginal.cdf(at), torch.special.ndtr(at), atol=1e-7, rtol=0)


def test_law_of_the_radius_carries_the_jacobian() -> None:
    radius = PlanarDensity(lambda x: -0.5 * x.square().sum(-1), (9.0, 9.0), (0.05, 0.05)).radius()
    r = torch.linspace(0, 6, 61, dtype=torch.float64)
    torch.testing.assert_close(radius.cdf(r), -torch.expm1(-0.5 * r**2), atol=1e-7, rtol=0)


def test_a_grid_too_coarse_confesses_its_error() -> None:
    density = PlanarDensity(correlated_normal, (9.0, 9.0), (1.0, 1.0))
    error = abs(density.log_z.value - math.log(2 * math.pi * 0.8))
    assert 1e-6 < error < density.log_z.std_error


def test_distribution_function_from_a_density() -> None:
    nodes = torch.linspace(0, 40, 801, dtype=torch.float64)
    cdf = cdf_of_density(nodes, 7 * nodes * torch.exp(-nodes))  # Gamma(2): 1 - (1 + x) exp(-x)
    x = torch.tensor([-1.0, 0.3, 2.0, 50.0])
    expected = torch.tensor([0.0, 1 - 1.3 * math.exp(-0.3), 1 - 3 * math.exp(-2), 1.0], dtype=torch.float64)
    assert cdf(x).dtype == torch.float64
    torch.testing.assert_close(cdf(x), expected, atol=1e-6, rtol=0)
