"""The gradients of the losses are those of the divergences that they stand for, and wrong losses are caught.

Monte Carlo gradients with the analytic score of the sampler's law (what a perfect score network would be) against
closed forms for linear-Gaussian samplers and against quadrature for a sampler in one dimension that is not Gaussian.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

import pytest
import torch
from torch import Generator, Tensor
from torch.quasirandom import SobolEngine

from samplerbench.samplers.dft import dft_loss
from samplerbench.samplers.fisher import fisher_loss
from samplerbench.samplers.fisher_ns import critic_value
from samplerbench.samplers.implicit.noise import with_noise
from samplerbench.samplers.implicit.objective import Field
from samplerbench.samplers.kl import kl_loss
from samplerbench.targets import derive_generator

Loss: TypeAlias = Callable[[Tensor, Field, Field, Generator], Tensor]

N_BLOCKS = 200  # enough for standard errors whose own error is 5%
N_LATENTS = N_BLOCKS * 1_024  # with both signs of the noise 409,600 draws of x


class Case(Protocol):
    """A sampler with its parameters theta, a target, and the exact divergences between them."""

    noise: float
    theta: list[Tensor]

    def x0(self, n: int, generator: Generator) -> Tensor: ...
    def s_q(self, x: Tensor) -> Tensor: ...
    def s_phi(self, x: Tensor) -> Tensor: ...
    def fisher(self) -> Tensor: ...
    def kl(self) -> Tensor: ...


def latents(n: int, dim: int, generator: Generator) -> Tensor:
    """n standard normal draws, evenly spread (scrambled Sobol points): unbiased, with little noise from z."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    uniform: Tensor = SobolEngine(dim, scramble=True, seed=seed).draw(n, dtype=torch.float64)  # type: ignore[no-untyped-call]
    z: Tensor = torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9))
    return z


class LinearGaussian:
    """x = A z + b + s eps against N(m, P^-1)."""

    def __init__(self, dim: int, noise: float) -> None:
        self.noise, self.dim = noise, dim
        a = torch.tensor([[2.0, -0.3], [-0.4, 1.8]], dtype=torch.float64)[:dim, :dim]
        b = torch.tensor([2.1, 0.2], dtype=torch.float64)[:dim]
        self.theta = [a.clone().requires_grad_(), b.clone().requires_grad_()]
        self.m = torch.tensor([-0.5, 0.6], dtype=torch.float64)[:dim]
        self.p = torch.tensor([[0.6, -0.3], [-0.3, 1.1]], dtype=torch.float64)[:dim, :dim]

    def covariance(self) -> Tensor:
        a = self.theta[0]
        return a @ a.T + self.noise**2 * torch.eye(self.dim, dtype=a.dtype)

    def x0(self, n: int, generator: Generator) -> Tensor:
        return latents(n, self.dim, generator) @ self.theta[0].T + self.theta[1]

    def s_q(self, x: Tensor) -> Tensor:
        return (self.m - x) @ self.p

    def s_phi(self, x: Tensor) -> Tensor:
        return (self.theta[1].detach() - x) @ self.covariance().detach().inverse()

    def fisher(self) -> Tensor:
        """|P (b - m)|^2 + tr[(P - S^-1) S (P - S^-1)], S the covariance of x."""
        s = self.covariance()
        gap = self.p - s.inverse()
        return (self.p @ (self.theta[1] - self.m)).square().sum() + torch.trace(gap @ s @ gap)

    def kl(self) -> Tensor:
        """[ tr(P S) - dim - log det(P S) + (b - m)^T P (b - m) ] / 2."""
        ps = self.p @ self.covariance()
        shift = self.theta[1] - self.m
        return 0.5 * (torch.trace(ps) - self.dim - torch.logdet(ps) + shift @ self.p @ shift)


class Warped:
    """x = b + a z + c tanh(2 z) + s eps (two humps) against an unequal mixture of two Gaussians, in one dimension.

    Trapezoidal sums over z give the density of x and its score, sums over x the divergences. The error of the former
    is of order exp(-2 pi^2 s^2 / h^2) where h, the step of x0, is at most 0.5: below 1e-8 at s = 0.5.
    """

    dim = 1

    def __init__(self, noise: float) -> None:
        self.noise = noise
        self.theta = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1.5, 0.8, 2.0)]
        self.nodes = torch.linspace(-6, 6, 121, dtype=torch.float64)
        log_weights = -0.5 * self.nodes.square()
        self.log_weights = log_weights - log_weights.logsumexp(0)

    def g(self, z: Tensor, theta: list[Tensor]) -> Tensor:
        b, a, c = theta
        return b + a * z + c * torch.tanh(2 * z)

    def x0(self, n: int, generator: Generator) -> Tensor:
        return self.g(latents(n, 1, generator), self.theta)

    def log_q(self, x: Tensor) -> Tensor:
        return torch.logaddexp(
            math.log(0.7 / math.sqrt(0.6)) - (x + 1).square() / 1.2,
            math.log(0.3 / math.sqrt(0.9)) - (x - 1.5).square() / 1.8,
        ) - 0.5 * math.log(2 * math.pi)  # fmt: skip

    def s_q(self, x: Tensor) -> Tensor:
        inputs = x if x.requires_grad else x.detach().requires_grad_()
        with torch.enable_grad():
            (score,) = torch.autograd.grad(self.log_q(inputs).sum(), inputs, create_graph=True)
        return score

    def _log_p_and_score(self, x: Tensor, theta: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Log density and score of x, both of the shape (n, 1) of ``x``."""
        gap = self.g(self.nodes, theta) - x
        log_joint = self.log_weights - 0.5 * (gap / self.noise).square()
        score = (log_joint.softmax(-1) * gap).sum(-1, keepdim=True) / self.noise**2
        log_p = log_joint.logsumexp(-1, keepdim=True) - math.log(self.noise * math.sqrt(2 * math.pi))
        return log_p, score

    def s_phi(self, x: Tensor) -> Tensor:
        return self._log_p_and_score(x, [value.detach() for value in self.theta])[1]

    def _expectation(self, f: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """Integral of p(x) f(x, log p(x), score of p at x)."""
        x = torch.linspace(-10, 10, 401, dtype=torch.float64)[:, None]
        log_p, score = self._log_p_and_score(x, self.theta)
        return (log_p.exp() * f(x, log_p, score)).sum() * 20 / 400

    def fisher(self) -> Tensor:
        return self._expectation(lambda x, log_p, score: (self.s_q(x).detach() - score).square())

    def kl(self) -> Tensor:
        return self._expectation(lambda x, log_p, score: log_p - self.log_q(x))


@dataclass(frozen=True)
class Gap:
    """Largest distance of a Monte Carlo gradient from the exact one over its components."""

    in_standard_errors: float
    relative: float

    @property
    def agrees(self) -> bool:
        return self.in_standard_errors < 4 and self.relative < 0.01


def monte_carlo(loss: Loss, case: Case, n_latents: int) -> tuple[Tensor, Tensor, float]:
    """Mean gradient in all components of theta, its standard error, and the mean loss."""
    generator = derive_generator("gradient")
    gradients, losses = [], []
    for _ in range(N_BLOCKS):
        value = loss(case.x0(n_latents // N_BLOCKS, generator), case.s_q, case.s_phi, generator)
        gradients.append(torch.cat([part.flatten() for part in torch.autograd.grad(value, case.theta)]))
        losses.append(value.detach())
    per_block = torch.stack(gradients)
    return per_block.mean(0), per_block.std(0) / math.sqrt(N_BLOCKS), torch.stack(losses).mean().item()


def gap(loss: Loss, case: Case, exact: Tensor, n_latents: int = N_LATENTS) -> tuple[Gap, float]:
    """Distance of the gradient of ``loss`` from that of ``exact``, and the mean loss."""
    expected = torch.cat([part.flatten() for part in torch.autograd.grad(exact, case.theta)])
    mean, error, value = monte_carlo(loss, case, n_latents)
    distance = (mean - expected).abs()
    return Gap((distance / error).max().item(), (distance / expected.abs()).max().item()), value


NOISED = [
    pytest.param(partial(LinearGaussian, 1, 0.5), id="1-D, s = 0.5"),
    pytest.param(partial(LinearGaussian, 1, 0.1), id="1-D, s = 0.1"),
    pytest.param(partial(LinearGaussian, 2, 0.5), id="2-D, s = 0.5"),
    pytest.param(partial(LinearGaussian, 2, 0.1), id="2-D, s = 0.1"),
    pytest.param(partial(Warped, 0.5), id="not Gaussian"),
]

# The terms of loss (A) from u and n = s_phi + eps / s, written wrongly.
WRONG: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "path term only": lambda u, n: u.square(),
    "minus sign": lambda u, n: u.square() - 2 * u * n,
    "factor 1": lambda u, n: u.square() + u * n,
    "u detached in the second term": lambda u, n: u.square() + 2 * u.detach() * n,
    "u detached": lambda u, n: u.detach().square() + 2 * u.detach() * n,
}


@pytest.mark.parametrize("make_case", NOISED)
def test_dft_loss_has_the_gradient_and_value_of_the_fisher_divergence(make_case: Callable[[], Case]) -> None:
    case = make_case()
    found, value = gap(partial(dft_loss, noise=case.noise), case, case.fisher())
    assert found.agrees, found
    assert value == pytest.approx(case.fisher().item(), rel=0.01)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("make_case", NOISED)
def test_wrong_dft_losses_fail_the_same_check(make_case: Callable[[], Case], wrong: str) -> None:
    case = make_case()

    def loss(x0: Tensor, s_q: Callable[[Tensor], Tensor], s_phi: Callable[[Tensor], Tensor], g: Generator) -> Tensor:
        x, eps = with_noise(x0, case.noise, g)
        model = s_phi(x)
        return WRONG[wrong](s_q(x) - model, model + eps / case.noise).sum(-1).mean()

    found, _ = gap(loss, case, case.fisher(), N_LATENTS // 16)
    assert not found.agrees
    assert found.relative > 0.05, found


@pytest.mark.parametrize("make_case", NOISED)
def test_kl_gradient_is_that_of_the_kl_divergence(make_case: Callable[[], Case]) -> None:
    case = make_case()
    found, _ = gap(partial(kl_loss, noise=case.noise), case, case.kl())
    assert found.agrees, found


@pytest.mark.parametrize("make_case", NOISED)
def test_kl_with_its_direction_not_detached_fails_the_same_check(make_case: Callable[[], Case]) -> None:
    case = make_case()

    def loss(x0: Tensor, s_q: Callable[[Tensor], Tensor], s_phi: Callable[[Tensor], Tensor], g: Generator) -> Tensor:
        x, _ = with_noise(x0, case.noise, g)
        return ((s_phi(x) - s_q(x)) * x).sum(-1).mean()

    found, _ = gap(loss, case, case.kl(), N_LATENTS // 16)
    assert not found.agrees
    assert found.relative > 0.05, found


@pytest.mark.parametrize("dim", [1, 2])
def test_fisher_terms_sum_to_the_gradient_of_the_fisher_divergence(dim: int) -> None:
    case = LinearGaussian(dim, noise=0.0)
    both, _ = gap(fisher_loss, case, case.fisher())
    assert both.agrees, both
    path, _ = gap(partial(fisher_loss, terms="path"), case, case.fisher(), N_LATENTS // 16)
    assert not path.agrees
    assert path.relative > 0.05, path


def test_fisher_path_term_alone_has_no_gradient_in_the_mean_of_equal_variances() -> None:
    case = LinearGaussian(2, noise=0.0)
    with torch.no_grad():
        case.theta[0].copy_(torch.linalg.cholesky(case.p.inverse()))
    x0 = case.x0(1_000, derive_generator("mean"))
    path = partial(fisher_loss, terms="path")
    (wrong,) = torch.autograd.grad(path(x0, case.s_q, case.s_phi, derive_generator()), case.theta[1], retain_graph=True)
    (right,) = torch.autograd.grad(fisher_loss(x0, case.s_q, case.s_phi, derive_generator()), case.theta[1])
    torch.testing.assert_close(wrong, torch.zeros_like(wrong), atol=1e-12, rtol=0)
    expected = 2 * case.p @ case.p @ (case.theta[1] - case.m).detach()  # of |P (b - m)|^2
    assert (right - expected).norm() < 0.2 * expected.norm()


@pytest.mark.parametrize("penalty", [0.5, 2.0])
@pytest.mark.parametrize("dim", [1, 2])
def test_the_best_critic_gives_the_value_and_gradient_of_the_fisher_divergence(dim: int, penalty: float) -> None:
    """F / (4 penalty); with half of that critic the value falls short of it by a quarter of it."""
    case = LinearGaussian(dim, noise=0.0)

    def exact() -> Tensor:
        return case.fisher() / (4 * penalty)

    def against(share: float) -> Loss:
        def loss(x0: Tensor, s_q: Field, s_phi: Field, generator: Generator) -> Tensor:
            return critic_value(
                x0, s_q, lambda x: share * (s_q(x) - s_phi(x)) / (2 * penalty), generator, penalty=penalty
            )

        return loss

    found, value = gap(against(1.0), case, exact())
    assert found.agrees, found
    assert value == pytest.approx(exact().item(), rel=0.01)
    short, value = gap(against(0.5), case, exact(), N_LATENTS // 16)
    assert not short.agrees
    assert value == pytest.approx(0.75 * exact().item(), rel=0.05)
