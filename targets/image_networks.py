"""Shipped tensors, and the fully connected networks that some of them are the weights of."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TypeAlias

from torch import Tensor
from torch.nn.functional import silu

from .base import PerDevice
from .registry import unknown

Layers: TypeAlias = Sequence[tuple[Tensor, Tensor]]  # weight (n_out, n_in) and bias (n_out,) of each layer

PIXELS = {"digits": 64, "mnist": 784}
PARTS = {"mfa": "mfa", "ebm": "energy", "classifier": "classifier"}  # of the training script, by kind of file


def require_images(images: str) -> None:
    """Accept the name of a set of images.

    Raises:
        ValueError: naming the field, the known sets and the value.
    """
    if images not in PIXELS:
        raise ValueError(f"images must be a known set of images: {unknown('set of images', images, PIXELS)}")


@cache
def shipped_tensors(name: str) -> Mapping[str, Tensor]:
    """The shipped tensors ``data/<kind>_<images>.safetensors``: a format that holds numbers and no code.

    Raises:
        FileNotFoundError: if this installation has none, saying how to make them.
    """
    from safetensors.torch import load

    part, images = name.split("_")
    file = resources.files(f"{__package__}.data") / f"{name}.safetensors"
    if not file.is_file():
        raise FileNotFoundError(
            f"{name}.safetensors is not among this installation's data; make it with "
            f"`python -m samplerbench.benchmarks.train_images {PARTS[part]} {images}`"
        )
    return load(file.read_bytes())


def layers_of(tensors: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Layers stored as ``weight0, bias0, weight1, ...``, in order."""
    n_layers = sum(name.startswith("weight") for name in tensors)
    return [(tensors[f"weight{i}"], tensors[f"bias{i}"]) for i in range(n_layers)]


def tensors_of(layers: Layers) -> dict[str, Tensor]:
    """The inverse of ``layers_of``."""
    return {
        f"{name}{i}": value
        for i, pair in enumerate(layers)
        for name, value in zip(("weight", "bias"), pair, strict=True)
    }


def hidden(layers: Layers, x: Tensor) -> Tensor:
    """What the last layer is given, SiLU after each before it: ``(..., n_in)`` to ``(..., n_hidden)``."""
    for weight, bias in layers[:-1]:
        x = silu(x @ weight.T + bias)
    return x


def forward(layers: Layers, x: Tensor) -> Tensor:
    """Output of the network, shape ``(..., n_in)`` to ``(..., n_out)``."""
    weight, bias = layers[-1]
    return hidden(layers, x) @ weight.T + bias


class FixedLayers:
    """Layers of fixed weights, converted once per device and dtype."""

    def __init__(self, layers: Iterable[tuple[Tensor, Tensor]]) -> None:
        self._layers = [(PerDevice(weight), PerDevice(bias)) for weight, bias in layers]

    def like(self, x: Tensor) -> Layers:
        """The layers on the device and in the dtype of ``x``."""
        return [(weight.like(x), bias.like(x)) for weight, bias in self._layers]
