"""Posterior predictive quality on held-out data."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..targets.draws import Draws
from .base import Predictive, Truth, Values, register_metric
from .points import as_points, known

N_BINS = 10
PREDICTIONS = 2_000_000  # of rows under parameters, held at once: 16 MB, some times over


def log_predictive(x: Tensor, predictive: Predictive) -> Tensor:
    """Log of the posterior predictive probabilities: of the mean over the draws of P(class | parameters).

    Args:
        x: parameters, shape ``(n, dim)``.
        predictive: of the held-out data.
    Returns:
        For class 0 and class 1, shape ``(2, n_rows)``, float64; in logs, so that certainty does not saturate.
    Raises:
        ValueError: if there are fewer than 2 draws or they are not finite.
    """
    total = torch.full((2, len(predictive.labels)), -math.inf, dtype=torch.float64, device=x.device)
    for block in torch.split(as_points(x, "x"), max(1, PREDICTIONS // len(predictive.labels))):
        log_odds = predictive.log_odds(block)
        total = torch.logaddexp(total, logsigmoid(torch.stack([-log_odds, log_odds])).logsumexp(1))
    return total - math.log(len(x))


def calibration_error(probability: Tensor, labels: Tensor, *, n_bins: int = N_BINS) -> float:
    """Expected calibration error: mean over the rows of |share of class 1 - mean probability| of their bin.

    Args:
        probability: of class 1, shape ``(n_rows,)``.
        labels: whether the class is 1, shape ``(n_rows,)``.
        n_bins: equal bins of the probability, [0, 1 / n_bins), ..., [1 - 1 / n_bins, 1].
    Returns:
        Number between 0 and 1.
    Reference: Naeini et al., Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    probability = probability.to(torch.float64)
    index = (probability * n_bins).long().clamp(max=n_bins - 1)
    gap = torch.zeros(n_bins, dtype=torch.float64, device=probability.device)
    gap.index_add_(0, index, labels.to(probability) - probability)
    return gap.abs().sum().item() / len(probability)


@register_metric(
    "accuracy",
    version=1,
    needs=("predictive",),
    unit="1",
    blind_to="calibration, and most of the posterior: a point estimate can reach it",
    direction="higher",
    null=None,
)
def accuracy(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Accuracy of the posterior predictive on held-out rows."""
    log_probability, labels = _prediction(draws, truth)
    predicted = log_probability[1] > log_probability[0]
    return {"accuracy": (predicted == labels).to(torch.float64).mean().item()}


@register_metric(
    "nll",
    version=1,
    needs=("predictive",),
    unit="nats per row",
    blind_to="most of the posterior: the truth is not the minimum",
    null=None,
)
def nll(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Negative log likelihood of the posterior predictive on held-out rows."""
    log_probability, labels = _prediction(draws, truth)
    return {"nll": -torch.where(labels, log_probability[1], log_probability[0]).mean().item()}


@register_metric(
    "ece",
    version=1,
    needs=("predictive",),
    unit="1",
    blind_to="how sharp predictions are: the share of class 1, predicted for every row, has none",
    null=None,
)
def ece(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Expected calibration error of the posterior predictive on held-out rows, 10 equal bins of P(class 1)."""
    log_probability, labels = _prediction(draws, truth)
    return {"ece": calibration_error(log_probability[1].exp(), labels)}


def _prediction(draws: Draws, truth: Truth) -> tuple[Tensor, Tensor]:
    """Log probabilities ``(2, n_rows)`` and whether the label is 1 ``(n_rows,)``."""
    predictive = known(truth.predictive, "predictive")
    log_probability = log_predictive(draws.samples, predictive)
    return log_probability, predictive.labels.to(log_probability.device) > 0.5
