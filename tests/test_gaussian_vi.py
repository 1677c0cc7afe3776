"""Gaussian variational inference: exact where the target is normal, and the closed-form optimum of a product."""

import math

import torch
from torch import Generator, Tensor

from samplerbench import samplers
from samplerbench.samplers.density_model import FittedDensity, reverse_kl
from samplerbench.samplers.gaussian_vi import Normal
from samplerbench.targets import Budget, Meter, Target


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


class Correlated:
    """N(mean, covariance) in the plane, correlation .9, in units where the scale is 2."""

    dim = 2
    scale = 2.0
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    covariance = torch.tensor([[4.0, 1.8], [1.8, 1.0]], dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.distributions.MultivariateNormal(self.mean.to(x), self.covariance.to(x)).log_prob(x)


class Double:
    """Independent coordinates with density proportional to exp(-x^4 / 4)."""

    dim = 2
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.25 * x.pow(4).sum(-1)


def fit(target: Target, budget: float | None = None, start_scale: float = 1.0) -> FittedDensity:
    meter = Meter(target, dtype=torch.float64, budget=Budget(fit=budget))
    fitted = samplers.get("gaussian_vi", start_scale=start_scale).fit(meter, generator())
    assert isinstance(fitted, FittedDensity)
    return fitted


def moments(fitted: FittedDensity) -> tuple[Tensor, Tensor]:
    model, scale = fitted.model, fitted.meter.scale
    assert isinstance(model, Normal)
    factor = scale * model.factor.detach()
    return scale * model.mean.detach(), factor @ factor.T


def test_a_gaussian_is_found_without_noise() -> None:
    """Path gradients vanish at the optimum, so training ends there and not around it."""
    mean, covariance = moments(fit(Correlated()))
    torch.testing.assert_close(mean, Correlated.mean, rtol=0, atol=1e-3)
    torch.testing.assert_close(covariance, Correlated.covariance, rtol=2e-3, atol=0)


def test_the_path_gradient_is_that_of_the_divergence() -> None:
    """KL(N(m, L L^T), N(a, C)): gradient C^-1 (m - a) in m and C^-1 L - L^-T in L; all in y = x / scale."""
    meter, n = Meter(Correlated(), dtype=torch.float64), 200_000
    factor = torch.tensor([[0.7, 0.0], [0.2, 0.4]], dtype=torch.float64)
    model = Normal(torch.tensor([0.3, -0.8], dtype=torch.float64), factor)
    loss = reverse_kl(model, n, 1e9, meter, generator())
    precision = 4 * Correlated.covariance.inverse()
    of_mean = precision @ (model.mean.detach() - Correlated.mean / 2)
    of_factor = precision @ factor - factor.inverse().T
    assert model.mean.grad is not None
    assert model.below.grad is not None
    assert model.log_diagonal.grad is not None
    # entries are means of a_i + (A z)_i and (a_i + (A z)_i) z_j with A = precision factor - factor^-T
    error = 5 * (of_mean.abs().max() + 2 * of_factor.abs().max()).item() * math.sqrt(3 / n)
    torch.testing.assert_close(model.mean.grad, of_mean, rtol=0, atol=error)
    torch.testing.assert_close(model.below.grad[1, 0], of_factor[1, 0], rtol=0, atol=error)
    torch.testing.assert_close(model.log_diagonal.grad, (of_factor * factor).diagonal(), rtol=0, atol=error)
    gap = model.mean.detach() - Correlated.mean / 2
    kl = 0.5 * ((precision @ factor @ factor.T).trace() + gap @ precision @ gap - 2)
    kl = kl - factor.diagonal().log().sum() - 0.5 * torch.logdet(precision)
    assert abs(loss - kl) < 5 * math.sqrt(2 * 25 / n) * kl  # the spread of log q - log p is a few times its mean


def test_the_optimum_of_a_quartic_law() -> None:
    """E x^4 / 4 - log s = 3 s^4 / 4 - log s is least at s^4 = 1/3."""
    mean, covariance = moments(fit(Double()))
    torch.testing.assert_close(covariance, torch.eye(2).double() / math.sqrt(3), rtol=0, atol=0.03)
    torch.testing.assert_close(mean, torch.zeros(2).double(), rtol=0, atol=0.03)


class Apart:
    """Two normal laws of variance 1, eight standard deviations apart, of equal mass."""

    dim = 2
    scale = 3.0

    def log_prob(self, x: Tensor) -> Tensor:
        squares = torch.stack([(x[..., 0] - c).square() for c in (-4.0, 4.0)]) + x[..., 1].square()
        return (-0.5 * squares).logsumexp(0)


def test_of_two_distant_modes_it_keeps_one_or_lies_across_both_from_a_wide_start() -> None:
    """At one mode KL(q, p) = log 2, since the other changes log p by exp(-32). Both ends are optima, one a local one.

    Across both, with mean 0 and standard deviation s, the first coordinate costs about E(|x| - 4)^2 / 2 - log s, which
    is least at s = 4 sqrt(2 / pi) + 1 / s. So it would be if |x| had no kink, where log p is higher by log 2 cosh(4x).
    """
    narrow, wide = fit(Apart(), start_scale=0.1), fit(Apart())
    mean, covariance = moments(narrow)
    torch.testing.assert_close(mean.abs(), torch.tensor([4.0, 0.0], dtype=torch.float64), rtol=0, atol=0.02)
    torch.testing.assert_close(covariance, torch.eye(2, dtype=torch.float64), rtol=0, atol=0.02)
    mean, covariance = moments(wide)
    assert mean[0].abs() < 0.5
    half = 2 * math.sqrt(2 / math.pi)
    assert abs(covariance[0, 0].sqrt() - (half + math.sqrt(half**2 + 1))) < 0.2


def test_a_budget_keeps_the_steps_paid() -> None:
    fitted = fit(Correlated(), budget=256 * 10.5)
    assert fitted.diagnostics["n_steps"] == 10
    draws = fitted.draw(20, generator())
    assert draws.stopped == "budget"
    assert draws.reason.startswith("after 10 of 2000 steps: ")
    assert draws.log_density is not None


class NaNLater:
    """A normal law whose density is no number for the 60th batch on."""

    dim = 2
    scale = 1.0

    def __init__(self) -> None:
        self.n_calls = 0

    def log_prob(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        return -0.5 * x.square().sum(-1) * (math.nan if self.n_calls >= 60 else 1.0)


def test_what_is_not_finite_ends_as_diverged_at_the_last_look() -> None:
    draws = fit(NaNLater()).draw(20, generator())
    assert draws.stopped == "diverged"
    assert draws.reason == "loss or gradient not finite in step 60; the state after step 50 is kept"
    assert draws.samples.isfinite().all()
