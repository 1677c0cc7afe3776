"""Reference draws and evidences that are shipped with the package, where exact ones are impossible."""

import json
from functools import cache
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from .draws import Estimate


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


@cache
def shipped_log_z(name: str) -> Estimate:
    """The shipped log normaliser ``data/<name>.evidence.json``, in nats: two independent estimators that agree.

    Raises:
        FileNotFoundError: if this installation has none, saying how to make it.
    """
    file = resources.files(f"{__package__}.data") / f"{name}.evidence.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"log normaliser {name}.evidence.json is not among this installation's data; "
            f"make it with `python -m samplerbench.benchmarks.evidence {name}`"
        )
    log_z = json.loads(file.read_text())["log_z"]
    return Estimate(float(log_z["value"]), std_error=float(log_z["std_error"]))
