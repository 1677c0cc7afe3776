"""Randomness of libraries that take no generator."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Generator


@contextmanager
def isolated_rng(generator: Generator) -> Iterator[int]:
    """Inside the block the global generators of torch, numpy and random are seeded from ``generator``; then restored.

    Yields:
        The seed, for libraries that take one.
    """
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    devices = [generator.device] if generator.device.type == "cuda" else []
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed devices that are not restored
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield seed
        finally:
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)
