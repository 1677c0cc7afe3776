import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.targets import eight_schools
from samplerbench.targets.eight_schools import EightSchools

Y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
SIGMA = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
N_DRAWS = 300_000


@pytest.fixture(scope="module")
def target() -> EightSchools:
    return EightSchools()


@pytest.fixture(scope="module")
def draws(target: EightSchools) -> Tensor:
    return target.sample(N_DRAWS, Generator().manual_seed(0))


def log_joint(x: np.ndarray) -> np.ndarray:
    mu, tau, z = x[:, 0], np.exp(x[:, 1]), x[:, 2:]
    prior = stats.norm(0, 5).logpdf(mu) + stats.halfcauchy(0, 5).logpdf(tau) + x[:, 1] + stats.norm.logpdf(z).sum(-1)
    return prior + stats.norm(mu[:, None] + tau[:, None] * z, SIGMA).logpdf(Y).sum(-1)


def joint_of_tau(tau: float) -> float:
    """p(tau, y), from the covariance matrix of y given tau."""
    covariance = np.diag(tau**2 + SIGMA**2) + 25
    square = Y @ np.linalg.solve(covariance, Y)
    normal = math.exp(-0.5 * (square + np.linalg.slogdet(2 * math.pi * covariance)[1]))
    return normal * 10 / (math.pi * (25 + tau**2))


def test_log_prob(target: EightSchools) -> None:
    x = np.sin(np.arange(40.0)).reshape(4, 10) * np.array([[0.0], [1.0], [3.0], [9.0]])
    torch.testing.assert_close(target.log_prob(torch.from_numpy(x)), torch.from_numpy(log_joint(x)))
    at_zero = 17 * -0.9189385332046727 - math.log(5) + math.log(2 / math.pi * 5 / 26) - np.log(SIGMA).sum()
    at_zero -= 0.5 * (784 / 225 + 0.64 + 9 / 256 + 49 / 121 + 1 / 81 + 1 / 121 + 3.24 + 144 / 324)
    assert math.isclose(target.log_prob(torch.zeros(10, dtype=torch.float64)).item(), at_zero, rel_tol=1e-12)


def test_log_prob_is_finite_far_out(target: EightSchools) -> None:
    x = torch.zeros(2, 10, dtype=torch.float64)
    x[:, 1] = torch.tensor([-300.0, 300.0])
    # towards 0 and towards infinity half-Cauchy is tau and 1 / tau
    expected = target.log_prob(torch.zeros(10, dtype=torch.float64)) + math.log(26 / 25) - 300
    assert math.isclose(target.log_prob(x[0]).item(), expected, rel_tol=1e-12)
    assert math.isclose(target.log_prob(x[1]).item(), expected + math.log(25), rel_tol=1e-12)


def integral(function: Callable[[float], float]) -> float:
    ends = (0.0, 0.1, 5.0, 50.0, math.inf)
    return sum(integrate.quad(function, a, b, epsabs=0, epsrel=1e-10)[0] for a, b in itertools.pairwise(ends))


def test_log_z_by_another_quadrature(target: EightSchools) -> None:
    assert math.isclose(target.log_z.value, math.log(integral(joint_of_tau)), abs_tol=1e-9)
    assert math.isclose(target.log_z.value, -31.311347352, abs_tol=1e-8)
    assert target.log_z.std_error < 1e-12


def test_log_z_by_importance_sampling_of_the_joint_density(target: EightSchools) -> None:
    """Sees an error shared by all that integrates mu and z out."""
    mean, sd = target.moments.mean[:10], target.moments.variance[:10].sqrt()
    law = stats.multivariate_t(np.zeros(10), df=7, seed=0)
    t = law.rvs(100_000)
    weights = target.log_prob(mean + sd * torch.from_numpy(t)) - torch.from_numpy(law.logpdf(t)) + sd.log().sum()
    ratios = (weights - target.log_z.value).exp()
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / math.sqrt(len(t)) < 0.05


def test_moments_of_mu_and_tau(target: EightSchools) -> None:
    """By another quadrature, and as published fits round them: mu 4.4, sd 3.3."""
    total = math.exp(target.log_z.value)
    mean, square = (integral(lambda tau, k=k: math.log(tau) ** k * joint_of_tau(tau)) / total for k in (1, 2))
    assert math.isclose(target.moments.mean[1].item(), mean, abs_tol=1e-9)
    assert math.isclose(target.moments.mean[11].item(), square, abs_tol=1e-9)
    assert round(target.moments.mean[0].item(), 1) == 4.4
    assert round(target.moments.variance[0].sqrt().item(), 1) == 3.3


def test_scale_is_the_root_mean_square(target: EightSchools, draws: Tensor) -> None:
    assert target.scale == 2.0
    assert math.isclose(draws.square().mean().sqrt(), target.moments.mean[10:].mean().sqrt(), rel_tol=0.005)


def test_draws_have_the_marginal_laws(target: EightSchools, draws: Tensor) -> None:
    assert len(target.marginals) == 10
    for marginal in target.marginals:
        uniform = marginal.cdf(marginal.statistic(draws)).sort().values
        grid = torch.arange(N_DRAWS + 1, dtype=torch.float64) / N_DRAWS
        distance = torch.maximum((grid[1:] - uniform).max(), (uniform - grid[:-1]).max()).item()
        assert stats.kstwo.sf(distance, N_DRAWS) > 1e-5 / 10, marginal.name


def test_draws_have_the_moments(target: EightSchools, draws: Tensor) -> None:
    f = torch.cat([draws, draws.square()], dim=-1)
    standard_errors = (f.mean(0) - target.moments.mean) / (target.moments.variance / N_DRAWS).sqrt()
    assert standard_errors.abs().max() < 4.5


def test_draws_are_those_of_the_joint_density(target: EightSchools, draws: Tensor) -> None:
    """Stein's identity E[x score^T] = -I, all 100 entries: the marginal laws do not see a wrong correlation."""
    x = draws[:200_000].clone().requires_grad_()
    (score,) = torch.autograd.grad(target.log_prob(x).sum(), x)
    centred = draws[: len(x)] - target.moments.mean[:10]
    for i in range(10):
        products = centred[:, i, None] * score
        error = products.mean(0) + torch.eye(10, dtype=torch.float64)[i]
        assert (error.abs() < 5 * products.std(0) / math.sqrt(len(x))).all()


def test_the_bound_of_the_rejection_holds_and_is_tight() -> None:
    tau = torch.logspace(-5, 5, 200_001, dtype=torch.float64)[:, None]
    largest = eight_schools._log_evidence_given(tau).max().item()
    assert largest < eight_schools.BOUND < largest + 1e-4
    log_of = [math.log(joint_of_tau(t) / stats.halfcauchy(0, 5).pdf(t)) for t in (0.1, 3.0, 30.0)]
    expected = eight_schools._log_evidence_given(torch.tensor([[0.1], [3.0], [30.0]], dtype=torch.float64))
    torch.testing.assert_close(expected, torch.tensor(log_of, dtype=torch.float64))


def test_a_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"eight_schools.*unknown parameter 'centred'"):
        targets.get("eight_schools", centred=True)
