import math

import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import Generator, Tensor

from samplerbench.metrics.base import METRICS, Predictive, Truth
from samplerbench.metrics.predictive import log_predictive
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


def test_prediction_is_the_mean_over_all_draws(draws: Draws) -> None:
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
