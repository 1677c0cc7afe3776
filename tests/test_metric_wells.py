import math

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.benchmarks.truth import build_truth
from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.wells import count_patterns, well_errors
from samplerbench.targets import Draws, Wells, derive_generator


def signs(*masses: float) -> Wells:
    return Wells(lambda x: x > 0, torch.tensor(masses, dtype=torch.float64))


def test_errors_and_patterns_by_hand() -> None:
    x = torch.tensor([[1.0, -1, 2], [3, -2, 1], [-1, -1, 5], [1, 1, 1]])
    expected = torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)
    torch.testing.assert_close(well_errors(x, signs(0.5, 0.5, 0.5)), expected)
    assert count_patterns(x, signs(0.5, 0.5, 0.5)) == 3


def test_errors_of_exact_draws_are_the_mean_absolute_deviations_of_binomials() -> None:
    masses, n, n_repeats, generator = [0.3, 0.7, 0.05], 40, 1_000, Generator().manual_seed(0)
    p = torch.tensor(masses)
    errors = [well_errors(p - torch.rand(n, 3, generator=generator), signs(*masses)).numpy() for _ in range(n_repeats)]
    counts = np.arange(n + 1)
    exact = np.array([binom.pmf(counts, n, mass) @ np.abs(counts / n - mass) for mass in masses])
    assert (np.abs(np.mean(errors, 0) - exact) < 5 * np.std(errors, 0) / math.sqrt(n_repeats)).all()


def patterns_of_exact_draws(n: int, masses: Tensor) -> tuple[float, float]:
    """Mean and a bound on the variance of the number of different patterns among n independent draws."""
    missed = torch.exp(n * torch.log1p(-masses))
    return (1 - missed).sum().item(), (missed * (1 - missed)).sum().item()  # negatively associated: at most the sum


def test_exact_draws_find_half_of_the_256_modes_of_many_well16() -> None:
    target = targets.get("many_well16")
    p = target.wells.masses[0]
    n_right = torch.tensor([mode.bit_count() for mode in range(256)])
    mean, variance = patterns_of_exact_draws(2_000, p**n_right * (1 - p) ** (8 - n_right))
    draws = Draws(samples=target.sample(2_000, derive_generator("wells")))
    values = METRICS.get("joint_modes")(draws, build_truth(target, 2_000, 0), seed=0)
    assert 0.45 < mean / 256 < 0.55
    for count in ("joint_modes_found", "joint_modes_exact"):
        assert abs(values[count] - mean) < 5 * math.sqrt(variance)
    assert values["joint_modes"] == values["joint_modes_found"] / values["joint_modes_exact"]


@pytest.mark.parametrize("name", ["many_well6", "many_well128", "many_well_sde50"])
def test_masses_are_those_of_exact_draws(name: str) -> None:
    target, n = targets.get(name), 50_000
    x = target.sample(n, Generator().manual_seed(0))
    masses = target.wells.masses
    error = (masses * (1 - masses) / n).sqrt()
    assert (well_errors(x, target.wells) < 5 * error).all()


def test_a_lost_well_is_an_error_of_its_mass_and_costs_patterns() -> None:
    target = targets.get("many_well32")
    truth, x = build_truth(target, 2_000, 0), target.sample(2_000, Generator().manual_seed(1))
    x[:, 4] = x[:, 4].abs()  # the third well
    error = METRICS.get("well_error")(Draws(samples=x), truth, seed=0)
    assert math.isclose(error["well_error"], 1 - target.wells.masses[2].item(), rel_tol=1e-12)
    assert error["well_error_mean"] < 2 * error["well_error"] / 16
    collapsed = METRICS.get("joint_modes")(Draws(samples=x.abs()), truth, seed=0)
    assert collapsed["joint_modes_found"] == 1


def test_sizes_must_match() -> None:
    truth = Truth(wells=signs(0.5), samples=torch.zeros(3, 1))
    with pytest.raises(ValueError, match="same size, got 2 and 3 rows"):
        METRICS.get("joint_modes")(Draws(samples=torch.zeros(2, 1)), truth, seed=0)
