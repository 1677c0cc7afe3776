import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from torch import Generator

from samplerbench import targets
from samplerbench.targets.himmelblau import CELL, HALF_WIDTH, envelope

# Of scipy's dblquad over the quadrants (-, -), (-, +), (+, -), (+, +).
QUADRANTS = (0.6693398279218, 0.9186082500936, 1.3007126441958, 1.5721007872006)


def energy(x: np.ndarray) -> float:
    return float((x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2)


def test_log_prob_at_fixed_points() -> None:
    """(x1^2 + x2 - 11)^2 + (x1 + x2^2 - 7)^2 by hand: 0, 121 + 49, 81 + 25, 16."""
    x = torch.tensor([[3.0, 2.0], [0.0, 0.0], [1.0, 1.0], [3.0, -2.0]], dtype=torch.float64)
    expected = torch.tensor([0.0, -17.0, -10.6, -1.6], dtype=torch.float64)
    torch.testing.assert_close(targets.get("himmelblau").log_prob(x), expected)


def test_log_z_by_quadrature_over_quadrants() -> None:
    log_z = targets.get("himmelblau").log_z
    assert math.isclose(log_z.value, math.log(sum(QUADRANTS)), abs_tol=1e-11)
    assert log_z.std_error < 1e-12


def test_modes_are_the_four_minima() -> None:
    modes = targets.get("himmelblau").modes
    starts = [(-3.0, -3.0), (-3.0, 3.0), (3.0, -2.0), (3.0, 2.0)]
    minima = torch.tensor(np.array([optimize.minimize(energy, start).x for start in starts]))
    assert modes.assign(minima).tolist() == [0, 1, 2, 3]
    outside = torch.tensor([[0.0, 0.0], [5.0, 2.0], [-3.0, 0.0]], dtype=torch.float64)
    assert modes.assign(outside).tolist() == [-1, -1, -1]


def test_mode_masses_are_quadrants_but_for_a_thousandth() -> None:
    masses = targets.get("himmelblau").modes.masses
    shares = torch.tensor(QUADRANTS, dtype=torch.float64) / sum(QUADRANTS)
    assert math.isclose(masses.sum(), 0.999, abs_tol=2e-5)
    assert ((masses < shares) & (masses > shares - 5e-4)).all()


def test_envelope_is_above_the_density() -> None:
    """At random points of every cell and at its corners; and it wastes less than 15% of the proposals."""
    target, generator = targets.get("himmelblau"), Generator().manual_seed(0)
    corners, bound = (table.value for table in envelope())
    offsets = [torch.tensor([a, b], dtype=torch.float64) for a in (0, 1) for b in (0, 1)]
    offsets += [torch.rand(len(corners), 2, generator=generator, dtype=torch.float64) for _ in range(10)]
    for offset in offsets:
        assert (target.log_prob(corners + CELL * offset) <= bound + 1e-9).all()
    waste = 1 - math.exp(target.log_z.value - bound.logsumexp(0).item()) / CELL**2
    assert 0 < waste < 0.15


def test_mass_outside_of_the_square_is_nil() -> None:
    """m = max(|x1|, |x2|) has perimeter 8 m, and the energy there is at least (m^2 - m - 11)^2."""
    outside, _ = integrate.quad(lambda m: 8 * m * math.exp(-((m**2 - m - 11) ** 2) / 10), HALF_WIDTH, 20)
    assert outside < 1e-39
    edge = torch.linspace(-HALF_WIDTH, HALF_WIDTH, 1_001, dtype=torch.float64)
    side = torch.full_like(edge, HALF_WIDTH)
    border = torch.cat([torch.stack(pair, -1) for pair in ((edge, side), (edge, -side), (side, edge), (-side, edge))])
    assert (-10 * targets.get("himmelblau").log_prob(border) >= (HALF_WIDTH**2 - HALF_WIDTH - 11) ** 2 - 1e-9).all()


def test_distribution_functions_by_scipy() -> None:
    """Of the coordinates at 0, by the quadrants; of the radius at 3.5, by adaptive quadrature."""
    first, second, radius = targets.get("himmelblau").marginals
    zero = torch.zeros(1)
    assert math.isclose(first.cdf(zero), sum(QUADRANTS[:2]) / sum(QUADRANTS), abs_tol=1e-8)
    assert math.isclose(second.cdf(zero), sum(QUADRANTS[::2]) / sum(QUADRANTS), abs_tol=1e-8)
    disc, _ = integrate.dblquad(
        lambda r, a: r * math.exp(-energy(np.array([r * math.cos(a), r * math.sin(a)])) / 10), 0, 2 * math.pi, 0, 3.5
    )
    assert math.isclose(radius.cdf(torch.tensor([3.5])), disc / sum(QUADRANTS), abs_tol=1e-7)


def test_marginals_of_the_draws() -> None:
    target = targets.get("himmelblau")
    x = target.sample(300_000, Generator().manual_seed(0))
    for marginal in target.marginals:
        level = marginal.cdf(marginal.statistic(x)).numpy()
        assert stats.kstest(level, stats.uniform.cdf).pvalue > 1e-5, marginal.name


def test_it_has_no_parameters() -> None:
    with pytest.raises(ValueError, match="unknown parameter 'temperature'"):
        targets.get("himmelblau", temperature=1.0)
