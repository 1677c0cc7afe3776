import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.datasets import load_breast_cancer
from torch import Tensor

from samplerbench import targets
from samplerbench.benchmarks.reference import stein_error
from samplerbench.targets.logistic_regression import LogisticRegression, TrainedLogisticRegression


class WithoutPrior:
    """The published mistake: the prior commented out."""

    dim, scale = 31, 8.0

    def __init__(self, target: LogisticRegression) -> None:
        self.target = target

    def log_prob(self, x: Tensor) -> Tensor:
        return self.target.log_prob(x) + 0.5 * x.square().sum(-1) / 100


@pytest.fixture
def parameters() -> np.ndarray:
    return np.sin(np.arange(4 * 31)).reshape(4, 31) * np.array([[0.1], [1.0], [5.0], [0.0]])


def log_joint(x: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones(len(rows)), rows / rows.std(axis=0)])
    logits = x @ design.T
    likelihood = np.where(labels == 1, special.log_expit(logits), special.log_expit(-logits)).sum(-1)
    return likelihood + stats.norm(0, 10).logpdf(x).sum(-1)


def test_log_prob_given_all_rows(parameters: np.ndarray) -> None:
    features, labels = load_breast_cancer(return_X_y=True)
    expected = torch.from_numpy(log_joint(parameters, features, labels))
    target = targets.get("breast_cancer_full")
    torch.testing.assert_close(target.log_prob(torch.from_numpy(parameters)), expected)
    at_zero = -569 * math.log(2) - 31 / 2 * math.log(2 * math.pi * 100)
    assert math.isclose(target.log_prob(torch.zeros(31, dtype=torch.float64)), at_zero, rel_tol=1e-12)


def test_log_prob_given_the_training_rows(parameters: np.ndarray) -> None:
    features, labels = load_breast_cancer(return_X_y=True)
    rows = torch.randperm(569, generator=torch.Generator().manual_seed(0))[:455].numpy()
    expected = torch.from_numpy(log_joint(parameters, features[rows], labels[rows]))
    torch.testing.assert_close(targets.get("breast_cancer_train").log_prob(torch.from_numpy(parameters)), expected)


def test_predictions_on_the_held_out_rows(parameters: np.ndarray) -> None:
    features, labels = load_breast_cancer(return_X_y=True)
    order = torch.randperm(569, generator=torch.Generator().manual_seed(0)).numpy()
    train, held_out = features[order[:455]], features[order[455:]]
    design = np.column_stack([np.ones(114), held_out / train.std(axis=0)])
    target = targets.get("breast_cancer_train")
    torch.testing.assert_close(target.log_odds(torch.from_numpy(parameters)), torch.from_numpy(parameters @ design.T))
    assert target.held_out_labels.tolist() == labels[order[455:]].tolist()


def test_the_posterior_predicts() -> None:
    target = targets.get("breast_cancer_train")
    mean_probability = target.log_odds(target.reference()).sigmoid().mean(0)
    assert ((mean_probability > 0.5) == (target.held_out_labels == 1)).double().mean() > 0.9


def test_a_prior_left_out_is_caught() -> None:
    target = targets.get("breast_cancer_full")
    assert abs(stein_error(target.reference(), WithoutPrior(target))) > 10


def test_only_the_split_has_held_out_rows_and_neither_a_log_z() -> None:
    assert not isinstance(LogisticRegression(), targets.HasPredictive)
    assert isinstance(TrainedLogisticRegression(), targets.HasPredictive)
    assert not isinstance(TrainedLogisticRegression(), targets.HasLogZ)


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown data set 'breast_cancr'; did you mean 'breast_cancer'\?"):
        targets.get("breast_cancer_full", data="breast_cancr")
    with pytest.raises(ValueError, match=r"scale must be positive and finite, got 0.0"):
        targets.get("breast_cancer_full", scale=0)
