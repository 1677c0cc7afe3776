import math
import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special, stats
from torch import Generator

from samplerbench import targets
from samplerbench.targets.base import Marginal, one_digit
from samplerbench.targets.student_mixture import StudentMixture

UNEVEN = StudentMixture(
    means=((0.0, 0.0, 1.0), (6.0, -3.0, 2.0)), nu=3, sd=(1.0, 0.4), weights=(0.7, 0.3)
)  # its means span a line of R^3
LAWS = {name: targets.get(name) for name in ("student_mixture", "student_mixture_nu2")} | {"uneven": UNEVEN}


@pytest.mark.parametrize("target", LAWS.values(), ids=LAWS)
def test_log_prob_equals_scipy(target: StudentMixture) -> None:
    x = np.random.default_rng(0).standard_cauchy((20, target.dim)) * target.scale
    sds = np.broadcast_to(target.sd, len(target.means))
    weights = target.weights or np.full(len(target.means), 1 / len(target.means))
    components = [
        stats.multivariate_t(m, s**2 * np.eye(target.dim), df=target.nu).logpdf(x)
        for m, s in zip(target.means, sds, strict=True)
    ]
    expected = special.logsumexp(np.array(components) + np.log(weights)[:, None], axis=0)
    torch.testing.assert_close(target.log_prob(torch.from_numpy(x)), torch.from_numpy(expected))


def test_spot_values() -> None:
    """Single components by mpmath, the registered laws by scipy."""
    one = StudentMixture(means=((0.0, 0.0, 0.0),), nu=5, sd=1.5)
    assert math.isclose(one.log_prob(torch.tensor([0.0, 2.0, 0.0]).double()), -5.05741592060657409, rel_tol=1e-14)
    big = StudentMixture(means=((0.0,) * 512,), nu=5)
    assert math.isclose(big.log_prob(torch.zeros(512).double()), 470.230710713366426, rel_tol=1e-12)
    x = torch.tensor([[0.0, 0.0], [100.0, -30.0]], dtype=torch.float64)
    for name, expected in (
        ("student_mixture", [-5.041538317534211, -28.70709698749276]),
        ("student_mixture_nu2", [-5.178292369840367, -19.031012768066095]),
    ):
        log_prob = targets.get(name).log_prob(x)
        torch.testing.assert_close(log_prob, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_constants() -> None:
    light, heavy = targets.get("student_mixture"), targets.get("student_mixture_nu2")
    assert (light.nu, heavy.nu, light.sd, heavy.sd, light.weights, heavy.weights) == (5, 2, 1.0, 1.0, None, None)
    assert light.means == heavy.means
    means = torch.tensor(light.means)
    assert means.shape == (10, 2)
    assert means.abs().max() <= 10


@pytest.mark.parametrize("name", ["student_mixture", "student_mixture_nu2"])
def test_density_integrates_to_one(name: str) -> None:
    """Trapezoid rule in u = asinh(x / 10): the tails are powers of x, so exponentials of u."""
    u = torch.linspace(-16.0, 16.0, 801, dtype=torch.float64)
    jacobian = (10 * u.cosh()).log()
    log_p = targets.get(name).log_prob(torch.cartesian_prod(10 * u.sinh(), 10 * u.sinh()))
    total = (log_p + torch.cartesian_prod(jacobian, jacobian).sum(-1)).logsumexp(0) + 2 * math.log(0.04)
    assert abs(total) < 1e-6


def pvalue(x: torch.Tensor, marginal: Marginal) -> float:
    def cdf(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return marginal.cdf(torch.from_numpy(t)).numpy()

    return float(stats.kstest(marginal.statistic(x).numpy(), cdf).pvalue)


@pytest.mark.parametrize("target", LAWS.values(), ids=LAWS)
def test_marginals_are_those_of_the_draws(target: StudentMixture) -> None:
    x = target.sample(50_000, Generator().manual_seed(0))
    assert len(target.marginals) == target.dim + 1
    assert min(pvalue(x, marginal) for marginal in target.marginals) > 1e-5


def test_marginal_by_hand() -> None:
    """nu = 2: the cdf of t is 1/2 + t / (2 sqrt(2 + t^2)), 0.788675 at 1."""
    (marginal,) = StudentMixture(means=((3.0,),), nu=2, sd=2.0).marginals
    expected = torch.tensor([0.5, 0.788675134594812883, 1.0], dtype=torch.float64)
    torch.testing.assert_close(marginal.cdf(torch.tensor([3.0, 5.0, 1e12])), expected)


@pytest.mark.parametrize(("dim", "nu"), [(2, 2), (2, 5), (7, 1)])
def test_radius_of_the_draws(dim: int, nu: int) -> None:
    """One component: radius^2 / dim follows Fisher's law; products of univariate t laws do not."""
    x = StudentMixture(means=((1.0,) * dim,), nu=nu, sd=3.0).sample(50_000, Generator().manual_seed(1))
    radius2 = ((x - 1) / 3).square().sum(-1)
    assert stats.kstest((radius2 / dim).numpy(), stats.f(dim, nu).cdf).pvalue > 1e-5


def test_scale() -> None:
    """Mean square m^2 + s^2 nu / (nu - 2); where that is infinite, m^2 + s^2."""
    for nu, expected in ((3, 900 + 400 * 3), (5, 900 + 400 * 5 / 3), (2, 900 + 400), (1, 900 + 400)):
        assert StudentMixture(means=((30.0,), (-30.0,)), nu=nu, sd=20.0).scale == one_digit(math.sqrt(expected))


@pytest.mark.parametrize("nu", [1, 2, 5])
def test_moments_in_the_view_by_another_quadrature(nu: int) -> None:
    """Midpoint rule over the quantiles of t; it sees little of the last 1e-6 of each tail."""
    target = StudentMixture(means=((4.0,), (-9.0,)), nu=nu, sd=(1.0, 2.0), weights=(0.25, 0.75))
    t = torch.from_numpy(stats.t(nu).ppf((np.arange(400_000) + 0.5) / 400_000))
    v = torch.stack([target.view(4 + t), target.view(-9 + 2 * t)])
    mean, mean2, mean4 = (0.25 * (v[0] ** p).mean() + 0.75 * (v[1] ** p).mean() for p in (1, 2, 4))
    torch.testing.assert_close(target.moments.mean, torch.stack([mean, mean2]), rtol=0, atol=1e-4)
    variance = torch.stack([mean2 - mean**2, mean4 - mean2**2])
    torch.testing.assert_close(target.moments.variance, variance, rtol=1e-2, atol=0)


def test_region_by_hand() -> None:
    """A planar component is within r with probability 1 - (1 + r^2 / nu)^(-nu / 2)."""
    for nu, edge2 in ((2, 1998.0), (5, 74.2446596230556742)):
        modes = StudentMixture(means=((1.0, 0.0),), nu=nu, sd=2.0).modes
        edge = 2 * math.sqrt(edge2)
        x = torch.tensor([[1 + 0.999 * edge, 0.0], [1 + 1.001 * edge, 0.0], [1.0, -1.001 * edge]], dtype=torch.float64)
        assert modes.assign(x).tolist() == [0, -1, -1]
        assert math.isclose(modes.masses.item(), 0.999, rel_tol=1e-9)


def test_masses_of_the_registered_laws_by_quadrature() -> None:
    """Midpoint rule of the assignment in u = asinh(x / 10)."""
    for name, n_modes in (("student_mixture", 6), ("student_mixture_nu2", 3)):
        target = targets.get(name)
        u = (torch.arange(800, dtype=torch.float64) + 0.5) * 0.015 - 6.0
        x = torch.cartesian_prod(10 * u.sinh(), 10 * u.sinh())
        mass = (target.log_prob(x) + (x / 10).square().log1p().sum(-1) / 2).exp() * 0.15**2
        modes = target.modes
        masses = torch.zeros(n_modes + 1, dtype=torch.float64).index_add(0, modes.assign(x) + 1, mass)
        assert len(modes.masses) == n_modes
        assert (masses[1:] - modes.masses).abs().max() < 2e-4  # both rules err by up to 1e-4


@pytest.mark.parametrize("name", ["student_mixture", "student_mixture_nu2"])
def test_stein_identity_holds_about_any_centre(name: str) -> None:
    """(x - c) . score is bounded, so that its average has a standard error even where x has no variance."""
    target, centre = targets.get(name), torch.tensor([5.0, -20.0], dtype=torch.float64)
    x = target.sample(100_000, Generator().manual_seed(0)).requires_grad_()
    (score,) = torch.autograd.grad(target.log_prob(x).sum(), x)
    values = ((x - centre) * score).sum(-1).detach()
    assert abs(values.mean() + 2) < 4.5 * values.std() / math.sqrt(len(values))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"nu": 0}, "nu must be at least 1, got 0"),
        ({"nu": 2.5}, "nu must be int, got 2.5"),
        ({"sd": 0.0}, "sd must be positive and finite, got 0.0"),
        ({"means": ()}, "means must hold at least one point"),
        ({"weights": (1.0,)}, "weights must hold one value for each of 10 means"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        targets.get("student_mixture", **parameters)
