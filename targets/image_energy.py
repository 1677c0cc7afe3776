"""Deep energies of images, trained on real ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .base import register_target
from .factor_analysers import FactorMixture, mixture_of
from .image_classifier import load_classifier
from .image_networks import PIXELS, FixedLayers, Layers, forward, layers_of, require_images, shipped_tensors

BOUNDS = {"digits": 100.0, "mnist": 300.0}  # c, in nats
SCALES = {"digits": 0.9, "mnist": 1.0}  # that of the Gaussian: a guess made before any chain is run

EDGE, SOFTNESS, STIFFNESS = 1.6, 0.1, 20.0  # of the wall: pixels of images with noise are seldom beyond the edge


def wall(x: Tensor) -> Tensor:
    """STIFFNESS sum_i [s(x_i - EDGE) + s(-x_i - EDGE)]^2, s softplus of width SOFTNESS: ``(..., dim)`` to ``(...)``."""
    beyond = softplus(x - EDGE, beta=1 / SOFTNESS) + softplus(-x - EDGE, beta=1 / SOFTNESS)
    return STIFFNESS * beyond.square().sum(-1)


def tilt(layers: Layers, x: Tensor, bound: float) -> Tensor:
    """c tanh(f(x) / c) of the network f with these layers, in nats: ``(..., dim)`` to ``(...)``, within +-c."""
    return bound * torch.tanh(forward(layers, x).squeeze(-1) / bound)


def log_prob_of(base: FactorMixture, layers: Layers, x: Tensor, bound: float) -> Tensor:
    """Unnormalised log density of the base with wall and tilt, shape ``(..., dim)`` to ``(...)``."""
    return base.log_prob(x) - wall(x) - tilt(layers, x, bound)


@register_target("ebm_mnist", version=1, images="mnist")
@register_target("ebm_digits", version=1, images="digits")
@dataclass(frozen=True)
class ImageEnergy:
    """Deep energy of images, trained on real ones: U(x) = -log N(x; m, C) + wall(x) + c tanh(f(x) / c), log_prob = -U.

    m and C are near the mean and the covariance of the images (C = A A^T + D, by EM); f is a fully connected network
    with SiLU between its layers; c = ``bound``. The wall keeps every pixel near [-1.6, 1.6], softly: 20 times the
    summed squares of the excess. It is there from the start of the training, because a normal law alone leaves room
    for spurious modes that are far brighter than any image. Everything is C^infinity.

    exp(-U) is normalisable. Proof: wall > 0 and |c tanh| < c, so 0 < exp(-U(x)) < e^c N(x; m, C) for every x; the
    normal density integrates to 1, hence log Z < c. For the same reason U is above a positive definite quadratic less
    a constant, and exp(-U) has a finite integral against every polynomial.

    The weights are read from float32 numbers that are shipped with the package and define the law.
    ``samplerbench.benchmarks.train_images`` trained them by persistent contrastive divergence on images scaled to
    [-1, 1] with Gaussian noise added. Log Z, moments and modes are unknown, and there are no exact draws: a long
    chain's draws are all that is known of this law, and they do not settle the weights of its modes: after 10,000
    transitions, chains of ebm_mnist that start from noise and at the base still differ in their class shares (30 and
    10% zeros, 6 and 33% ones, 0.1 and 5% sixes); on ebm_digits both starts agree, at 26 to 31% zeros. So neither target
    is certified or ranked.

    Source: T. Tieleman, Training restricted Boltzmann machines using approximations to the likelihood gradient, ICML
    (2008), for the training; E. Nijkamp et al., arXiv 1903.12370, for how it goes wrong where chains are short;
    images: scikit-learn's digits (8 x 8), MNIST's test set (28 x 28).

    Attributes:
        images: "digits" or "mnist".
    """

    images: str = "digits"

    def __post_init__(self) -> None:
        require_images(self.images)

    @property
    def dim(self) -> int:
        """Number of pixels."""
        return PIXELS[self.images]

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate of the Gaussian, to one digit: an a-priori guess for this law."""
        return SCALES[self.images]

    @property
    def bound(self) -> float:
        """c: the tilt is smaller, and so is log Z."""
        return BOUNDS[self.images]

    @cached_property
    def _tensors(self) -> Mapping[str, Tensor]:
        return shipped_tensors(f"ebm_{self.images}")

    @cached_property
    def base(self) -> FactorMixture:
        """N(m, C), as a mixture of one factor analyser."""
        return mixture_of(self._tensors, "base.")

    @cached_property
    def _layers(self) -> FixedLayers:
        return FixedLayers(layers_of(self._tensors))

    def features(self, x: Tensor) -> Tensor:
        """Of a classifier trained on the same images: ``(..., dim)`` to ``(..., n_features)``."""
        return load_classifier(self.images).features(x)

    def class_probabilities(self, x: Tensor) -> Tensor:
        """Of the ten digits, by the same classifier: ``(..., dim)`` to ``(..., 10)``."""
        return load_classifier(self.images).class_probabilities(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Unnormalised log density, shape ``(..., dim)`` to ``(...)``."""
        return log_prob_of(self.base, self._layers.like(x), x, self.bound)
