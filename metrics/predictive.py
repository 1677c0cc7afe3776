"""Posterior predictive quality on held-out data."""

import torch
from torch import Tensor

from ..targets.draws import Draws
from .base import Predictive, Truth, Values, register_metric
from .points import as_points, known

ROWS_PER_BLOCK = 1_000  # parameters whose predictions are held at once


def predictive_mean(x: Tensor, predictive: Predictive) -> Tensor:
    """Posterior predictive probability of class 1: the mean of ``predict`` over the draws.

    Args:
        x: parameters, shape ``(n, dim)``.
        predictive: of the held-out data.
    Returns:
        Shape ``(n_rows,)``, float64.
    Raises:
        ValueError: if there are fewer than 2 draws or they are not finite.
    """
    parts = torch.split(as_points(x, "x"), ROWS_PER_BLOCK)
    return torch.stack([predictive.predict(part).sum(0) for part in parts]).sum(0) / len(x)


def accuracy_of(probability: Tensor, labels: Tensor) -> float:
    """Share of rows whose class 1 probability (shape ``(n_rows,)``) is above 1/2 exactly when the label is 1."""
    return ((probability > 0.5) == (labels > 0.5)).to(torch.float64).mean().item()


def nll_of(probability: Tensor, labels: Tensor) -> float:
    """Mean negative log probability of the labels, in nats; both of shape ``(n_rows,)``."""
    return -torch.where(labels > 0.5, probability.log(), torch.log1p(-probability)).mean().item()


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
    probability, labels = _prediction(draws, truth)
    return {"accuracy": accuracy_of(probability, labels)}


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
    probability, labels = _prediction(draws, truth)
    return {"nll": nll_of(probability, labels)}


def _prediction(draws: Draws, truth: Truth) -> tuple[Tensor, Tensor]:
    predictive = known(truth.predictive, "predictive")
    probability = predictive_mean(draws.samples, predictive)
    return probability, predictive.labels.to(probability.device)
