"""Posterior predictive quality on held-out data."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..targets.draws import Draws
from .base import Predictive, Truth, Values, register_metric
from .points import as_points, known

ROWS_PER_BLOCK = 1_000  # parameters whose predictions are held at once


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
    parts = []
    for block in torch.split(as_points(x, "x"), ROWS_PER_BLOCK):
        log_odds = predictive.log_odds(block)
        parts.append(logsigmoid(torch.stack([-log_odds, log_odds])).logsumexp(1))
    return torch.stack(parts).logsumexp(0) - math.log(len(x))


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


def _prediction(draws: Draws, truth: Truth) -> tuple[Tensor, Tensor]:
    """Log probabilities ``(2, n_rows)`` and whether the label is 1 ``(n_rows,)``."""
    predictive = known(truth.predictive, "predictive")
    log_probability = log_predictive(draws.samples, predictive)
    return log_probability, predictive.labels.to(log_probability.device) > 0.5
