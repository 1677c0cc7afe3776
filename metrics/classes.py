"""Coverage of classes: which classes of images the draws show, by a classifier, and with which shares."""

import math

import torch
from torch import Tensor

from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_points, known

FOUND_SHARE = 0.25  # a class counts when it holds at least this share of 1 / n_classes, as a mode does of its mass


def class_shares(probabilities: Tensor) -> Tensor:
    """Share of the points whose likeliest class it is.

    Args:
        probabilities: of the classes, shape ``(n, n_classes)``.
    Returns:
        Float64, shape ``(n_classes,)``, of sum 1.
    """
    n, n_classes = probabilities.shape
    return torch.bincount(probabilities.argmax(-1), minlength=n_classes).to(torch.float64) / n


def class_entropy(shares: Tensor) -> float:
    """Entropy of the shares ``(n_classes,)`` over log n_classes: 1 for equal ones, 0 where all points are of one."""
    return -torch.xlogy(shares, shares).sum().item() / math.log(len(shares))


@register_metric(
    "class_tv",
    version=1,
    needs=("samples", "class_probabilities"),
    unit="1",
    blind_to="everything but the likeliest class of each draw",
)
def class_tv(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Total variation between the classes that draws and truth show, by a classifier trained on the same images."""
    of = known(truth.class_probabilities, "class_probabilities")
    x, y = as_points(draws.samples, "draws"), as_points(known(truth.samples, "samples"), "truth")
    return {"class_tv": 0.5 * (class_shares(of(x)) - class_shares(of(y))).abs().sum().item()}


@register_metric(
    "classes_found",
    version=1,
    needs=("class_probabilities",),
    unit="classes",
    blind_to="whether the draws look like images, and the law's own shares",
    direction="higher",
    null=None,
    outputs=("classes_found", "class_entropy"),
)
def classes_found(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Classes that hold at least a quarter of an equal share, by a classifier; class_entropy is 1 for equal shares.

    It needs no draws of the law, so it says what the draws show and not how much of it they should show.
    """
    of = known(truth.class_probabilities, "class_probabilities")
    shares = class_shares(of(as_points(draws.samples, "draws")))
    found = shares >= FOUND_SHARE / len(shares)
    return {"classes_found": float(found.sum()), "class_entropy": class_entropy(shares)}
