"""AFIS: the gradient along its path, counts, the law of its draws, and what it refuses."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from samplerbench import samplers, targets
from samplerbench.samplers import NotApplicableError
from samplerbench.samplers.fisher import fisher_loss
from samplerbench.samplers.implicit.target_score import TargetScore
from samplerbench.targets import Meter, derive_generator

SMALL: dict[str, Any] = {"training": {"n_steps": 6, "n_warm_up": 2, "batch_size": 20}, "network": {"width": 16}}
N_BLOCKS = 100
BASE_WIDTH = 1.5


class Gaussian:
    """N(m, P^-1) in the plane."""

    dim = 2
    scale = 1.0
    m = torch.tensor([-0.5, 0.6], dtype=torch.float64)
    p = torch.tensor([[0.6, -0.3], [-0.3, 1.1]], dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        gap = x - self.m.to(x)
        return -0.5 * torch.einsum("...i,ij,...j", gap, self.p.to(x), gap)


def tempered_fisher(a: Tensor, b: Tensor, lam: float) -> Tensor:
    """Fisher divergence of N(b, a a^T) from the law of precision lam P + (1 - lam) I / BASE_WIDTH^2."""
    target = Gaussian()
    precision = lam * target.p + (1 - lam) * torch.eye(2, dtype=torch.float64) / BASE_WIDTH**2
    m = torch.linalg.solve(precision, lam * target.p @ target.m)
    s = a @ a.T
    gap = precision - s.inverse()
    return (precision @ (b - m)).square().sum() + torch.trace(gap @ s @ gap)


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.9])
def test_gradient_on_the_path_is_that_of_the_fisher_divergence_from_the_tempered_law(lam: float) -> None:
    path, generator = 0.8, derive_generator("path")
    score = TargetScore(path=path, base_width=BASE_WIDTH)
    s_q = score.of(Meter(Gaussian(), dtype=torch.float64), generator, differentiable=True)
    a = torch.tensor([[2.0, -0.3], [-0.4, 1.8]], dtype=torch.float64).requires_grad_()
    b = torch.tensor([2.1, 0.2], dtype=torch.float64).requires_grad_()
    precision = (a @ a.T).inverse().detach()
    gradients, losses = [], []
    for _ in range(N_BLOCKS):
        x0 = torch.randn(500, 2, generator=generator, dtype=torch.float64) @ a.T + b
        loss = fisher_loss(x0, lambda y: s_q(y, lam * path), lambda y: (b.detach() - y) @ precision, generator)
        gradients.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, (a, b))]))
        losses.append(loss.detach())
    exact = tempered_fisher(a, b, lam)
    expected = torch.cat([part.flatten() for part in torch.autograd.grad(exact, (a, b))])
    for blocks, value in ((torch.stack(gradients), expected), (torch.stack(losses), exact.detach())):
        assert ((blocks.mean(0) - value).abs() < 4 * blocks.std(0) / math.sqrt(N_BLOCKS)).all()
    elsewhere = torch.autograd.grad(tempered_fisher(a, b, lam + 0.1), (a, b))
    wrong = torch.cat([part.flatten() for part in elsewhere])
    error = torch.stack(gradients).std(0) / math.sqrt(N_BLOCKS)
    assert ((torch.stack(gradients).mean(0) - wrong).abs() > 4 * error).any(), "the check tells lam from lam + 0.1"


def test_counts() -> None:
    """Training as in Fisher training; the pilot; and per draw one score for the start and one per move."""
    meter = Meter(Gaussian())
    correction = {"n_steps": 4, "n_pilot": 9, "n_adapt": 15}
    fitted = samplers.get("afis", correction=correction, **SMALL).fit(meter, derive_generator())
    n_latents, n_pilot = 6 * 10, 9 * 16
    assert vars(meter.counts["fit"]) == {
        "log_prob": n_latents + n_pilot,
        "score": n_latents + n_pilot,
        "hvp": 3 * n_latents,
    }
    with meter.phase("draw"):
        fitted.draw(13, derive_generator())
    assert vars(meter.counts["draw"]) == {"log_prob": 13 * 5, "score": 13 * 5, "hvp": 0}


def test_a_gaussian_is_reached() -> None:
    training = {"n_steps": 250, "n_warm_up": 50, "batch_size": 128}
    network = {"width": 32, "depth": 2}
    target = targets.get("gaussian2")
    fitted = samplers.get("afis", training=training, network=network).fit(Meter(target), derive_generator(0, "fit"))
    x = fitted.draw(4_000, derive_generator(0, "draw")).samples.double()
    assert isinstance(target, targets.HasMoments)
    mean, square = target.moments.mean[:2], target.moments.mean[2:]
    # 4 standard errors, and a bias of 0.02 sd and 4% that the moves leave of a short training
    sd = (square - mean.square()).sqrt()
    assert (((x.mean(0) - mean) / sd).abs() < 4 / math.sqrt(4_000) + 0.02).all()
    assert ((x.square().mean(0) / square - 1).abs() < 4 * math.sqrt(2 / 4_000) + 0.04).all()


def test_what_is_undefined_is_refused() -> None:
    with pytest.raises(NotApplicableError, match="latent dim must be at least the target's dim 2"):
        samplers.get("afis", network={"latent": {"dim": 1}}).fit(Meter(Gaussian()), derive_generator())
    with pytest.raises(ValueError, match="source must be 'exact'"):
        samplers.get("afis", target_score={"source": "minibatch"})
    with pytest.raises(ValueError, match="schedule must be constant or annealed"):
        samplers.get("afis", noise={"schedule": "levels"})
    with pytest.raises(ValueError, match="path must be above 0"):
        samplers.get("afis", target_score={"path": 0.0})
