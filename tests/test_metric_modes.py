import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, entropy
from torch import Generator, Tensor

from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.modes import (
    count_found,
    entropic_coverage,
    jensen_shannon,
    mode_shares,
    rarest_found,
    total_variation,
)
from samplerbench.targets import Draws, Modes


def labelled(masses: list[float]) -> Modes:
    """Points on the line carry their mode as a number; -1 is outside."""
    return Modes(lambda x: x[:, 0].round().long(), torch.tensor(masses, dtype=torch.float64))


def points(*counts: int) -> Tensor:
    """``counts`` points in each mode; the last count lies outside."""
    labels = [*range(len(counts) - 1), -1]
    return torch.tensor([[label] for label, n in zip(labels, counts, strict=True) for _ in range(n)]).float()


def test_shares_are_the_histogram_with_the_outside_last() -> None:
    shares = mode_shares(points(5, 0, 3, 2), labelled([0.4, 0.3, 0.2]))
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64))


def test_total_variation_counts_the_outside() -> None:
    shares = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64)
    value = total_variation(shares, torch.tensor([0.4, 0.3, 0.2], dtype=torch.float64))  # gaps .1, .3, .1, .1
    assert math.isclose(value, 0.3, rel_tol=1e-12)
    assert math.isclose(total_variation(shares, torch.tensor([1.0, 0.0, 0.0])), 0.5, rel_tol=1e-12)


def test_total_variation_of_exact_draws_is_the_mean_absolute_deviation_of_a_binomial() -> None:
    n, mass, generator = 40, 0.3, Generator().manual_seed(0)
    modes, values = labelled([1 - mass, mass]), []
    for _ in range(500):
        x = (torch.rand(n, 1, generator=generator) < mass).double()
        values.append(total_variation(mode_shares(x, modes), modes.masses))
    counts = np.arange(n + 1)
    exact = binom.pmf(counts, n, mass) @ np.abs(counts / n - mass)
    assert abs(np.mean(values) - exact) < 5 * np.std(values, ddof=1) / math.sqrt(len(values))


def test_a_mode_counts_from_a_quarter_of_its_mass() -> None:
    masses = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
    shares = torch.tensor([0.1, 0.0999, 0.8, 0.0001], dtype=torch.float64)
    assert count_found(shares, masses, 1_000) == (2, 3)


def test_modes_that_exact_draws_would_barely_visit_are_not_asked_for() -> None:
    masses = torch.tensor([0.75, 0.125, 0.125], dtype=torch.float64)
    shares = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    assert count_found(shares, masses, 160) == (1, 3)  # 160 x .125 = 20
    assert count_found(shares, masses, 159) == (1, 1)


def test_metrics_on_a_hand_made_histogram() -> None:
    draws, truth = Draws(samples=points(70, 5, 25, 0)), Truth(modes=labelled([0.5, 0.3, 0.2]))
    counts = {"modes_found": 2.0, "modes_asked": 3.0}
    assert METRICS.get("modes_found")(draws, truth, seed=0) == {**counts, "rarest_found": 0.2, "rarest_asked": 0.2}
    assert METRICS.get("mode_recall")(draws, truth, seed=0) == {"mode_recall": 2 / 3}
    assert math.isclose(METRICS.get("mode_tv")(draws, truth, seed=0)["mode_tv"], 0.25, rel_tol=1e-12)


def test_recall_is_unknown_where_no_mode_is_asked_for() -> None:
    draws, truth = Draws(samples=points(5, 5, 0)), Truth(modes=labelled([0.5, 0.5]))
    assert math.isnan(METRICS.get("mode_recall")(draws, truth, seed=0)["mode_recall"])
    values = METRICS.get("modes_found")(draws, truth, seed=0)
    assert (values["modes_found"], values["modes_asked"]) == (0.0, 0.0)
    assert math.isnan(values["rarest_found"])
    assert math.isnan(values["rarest_asked"])


def test_the_rarest_found_is_a_mass_of_the_law_among_the_modes_asked_for() -> None:
    masses = torch.tensor([0.5, 0.3, 0.1, 0.0999, 0.0001], dtype=torch.float64)
    visited = torch.tensor([0.6, 0.075, 0.0249, 0.0, 0.3, 0.0001], dtype=torch.float64)
    # the third holds less than its quarter; the last, oversampled, is not asked for below 200,000 draws
    assert rarest_found(visited, masses, 1_000) == (0.3, 0.0999)
    assert rarest_found(visited, masses, 200_000) == (0.0001, 0.0001)
    nowhere = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    found, asked = rarest_found(nowhere, masses, 1_000)
    assert math.isnan(found)
    assert asked == 0.0999


def test_exact_draws_find_the_rarest_mode_as_often_as_its_binomial_says() -> None:
    n, mass, n_repeats, generator = 400, 0.05, 400, Generator().manual_seed(1)  # 20 expected: asked for, just
    modes, hits = labelled([1 - mass, mass]), 0
    for _ in range(n_repeats):
        x = (torch.rand(n, 1, generator=generator) < mass).double()
        hits += rarest_found(mode_shares(x, modes), modes.masses, n)[0] == mass
    exact = binom.sf(4, n, mass)  # five or more of 400 are a quarter of the mass
    assert abs(hits / n_repeats - exact) < 5 * math.sqrt(exact * (1 - exact) / n_repeats) + 1 / n_repeats


def test_one_point_is_refused() -> None:
    with pytest.raises(ValueError, match="n >= 2"):
        mode_shares(points(1, 0), labelled([1.0]))


def shares(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_coverage_agrees_with_scipy_and_leaves_out_the_outside() -> None:
    value = entropic_coverage(shares(0.4, 0.0, 0.3, 0.1, 0.2))
    assert math.isclose(value, entropy([0.4, 0.0, 0.3, 0.1], base=4), rel_tol=1e-12)  # scipy divides by the sum


def test_coverage_of_equal_shares_one_mode_and_none() -> None:
    assert math.isclose(entropic_coverage(shares(0.3, 0.3, 0.3, 0.1)), 1, rel_tol=1e-12)
    assert entropic_coverage(shares(0.9, 0.0, 0.0, 0.1)) == 0
    assert entropic_coverage(shares(0.0, 0.0, 0.0, 1.0)) == 0
    assert math.isnan(entropic_coverage(shares(0.9, 0.1)))  # one mode


def test_coverage_of_exact_draws_is_short_of_the_law_s_by_the_bias_of_an_entropy() -> None:
    """E H of n draws in K cells is H - (K - 1) / 2n to first order (Miller, 1955)."""
    masses, n, n_repeats, generator = shares(0.5, 0.3, 0.2), 500, 400, Generator().manual_seed(0)
    values = []
    for _ in range(n_repeats):
        counts = torch.multinomial(masses, n, replacement=True, generator=generator).bincount(minlength=4)
        values.append(entropic_coverage(counts / n) * math.log(3))
    expected = entropy(masses.numpy()) - 2 / (2 * n)
    assert abs(np.mean(values) - expected) < 5 * np.std(values, ddof=1) / math.sqrt(n_repeats)


@pytest.mark.parametrize("masses", [(0.4, 0.3, 0.2), (0.5, 0.25, 0.25), (1.0, 0.0, 0.0)])
def test_jensen_shannon_agrees_with_scipy(masses: tuple[float, ...]) -> None:
    of_draws = shares(0.5, 0.0, 0.3, 0.2)
    expected = jensenshannon(of_draws.numpy(), [*masses, max(0.0, 1 - sum(masses))]) ** 2  # scipy takes the root
    assert math.isclose(jensen_shannon(of_draws, shares(*masses)), expected, rel_tol=1e-12)


def test_jensen_shannon_of_equal_and_of_disjoint_histograms() -> None:
    assert jensen_shannon(shares(0.5, 0.3, 0.2), shares(0.5, 0.3)) < 1e-15
    assert math.isclose(jensen_shannon(shares(0.0, 0.0, 1.0), shares(0.5, 0.5)), math.log(2), rel_tol=1e-12)


def test_metrics_of_the_histogram_s_entropy() -> None:
    draws, truth = Draws(samples=points(70, 5, 20, 5)), Truth(modes=labelled([0.5, 0.3, 0.15]))
    values = METRICS.get("emc")(draws, truth, seed=0)
    assert math.isclose(values["emc"], entropy([70, 5, 20], base=3), rel_tol=1e-12)
    assert math.isclose(values["emc_exact"], entropy([0.5, 0.3, 0.15], base=3), rel_tol=1e-12)
    expected = 1 - jensenshannon([70, 5, 20, 5], [50, 30, 15, 5], base=2) ** 2
    assert math.isclose(METRICS.get("mode_js")(draws, truth, seed=0)["mode_js"], expected, rel_tol=1e-12)
