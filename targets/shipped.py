"""Reference draws that are shipped with the package, where exact draws are impossible."""

from importlib import resources

import numpy as np
import torch
from torch import Tensor


def reference_draws(name: str) -> Tensor:
    """The shipped draws ``data/<name>.npz``, in random order; ``data/<name>.json`` beside them is their certificate.

    Returns:
        Draws in float64, shape ``(n, dim)``.
    Raises:
        FileNotFoundError: if this installation has none, saying how to make them.
    """
    file = resources.files(f"{__package__}.data") / f"{name}.npz"
    if not file.is_file():
        raise FileNotFoundError(
            f"reference draws {name}.npz are not among this installation's data; "
            f"make them with `python -m samplerbench.benchmarks.reference {name}`"
        )
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return torch.from_numpy(arrays["samples"].astype(np.float64))
