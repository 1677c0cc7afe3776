"""Parameters as one vector, so that an optimiser's step is one pass over memory and not one call per layer.

Autograd no longer notices that they change between a forward and a backward pass. A deepcopy is not flat.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def flatten(parameters: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The values of all parameters and their gradients, a leaf and its ``grad``, both of shape ``(n,)``.

    The parameters become views of the one and their gradients views of the other, which starts at zero. Zero it in
    place: a gradient that is None would no longer be shared.
    """
    parts = list(parameters)
    flat = torch.cat([part.detach().flatten() for part in parts])
    flat.grad = gradient = torch.zeros_like(flat)
    first = 0
    for part in parts:
        rows = slice(first, first + part.numel())
        part.data, part.grad = flat[rows].view_as(part), gradient[rows].view_as(part)
        first += part.numel()
    return flat, gradient
