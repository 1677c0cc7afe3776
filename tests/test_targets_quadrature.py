"""log Z of every planar target against quadrature, and the quadrature behind the moments."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from samplerbench.targets.base import TARGETS, HasLogZ
from samplerbench.targets.quadrature import moments_of_map

Axis = tuple[float, float, float]  # first node, last node, step

# The trapezoid rule converges geometrically once the step resolves the narrower direction of the ridge.
GRIDS: dict[str, tuple[Axis, Axis]] = {
    "banana": ((-80, 80, 1.0), (-20, 200, 0.4)),
    "donut": ((-4.5, 4.5, 0.03), (-4.5, 4.5, 0.03)),
    "funnel2": ((-7, 7, 0.2), (-150, 150, 0.02)),
    "gaussian2": ((-5, 5, 0.1), (-5, 5, 0.1)),
    "gmm40_fab": ((-55, 55, 0.5), (-55, 55, 0.5)),
    "mog2": ((-10, 10, 0.2), (-10, 10, 0.2)),
    "ring8": ((-9, 9, 0.1), (-9, 9, 0.1)),
    "rings": ((-6, 6, 0.02), (-6, 6, 0.02)),
    "rosenbrock": ((-22, 24, 0.25), (-5, 600, 0.12)),
    "squiggle": ((-12, 12, 0.2), (-9, 9, 0.1)),
}


def log_integral(log_prob: Callable[[Tensor], Tensor], *axes: Axis) -> float:
    """Log of the integral of exp(log_prob) over a rectangle, by the trapezoid rule (its ends must be negligible)."""
    nodes = [torch.linspace(a, b, round((b - a) / step) + 1, dtype=torch.float64) for a, b, step in axes]
    cell = math.prod((axis[1] - axis[0]).item() for axis in nodes)
    rows = [log_prob(torch.cartesian_prod(block, nodes[1])).logsumexp(0) for block in nodes[0].split(50)]
    return torch.stack(rows).logsumexp(0).item() + math.log(cell)


@pytest.mark.parametrize("name", TARGETS.names())
def test_log_z_equals_quadrature(name: str) -> None:
    target = TARGETS.get(name)
    if target.dim != 2 or not isinstance(target, HasLogZ):
        pytest.skip("not planar, or log_z unknown")
    assert name in GRIDS, f"give {name} a grid"
    assert abs(log_integral(target.log_prob, *GRIDS[name]) - target.log_z.value) < 1e-5


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
