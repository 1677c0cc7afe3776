"""Classifier two-sample test: whether a strong classifier can tell the draws from the truth."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_two_samples, both_in_view

N_FOLDS = 5
FOLD_SEED = 0  # the same for every sampler, seed and floor


def classifier_accuracy(x: Tensor, y: Tensor) -> float:
    """Cross-validated accuracy of gradient-boosted trees at telling two samples of the same size apart.

    scikit-learn's HistGradientBoostingClassifier with its defaults and no early stopping; 5 folds in which all copies
    of a row are in the same fold, so that repeated rows are not learnt by heart.

    Args:
        x, y: samples, both of shape ``(n, dim)``; not modified.
    Returns:
        Share of the rows that the classifier trained without their fold gets right: 1/2 for equal laws, up to 1.
    Raises:
        ValueError: if the shapes differ, or a sample is not finite or has fewer than 5 different rows.
    Reference: Lopez-Paz and Oquab, Revisiting classifier two-sample tests, ICLR 2017.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # slow to import

    x, y = as_two_samples(x, y, same_size=True)
    rows = np.concatenate([x.cpu().numpy(), y.cpu().numpy()])
    of_y = np.arange(len(rows)) >= len(x)
    fold = _folds(rows, of_y)
    n_right = 0
    for k in range(N_FOLDS):
        test = fold == k
        classifier = HistGradientBoostingClassifier(
            early_stopping=False,  # pyright: ignore[reportArgumentType]
            random_state=FOLD_SEED,
        )
        classifier.fit(rows[~test], of_y[~test])
        n_right += int((classifier.predict(rows[test]) == of_y[test]).sum())
    return n_right / len(rows)


def _folds(rows: NDArray[np.float64], of_y: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Fold of every row, shape ``(n,)``: at random, equal rows together, each fold with its share of both samples."""
    _, group = np.unique(rows, axis=0, return_inverse=True)
    group = group.reshape(-1)
    in_x, in_y = (np.bincount(group[which], minlength=group.max() + 1) > 0 for which in (~of_y, of_y))
    for name, within in (("x", in_x), ("y", in_y)):
        if within.sum() < N_FOLDS:
            raise ValueError(f"{name} must have at least {N_FOLDS} different rows, got {within.sum()}")
    order = np.random.default_rng(FOLD_SEED).permutation(len(in_x))
    kind = in_y.astype(int) - in_x  # of x alone, of both, of y alone: dealt out in turn, no fold goes without
    order = order[np.argsort(kind[order], kind="stable")]
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % N_FOLDS
    return fold[group]


@register_metric(
    "c2st",
    version=1,
    needs=("samples",),
    unit="1",
    blind_to="rare modes, repeated rows",
)
def c2st(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Accuracy of gradient-boosted trees at telling draws from truth in the view, 5 folds: 1/2 for equal laws."""
    x, y = both_in_view(draws, truth)
    return {"c2st": classifier_accuracy(x, y)}
