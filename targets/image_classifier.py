"""Classifiers of digit images: which class a draw shows, and features to compare draws by."""

from dataclasses import dataclass
from functools import cache

from torch import Tensor

from .image_networks import FixedLayers, forward, hidden, layers_of, require_images, shipped_tensors


@dataclass(frozen=True)
class ImageClassifier:
    """Fully connected classifier of images in [-1, 1] with noise, trained by the project on real ones.

    Attributes:
        layers: SiLU between them; the last has one output, a log odds, for each of the ten digits.
    """

    layers: FixedLayers

    def class_probabilities(self, x: Tensor) -> Tensor:
        """Probabilities of the ten classes, shape ``(..., dim)`` to ``(..., 10)``."""
        return forward(self.layers.like(x), x).softmax(-1)

    def predict(self, x: Tensor) -> Tensor:
        """The likeliest class, shape ``(..., dim)`` to ``(...)``, int64."""
        return forward(self.layers.like(x), x).argmax(-1)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer is given, shape ``(..., dim)`` to ``(..., n_features)``."""
        return hidden(self.layers.like(x), x)


@cache
def load_classifier(images: str) -> ImageClassifier:
    """The shipped classifier of "digits" or "mnist".

    Raises:
        ValueError: for other images.
        FileNotFoundError: if this installation has none, saying how to make it.
    """
    require_images(images)
    return ImageClassifier(FixedLayers(layers_of(shipped_tensors(f"classifier_{images}"))))
