import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from samplerbench.metrics import points
from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.mmd import squared_mmd
from samplerbench.metrics.stein import squared_ksd
from samplerbench.targets import Draws


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_mmd2(shift: float, sd: float, dim: int, bandwidth: float, n_bandwidths: int = 7) -> float:
    """MMD^2 between N(0, I) and N(shift e_1, sd^2 I), from E k = (h^2 / (h^2 + v))^(dim/2) exp(-d^2 / 2(h^2 + v))."""

    def mean_kernel(variance: float, gap: float) -> float:
        widths = [(bandwidth * 0.5**j) ** 2 for j in range(n_bandwidths)]
        terms = [(h2 / (h2 + variance)) ** (dim / 2) * math.exp(-0.5 * gap**2 / (h2 + variance)) for h2 in widths]
        return sum(terms) / n_bandwidths

    return mean_kernel(2.0, 0.0) + mean_kernel(2 * sd**2, 0.0) - 2 * mean_kernel(1 + sd**2, shift)


def test_agrees_with_full_kernel_matrices() -> None:
    x, y, bandwidth = normal(60, 3), 0.5 * normal(45, 3, seed=1) + 0.1, 1.7

    def kernel(a: Tensor, b: Tensor) -> np.ndarray:
        widths = [bandwidth * 0.5**j for j in range(7)]
        return np.mean([rbf_kernel(a.numpy(), b.numpy(), gamma=0.5 / h**2) for h in widths], axis=0)

    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
    assert math.isclose(squared_mmd(x, y, bandwidth=bandwidth), sum(within) - 2 * kernel(x, y).mean(), rel_tol=1e-10)


@pytest.mark.parametrize(("shift", "sd"), [(0.0, 1.0), (0.7, 1.0), (0.0, 1.6)])
def test_is_unbiased_between_gaussians(shift: float, sd: float) -> None:
    generator = Generator().manual_seed(3)
    values = []
    for _ in range(300):
        z = torch.randn(2, 60, 2, generator=generator, dtype=torch.float64)
        values.append(squared_mmd(z[0], sd * z[1] + torch.tensor([shift, 0.0]), bandwidth=1.5))
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - gaussian_mmd2(shift, sd, dim=2, bandwidth=1.5)) < 5 * error


@pytest.mark.parametrize("block", [1, 1_000, 10**6])
def test_blocks_do_not_change_the_value(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    x, y = normal(83, 3), normal(71, 3, seed=1)
    expected = squared_mmd(x, y, bandwidth=1.0), squared_ksd(x, -x, c=1.0)
    monkeypatch.setattr(points, "BLOCK", block)
    assert np.allclose([squared_mmd(x, y, bandwidth=1.0), squared_ksd(x, -x, c=1.0)], expected, rtol=1e-12)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that an operation returned."""

    n_elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.n_elements = max(self.n_elements, result.numel())
        return result


def test_no_tensor_is_larger_than_a_block() -> None:
    x, y = normal(1_500, 2), normal(1_500, 2, seed=1)
    for compute in (lambda: squared_mmd(x, y, bandwidth=1.0), lambda: squared_ksd(x, -x, c=1.0)):
        with LargestTensor() as largest:
            compute()
        assert 0 < largest.n_elements <= points.BLOCK < 1_500**2 / 2


def test_narrow_kernels_see_a_doubled_width_inside_the_modes() -> None:
    def ring(n: int, sd: float, generator: Generator) -> Tensor:
        angle = torch.randint(8, (n,), generator=generator) * (2 * math.pi / 8)
        centres = 4 * torch.stack([angle.cos(), angle.sin()], -1).double()
        return centres + sd * torch.randn(n, 2, generator=generator, dtype=torch.float64)

    generator = Generator().manual_seed(5)
    median = torch.pdist(ring(1_000, 0.5, generator)).median().item()
    null = [squared_mmd(ring(800, 0.5, generator), ring(800, 0.5, generator), bandwidth=median) for _ in range(50)]
    wider = squared_mmd(ring(800, 1.0, generator), ring(800, 0.5, generator), bandwidth=median)
    assert wider > np.mean(null) + 5 * np.std(null)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="bandwidth must be positive, got 0"):
        squared_mmd(normal(5, 2), normal(5, 2), bandwidth=0.0)
    with pytest.raises(ValueError, match="n_bandwidths must be at least 1, got 0"):
        squared_mmd(normal(5, 2), normal(5, 2), bandwidth=1.0, n_bandwidths=0)


def test_metric_takes_the_bandwidth_of_the_truth_and_the_view() -> None:
    draws, samples = Draws(samples=normal(50, 2).exp().float()), normal(60, 2, seed=1).exp()
    value = METRICS.get("mmd2")(draws, Truth(samples=samples, view=torch.log, bandwidth=1.3), seed=0)
    assert value == {"mmd2": squared_mmd(draws.samples.double().log(), samples.log(), bandwidth=1.3)}
