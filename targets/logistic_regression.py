"""Bayesian logistic regression on real data."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from .base import LOG_2PI, PerDevice, register_target
from .datasets import DATASETS, load
from .draws import Estimate
from .registry import unknown
from .shipped import reference_draws, shipped_log_z

TRAIN_SHARE = 0.8


@dataclass(frozen=True)
class Recipe:
    """What a data set's posterior is, beside the data: x ~ N(0, prior_variance I); features centred or not."""

    prior_variance: float
    centred: bool


RECIPES = {
    "breast_cancer": Recipe(prior_variance=100.0, centred=False),
    "german_credit": Recipe(prior_variance=100.0, centred=False),
    "ionosphere": Recipe(prior_variance=1.0, centred=True),
    "sonar": Recipe(prior_variance=1.0, centred=True),
}


SCALES = {
    ("breast_cancer", "full"): 8.0,
    ("breast_cancer", "train"): 8.0,
    ("german_credit", "full"): 0.8,
    ("german_credit", "train"): 0.9,
    ("ionosphere", "full"): 1.0,
    ("ionosphere", "train"): 1.0,
    ("sonar", "full"): 0.9,
    ("sonar", "train"): 0.9,
}


@register_target("breast_cancer_full", version=1, data="breast_cancer")
@register_target("german_credit_full", version=1, data="german_credit")
@register_target("ionosphere_full", version=1, data="ionosphere")
@register_target("sonar_full", version=1, data="sonar")
@dataclass(frozen=True)
class LogisticRegression:
    """Bayesian logistic regression given all rows: x = (bias, weights), x ~ N(0, v I), P(y = 1) = sigmoid(x . row).

    log_prob = log N(x; 0, v I) + sum_i log sigmoid((2 y_i - 1) x . row_i); log_z is the log evidence. A row is a 1 for
    the bias, then the features divided by their standard deviation over the posterior's rows. Breast cancer and German
    credit have v = 100 and features that are not centred, so that the posterior is ill-conditioned; ionosphere and
    sonar have v = 1 and centred features, and a feature that is constant (ionosphere's second) is 0. The law has no
    free parameter but its data: reference draws and log_z belong to it.

    Source: the German credit posterior of M. Hoffman and A. Gelman, JMLR 15 (2014), here with features that are not
    centred; breast cancer by the same recipe, this project's; and the ionosphere and sonar
    posteriors of D. Blessing et al., Beyond ELBOs, arXiv 2406.07423 (2024); the data as ``DATASETS`` says.

    Attributes:
        data: name of the data set.
    """

    data: str = "breast_cancer"

    part: ClassVar[str] = "full"

    def __post_init__(self) -> None:
        if self.data not in RECIPES:
            raise ValueError(f"data must be a known data set: {unknown('data set', self.data, RECIPES)}")

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate of the reference draws, to one digit."""
        return SCALES[self.data, self.part]

    @property
    def dim(self) -> int:
        """One bias and a weight per feature."""
        return DATASETS[self.data].n_features + 1

    @property
    def n_rows(self) -> int:
        """Number of data rows that the posterior is given."""
        return DATASETS[self.data].n_rows

    @property
    def log_z(self) -> Estimate:
        """Log evidence, shipped; FileNotFoundError if it is missing."""
        return shipped_log_z(f"{self.data}_{self.part}")

    def reference(self) -> Tensor:
        """Shipped reference draws, float64, shape ``(n, dim)``; FileNotFoundError if they are missing."""
        return reference_draws(f"{self.data}_{self.part}")

    def _rows(self) -> Tensor:
        """Indices of the rows that the posterior is given."""
        return torch.arange(self.n_rows)

    def _design(self, rows: Tensor) -> Tensor:
        """Bias column and scaled features of the given rows; centre and scale are those of the posterior's rows."""
        features = load(self.data)[0]
        given = features[self._rows()]
        centre = given.mean(0) if RECIPES[self.data].centred else 0.0
        spread = given.std(0, correction=0)
        scaled = torch.where(spread > 0, (features[rows] - centre) / spread, 0.0)
        return torch.cat([torch.ones(len(rows), 1, dtype=torch.float64), scaled], dim=-1)

    @cached_property
    def _signed_design(self) -> PerDevice:
        """Rows times 2 y - 1: the likelihood needs nothing else of the data."""
        rows = self._rows()
        sign = 2.0 * load(self.data)[1][rows] - 1
        return PerDevice(sign[:, None] * self._design(rows))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log joint density of parameters and labels, shape ``(..., dim)`` to ``(...)``."""
        variance = RECIPES[self.data].prior_variance
        log_prior = -0.5 * (x.square().sum(-1) / variance + self.dim * (LOG_2PI + math.log(variance)))
        return log_prior + log_likelihood(x, self._signed_design.like(x))

    def score(self, x: Tensor) -> Tensor:
        """Gradient of ``log_prob``, shape of ``x``."""
        return likelihood_score(x, self._signed_design.like(x)) - x / RECIPES[self.data].prior_variance

    def minibatch_score(self, x: Tensor, rows: Tensor) -> Tensor:
        """Unbiased estimate of the score, shape of ``x``, from ``rows``: indices below n_rows, drawn uniformly."""
        of_rows = likelihood_score(x, self._signed_design.like(x)[rows])
        return of_rows * (self.n_rows / len(rows)) - x / RECIPES[self.data].prior_variance


@register_target("breast_cancer_train", version=1, data="breast_cancer")
@register_target("german_credit_train", version=1, data="german_credit")
@register_target("ionosphere_train", version=1, data="ionosphere")
@register_target("sonar_train", version=1, data="sonar")
@dataclass(frozen=True)
class TrainedLogisticRegression(LogisticRegression):
    """Bayesian logistic regression given 80% of the rows (seed 0); the others are held out to judge predictions.

    The law is that of LogisticRegression on the rows ``torch.randperm`` with seed 0 puts first; all rows are centred
    and scaled by the means and standard deviations of these.
    """

    part: ClassVar[str] = "train"

    @property
    def n_rows(self) -> int:
        """Number of data rows that the posterior is given."""
        return len(self._rows())

    @property
    def held_out_labels(self) -> Tensor:
        """Labels 0 or 1 of the held-out rows, shape ``(n_held_out,)``, int64."""
        return load(self.data)[1][self._split[1]]

    def log_odds(self, x: Tensor) -> Tensor:
        """Log odds of class 1 for each held-out row under each parameter: ``(n, dim)`` to ``(n, n_held_out)``."""
        return x @ self._held_out_design.like(x).T

    @cached_property
    def _held_out_design(self) -> PerDevice:
        return PerDevice(self._design(self._split[1]))

    def _rows(self) -> Tensor:
        return self._split[0]

    @cached_property
    def _split(self) -> tuple[Tensor, Tensor]:
        return split(DATASETS[self.data].n_rows)


def log_likelihood(weights: Tensor, signed_design: Tensor) -> Tensor:
    """Sum over rows of log sigmoid((2 y - 1) weights . row): shape ``(..., n_features)`` to ``(...)``."""
    return torch.nn.functional.logsigmoid(weights @ signed_design.T).sum(-1)


def likelihood_score(weights: Tensor, signed_design: Tensor) -> Tensor:
    """Gradient of ``log_likelihood`` in the weights, their shape."""
    return torch.sigmoid(-weights @ signed_design.T) @ signed_design


def split(n_rows: int) -> tuple[Tensor, Tensor]:
    """Indices of the rows to train on, 80% by seed 0, and of the rows held out."""
    order = torch.randperm(n_rows, generator=Generator().manual_seed(0))
    n_train = round(TRAIN_SHARE * n_rows)
    return order[:n_train], order[n_train:]
