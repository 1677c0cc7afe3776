"""KSD-NS: the Stein kernel, the mean and the gradient of the loss, counts, and a Gaussian that is reached."""

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from samplerbench import samplers, targets
from samplerbench.metrics.mmd import squared_mmd
from samplerbench.samplers.implicit.stein import BaseKernel, mean_over_others, stein_kernel
from samplerbench.samplers.ksd_ns import ksd_loss
from samplerbench.targets import Counts, Meter, derive_generator

KERNELS: tuple[BaseKernel, ...] = get_args(BaseKernel)
BASE: dict[BaseKernel, Callable[[Tensor], Tensor]] = {
    "imq": lambda square: (1 + square) ** -0.5,
    "rbf": lambda square: (-square / 2).exp(),
}
BLOCK, N_BLOCKS = 32, 1_000  # points of a loss; losses


class Normal:
    """N(0, I / 4) in the plane, with 24 data rows."""

    dim = 2
    scale = 0.5
    n_rows = 24

    def log_prob(self, x: Tensor) -> Tensor:
        return -2 * x.square().sum(-1)

    def minibatch_score(self, x: Tensor, rows: Tensor) -> Tensor:
        angle = rows.to(x) * (2 * torch.pi / self.n_rows)
        return 4 * (torch.stack([angle.cos(), angle.sin()]).mean(-1) - x)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=derive_generator(seed, "normal"), dtype=torch.float64)


def score(x: Tensor) -> Tensor:
    """Of N(0, P^-1), P with rows (.6, -.3) and (-.3, 1.1), or of its first coordinate alone."""
    dim = x.shape[-1]
    return -x @ torch.tensor([[0.6, -0.3], [-0.3, 1.1]], dtype=x.dtype)[:dim, :dim]


def mean_and_error(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.mean(0), values.std(0) / math.sqrt(len(values))


# The Stein kernel


@pytest.mark.parametrize("kernel", KERNELS)
def test_stein_kernel_is_its_definition(kernel: BaseKernel) -> None:
    """By automatic differentiation of k at every pair; the scores are any vectors."""
    x, s_x, y, s_y, width = normal(4, 3), normal(4, 3, seed=1), normal(5, 3, seed=2), normal(5, 3, seed=3), 0.7

    def definition(x: Tensor, s_x: Tensor, y: Tensor, s_y: Tensor) -> Tensor:
        x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
        k = BASE[kernel](((x - y) / width).square().sum())
        grad_x, grad_y = torch.autograd.grad(k, (x, y), create_graph=True)
        trace = sum(torch.autograd.grad(grad_x[i], y, retain_graph=True)[0][i] for i in range(3))
        return (s_x @ s_y * k + s_x @ grad_y + s_y @ grad_x + trace).detach()

    expected = torch.stack([torch.stack([definition(*one, *two) for two in zip(y, s_y, strict=True)])
                            for one in zip(x, s_x, strict=True)])  # fmt: skip
    torch.testing.assert_close(stein_kernel(x, s_x, y, s_y, width, kernel), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradient_of_the_stein_kernel_is_that_of_finite_differences(kernel: BaseKernel) -> None:
    x = normal(5, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ksd_loss(x, lambda y: -(y**3), kernel=kernel, width=0.7), x)


def test_far_from_the_origin_nothing_is_lost() -> None:
    x, s = normal(6, 2), normal(6, 2, seed=1)
    here, there = (stein_kernel(x + shift, s, x + shift, s, 1.0) for shift in (0.0, 1e6))
    torch.testing.assert_close(here, there, rtol=0, atol=1e-8)


def test_mean_over_others_leaves_the_diagonal_out() -> None:
    kernel = normal(5, 5)
    expected = [sum(kernel[i, j].item() for j in range(5) if j != i) / 4 for i in range(5)]
    torch.testing.assert_close(mean_over_others(kernel), torch.tensor(expected, dtype=torch.float64))


# The loss


@pytest.mark.parametrize("kernel", KERNELS)
def test_loss_is_centred_for_exact_draws_and_positive_otherwise(kernel: BaseKernel) -> None:
    exact = normal(N_BLOCKS, BLOCK, 2)
    for x0, is_exact in ((exact, True), (1.3 * exact, False), (exact + torch.tensor([0.3, 0.0]), False)):
        mean, error = mean_and_error(torch.stack([ksd_loss(x, lambda x: -x, kernel=kernel) for x in x0]))
        assert abs(mean) < 4 * error if is_exact else mean > 4 * error


def exact_ksd(a: Tensor, b: Tensor, kernel: BaseKernel, width: float) -> Tensor:
    """E kappa(x, y) over independent x = A z + b and y, by a trapezoidal sum over z.

    Its relative error is of order exp(-2 pi d / h), h = .1 or .4 the step of z and d, above 1/3 or 1, the distance
    to the nearest singularity of k in complex z.
    """
    dim = len(b)
    axis = torch.linspace(-6, 6, 121 if dim == 1 else 31, dtype=torch.float64)
    z = torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)
    weights = (-0.5 * z.square().sum(-1)).softmax(0)
    x = z @ a.T + b
    return weights @ stein_kernel(x, score(x), x, score(x), width, kernel) @ weights


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("dim", "width"), [(1, 1.0), (2, 3.0)])
def test_gradient_in_theta_is_that_of_the_exact_discrepancy(dim: int, width: float, kernel: BaseKernel) -> None:
    a = torch.tensor([[2.0, -0.3], [-0.4, 1.8]], dtype=torch.float64)[:dim, :dim].clone().requires_grad_()
    b = torch.tensor([1.1, 0.2], dtype=torch.float64)[:dim].clone().requires_grad_()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(exact_ksd(a, b, kernel, width), (a, b))])

    def gradients(loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        found = [torch.autograd.grad(loss(z @ a.T + b), (a, b)) for z in normal(N_BLOCKS, BLOCK, dim)]
        return mean_and_error(torch.stack([torch.cat([part.flatten() for part in parts]) for parts in found]))

    mean, error = gradients(lambda x0: ksd_loss(x0, score, kernel=kernel, width=width))
    assert ((mean - expected).abs() < 4 * error).all()
    with_diagonal, error = gradients(lambda x: stein_kernel(x, score(x), x, score(x), width, kernel).mean())
    assert ((with_diagonal - expected).abs() > 4 * error).any(), "a V-statistic is biased by its diagonal"


def test_two_independent_scores_take_the_bias_of_stochastic_ones_away() -> None:
    """Scores with an error e that all points share: one call per loss adds E|e|^2 times the mean of k."""
    generator = derive_generator("errors")

    def stochastic(x: Tensor) -> Tensor:
        return score(x) + torch.randn(2, generator=generator, dtype=x.dtype)

    bias, found = {}, {}
    for n_scores in (1, 2):
        losses = [(ksd_loss(x, stochastic, n_scores=n_scores) - ksd_loss(x, score)) for x in normal(2_000, BLOCK, 2)]
        bias[n_scores], found[n_scores] = mean_and_error(torch.stack(losses))
    k = torch.stack([mean_over_others(BASE["imq"](torch.cdist(x, x) ** 2)).mean() for x in normal(2_000, BLOCK, 2)])
    assert abs(bias[2]) < 4 * found[2]
    assert abs(bias[1] - 2 * k.mean()) < 4 * found[1]
    assert bias[1] > 10 * found[1]


# Training


@pytest.mark.parametrize("name", ["ksd_ns", "ksd_ns_rbf"])
def test_a_gaussian_is_reached_up_to_the_floor_from_twice_its_width(name: str) -> None:
    target, generator = targets.get("gaussian2"), derive_generator("floor")
    assert isinstance(target, targets.HasSample)
    bandwidth = 0.5 * math.sqrt(4 * math.log(2))  # median distance of two draws

    def exact() -> Tensor:
        return target.sample(1_000, generator)

    floor = torch.tensor([squared_mmd(exact(), exact(), bandwidth=bandwidth) for _ in range(60)]).quantile(0.95)
    training = {"n_steps": 300, "batch_size": 128, "ema_decay": 0.99}
    sampler = samplers.get(name, training=training, network={"width": 32, "depth": 2, "start_scale": 2.0})
    fitted = sampler.fit(Meter(target), derive_generator(0, "fit"))
    assert "opponent_loss" not in fitted.diagnostics
    draws = [fitted.draw(1_000, derive_generator(seed, "draw")).samples for seed in range(10)]
    values = [squared_mmd(x, exact(), bandwidth=bandwidth) for x in draws]  # exact draws: 0 in the mean
    assert sum(values) / len(values) < floor


@pytest.mark.parametrize(("source", "per_point"), [("exact", 1.0), ("minibatch", 2 * 6 / 24)])
def test_counts_of_a_step(source: str, per_point: float) -> None:
    """One log_prob, one score and one Hessian-vector product per point; two shares of each with minibatches."""
    meter = Meter(Normal())
    training = {"n_steps": 3, "n_warm_up": 2, "batch_size": 20}
    samplers.get("ksd_ns", training=training, target_score={"source": source, "batch_size": 6}).fit(
        meter, derive_generator()
    )
    n = 60 * per_point
    assert meter.counts["fit"] == Counts(log_prob=n, score=n, hvp=n)
    assert meter.counts["draw"] == Counts()


def test_a_law_on_a_curve_has_a_discrepancy() -> None:
    training = {"n_steps": 5, "batch_size": 8}
    fitted = samplers.get("ksd_ns", network={"latent": {"dim": 1}}, training=training).fit(
        Meter(Normal()), derive_generator()
    )
    samples = fitted.draw(10, derive_generator()).samples
    assert samples.shape == (10, 2)
    assert torch.isfinite(torch.tensor(fitted.diagnostics["sampler_loss"])).all()


def test_bad_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kernel must be one of 'imq', 'rbf', got 'laplace'"):
        samplers.get("ksd_ns", kernel="laplace")
    with pytest.raises(ValueError, match=r"width must be positive and finite, got 0.0"):
        samplers.get("ksd_ns", width=0.0)
