"""DFT: equal forms of its loss, antithetic noise and counts. Its gradient is tested in test_implicit_gradients.py."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers
from samplerbench.samplers.dft import dft_loss
from samplerbench.samplers.implicit.noise import with_noise
from samplerbench.targets import Counts, Meter, derive_generator


class Normal:
    """N(0, I / 4) in the plane."""

    dim = 2
    scale = 0.5

    def log_prob(self, x: Tensor) -> Tensor:
        return -2 * x.square().sum(-1)


def first(x: Tensor) -> Tensor:
    """Some field that is not a gradient."""
    return torch.stack([torch.sin(x[:, 0]) - x[:, 1], x[:, 0] * x[:, 1] - 0.3 * x[:, 1] ** 3], dim=-1)


def second(x: Tensor) -> Tensor:
    """Some other field."""
    return torch.stack([-x[:, 0], torch.cos(x[:, 0] + x[:, 1])], dim=-1)


def points(n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, 2, generator=Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


# of s_q, s_phi and n = eps / s
EQUAL_FORMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "B": lambda s_q, s_phi, n: s_q.square() + 2 * s_q * n - s_phi.square() - 2 * s_phi * n,
    "C, two denoising losses": lambda s_q, s_phi, n: (s_q + n).square() - (s_phi + n).square(),
}


@pytest.mark.parametrize("form", EQUAL_FORMS)
def test_other_forms_of_the_loss_have_its_value_and_gradient(form: str) -> None:
    x0 = points(64)
    loss = dft_loss(x0, first, second, derive_generator("noise"), noise=0.3)
    x, eps = with_noise(x0, 0.3, derive_generator("noise"))
    same = EQUAL_FORMS[form](first(x), second(x), eps / 0.3).sum(-1).mean()
    torch.testing.assert_close(loss, same, rtol=1e-12, atol=0)
    (gradient,), (same_gradient,) = (torch.autograd.grad(value, x0) for value in (loss, same))
    torch.testing.assert_close(gradient, same_gradient, rtol=1e-10, atol=1e-12)


def test_fields_see_both_signs_of_the_noise() -> None:
    x0, seen = points(5), []

    def field(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return -x

    dft_loss(x0, field, field, derive_generator(), noise=0.3)
    plus, minus = seen[0].chunk(2)
    torch.testing.assert_close((plus + minus) / 2, x0.detach())
    assert torch.equal(seen[0], seen[1])
    big = torch.zeros(50_000, 2, dtype=torch.float64)
    x, eps = with_noise(big, 0.3, derive_generator())
    torch.testing.assert_close(x, 0.3 * eps)
    assert abs(eps[:50_000].square().mean().item() - 1) < 5 * (2 / 100_000) ** 0.5  # variance of a squared normal: 2


def test_antithetic_noise_removes_the_variance_of_order_one_over_s() -> None:
    noise = 0.02

    def independent(x0: Tensor, generator: Generator) -> Tensor:
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        x = x0 + noise * eps
        u = first(x) - second(x)
        return (u.square() + 2 * u * (second(x) + eps / noise)).sum(-1)

    generator = derive_generator("variance")
    deviations = []
    losses: list[Callable[[Tensor], Tensor]] = [
        lambda x0: dft_loss(x0, first, second, generator, noise=noise) * len(x0),  # x0 sees the mean of its pair
        lambda x0: independent(x0, generator).sum(),
    ]
    for loss in losses:
        x0 = torch.zeros(20_000, 2, dtype=torch.float64).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x0), x0)
        deviations.append(gradient.std(0).norm().item())
    paired, unpaired = deviations
    # The order-one/s term, (2 / s) J_u(x)^T eps, has standard deviation about 100 here and cancels in a pair.
    assert unpaired > 10 * paired


def test_a_step_costs_one_log_prob_one_score_and_one_hvp_per_point() -> None:
    meter = Meter(Normal())
    sampler = samplers.get("dft", training={"n_steps": 3, "n_warm_up": 2, "batch_size": 20})
    sampler.fit(meter, derive_generator())
    assert meter.counts["fit"] == Counts(log_prob=60, score=60, hvp=60)
    assert meter.counts["draw"] == Counts()
