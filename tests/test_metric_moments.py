import math

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.moments import squared_moment_bias
from samplerbench.targets import Draws, Moments

STANDARD_NORMAL = Moments(  # f = (v1, v2, v1^2, v2^2)
    mean=torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64),
    variance=torch.tensor([1.0, 1.0, 2.0, 2.0], dtype=torch.float64),
)


def exact_sample(mean: Tensor, sd: Tensor) -> Tensor:
    """Four points whose means and variances are exactly these."""
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    return mean + sd * corners


def test_is_the_closed_form_of_a_shifted_and_scaled_law() -> None:
    v = exact_sample(torch.tensor([0.5, 0.0]).double(), torch.tensor([1.0, 2.0]).double())
    expected = torch.tensor([0.5**2, 0.0, 0.25**2 / 2, 3.0**2 / 2], dtype=torch.float64)  # E v^2 = mean^2 + variance
    torch.testing.assert_close(squared_moment_bias(v, STANDARD_NORMAL), expected)


def test_of_exact_draws_is_one_over_n_on_average() -> None:
    generator, n = Generator().manual_seed(0), 50
    values = [
        squared_moment_bias(torch.randn(n, 2, generator=generator, dtype=torch.float64), STANDARD_NORMAL).mean().item()
        for _ in range(2_000)
    ]
    assert abs(np.mean(values) - 1 / n) < 5 * np.std(values, ddof=1) / math.sqrt(len(values))


def test_metric_is_largest_and_mean_in_the_view() -> None:
    v = exact_sample(torch.tensor([0.5, 0.0]).double(), torch.tensor([1.0, 2.0]).double())
    draws, truth = Draws(samples=v.sinh()), Truth(moments=STANDARD_NORMAL, view=torch.asinh)
    value = METRICS.get("moment_bias2")(draws, truth, seed=0)
    assert math.isclose(value["moment_bias2"], 4.5, rel_tol=1e-12)
    assert math.isclose(value["moment_bias2_mean"], (0.25 + 0.03125 + 4.5) / 4, rel_tol=1e-12)


def test_moments_of_another_dimension_are_refused() -> None:
    with pytest.raises(ValueError, match=r"moments must have shape \(6,\), got \(4,\)"):
        squared_moment_bias(torch.zeros(5, 3), STANDARD_NORMAL)
