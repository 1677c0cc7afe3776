import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.datasets import load_breast_cancer
from torch import Tensor

from samplerbench import targets
from samplerbench.targets import logistic_regression
from samplerbench.targets.datasets import DATASETS, load
from samplerbench.targets.logistic_regression import LogisticRegression, TrainedLogisticRegression

NAMES = [
    f"{data}_{part}" for data in ("breast_cancer", "german_credit", "ionosphere", "sonar") for part in ("full", "train")
]


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
    """The published mistake: Stein's identity E[x . score] = -dim sees it in the draws of the right law."""
    target = targets.get("breast_cancer_full")
    x = target.reference()
    centred, score = x - x.mean(0), target.score(x)

    def standard_errors(wrong_score: Tensor) -> float:
        stein = (centred * wrong_score).sum(-1) + target.dim
        return float(stein.mean() / stein.std() * math.sqrt(len(x)))

    assert abs(standard_errors(score)) < 4.5
    assert standard_errors(score + x / 100) > 10


def target_with_data(name: str) -> LogisticRegression:
    """The target, or a skip where this run was given no data file for it."""
    target = targets.get(name)
    assert isinstance(target, LogisticRegression)
    folder = Path(os.environ.get("SAMPLERBENCH_DATA") or "no folder was given")
    if not all((folder / file).is_file() for file in DATASETS[target.data].files):
        pytest.skip(f"{DATASETS[target.data].files} are not in {folder}")
    return target


@pytest.mark.parametrize(
    ("name", "n_given", "variance", "centred"),
    [
        ("german_credit_full", 1_000, 100, False),
        ("german_credit_train", 800, 100, False),
        ("ionosphere_full", 351, 1, True),
        ("ionosphere_train", 281, 1, True),
        ("sonar_full", 208, 1, True),
        ("sonar_train", 166, 1, True),
    ],
)
def test_log_prob_and_predictions_of_the_recipes(name: str, n_given: int, variance: float, centred: bool) -> None:
    target = target_with_data(name)
    features, labels = (part.numpy() for part in load(target.data))
    order = np.arange(len(labels))
    if name.endswith("train"):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).numpy()
    given = features[order[:n_given]]
    spread = given.std(axis=0)
    spread[spread == 0] = np.inf  # a constant feature is 0
    scaled = (features[order] - given.mean(axis=0) * centred) / spread
    design = np.column_stack([np.ones(len(order)), scaled])
    x = np.sin(np.arange(3 * target.dim)).reshape(3, -1) * np.array([[0.1], [1.0], [3.0]])
    logits, y = x @ design.T, labels[order]
    log_likelihood = np.where(y == 1, special.log_expit(logits), special.log_expit(-logits))[:, :n_given].sum(-1)
    expected = log_likelihood + stats.norm(0, math.sqrt(variance)).logpdf(x).sum(-1)
    assert target.n_rows == n_given
    torch.testing.assert_close(target.log_prob(torch.from_numpy(x)), torch.from_numpy(expected))
    if isinstance(target, TrainedLogisticRegression):
        torch.testing.assert_close(target.log_odds(torch.from_numpy(x)), torch.from_numpy(logits[:, n_given:]))
        assert target.held_out_labels.tolist() == y[n_given:].tolist()


def test_the_constant_feature_of_ionosphere_tells_nothing() -> None:
    target = target_with_data("ionosphere_full")
    x = torch.zeros(35, dtype=torch.float64)
    x[2] = 3.0  # after the bias and the first feature
    assert math.isclose(target.log_prob(x), target.log_prob(0 * x) - 4.5, rel_tol=1e-12)


def test_all_is_finite_far_out_and_twice_differentiable() -> None:
    target = target_with_data("ionosphere_train")
    x = 1e4 * torch.randn(20, 35, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (score,) = torch.autograd.grad(target.log_prob(x).sum(), x, create_graph=True)
    (hvp,) = torch.autograd.grad(score.square().sum(), x)
    assert score.isfinite().all()
    assert hvp.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_minibatch_scores_average_to_the_score(name: str) -> None:
    target = target_with_data(name)
    x = torch.randn(2, 3, target.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.arange(target.n_rows)[:, None]  # every batch of one row, once: the expectation
    mean = torch.stack([target.minibatch_score(x, row) for row in rows]).mean(0)
    torch.testing.assert_close(mean, target.score(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(target.minibatch_score(x, rows[:, 0]), target.score(x))
    batch = torch.tensor([3, 3, 5])  # drawn with replacement
    expected = (2 * target.minibatch_score(x, batch[:1]) + target.minibatch_score(x, batch[2:])) / 3
    torch.testing.assert_close(target.minibatch_score(x, batch), expected)
    assert target.minibatch_score(x.float(), batch).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_dimension_and_rows_need_no_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "load", None)
    dims = {"breast_cancer": 31, "german_credit": 25, "ionosphere": 35, "sonar": 61}
    target = targets.get(name)
    assert target.dim == dims[name.rsplit("_", 1)[0]]
    assert isinstance(target, targets.HasMinibatch)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_truth_is_that_of_the_data_and_the_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "shipped_log_z", lambda truth: f"log Z of {truth}")
    monkeypatch.setattr(logistic_regression, "reference_draws", lambda truth: f"draws of {truth}")
    target = targets.get(name)
    assert isinstance(target, LogisticRegression)
    assert target.log_z == f"log Z of {name}"
    assert target.reference() == f"draws of {name}"


def test_only_the_split_has_held_out_rows() -> None:
    assert not isinstance(LogisticRegression(), targets.HasPredictive)
    assert isinstance(TrainedLogisticRegression(), targets.HasPredictive)


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown data set 'breast_cancr'; did you mean 'breast_cancer'\?"):
        targets.get("breast_cancer_full", data="breast_cancr")
    with pytest.raises(ValueError, match="unknown parameter 'scale'"):
        targets.get("breast_cancer_full", scale=0)
