import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Generator

from samplerbench import targets
from samplerbench.targets.base import HasModes
from samplerbench.targets.double_well import DoubleWell
from samplerbench.targets.many_well import ManyWell, ManyWellSDE

# By mpmath with 20 digits: (delta, tilt), log Z, share of the right well, E x, E x^2.
WELLS = [
    (3.0, 0.5, 0.3745411738691952, 0.8443070962111392, 1.1879609833761466, 2.9598060904889368),
    (2.0, 0.0, 0.2930017366640776, 0.5, 0.0, 1.8353417214904594),
    (4.0, 0.0, -0.1082111025758908, 0.5, 0.0, 3.9341046423344385),
]
PAIR = 10.293479707073868  # one two-dimensional copy of the many well of FAB

wells = pytest.mark.parametrize(("delta", "tilt", "log_z", "right", "first", "second"), WELLS)


@wells
def test_double_well_by_quadrature(
    delta: float, tilt: float, log_z: float, right: float, first: float, second: float
) -> None:
    well = DoubleWell(delta, tilt)
    assert math.isclose(well.log_z, log_z, abs_tol=1e-12)
    assert math.isclose(well.moment(1), first, abs_tol=1e-12)
    assert math.isclose(well.moment(2), second, rel_tol=1e-12)
    assert math.isclose(1 - well.cdf(torch.zeros(1)), right, abs_tol=1e-7)


@pytest.mark.parametrize(("delta", "tilt"), [(3.0, 0.5), (4.0, 0.0), (0.5, -2.0), (30.0, 0.1)])
def test_double_well_draws(delta: float, tilt: float) -> None:
    """Against a distribution function by scipy; the envelope must dominate: acceptance probabilities of at most 1."""
    well = DoubleWell(delta, tilt)
    x = np.linspace(-8, 8, 64_001)
    cdf = integrate.cumulative_simpson(np.exp(tilt * x - (x**2 - delta) ** 2), x=x, initial=0)
    draws = well.sample(200_000, Generator().manual_seed(0))
    assert stats.kstest(draws.numpy(), lambda v: np.interp(v, x, cdf / cdf[-1])).pvalue > 1e-5
    torch.testing.assert_close(well.cdf(torch.from_numpy(x)), torch.from_numpy(cdf / cdf[-1]), atol=1e-6, rtol=0)
    _, log_acceptance = well._propose(100_000, Generator().manual_seed(1))
    assert log_acceptance.max() <= 1e-9


def test_log_prob_at_fixed_points() -> None:
    """Pairs (1, 2), (-2, 1), (0, 0): -(1 - 6 - .5) - 2, -(16 - 24 + 1) - .5, 0."""
    x = torch.tensor([1.0, 2.0, -2.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    assert math.isclose(targets.get("many_well6").log_prob(x), 3.5 + 6.5, rel_tol=1e-14)
    sde = torch.zeros(50, dtype=torch.float64)
    assert math.isclose(targets.get("many_well_sde50").log_prob(sde), -5 * 4, rel_tol=1e-14)
    sde[:7] = torch.tensor([1.0, 2.0, 0.0, -1.0, 1.0, 3.0, -2.0])
    assert math.isclose(targets.get("many_well_sde50").log_prob(sde), -(1 + 4 + 4 + 1 + 1) - 0.5 * 13, rel_tol=1e-14)
    assert math.isclose(targets.get("many_well_sde5").log_prob(sde[:5]), -(9 + 0 + 16 + 9 + 9), abs_tol=1e-14)


@pytest.mark.parametrize("dim", [6, 16, 32, 128])
def test_log_z_of_pairs(dim: int) -> None:
    assert math.isclose(targets.get(f"many_well{dim}").log_z.value, dim / 2 * PAIR, rel_tol=1e-13)


def test_log_z_of_the_other_convention() -> None:
    normal = 0.5 * math.log(2 * math.pi)
    assert math.isclose(targets.get("many_well_sde5").log_z.value, 5 * WELLS[2][2], rel_tol=1e-12)
    assert math.isclose(targets.get("many_well_sde50").log_z.value, 5 * WELLS[1][2] + 45 * normal, rel_tol=1e-13)


def test_pairs_are_interleaved() -> None:
    moments = targets.get("many_well6").moments
    expected = torch.tensor([WELLS[0][5], 1.0] * 3, dtype=torch.float64)
    torch.testing.assert_close(moments.mean[6:], expected, rtol=1e-12, atol=0)
    draws = targets.get("many_well6").sample(100_000, Generator().manual_seed(0))
    assert ((draws.square().mean(0) - expected).abs() < 5 * (moments.variance[6:] / len(draws)).sqrt()).all()


@pytest.mark.parametrize("name", ["many_well6", "many_well128", "many_well_sde5", "many_well_sde50"])
def test_marginals_of_the_draws(name: str) -> None:
    target = targets.get(name)
    x = target.sample(50_000, Generator().manual_seed(0))
    for marginal in target.marginals:
        level = marginal.cdf(marginal.statistic(x)).numpy()
        assert stats.kstest(level, stats.uniform.cdf).pvalue > 1e-6, marginal.name


def test_which_coordinates_the_marginals_are() -> None:
    marginals = {
        name: [marginal.name for marginal in targets.get(name).marginals] for name in targets.names() if "many" in name
    }
    assert marginals["many_well16"] == ["x[0]", "x[14]", "x[1]", "x[15]"]
    assert marginals["many_well_sde5"] == ["x[0]", "x[4]"]
    assert marginals["many_well_sde50"] == ["x[0]", "x[4]", "x[5]", "x[49]"]


def test_independence_of_the_coordinates() -> None:
    """Correlations of the draws are those of independent ones: standard error n^-1/2."""
    x = targets.get("many_well16").sample(100_000, Generator().manual_seed(3))
    off = x.T.corrcoef() - torch.eye(16, dtype=torch.float64)
    assert off.abs().max() < 5 / math.sqrt(100_000)


def test_mode_masses_are_products() -> None:
    """A mode with k of 3 wells on the right has mass .999 x p^k (1 - p)^(3 - k): within each mode 99.9% are inside."""
    masses = targets.get("many_well6").modes.masses
    p = WELLS[0][3]
    expected = [0.999 * p ** (k := bin(mode).count("1")) * (1 - p) ** (3 - k) for mode in range(8)]
    torch.testing.assert_close(masses, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=0)
    for name, n_modes in (("many_well16", 256), ("many_well_sde5", 32), ("many_well_sde50", 32)):
        masses = targets.get(name).modes.masses
        assert masses.shape == (n_modes,)
        assert math.isclose(masses.sum(), 0.999, rel_tol=1e-5)
    torch.testing.assert_close(masses, torch.full((32,), 0.999 / 32, dtype=torch.float64), rtol=1e-5, atol=0)


def test_mode_is_told_by_signs_within_a_box() -> None:
    modes = targets.get("many_well6").modes
    right, left = 1.8, -1.7
    x = torch.tensor([[left, 0, left, 0, left, 0], [right, 0, left, 1, left, -2], [left, 0, right, 0, right, 0]])
    outside = torch.tensor([[0.0, 0, left, 0, left, 0], [right, 5, left, 0, left, 0], [right, 0, left, 0, 3, 0]])
    assert modes.assign(torch.cat([x, outside])).tolist() == [0, 1, 6, -1, -1, -1]


def test_too_many_modes_are_not_stated() -> None:
    for name in targets.names():
        if name.startswith("many_well"):
            assert isinstance(targets.get(name), HasModes) == (name not in ("many_well32", "many_well128"))


def test_other_parameters_keep_one_law() -> None:
    target = ManyWellSDE(dim=3, n_wells=2, delta=0.7)
    x = target.sample(100_000, Generator().manual_seed(0))
    for marginal in target.marginals:
        assert stats.kstest(marginal.cdf(marginal.statistic(x)).numpy(), stats.uniform.cdf).pvalue > 1e-5
    counts = torch.bincount(target.modes.assign(x) + 1, minlength=5)
    shares = torch.cat([1 - target.modes.masses.sum(0, keepdim=True), target.modes.masses])
    assert stats.chisquare(counts.numpy(), (shares * len(x)).numpy()).pvalue > 1e-5


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("many_well32", {"dim": 7}, "dim must be even, got 7"),
        ("many_well32", {"dim": 0}, "dim must be at least 2, got 0"),
        ("many_well6", {"dim": 22}, "dim must be at most 20 .*, got 22"),
        ("many_well_sde5", {"delta": 0.0}, "delta must be from 0.5 to 50.0, got 0.0"),
        ("many_well_sde5", {"n_wells": 6}, "n_wells must be 1 to 5, got 6"),
        ("many_well_sde50", {"n_wells": 11}, "n_wells must be 1 to 10, got 11"),
    ],
)
def test_bad_parameters_are_named(name: str, parameters: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        targets.get(name, **parameters)


def test_one_pair_by_planar_quadrature() -> None:
    """The law of one pair, normalised by brute force on the plane."""
    axis = torch.linspace(-9, 9, 721, dtype=torch.float64)
    log_p = ManyWell(dim=2).log_prob(torch.cartesian_prod(axis, axis))
    assert math.isclose(log_p.logsumexp(0).item() + 2 * math.log(18 / 720), PAIR, abs_tol=1e-12)
