"""SVGD: its update against double loops, fixed points, AdaGrad, bandwidth, blocks and memory, minibatches."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from samplerbench.samplers import NotApplicableError
from samplerbench.samplers.svgd import (
    BLOCK,
    DIRECTIONS,
    MIN_ROWS,
    SVGD,
    AdaGrad,
    SteinKernel,
    imq_direction,
    median_bandwidth,
    rbf_direction,
)
from samplerbench.targets import Budget, Meter

KERNELS: tuple[SteinKernel, ...] = ("rbf", "imq")


class Normal:
    """N(mean, covariance) in the plane."""

    dim = 2
    scale = 1.0
    mean = torch.tensor([0.5, -1.0], dtype=torch.float64)
    covariance = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        gap = x - self.mean.to(x)
        return -0.5 * (gap @ self.covariance.inverse().to(x) * gap).sum(-1)


class Wall(Normal):
    """NaN beyond 1 in the first coordinate."""

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.where(x[..., 0] > 1, math.nan, super().log_prob(x))


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the size of the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numel = max(self.numel, result.numel())
        return result


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def cloud(n: int, dim: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=generator(seed), dtype=torch.float64)


def kernel_value(kernel: SteinKernel, x: Tensor, y: Tensor, h2: float) -> Tensor:
    square = (x - y).square().sum()
    return torch.exp(-square / h2) if kernel == "rbf" else (1 + square / h2) ** -0.5


def naive_direction(kernel: SteinKernel, x: Tensor, score: Tensor, h2: float) -> Tensor:
    """Liu and Wang, equation 8: one pair at a time, the kernel's gradient by autograd."""
    phi = torch.zeros_like(x)
    for i in range(len(x)):
        for j in range(len(x)):
            x_j = x[j].clone().requires_grad_()
            k = kernel_value(kernel, x_j, x[i], h2)
            (gradient,) = torch.autograd.grad(k, x_j)
            phi[i] += (k.detach() * score[j] + gradient) / len(x)
    return phi


@pytest.mark.parametrize("block", [1, 50, 91, BLOCK])
@pytest.mark.parametrize("kernel", KERNELS)
def test_direction_equals_the_double_loop_in_blocks_of_any_size(kernel: SteinKernel, block: int) -> None:
    x, score = cloud(20) + 100, cloud(20, seed=1)  # far from the origin: centring keeps the digits
    direction = {"rbf": rbf_direction, "imq": imq_direction}[kernel]
    for h2 in (0.3, 2.0, 50.0):
        expected = naive_direction(kernel, x, score, h2)
        torch.testing.assert_close(direction(x, score, h2, block), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_direction_in_float32_keeps_six_digits(kernel: SteinKernel) -> None:
    x, score = cloud(200), cloud(200, seed=1)
    exact = DIRECTIONS[kernel](x, score, 1.5)
    single = DIRECTIONS[kernel](x.float(), score.float(), 1.5)
    assert float((single - exact).abs().max() / exact.abs().max()) < 1e-5


@pytest.mark.parametrize("kernel", KERNELS)
def test_repulsion_adds_up_to_nothing(kernel: SteinKernel) -> None:
    """grad_x k(x, y) = -grad_y k(x, y): without a score, sum_i phi(x_i) = 0."""
    phi = DIRECTIONS[kernel](cloud(200), torch.zeros(200, 3, dtype=torch.float64), 1.5)
    assert float(phi.sum(0).abs().max()) < 1e-12 * float(phi.abs().sum())
    assert float(phi.abs().sum()) > 0.1


@pytest.mark.parametrize("kernel", KERNELS)
def test_gaussian_fixed_point_of_few_particles(kernel: SteinKernel) -> None:
    """On N(0.5, 1), h^2 = 1/4: plain steps end where scipy finds a root of the fixed point's equations.

    Kernel and law are symmetric, and so is the stable root: its mean is the target's. Its variance is too small.
    """
    n, h2 = 6, 0.25

    def phi(x: np.ndarray) -> np.ndarray:
        gap = x[:, None] - x
        k = np.exp(-(gap**2) / h2) if kernel == "rbf" else (1 + gap**2 / h2) ** -0.5
        slope = 2 / h2 * k if kernel == "rbf" else k**3 / h2
        return np.asarray((k * (0.5 - x) + slope * gap).mean(1))

    start = np.linspace(-1.0, 2.5, n)
    solution = optimize.root(phi, start, tol=1e-13)
    assert solution.success
    x = torch.from_numpy(start)[:, None]
    for _ in range(600):
        x = x + 0.3 * DIRECTIONS[kernel](x, 0.5 - x, h2)
    reached = x[:, 0].sort().values
    np.testing.assert_allclose(reached, np.sort(solution.x), atol=1e-9)
    np.testing.assert_allclose(reached - 0.5, 0.5 - reached.flip(0), atol=1e-9)
    assert abs(float(reached.mean()) - 0.5) < 1e-9
    assert 0.6 < float(reached.var(correction=0)) < 0.72
    assert float(DIRECTIONS[kernel](x, 0.5 - x, h2).abs().max()) < 1e-10


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_tensor_grows_with_the_square_of_the_number_of_particles(kernel: SteinKernel) -> None:
    n = 10_000
    meter = Meter(Normal())
    with LargestTensor() as largest:
        SVGD(kernel=kernel, n_steps=1).fit(meter, generator()).draw(n, generator(1))
    # imq keeps two blocks, of k and of its cube
    assert largest.numel <= 2 * max(BLOCK, MIN_ROWS * n) < n * n / 50


@pytest.mark.parametrize("kernel", KERNELS)
def test_ten_thousand_particles_in_ten_dimensions_stay_under_a_gigabyte(kernel: SteinKernel) -> None:
    script = f"""
import resource, torch
from samplerbench import samplers, targets
meter = targets.Meter(targets.get("funnel10"))
fitted = samplers.get("svgd", kernel="{kernel}", n_steps=2).fit(meter, torch.Generator())
fitted.draw(100, torch.Generator())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert fitted.draw(10_000, torch.Generator()).samples.shape == (10_000, 10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100)
    kilobytes = int(output.stdout) / (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 1e6


def test_adagrad_follows_the_authors_form() -> None:
    phis = cloud(4, dim=2).unbind(0)
    ada_grad = AdaGrad(step_size=0.1, decay=0.9)
    history = np.zeros(2)
    for t, phi in enumerate(phis):
        square = phi.numpy() ** 2
        history = square if t == 0 else 0.9 * history + 0.1 * square
        expected = 0.1 * phi.numpy() / (1e-6 + np.sqrt(history))
        np.testing.assert_allclose(ada_grad(phi), expected, rtol=1e-12)


def test_bandwidth_is_the_median_heuristic() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0]])  # squared distances 1, 4, 9
    assert math.isclose(median_bandwidth(x, 3), 4 / math.log(3))
    assert math.isclose(median_bandwidth(x, 1_000), 4 / math.log(1_000))


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_update_by_hand(kernel: SteinKernel) -> None:
    start = cloud(40, dim=2)
    meter = Meter(Normal(), dtype=torch.float64)
    draws = SVGD(kernel=kernel, n_steps=1, step_size=0.05).fit(meter, generator()).draw(40, generator(1), start)
    squares = torch.pdist(start).square().sort().values
    h2 = float(squares[(len(squares) - 1) // 2]) / math.log(40)
    score = -(start - Normal.mean) @ Normal.covariance.inverse()
    phi = naive_direction(kernel, start, score, h2)
    expected = start + 0.05 * phi / (1e-6 + phi.abs())
    torch.testing.assert_close(draws.samples, expected, rtol=1e-9, atol=1e-12)
    assert math.isclose(float(draws.diagnostics["bandwidth"]), math.sqrt(h2))  # type: ignore[arg-type]


@pytest.mark.parametrize("kernel", KERNELS)
def test_gaussian_mean_and_covariance_are_recovered(kernel: SteinKernel) -> None:
    """With the defaults; finitely many particles have a slightly smaller covariance, here by 3 to 4%."""
    draws = SVGD(kernel=kernel).fit(Meter(Normal()), generator()).draw(400, generator(1))
    x = draws.samples.double()
    sds = Normal.covariance.diagonal().sqrt()
    assert ((x.mean(0) - Normal.mean).abs() < 0.01 * sds).all()
    assert ((x.T.cov() - Normal.covariance).abs() < 0.06 * sds.outer(sds)).all()


def test_counts_budget_and_seeds() -> None:
    n = 30
    meter = Meter(Normal(), budget=Budget(draw=n * 4 + n - 1))
    fitted = SVGD(n_steps=9).fit(meter, generator())
    with meter.phase("draw"):
        draws = fitted.draw(n, generator(1))
    assert draws.stopped == "budget"
    assert draws.reason.endswith("stopped after 4 of 9 steps")
    assert vars(meter.counts["fit"]) == {"log_prob": 0, "score": 0, "hvp": 0}
    assert vars(meter.counts["draw"]) == {"log_prob": 4 * n, "score": 4 * n, "hvp": 0}
    whole_meter = Meter(Normal())
    whole = SVGD(n_steps=4).fit(whole_meter, generator())
    assert torch.equal(whole.draw(n, generator(1)).samples, draws.samples)
    assert whole_meter.counts["fit"].score == 4 * n


class Rows(Normal):
    """The same as the posterior of a mean, given 40 rows."""

    n_rows = 40

    def minibatch_score(self, x: Tensor, rows: Tensor) -> Tensor:
        shift = 3 * torch.cos(2 * math.pi * rows.to(x) / self.n_rows).mean()  # 0 over all rows
        return (self.mean.to(x) + shift - x) @ self.covariance.inverse().to(x)


def test_minibatches_pay_their_share_and_all_rows_are_the_full_score() -> None:
    meter = Meter(Rows(), dtype=torch.float64, budget=Budget(draw=30 * 4 / 5))
    fitted = SVGD(batch_size=8, n_steps=9).fit(meter, generator())
    with meter.phase("draw"):
        draws = fitted.draw(30, generator(1))
    assert draws.stopped == "budget"
    assert "30 points of log_prob+score on 8 of 40 rows" in draws.reason
    assert vars(meter.counts["draw"]) == {"log_prob": 24, "score": 24, "hvp": 0}
    full, all_rows = (
        SVGD(batch_size=size, n_steps=9).fit(Meter(Rows(), dtype=torch.float64), generator()).draw(30, generator(1))
        for size in (None, 40)
    )
    torch.testing.assert_close(all_rows.samples, full.samples)
    assert not torch.allclose(draws.samples, full.samples, rtol=1e-3)


def test_minibatches_find_the_mean() -> None:
    """AdaGrad's steps are at most 0.01 / sqrt(0.1); the noise makes the cloud tremble by some of them."""
    draws = SVGD(batch_size=8).fit(Meter(Rows()), generator()).draw(100, generator(1))
    assert ((draws.samples.double().mean(0) - Normal.mean).abs() < 5 * 0.01 / math.sqrt(0.1)).all()


def test_minibatches_are_refused_without_rows_or_above_them() -> None:
    with pytest.raises(NotApplicableError, match="needs minibatch scores, target offers none"):
        SVGD(batch_size=8).fit(Meter(Normal()), generator())
    with pytest.raises(ValueError, match="batch_size must be at most the target's n_rows 40, got 41"):
        SVGD(batch_size=41).fit(Meter(Rows()), generator())


def test_particles_that_leave_the_support_are_a_divergence() -> None:
    start = cloud(50, dim=2).float().clamp(max=0.9)
    draws = SVGD(step_size=0.3).fit(Meter(Wall()), generator()).draw(50, generator(1), start)
    assert draws.stopped == "diverged"
    assert "of 50 rows before a step" in draws.reason
    assert draws.samples.shape == (50, 2)
    assert draws.samples.isfinite().all()


def test_coinciding_particles_are_a_divergence() -> None:
    draws = SVGD().fit(Meter(Normal()), generator()).draw(5, generator(1), torch.zeros(5, 2))
    assert draws.stopped == "diverged"
    assert "median squared distance between particles is 0" in draws.reason


def test_one_particle_climbs_to_the_mode() -> None:
    draws = SVGD(step_size=0.02, n_steps=300).fit(Meter(Normal()), generator()).draw(1, generator(1))
    assert float((draws.samples - Normal.mean).abs().max()) < 3.2 * 0.02  # one AdaGrad step: at most 1 / sqrt(0.1)


def test_wrong_starts_are_refused() -> None:
    fitted = SVGD().fit(Meter(Normal()), generator())
    with pytest.raises(ValueError, match=r"start must have shape \(5, 2\), got \(5, 3\)"):
        fitted.draw(5, generator(), torch.zeros(5, 3))
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        fitted.draw(0, generator())


@pytest.mark.parametrize(
    ("field", "value"), [("step_size", 0.0), ("n_steps", 0), ("decay", 1.0), ("n_median", 1), ("batch_size", 0)]
)
def test_configuration_out_of_range_names_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        SVGD(**{field: value})  # type: ignore[arg-type]
