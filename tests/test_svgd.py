"""SVGD: its update against a double loop, AdaGrad, bandwidth, blocks, and what it does on a Gaussian."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from samplerbench.samplers.svgd import BLOCK, SVGD, AdaGrad, median_bandwidth, stein_direction
from samplerbench.targets import Budget, Meter


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


def naive_direction(x: np.ndarray, score: np.ndarray, h2: float) -> np.ndarray:
    """Liu and Wang, equation 8, with k(x, y) = exp(-|x - y|^2 / h^2): one pair at a time."""
    phi = np.zeros_like(x)
    for i in range(len(x)):
        for j in range(len(x)):
            k = math.exp(-float(((x[j] - x[i]) ** 2).sum()) / h2)
            phi[i] += (k * score[j] - 2 * (x[j] - x[i]) / h2 * k) / len(x)
    return phi


@pytest.mark.parametrize("block", [1, 50, 91, BLOCK])
def test_direction_equals_the_double_loop_in_blocks_of_any_size(block: int) -> None:
    x, score = cloud(30) + 100, cloud(30, seed=1)  # far from the origin: centring keeps the digits
    for h2 in (0.3, 2.0, 50.0):
        expected = naive_direction(x.numpy(), score.numpy(), h2)
        np.testing.assert_allclose(stein_direction(x, score, h2, block), expected, rtol=1e-10, atol=1e-12)


def test_direction_in_float32_keeps_six_digits() -> None:
    x, score = cloud(200), cloud(200, seed=1)
    exact = stein_direction(x, score, 1.5)
    single = stein_direction(x.float(), score.float(), 1.5)
    assert float((single - exact).abs().max() / exact.abs().max()) < 1e-5


def test_no_tensor_grows_with_the_square_of_the_number_of_particles() -> None:
    n = 10_000
    meter = Meter(Normal())
    with LargestTensor() as largest:
        SVGD(n_steps=1).fit(meter, generator()).draw(n, generator(1))
    assert largest.numel <= BLOCK < n * n / 300


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


def test_one_update_by_hand() -> None:
    start = cloud(40, dim=2)
    meter = Meter(Normal(), dtype=torch.float64)
    draws = SVGD(n_steps=1, step_size=0.05).fit(meter, generator()).draw(40, generator(1), start)
    squares = torch.pdist(start).square().sort().values
    h2 = float(squares[(len(squares) - 1) // 2]) / math.log(40)
    score = -(start - Normal.mean) @ Normal.covariance.inverse()
    phi = naive_direction(start.numpy(), score.numpy(), h2)
    expected = start.numpy() + 0.05 * phi / (1e-6 + np.abs(phi))
    np.testing.assert_allclose(draws.samples, expected, rtol=1e-9, atol=1e-12)
    assert math.isclose(float(draws.diagnostics["bandwidth"]), math.sqrt(h2))  # type: ignore[arg-type]


def test_gaussian_mean_and_covariance_are_recovered() -> None:
    """With the defaults; finitely many particles have a slightly smaller covariance, here by 3 to 4%."""
    draws = SVGD().fit(Meter(Normal()), generator()).draw(400, generator(1))
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


def test_particles_that_leave_the_support_are_a_divergence() -> None:
    start = cloud(50, dim=2).float().clamp(max=0.9)
    draws = SVGD(step_size=0.3).fit(Meter(Wall()), generator()).draw(50, generator(1), start)
    assert draws.stopped == "diverged"
    assert "of 50 rows before step" in draws.reason
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


@pytest.mark.parametrize(("field", "value"), [("step_size", 0.0), ("n_steps", 0), ("decay", 1.0), ("n_median", 1)])
def test_configuration_out_of_range_names_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        SVGD(**{field: value})  # type: ignore[arg-type]
