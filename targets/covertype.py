"""Bayesian logistic regression with an unknown prior precision, on forest cover data."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from .base import LOG_2PI, PerDevice, register_target
from .datasets import DATASETS, load
from .draws import Estimate
from .logistic_regression import likelihood_score, log_likelihood, split
from .shipped import reference_draws, shipped_log_z

N_MEASURED = 10  # the first features are measurements, the other 44 are 0 or 1
LODGEPOLE_PINE = 2  # the cover type to tell from the others
RATE = 0.01
MARGINS = 8_000_000  # of rows under points, at once: 64 MB in float64


@dataclass(frozen=True)
class HierarchicalRegression:
    """The posterior of ``Covertype``, given 80% of the rows of ``data``."""

    data: ClassVar[str]
    scale = 2.0  # root mean square radius per coordinate of the reference draws of the subset, to one digit

    @property
    def dim(self) -> int:
        """The log precision, one bias, and a weight per feature."""
        return DATASETS[self.data].n_features + 2

    @property
    def n_rows(self) -> int:
        """Number of data rows that the posterior is given."""
        return len(self._split[0])

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``; takes 0.2 GB beside what autograd keeps."""
        la, w = x[..., 0], x[..., 1:]
        log_prior = (1 + 0.5 * w.shape[-1]) * la - (RATE + 0.5 * w.square().sum(-1)) * la.exp()
        log_prior = log_prior - 0.5 * w.shape[-1] * LOG_2PI
        return log_prior + _in_blocks(log_likelihood, w, self._signed_design.like(x))

    def score(self, x: Tensor) -> Tensor:
        """Gradient of ``log_prob``, shape of ``x``."""
        return self._score(x, self._signed_design.like(x))

    def minibatch_score(self, x: Tensor, rows: Tensor) -> Tensor:
        """Unbiased estimate of the score, shape of ``x``, from ``rows``: indices below n_rows, drawn uniformly."""
        return self._score(x, self._signed_design.like(x)[rows])

    def _score(self, x: Tensor, signed_design: Tensor) -> Tensor:
        """Score of the prior and of the given rows, each counted n_rows / (number of them) times."""
        la, w = x[..., :1], x[..., 1:]
        of_la = 1 + 0.5 * w.shape[-1] - (RATE + 0.5 * w.square().sum(-1, keepdim=True)) * la.exp()
        of_rows = _in_blocks(likelihood_score, w, signed_design)
        return torch.cat([of_la, of_rows * (self.n_rows / len(signed_design)) - w * la.exp()], dim=-1)

    @property
    def held_out_labels(self) -> Tensor:
        """Labels 0 or 1 of the held-out rows, shape ``(n_held_out,)``, int64."""
        return self._labels[self._split[1]]

    def log_odds(self, x: Tensor) -> Tensor:
        """Log odds of class 1 for each held-out row under each parameter: ``(n, dim)`` to ``(n, n_held_out)``."""
        return x[..., 1:] @ self._held_out_design.like(x).T

    @property
    def _labels(self) -> Tensor:
        return (load(self.data)[1] == LODGEPOLE_PINE).to(torch.int64)

    @cached_property
    def _split(self) -> tuple[Tensor, Tensor]:
        return split(DATASETS[self.data].n_rows)

    def _design(self, rows: Tensor) -> Tensor:
        """Bias column, standardised measurements and indicators of the given rows."""
        features = load(self.data)[0]
        given = features[self._split[0], :N_MEASURED]
        measured = (features[rows, :N_MEASURED] - given.mean(0)) / given.std(0, correction=0)
        return torch.cat([torch.ones(len(rows), 1, dtype=torch.float64), measured, features[rows, N_MEASURED:]], dim=-1)

    @cached_property
    def _signed_design(self) -> PerDevice:
        """Rows times 2 y - 1: the likelihood needs nothing else of the data."""
        rows = self._split[0]
        return PerDevice((2.0 * self._labels[rows] - 1)[:, None] * self._design(rows))

    @cached_property
    def _held_out_design(self) -> PerDevice:
        return PerDevice(self._design(self._split[1]))


@register_target("covertype", version=1)
@dataclass(frozen=True)
class Covertype(HierarchicalRegression):
    """Hierarchical logistic regression: x = (la, w), w | la ~ N(0, exp(-la) I_55), P(y = 1) = sigmoid(w . row).

    log_prob = la - 0.01 exp(la) + log N(w; 0, exp(-la) I) + sum_i log sigmoid((2 y_i - 1) w . row_i): the prior of the
    precision exp(la) is Gamma(1, rate 0.01), in la with its Jacobian and without its constant log 0.01, so that the log
    evidence is log_z + log 0.01. y = 1 for cover type 2. w = (bias, weights); a row is a 1, the ten measurements
    standardised over the posterior's rows, and 44 indicators as they are. The posterior is given 80% of the 10,000 rows
    of ``covertype_subset``, by seed 0; the others are held out to judge predictions.

    The subset's classes are nearly balanced, so accuracies do not compare with those on the full table.

    Source: the Bayesian logistic regression of Q. Liu and D. Wang, Stein variational gradient descent, NeurIPS (2016),
    section 5 (its binary Covertype task and Gamma prior), on a subset.
    """

    data = "covertype_subset"

    @property
    def log_z(self) -> Estimate:
        """Log normaliser, shipped; FileNotFoundError if it is missing."""
        return shipped_log_z("covertype")

    def reference(self) -> Tensor:
        """Shipped reference draws, float64, shape ``(n, dim)``; FileNotFoundError if they are missing."""
        return reference_draws("covertype")


@register_target("covertype_full", version=1)
@dataclass(frozen=True)
class CovertypeFull(HierarchicalRegression):
    """The posterior of ``Covertype`` on the official table: 464,810 of its 581,012 rows, the others held out.

    Its normaliser is not known and it has no reference draws: predictions and ``ksd_paper`` judge its draws, and
    nothing is ranked. ``scale`` is that of the subset's posterior. Its rows take 0.6 GB in a process, in float64.
    """

    data = "covertype_full"


def _in_blocks(function: Callable[[Tensor, Tensor], Tensor], points: Tensor, design: Tensor) -> Tensor:
    """``function`` of the points and the rows of a design, for as many points at a time as ``MARGINS`` allows."""
    flat = points.reshape(-1, points.shape[-1])
    blocks = torch.split(flat, max(1, MARGINS // len(design)))
    values = torch.cat([function(block, design) for block in blocks])
    return values.reshape(points.shape[:-1] + values.shape[1:])
