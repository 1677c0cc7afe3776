"""Bayesian logistic regression on real data."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import Generator, Tensor

from .base import LOG_2PI, PerDevice, register_target
from .checks import require_positive
from .registry import unknown
from .shipped import reference_draws

PRIOR_VARIANCE = 100.0
TRAIN_SHARE = 0.8


@cache
def breast_cancer() -> tuple[Tensor, Tensor]:
    """Breast Cancer Wisconsin (Diagnostic): features ``(569, 30)``, float64, and labels ``(569,)``, 1 = benign."""
    from sklearn.datasets import load_breast_cancer

    features, labels = load_breast_cancer(return_X_y=True)
    return torch.from_numpy(np.asarray(features)), torch.from_numpy(np.asarray(labels))


DATA: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {"breast_cancer": breast_cancer}


@register_target("breast_cancer_full", version=1, data="breast_cancer", scale=8.0)
@dataclass(frozen=True)
class LogisticRegression:
    """Bayesian logistic regression given all rows: x = (bias, weights), x ~ N(0, 100 I), P(y = 1) = sigmoid(x . row).

    log_prob = log N(x; 0, 100 I) + sum_i log sigmoid((2 y_i - 1) x . row_i); log_z, the log evidence, is unknown.
    A row is a 1 for the bias, then the features divided by their standard deviation and not centred, so that the
    posterior is ill-conditioned. The law has no free parameter but its data: reference draws belong to it.

    Source: recipe of the German credit posterior of M. Hoffman and A. Gelman, JMLR 15 (2014), with ``data``
    (scikit-learn's copy of UCI Breast Cancer Wisconsin Diagnostic).

    Attributes:
        data: name of the data set.
        scale: root mean square radius per coordinate of the reference draws, to one digit.
    """

    data: str = "breast_cancer"
    scale: float = 8.0

    def __post_init__(self) -> None:
        require_positive(scale=self.scale)
        if self.data not in DATA:
            raise ValueError(f"data must be a known data set: {unknown('data set', self.data, DATA)}")

    @property
    def dim(self) -> int:
        """One bias and a weight per feature."""
        return DATA[self.data]()[0].shape[1] + 1

    def reference(self) -> Tensor:
        """Shipped reference draws, float64, shape ``(n, dim)``; FileNotFoundError if they are missing."""
        return reference_draws(f"{self.data}_full")

    def _rows(self) -> Tensor:
        """Indices of the rows that the posterior is given."""
        return torch.arange(len(DATA[self.data]()[1]))

    def _design(self, rows: Tensor) -> Tensor:
        """Bias column and scaled features of the given rows; the scale is that of the rows of the posterior."""
        features = DATA[self.data]()[0]
        scaled = features[rows] / features[self._rows()].std(0, correction=0)
        return torch.cat([torch.ones(len(rows), 1, dtype=torch.float64), scaled], dim=-1)

    @cached_property
    def _signed_design(self) -> PerDevice:
        """Rows times 2 y - 1: the likelihood needs nothing else of the data."""
        rows = self._rows()
        sign = 2.0 * DATA[self.data]()[1][rows] - 1
        return PerDevice(sign[:, None] * self._design(rows))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log joint density of parameters and labels, shape ``(..., dim)`` to ``(...)``."""
        margins = x @ self._signed_design.like(x).T
        log_prior = -0.5 * (x.square().sum(-1) / PRIOR_VARIANCE + self.dim * (LOG_2PI + math.log(PRIOR_VARIANCE)))
        return log_prior + torch.nn.functional.logsigmoid(margins).sum(-1)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of ``log_prob``, shape of ``x``."""
        signed_design = self._signed_design.like(x)
        return torch.sigmoid(-x @ signed_design.T) @ signed_design - x / PRIOR_VARIANCE


@register_target("breast_cancer_train", version=1, data="breast_cancer", scale=8.0)
@dataclass(frozen=True)
class TrainedLogisticRegression(LogisticRegression):
    """Bayesian logistic regression given 80% of the rows (seed 0); the others are held out to judge predictions.

    The law is that of LogisticRegression on the rows ``torch.randperm`` with seed 0 puts first; all rows are scaled
    by the standard deviations of these.
    """

    def reference(self) -> Tensor:
        """Shipped reference draws, float64, shape ``(n, dim)``; FileNotFoundError if they are missing."""
        return reference_draws(f"{self.data}_train")

    @property
    def held_out_labels(self) -> Tensor:
        """Labels 0 or 1 of the held-out rows, shape ``(n_rows,)``, int64."""
        return DATA[self.data]()[1][self._split()[1]]

    def log_odds(self, x: Tensor) -> Tensor:
        """Log odds of class 1 for each held-out row under each parameter: ``(n, dim)`` to ``(n, n_rows)``."""
        return x @ self._held_out_design.like(x).T

    @cached_property
    def _held_out_design(self) -> PerDevice:
        return PerDevice(self._design(self._split()[1]))

    def _rows(self) -> Tensor:
        return self._split()[0]

    def _split(self) -> tuple[Tensor, Tensor]:
        """Indices of the rows to train on and of the rows held out."""
        n_rows = len(DATA[self.data]()[1])
        order = torch.randperm(n_rows, generator=Generator().manual_seed(0))
        n_train = round(TRAIN_SHARE * n_rows)
        return order[:n_train], order[n_train:]
