import math

import numpy as np
import pytest
import torch
from scipy.stats import geom
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.rare import (
    draws_to_first,
    log_weight_ratios,
    mean_first_hit,
    n_for_rarest,
    share_recalled,
)
from samplerbench.targets import Draws, Modes


def labelled(*masses: float) -> Modes:
    """Points on the line carry their mode as a number; -1 is outside."""
    return Modes(lambda x: x[:, 0].round().long(), torch.tensor(masses, dtype=torch.float64))


def points(*labels: int) -> Tensor:
    return torch.tensor(labels).float()[:, None]


@pytest.mark.parametrize("dim", [2, 8, 32])
def test_a_weight_of_1e_4_asks_for_200_000_draws(dim: int) -> None:
    assert n_for_rarest(targets.get(f"rare_modes{dim}").modes.masses) == 200_000
    assert n_for_rarest(torch.tensor([0.5, 0.4995])) == 40


def test_a_mode_is_recalled_from_5_hits() -> None:
    index = torch.tensor([0] * 9 + [1] * 4 + [2] * 5 + [-1] * 20)
    assert share_recalled(index, 4) == 2 / 4
    assert share_recalled(torch.full((7,), -1), 2) == 0


def test_recall_is_taken_over_the_first_draws_and_is_nan_with_fewer() -> None:
    modes = labelled(0.8, 0.2)  # 100 draws
    late = points(*[0] * 95, *[1] * 4, 0, *[1] * 50)
    early = points(*[0] * 95, *[1] * 5)
    metric, truth = METRICS.get("rare_recall"), Truth(modes=modes)
    assert metric(Draws(samples=late), truth, seed=0) == {"rare_recall": 0.5}
    assert metric(Draws(samples=early), truth, seed=0) == {"rare_recall": 1.0}
    few = Draws(samples=early[1:])
    assert math.isnan(metric(few, truth, seed=0)["rare_recall"])
    assert metric.missing(few, truth) == "needs at least 100 draws, got 99"


def test_200_000_exact_draws_recall_all_rare_modes_and_the_big_one_alone_none() -> None:
    """20 hits are expected of the rarest: a Poisson variable is below 5 with probability 2e-5."""
    target = targets.get("rare_modes2")
    metric, truth = METRICS.get("rare_recall"), Truth(modes=target.modes)
    exact = target.sample(200_000, Generator().manual_seed(0))
    assert metric(Draws(samples=exact), truth, seed=0) == {"rare_recall": 1.0}
    big = torch.randn(200_000, 2, generator=Generator().manual_seed(0), dtype=torch.float64)
    assert metric(Draws(samples=big), truth, seed=0) == {"rare_recall": 0.2}


def test_first_hit_counts_the_hit_itself_and_is_censored_at_n() -> None:
    assert draws_to_first(torch.tensor([False, False, True, True])) == (3, False)
    assert draws_to_first(torch.tensor([True])) == (1, False)
    assert draws_to_first(torch.tensor([False, False])) == (2, True)


@pytest.mark.parametrize(("mass", "n"), [(0.3, 5), (1e-4, 2_000), (1e-9, 100)])
def test_mean_of_the_censored_geometric_law(mass: float, n: int) -> None:
    t = np.arange(n)
    assert math.isclose(mean_first_hit(mass, n), geom.sf(t, mass).sum(), rel_tol=1e-9)  # E min(T, n) = sum P(T > t)


def test_mean_of_the_geometric_law_when_draws_are_many() -> None:
    assert math.isclose(mean_first_hit(1e-2, 10_000), 100, rel_tol=1e-12)
    assert mean_first_hit(1.0, 7) == 1


def test_first_hit_of_independent_draws_has_the_geometric_law() -> None:
    mass, n, n_repeats = 0.05, 30, 2_000
    generator, truth = Generator().manual_seed(1), Truth(modes=labelled(0.9, mass))
    values = []
    for _ in range(n_repeats):
        rare = torch.rand(n, 1, generator=generator) < mass
        values.append(METRICS.get("first_hit")(Draws(samples=rare.float()), truth, seed=0))
    hits = np.array([value["first_hit"] for value in values])
    exact = values[0]["first_hit_exact"]
    assert abs(hits.mean() - exact) < 5 * hits.std() / math.sqrt(n_repeats)
    censored, never = np.mean([value["first_hit_censored"] for value in values]), (1 - mass) ** n
    assert abs(censored - never) < 5 * math.sqrt(never * (1 - never) / n_repeats)


def test_metric_takes_the_rarest_mode() -> None:
    draws, truth = Draws(samples=points(0, 0, 2, -1, 1)), Truth(modes=labelled(0.6, 0.1, 0.2))
    assert METRICS.get("first_hit")(draws, truth, seed=0) == {
        "first_hit": 5.0,
        "first_hit_exact": mean_first_hit(0.1, 5),
        "first_hit_censored": 0.0,
    }


def test_ratios_of_weights_are_of_counts_with_a_half_added() -> None:
    index = torch.tensor([0] * 60 + [1] * 20 + [-1] * 20)
    masses = torch.tensor([0.6, 0.395, 0.005], dtype=torch.float64)
    expected = [0.0, math.log(20.5 / 40), math.log(0.5 / 1)]
    assert log_weight_ratios(index, masses).tolist() == pytest.approx(expected, abs=1e-12)


def test_an_absent_mode_is_finite_and_the_farther_off_the_more_was_to_be_seen() -> None:
    modes, metric = labelled(0.9, 0.1), METRICS.get("rare_weight_error")
    values = metric(Draws(samples=points(*[0] * 200)), Truth(modes=modes), seed=0)
    absent, big = math.log(0.5 / 20.5), math.log(200.5 / 180.5)
    assert values == pytest.approx({"rare_weight_error": (big - absent) / 2, "rarest_log_ratio": absent})
    assert metric(Draws(samples=points(*[0] * 2_000)), Truth(modes=modes), seed=0)["rarest_log_ratio"] < absent
    few = Draws(samples=points(*[0] * 199))
    assert math.isnan(metric(few, Truth(modes=modes), seed=0)["rare_weight_error"])
    outside = metric(Draws(samples=points(*[-1] * 200)), Truth(modes=modes), seed=0)
    assert outside["rare_weight_error"] == pytest.approx((math.log(180.5 / 0.5) + math.log(20.5 / 0.5)) / 2)


def test_weights_of_exact_draws_err_by_the_noise_of_counts() -> None:
    """log of a Poisson count of mean m has standard deviation m^-1/2; E|N(0, s^2)| = s (2 / pi)^1/2."""
    n, n_repeats, masses = 2_000, 400, torch.tensor([0.69, 0.2, 0.1, 0.01], dtype=torch.float64)
    generator, metric, truth = (
        Generator().manual_seed(2),
        METRICS.get("rare_weight_error"),
        Truth(modes=labelled(*masses)),
    )
    values = []
    for _ in range(n_repeats):
        index = masses.multinomial(n, replacement=True, generator=generator)
        values.append(metric(Draws(samples=index[:, None].float()), truth, seed=0)["rare_weight_error"])
    exact = (((1 - masses) / (n * masses)).sqrt() * math.sqrt(2 / math.pi)).mean().item()
    error = np.std(values) / math.sqrt(n_repeats)
    assert abs(np.mean(values) - exact) < 5 * error + 0.05 * exact  # the log is not linear: 1 / (8 m) for m = 20
