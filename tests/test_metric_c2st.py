import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import KFold, cross_val_score
from torch import Generator, Tensor

from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.c2st import _folds, classifier_accuracy
from samplerbench.targets import Draws


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def scikit_learn_s_own(x: Tensor, y: Tensor) -> float:
    """Cross-validated accuracy with plain folds."""
    rows, labels = torch.cat([x, y]).numpy(), np.repeat([0, 1], len(x))
    classifier = HistGradientBoostingClassifier(early_stopping=False, random_state=0)
    return float(cross_val_score(classifier, rows, labels, cv=KFold(5, shuffle=True, random_state=0)).mean())


def test_equal_laws_are_told_apart_as_a_coin_would() -> None:
    n = 500
    pairs = [(normal(n, 2, seed=2 * k), normal(n, 2, seed=2 * k + 1)) for k in range(4)]
    accuracies = [classifier_accuracy(x, y) for x, y in pairs]
    assert abs(np.mean(accuracies) - 0.5) < 5 * 0.5 / math.sqrt(2 * n * len(accuracies))


@pytest.mark.parametrize("shift", [1.0, 2.0, 4.0])
def test_shifted_gaussians_are_told_apart_nearly_as_well_as_can_be(shift: float) -> None:
    """No classifier beats Phi(shift / 2); trees lose a few points at 4,000 rows."""
    n = 2_000
    y = normal(n, 2, seed=1) + torch.tensor([shift, 0.0])
    bayes, accuracy = norm.cdf(shift / 2), classifier_accuracy(normal(n, 2), y)
    assert accuracy < bayes + 5 * math.sqrt(bayes * (1 - bayes) / (2 * n))
    assert accuracy > bayes - 0.06


def test_without_copies_it_is_scikit_learn_s_cross_validation_to_the_luck_of_the_folds() -> None:
    n = 1_000
    x, y = normal(n, 2), 1.5 * normal(n, 2, seed=1)
    assert abs(classifier_accuracy(x, y) - scikit_learn_s_own(x, y)) < 5 * 0.5 / math.sqrt(2 * n)


def test_repeated_rows_are_not_learnt_by_heart() -> None:
    n_different = 100
    x, y = normal(n_different, 2).repeat(8, 1), normal(8 * n_different, 2, seed=1)
    assert scikit_learn_s_own(x, y) > 0.7
    assert classifier_accuracy(x, y) < 0.5 + 5 * 0.5 / math.sqrt(2 * n_different)


def test_folds_keep_copies_together_and_take_their_share_of_each_sample() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 2))
    rows = np.concatenate([x, x[:20], x[10:15], generator.normal(size=(55, 2))])
    of_y = np.arange(120) >= 60
    fold = _folds(rows, of_y)
    assert (fold[:20] == fold[40:60]).all()
    assert (fold[10:15] == fold[60:65]).all()
    for sample in (~of_y, of_y):
        n_different = [len(np.unique(rows[sample & (fold == k)], axis=0)) for k in range(5)]
        assert sum(n_different) in (40, 60)
        assert max(n_different) - min(n_different) <= 2


def test_the_same_points_cannot_be_told_apart() -> None:
    x = normal(200, 2)
    assert classifier_accuracy(x, x.flip(0)) == 0.5  # a row and its copy are judged alike, one of the two rightly


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="same size, got 50 and 60 rows"):
        classifier_accuracy(normal(50, 2), normal(60, 2))
    with pytest.raises(ValueError, match="x must have at least 5 different rows, got 1"):
        classifier_accuracy(torch.zeros(50, 2), normal(50, 2))


def test_metric_is_taken_in_the_view_and_does_not_depend_on_the_seed() -> None:
    draws, samples = Draws(samples=normal(60, 2).exp().float()), normal(60, 2, seed=1).exp()
    truth = Truth(samples=samples, view=lambda x: x.sin())  # no monotone map, or trees would not see it
    expected = {"c2st": classifier_accuracy(draws.samples.double().sin(), samples.sin())}
    assert METRICS.get("c2st")(draws, truth, seed=0) == METRICS.get("c2st")(draws, truth, seed=1) == expected
