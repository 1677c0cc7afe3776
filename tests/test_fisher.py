"""Fisher training: divergences, counts, and where it is undefined. Its gradient: test_implicit_gradients.py."""

import math

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers
from samplerbench.samplers import NotApplicableError
from samplerbench.samplers.implicit.divergence import EXACT_TRACE_DIM, divergence
from samplerbench.targets import Counts, Meter, derive_generator

ABOVE = EXACT_TRACE_DIM + 2


class Normal:
    """N(0, I)."""

    scale = 1.0

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(3), dtype=torch.float64)


def test_exact_divergence_and_its_gradient() -> None:
    x = normal(7, 3).requires_grad_()
    u = torch.stack([x[:, 0] ** 2 * x[:, 1], x[:, 2].sin(), x[:, 0] * x[:, 2] ** 2], dim=-1)
    found = divergence(u, x, derive_generator())
    torch.testing.assert_close(found, 2 * x[:, 0] * x[:, 1] + 2 * x[:, 0] * x[:, 2])
    (gradient,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(gradient, 2 * torch.stack([x[:, 1] + x[:, 2], x[:, 0], x[:, 0]], dim=-1).detach())


def test_hutchinson_is_unbiased_with_its_known_variance() -> None:
    jacobian = normal(ABOVE, ABOVE)
    x = torch.zeros(50_000, ABOVE, dtype=torch.float64).requires_grad_()
    estimates = divergence(x @ jacobian.T, x, derive_generator("signs")).detach()
    symmetric = (jacobian + jacobian.T) / 2
    # v^T J v = tr J + sum over i < j of 2 S_ij v_i v_j, whose terms are uncorrelated with variance 4 S_ij^2
    variance = 4 * symmetric.triu(1).square().sum().item()
    assert abs(estimates.mean().item() - torch.trace(jacobian).item()) < 5 * math.sqrt(variance / len(x))
    assert estimates.var().item() == pytest.approx(variance, rel=0.1)


def test_hutchinson_is_exact_for_a_diagonal_jacobian_and_differentiable() -> None:
    x = normal(5, ABOVE).requires_grad_()
    found = divergence(x**3, x, derive_generator())
    torch.testing.assert_close(found, (3 * x**2).sum(-1))
    (gradient,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(gradient, 6 * x.detach())


@pytest.mark.parametrize(("dim", "terms", "n_hvp"), [(2, "both", 3), (ABOVE, "both", 2), (2, "path", 1)])
def test_counts_of_a_step(dim: int, terms: str, n_hvp: int) -> None:
    """Per latent: one Hessian-vector product per divergence probe (dim of them if exact), one in the last backward."""
    meter = Meter(Normal(dim))
    training = {"n_steps": 3, "n_warm_up": 2, "batch_size": 20}
    samplers.get("fisher", training=training, terms=terms).fit(meter, derive_generator())
    n_latents = 3 * 10
    assert meter.counts["fit"] == Counts(log_prob=n_latents, score=n_latents, hvp=n_hvp * n_latents)
    assert meter.counts["draw"] == Counts()


def test_a_law_without_density_is_refused() -> None:
    with pytest.raises(NotApplicableError, match=r"latent dim must be at least the target's dim 2 .* got 1"):
        samplers.get("fisher", network={"latent": {"dim": 1}}).fit(Meter(Normal(2)), derive_generator())
    training = {"n_steps": 1, "n_warm_up": 0, "batch_size": 4}
    samplers.get("fisher", network={"latent": {"dim": 3}}, training=training).fit(Meter(Normal(2)), derive_generator())


def test_path_term_alone_is_an_option() -> None:
    training = {"n_steps": 5, "n_warm_up": 5, "batch_size": 20}
    draws = [
        samplers.get("fisher", training=training, terms=terms)
        .fit(Meter(Normal(2)), derive_generator(0))
        .draw(10, derive_generator(1))
        .samples
        for terms in ("both", "path")
    ]
    assert not torch.equal(*draws)
    with pytest.raises(ValueError, match=r"terms must be one of 'both', 'path', got 'function'"):
        samplers.get("fisher", terms="function")
