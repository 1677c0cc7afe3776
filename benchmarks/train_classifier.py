"""Classifiers trained on images with noise and small shifts."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from ..targets.image_networks import forward, layers_of, tensors_of
from .train_loop import State, adam

N_CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """Settings of a training.

    Attributes:
        widths: of the hidden layers; the last is the number of features.
        noise_sd: largest standard deviation of the noise added to an image; each has its own, uniform.
        max_shift: largest shift of an image along each axis, in pixels.
        n_steps, n_rows: of Adam, and images in each.
        learning_rate: falls to zero linearly.
        weight_decay: weight of the squared weights.
    """

    widths: tuple[int, ...]
    noise_sd: float
    max_shift: int
    n_steps: int
    n_rows: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4


def begin_classifier(dim: int, settings: ClassifierSettings, generator: Generator) -> State:
    """Weights of a new network."""
    sizes = (dim, *settings.widths, N_CLASSES)
    return tensors_of(
        [
            (torch.randn(n_out, n_in, generator=generator) / math.sqrt(n_in), torch.zeros(n_out))
            for n_in, n_out in pairwise(sizes)
        ]
    )


def shifted(x: Tensor, max_shift: int, generator: Generator) -> Tensor:
    """Images ``(n, dim)``, each moved by up to ``max_shift`` pixels along each axis; what moves in is black (-1)."""
    side = math.isqrt(x.shape[1])
    padded = torch.nn.functional.pad(x.reshape(-1, side, side), (max_shift,) * 4, value=-1.0)
    offsets = torch.randint(2 * max_shift + 1, (2, len(x), 1), generator=generator)
    rows, columns = offsets + torch.arange(side)
    return padded[torch.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None, :]].flatten(1)


def classifier_step(
    state: State, i: int, generator: Generator, *, images: Tensor, labels: Tensor, settings: ClassifierSettings
) -> tuple[State, str]:
    """One step of Adam down the cross entropy of some images, float32 in [-1, 1], shape ``(n, dim)``."""
    weights = {name: state[name].clone().requires_grad_() for name in state if "." not in name}
    rows = torch.randint(len(images), (settings.n_rows,), generator=generator)
    x = shifted(images[rows], settings.max_shift, generator)
    noise_sd = settings.noise_sd * torch.rand(settings.n_rows, 1, generator=generator)
    x = x + noise_sd * torch.randn(x.shape, generator=generator)
    entropy = cross_entropy(forward(layers_of(weights), x), labels[rows])
    decay = settings.weight_decay * sum(value.square().sum() for value in weights.values())
    gradients = dict(zip(weights, torch.autograd.grad(entropy + decay, list(weights.values())), strict=True))
    new = dict(state)
    adam(new, gradients, i, settings.learning_rate * (1 - i / settings.n_steps), betas=(0.9, 0.99))
    return new, f"cross entropy {entropy.item():.4f}"
