import math

import pytest
import torch
from torch import Generator, Tensor

from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.sliced import sliced_wasserstein
from samplerbench.targets import Draws


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def test_shift_moves_squared_distance_by_its_square_over_dim() -> None:
    x = normal(1_000, 3)
    exact = 5.25 / 3  # |shift|^2 / dim
    error = exact * math.sqrt(2 * (3 - 1) / (3 + 2) / 4_096)  # one standard error over directions
    shifted = x + torch.tensor([2.0, -1.0, 0.5])
    assert abs(sliced_wasserstein(x, shifted, n_projections=4_096) ** 2 - exact) < 5 * error


def test_agrees_with_pot_on_the_same_directions() -> None:
    import ot

    x, y = normal(300, 4), 1.5 * normal(300, 4, seed=1) + 0.2
    theta = torch.randn(70, 4, generator=Generator().manual_seed(9), dtype=torch.float64)
    theta = (theta / theta.norm(dim=1, keepdim=True)).T.numpy()
    independent = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=theta)
    assert math.isclose(sliced_wasserstein(x, y, n_projections=70, seed=9), independent, rel_tol=1e-10)


def test_gaussians_on_the_line_have_their_closed_form() -> None:
    n, shift, sd = 100_000, 0.5, 2.0
    exact = shift**2 + (sd - 1) ** 2
    error = 2 * math.sqrt((1 + sd**2) / n * (shift**2 + (sd - 1) ** 2 / 2))  # delta method in both means and sds
    x, y = normal(n, 1), shift + sd * normal(n, 1, seed=1)
    assert abs(sliced_wasserstein(x, y, n_projections=1) ** 2 - exact) < 5 * error


def test_is_zero_on_the_same_points_in_another_order_and_leaves_them_alone() -> None:
    x = normal(100, 3)
    before, shuffled = x.clone(), x[torch.randperm(100, generator=Generator().manual_seed(1))]
    assert sliced_wasserstein(x, shuffled) < 1e-7
    torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_is_symmetric_and_of_the_unit_of_x() -> None:
    x, y = normal(100, 3), normal(100, 3, seed=1)
    assert math.isclose(sliced_wasserstein(x, y), sliced_wasserstein(y, x), rel_tol=1e-12)
    assert math.isclose(sliced_wasserstein(7 * x, 7 * y), 7 * sliced_wasserstein(x, y), rel_tol=1e-12)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="same size, got 5 and 6 rows"):
        sliced_wasserstein(normal(5, 2), normal(6, 2))
    with pytest.raises(ValueError, match="n_projections must be at least 1, got 0"):
        sliced_wasserstein(normal(5, 2), normal(5, 2), n_projections=0)


def test_metric_is_the_distance_in_the_view_and_does_not_depend_on_the_seed() -> None:
    draws, samples = Draws(samples=normal(50, 2).exp().float()), normal(50, 2, seed=1).exp()
    metric, truth = METRICS.get("sliced_w2"), Truth(samples=samples, view=torch.log)
    expected = sliced_wasserstein(draws.samples.double().log(), samples.log())
    assert metric(draws, truth, seed=0) == metric(draws, truth, seed=1) == {"sliced_w2": expected}
