import math
from typing import Literal

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance
from torch import Generator, Tensor

from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.transport import wasserstein
from samplerbench.targets import Draws


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def test_agrees_with_the_optimal_assignment() -> None:
    x, y = normal(200, 3), 2 * normal(200, 3, seed=1) + 0.3
    cost = (x[:, None] - y).square().sum(-1).numpy()
    rows, columns = linear_sum_assignment(cost)
    assert math.isclose(wasserstein(x, y), math.sqrt(cost[rows, columns].mean()), rel_tol=1e-10)


def test_a_shift_is_its_own_length() -> None:
    x = normal(300, 2)
    assert math.isclose(wasserstein(x, x + torch.tensor([3.0, -4.0])), 5.0, rel_tol=1e-10)


def test_a_positive_definite_map_is_optimal() -> None:
    x, matrix = normal(300, 2), torch.tensor([[2.0, 0.5], [0.5, 0.7]], dtype=torch.float64)
    exact = (x @ matrix - x).square().sum(-1).mean().sqrt().item()  # gradient of a convex function (Brenier)
    assert math.isclose(wasserstein(x, x @ matrix), exact, rel_tol=1e-10)


def test_gaussians_on_the_line_have_their_closed_form() -> None:
    n, shift, sd = 2_000, 1.0, 2.0
    exact = shift**2 + (sd - 1) ** 2
    error = 2 * math.sqrt((1 + sd**2) / n * (shift**2 + (sd - 1) ** 2 / 2))  # delta method in both means and sds
    value = wasserstein(normal(n, 1), shift + sd * normal(n, 1, seed=1))
    assert abs(value**2 - exact) < 5 * error


@pytest.mark.parametrize("order", [1, 2])
def test_agrees_with_pot_s_own_cost(order: Literal[1, 2]) -> None:
    import ot

    x, y = normal(250, 3), 2 * normal(250, 3, seed=1) + 0.3
    metric = "euclidean" if order == 1 else "sqeuclidean"
    independent = ot.emd2([], [], ot.dist(x.numpy(), y.numpy(), metric=metric)) ** (1 / order)
    assert math.isclose(wasserstein(x, y, order=order), independent, rel_tol=1e-8)


def test_order_1_agrees_with_the_optimal_assignment() -> None:
    x, y = normal(200, 3), 2 * normal(200, 3, seed=1) + 0.3
    cost = (x[:, None] - y).norm(dim=-1).numpy()
    rows, columns = linear_sum_assignment(cost)
    assert math.isclose(wasserstein(x, y, order=1), cost[rows, columns].mean(), rel_tol=1e-10)


def test_order_1_on_the_line_is_that_of_scipy_and_below_order_2() -> None:
    x, y = normal(500, 1), 2 * normal(500, 1, seed=1) + 0.3
    assert math.isclose(wasserstein(x, y, order=1), wasserstein_distance(x[:, 0], y[:, 0]), rel_tol=1e-10)
    assert wasserstein(x, y, order=1) < wasserstein(x, y)  # Jensen's inequality


def test_a_solver_that_stops_early_is_an_error() -> None:
    with (
        pytest.warns(UserWarning, match="numItermax"),
        pytest.raises(RuntimeError, match="exact transport of 100 points must converge"),
    ):
        wasserstein(normal(100, 2), normal(100, 2, seed=1), max_iterations=1)


def test_sizes_must_match() -> None:
    with pytest.raises(ValueError, match="same size, got 5 and 6 rows"):
        wasserstein(normal(5, 2), normal(6, 2))


def test_metric_is_the_distance_in_the_view() -> None:
    draws, samples = Draws(samples=normal(50, 2).exp().float()), normal(50, 2, seed=1).exp()
    truth, x, y = Truth(samples=samples, view=torch.log), draws.samples.double().log(), samples.log()
    assert METRICS.get("w2")(draws, truth, seed=0) == {"w2": wasserstein(x, y)}
    assert METRICS.get("w1")(draws, truth, seed=0) == {"w1": wasserstein(x, y, order=1)}
