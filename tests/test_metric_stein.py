import math

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.modes import mode_shares, total_variation
from samplerbench.metrics.sliced import sliced_wasserstein
from samplerbench.metrics.stein import squared_ksd
from samplerbench.targets import Draws, Modes


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def stein_kernel(x: Tensor, y: Tensor, s: Tensor, t: Tensor, c: float) -> Tensor:
    """The definition, s.t k + s.grad_y k + t.grad_x k + tr grad_x grad_y k, by automatic differentiation."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    k = (c**2 + (x - y).square().sum()) ** -0.5
    grad_x, grad_y = torch.autograd.grad(k, (x, y), create_graph=True)
    trace = sum(torch.autograd.grad(grad_x[i], y, retain_graph=True)[0][i] for i in range(len(x)))
    return (s @ t * k + s @ grad_y + t @ grad_x + trace).detach()


def test_agrees_with_a_double_loop_over_the_definition() -> None:
    x, score, c = normal(7, 3), normal(7, 3, seed=1), 0.8
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    naive = sum(stein_kernel(x[i], x[j], score[i], score[j], c).item() for i, j in pairs) / len(pairs)
    assert math.isclose(squared_ksd(x, score, c=c), naive, rel_tol=1e-10)


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_is_unbiased_for_the_integral_of_the_stein_kernel(shift: float) -> None:
    """Draws of N(shift, 1) judged by the score of N(0, 1); the integral is 0 without a shift."""
    grid, c = torch.linspace(-8, 8, 801, dtype=torch.float64) + shift, 1.3
    weight = torch.exp(-0.5 * (grid - shift).square()) / math.sqrt(2 * math.pi) * 0.02
    r = grid[:, None] - grid
    q = c**2 + r.square()
    kernel = grid[:, None] * grid * q**-0.5 + (1 - r.square()) * q**-1.5 - 3 * r.square() * q**-2.5
    exact = (weight[:, None] * weight * kernel).sum().item()
    assert shift > 0 or abs(exact) < 1e-10

    generator, values = Generator().manual_seed(2), []
    for _ in range(400):
        x = shift + torch.randn(50, 1, generator=generator, dtype=torch.float64)
        values.append(squared_ksd(x, -x, c=c))
    assert abs(np.mean(values) - exact) < 5 * np.std(values, ddof=1) / math.sqrt(len(values))


def test_scales_as_the_inverse_cube_and_ignores_where_the_origin_is() -> None:
    x, score = normal(40, 2), normal(40, 2, seed=1)
    value = squared_ksd(x, score, c=0.7)
    assert math.isclose(squared_ksd(3 * x, score / 3, c=2.1), value / 27, rel_tol=1e-10)
    assert math.isclose(squared_ksd(x + 1e3, score, c=0.7), value, rel_tol=1e-8)


def test_moved_mode_weights_are_missed_by_ksd_and_seen_by_mode_tv_and_sliced_w2() -> None:
    """Two Gaussians 8 sd apart, weights .5/.5 against .9/.1."""
    generator, n = Generator().manual_seed(4), 500
    modes = Modes(lambda x: (x[:, 0] > 0).long(), torch.tensor([0.5, 0.5], dtype=torch.float64))

    def draw(weight: float) -> Tensor:
        sign = (torch.rand(n, generator=generator) < weight).double() * 2 - 1
        return torch.randn(n, 1, generator=generator, dtype=torch.float64) + 4 * sign[:, None]

    def values(x: Tensor) -> tuple[float, float, float]:
        score = 4 * torch.tanh(4 * x) - x
        ksd = squared_ksd(x, score, c=1.0)
        return ksd, total_variation(mode_shares(x, modes), modes.masses), sliced_wasserstein(x, draw(0.5))

    null = np.array([values(draw(0.5)) for _ in range(100)])
    moved = np.array(values(draw(0.9)))
    z = (moved - null.mean(0)) / null.std(0)
    assert abs(z[0]) < 6  # within the null law, whose right tail is exponential
    assert z[1] > 10
    assert z[2] > 10


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"score must have the shape of x, \(5, 2\), got \(5, 3\)"):
        squared_ksd(normal(5, 2), normal(5, 3), c=1.0)
    with pytest.raises(ValueError, match="c must be positive, got 0"):
        squared_ksd(normal(5, 2), normal(5, 2), c=0.0)
    with pytest.raises(ValueError, match="score must be finite"):
        squared_ksd(normal(5, 2), normal(5, 2) / 0, c=1.0)


def test_metrics_differ_in_their_width_alone() -> None:
    draws = Draws(samples=normal(50, 2).float())
    truth, x = Truth(score=lambda x: -x, spacing=0.03), draws.samples.double()
    assert METRICS.get("ksd")(draws, truth, seed=0) == {"ksd": squared_ksd(x, -x, c=0.3)}
    assert METRICS.get("ksd_paper")(draws, truth, seed=0) == {"ksd_paper": squared_ksd(x, -x, c=1.0)}
