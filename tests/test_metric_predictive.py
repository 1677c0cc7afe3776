import math

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, log_loss
from torch import Generator, Tensor

from samplerbench.metrics import predictive as metrics_predictive
from samplerbench.metrics.base import METRICS, Predictive, Truth
from samplerbench.metrics.predictive import calibration_error, log_predictive
from samplerbench.targets import Draws

ROWS = torch.randn(30, 2, generator=Generator().manual_seed(0), dtype=torch.float64)
LABELS = (ROWS[:, 0] + 0.5 * ROWS[:, 1] > 0.1).long()


def log_odds(x: Tensor) -> Tensor:
    return x @ ROWS.to(x).T


def predict(x: Tensor) -> Tensor:
    return torch.sigmoid(log_odds(x))


@pytest.fixture
def draws() -> Draws:
    noise = torch.randn(2_500, 2, generator=Generator().manual_seed(1))
    return Draws(samples=torch.tensor([1.0, 0.0]) + 0.5 * noise)


@pytest.mark.parametrize("predictions", [1, 30 * 700, 10**6])  # a draw a block, four blocks, one
def test_prediction_is_the_mean_over_all_draws(draws: Draws, predictions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_predictive, "PREDICTIONS", predictions)
    predictive = Predictive(log_odds, LABELS)
    mean = predict(draws.samples.double()).mean(0)
    expected = torch.stack([1 - mean, mean])
    torch.testing.assert_close(log_predictive(draws.samples, predictive).exp(), expected, rtol=1e-12, atol=0)


def test_metrics_agree_with_scikit_learn(draws: Draws) -> None:
    truth = Truth(predictive=Predictive(log_odds, LABELS))
    mean = predict(draws.samples.double()).mean(0).numpy()
    accuracy = METRICS.get("accuracy")(draws, truth, seed=0)["accuracy"]
    assert accuracy == accuracy_score(LABELS, mean > 0.5) < 1
    assert math.isclose(METRICS.get("nll")(draws, truth, seed=0)["nll"], log_loss(LABELS, mean), rel_tol=1e-10)


def test_averaging_probabilities_is_better_than_the_average_draw(draws: Draws) -> None:
    truth = Truth(predictive=Predictive(log_odds, LABELS))
    single = [log_loss(LABELS, predict(x[None].double())[0].numpy()) for x in draws.samples[:200]]
    mixed = METRICS.get("nll")(Draws(samples=draws.samples[:200]), truth, seed=0)["nll"]
    assert mixed < sum(single) / len(single)  # Jensen's inequality: -log is convex


def test_certainty_of_the_wrong_class_costs_its_log_odds() -> None:
    truth = Truth(predictive=Predictive(lambda x: torch.full((len(x), 1), -1e4, dtype=torch.float64), torch.ones(1)))
    assert METRICS.get("nll")(Draws(samples=torch.zeros(2, 1)), truth, seed=0)["nll"] == 1e4


def test_calibration_error_agrees_with_scikit_learn(draws: Draws) -> None:
    mean = predict(draws.samples.double()).mean(0).numpy()
    share, predicted = calibration_curve(LABELS, mean, n_bins=10)  # of the bins that are not empty
    n_in_bin = np.histogram(mean, bins=10, range=(0, 1))[0]
    expected = (n_in_bin[n_in_bin > 0] / len(mean)) @ np.abs(share - predicted)
    value = METRICS.get("ece")(draws, Truth(predictive=Predictive(log_odds, LABELS)), seed=0)["ece"]
    assert math.isclose(value, expected, rel_tol=1e-10)
    assert value > 0


def test_calibration_error_by_hand_with_the_ends() -> None:
    """Bin 0 holds 0 and .05 with one label 1; bin 9 holds .95 and 1, both 1."""
    probability = torch.tensor([0.0, 0.05, 0.95, 1.0])
    value = calibration_error(probability, torch.tensor([False, True, True, True]))
    assert math.isclose(value, (abs(1 - 0.05) + abs(2 - 1.95)) / 4, rel_tol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_calibration_error_of_a_shifted_probability_is_the_shift(shift: float) -> None:
    """Stated p - shift where p is true: |bin gap| has the mean ``shift``, or sqrt(2 v / pi n_bin) without one."""
    n, generator = 100_000, Generator().manual_seed(0)
    p = 0.2 + 0.8 * torch.rand(n, generator=generator, dtype=torch.float64)
    labels = torch.rand(n, generator=generator, dtype=torch.float64) < p
    value = calibration_error(p - shift, labels)
    assert abs(value - shift) < 5 * math.sqrt(10 * 0.25 / n)  # the errors of 10 bins, added up at their worst
