import math

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from samplerbench import targets
from samplerbench.benchmarks.truth import build_truth
from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.classes import class_entropy, class_shares
from samplerbench.targets import Draws, derive_generator
from samplerbench.targets.factor_analysers import FactorAnalysers


def by_sign(x: Tensor) -> Tensor:
    """Two classes: the half lines."""
    return torch.sigmoid(torch.stack([-x[:, 0], x[:, 0]], dim=-1))


def test_shares_entropy_and_distance_by_hand() -> None:
    x = torch.tensor([[-1.0], [-2.0], [-3.0], [4.0]])
    shares = class_shares(by_sign(x))
    assert shares.tolist() == [0.75, 0.25]
    assert math.isclose(class_entropy(shares), -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    truth = Truth(samples=torch.tensor([[-1.0], [1.0]]), class_probabilities=by_sign)
    assert METRICS.get("class_tv")(Draws(samples=x), truth, seed=0) == {"class_tv": 0.25}


def test_equal_shares_have_entropy_one_and_a_single_class_has_none() -> None:
    assert math.isclose(class_entropy(torch.full((10,), 0.1, dtype=torch.float64)), 1.0)
    assert class_entropy(torch.eye(10, dtype=torch.float64)[3]) == 0.0


@pytest.mark.parametrize(("n_right", "found"), [(12, 1.0), (13, 2.0)])
def test_a_class_is_found_from_a_quarter_of_an_equal_share_on(n_right: int, found: float) -> None:
    x = torch.cat([torch.full((n_right, 1), 1.0), torch.full((100 - n_right, 1), -1.0)])  # an eighth of 100 is 12.5
    values = METRICS.get("classes_found")(Draws(samples=x), Truth(class_probabilities=by_sign), seed=0)
    assert values["classes_found"] == found


def test_distance_of_exact_draws_is_the_mean_absolute_difference_of_binomials() -> None:
    n, n_repeats, generator = 40, 1_000, derive_generator("classes")
    values = []
    for _ in range(n_repeats):
        x, y = (torch.randn(n, 1, generator=generator) for _ in range(2))
        truth = Truth(samples=y, class_probabilities=by_sign)
        values.append(METRICS.get("class_tv")(Draws(samples=x), truth, seed=0)["class_tv"])
    counts = np.arange(n + 1)
    p = binom.pmf(counts, n, 0.5)
    exact = p @ np.abs(counts[:, None] - counts) @ p / n
    assert abs(np.mean(values) - exact) < 5 * np.std(values) / math.sqrt(n_repeats)


def test_without_draws_of_the_law_only_the_distance_is_unknown() -> None:
    target = targets.get("ebm_digits")
    truth, draws = build_truth(target, 10, 0), Draws(samples=torch.randn(50, 64, generator=derive_generator("x")))
    assert METRICS.get("class_tv").missing(draws, truth) == "needs samples"
    assert 1 <= METRICS.get("classes_found")(draws, truth, seed=0)["classes_found"] <= 10


def test_one_component_of_a_mixture_of_digits_misses_classes() -> None:
    target = targets.get("mfa_digits")
    assert isinstance(target, FactorAnalysers)
    truth, generator = build_truth(target, 2_000, 0), derive_generator("one component")
    exact = target.sample(2_000, generator)
    one = target.mixture.sample(torch.zeros(2_000, dtype=torch.int64), generator)
    of_exact, of_one = (METRICS.get("class_tv")(Draws(samples=x), truth, seed=0)["class_tv"] for x in (exact, one))
    assert of_exact < 0.06  # some 10 shares with standard errors of .01 each
    assert of_one > 0.5
