import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Generator, Tensor

from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.energy import histogram_tv, wasserstein_1d
from samplerbench.targets import Draws


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "m"), [(100, 100), (100, 37), (1, 5)])
def test_agrees_with_scipy(n: int, m: int) -> None:
    u, v = normal(n), 2 * normal(m, seed=1) + 1
    assert math.isclose(wasserstein_1d(u, v), wasserstein_distance(u, v), rel_tol=1e-12)


def test_shifted_gaussians_are_their_shift_apart() -> None:
    n, shift = 100_000, 3.0  # so far apart that the distance is the difference of the means
    error = math.sqrt(2 / n)
    assert abs(wasserstein_1d(normal(n), normal(n, seed=1) + shift) - shift) < 5 * error


def test_histogram_tv_agrees_with_numpy_and_counts_what_is_out_of_range() -> None:
    u, v = 1.5 * normal(400), normal(300, seed=1)
    edges = np.linspace(v.min().item(), v.max().item(), 11)
    inside_u, inside_v = (np.histogram(w.numpy(), edges)[0] / len(w) for w in (u, v))
    below, above = np.mean(u.numpy() < edges[0]), np.mean(u.numpy() > edges[-1])
    expected = 0.5 * (np.abs(inside_u - inside_v).sum() + below + above)
    assert below + above > 0
    assert math.isclose(histogram_tv(u, v, n_bins=10), expected, rel_tol=1e-12)


def test_histogram_tv_of_disjoint_and_equal_samples() -> None:
    v = normal(100)
    assert histogram_tv(v + 100, v) == 1
    assert histogram_tv(v - 100, v) == 1
    assert histogram_tv(v.flip(0), v) == 0
    assert histogram_tv(torch.ones(3), torch.ones(4)) == 0  # a truth without width


def test_energies_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="u must be finite, got NaN or infinite values in 1 of 2"):
        wasserstein_1d(torch.tensor([0.0, -math.inf]), torch.zeros(2))
    with pytest.raises(ValueError, match=r"v must have shape \(n,\) with n >= 1, got \(2, 2\)"):
        wasserstein_1d(torch.zeros(2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="n_bins must be at least 1, got 0"):
        histogram_tv(torch.zeros(2), torch.zeros(2), n_bins=0)


def test_metric_compares_the_energies_and_takes_any_sizes() -> None:
    draws, samples = Draws(samples=normal(50, 2).float()), 2 * normal(70, 2, seed=1)
    value = METRICS.get("energy_w1")(draws, Truth(samples=samples, log_prob=lambda x: -x.square().sum(-1)), seed=0)
    u, v = -draws.samples.double().square().sum(-1), -samples.square().sum(-1)
    assert value == {"energy_w1": wasserstein_1d(u, v), "energy_tv": histogram_tv(u, v)}
