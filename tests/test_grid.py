"""Quadrature on a grid, against closed forms."""

import math

import pytest
import torch
from scipy import stats
from torch import Generator

from samplerbench import targets
from samplerbench.benchmarks.grid import integrate


@pytest.mark.parametrize("name", ["banana", "funnel2", "donut", "student_mixture_nu2"])
def test_log_z_within_the_stated_error(name: str) -> None:
    target = targets.get(name)
    grid = integrate(target, target.sample(20_000, Generator().manual_seed(0)), 801)
    assert abs(grid.log_z - target.log_z.value) < 4 * grid.error + 1e-6
    assert grid.error < 1e-3


def test_marginals_are_those_of_a_normal() -> None:
    target = targets.get("gaussian2", sd=2.0, condition=4.0)
    sd = math.sqrt(target.moments.mean[2].item())
    grid = integrate(target, target.sample(1_000, Generator().manual_seed(0)), 401)
    x = torch.linspace(-8, 8, 101, dtype=torch.float64)
    expected = torch.from_numpy(stats.norm(0, sd).cdf(x.numpy()))
    for i in range(2):
        assert (grid.cdf(i)(x) - expected).abs().max() < 1e-4
        assert grid.cdf(i)(torch.tensor([-1e9, 1e9], dtype=torch.float64)).sub(torch.tensor([0, 1])).abs().max() < 1e-12
