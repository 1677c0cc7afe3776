"""A loop of training steps that may be killed at any point and goes on where it stopped, to the same result."""

import hashlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from ..targets.meter import derive_generator

State: TypeAlias = dict[str, Tensor]  # everything that a step changes
SECONDS_PER_CHECKPOINT = 30.0


def train(
    begin: Callable[[Generator], State],
    step: Callable[[State, int, Generator], tuple[State, str]],
    n_steps: int,
    *,
    key: tuple[object, ...],
    checkpoint: Path,
) -> State:
    """State after ``n_steps`` steps.

    Args:
        begin: makes the first state.
        step: maps a state, the number of the step from 0 and a generator of this step alone to the next state and a
            line of progress; a stopped run is continued exactly because nothing else is random.
        n_steps: in all, those before an interruption included.
        key: names the run with its settings and seed: it seeds the generators, and a checkpoint of another key is
            not continued.
        checkpoint: file of the state so far; it is written now and then, and at the end.
    """
    identity = hashlib.sha256(repr(key).encode()).hexdigest()
    found = load_checkpoint(checkpoint, identity)
    done, state = found or (0, begin(derive_generator(*key, "begin")))
    saved = time.monotonic()
    for i in range(done, n_steps):
        state, progress = step(state, i, derive_generator(*key, i))
        if time.monotonic() - saved > SECONDS_PER_CHECKPOINT or i + 1 == n_steps:
            save_checkpoint(checkpoint, identity, i + 1, state)
            saved = time.monotonic()
            print(f"{checkpoint.stem} {i + 1}/{n_steps} {progress}", file=sys.stderr, flush=True)
    return state


def load_checkpoint(path: Path, identity: str) -> tuple[int, State] | None:
    """Steps done and state of a checkpoint; None if there is none or it belongs to another run."""
    from safetensors import safe_open

    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        described: Mapping[str, str] = file.metadata() or {}
        if described.get("identity") != identity:
            return None
        return int(described["n_steps"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def save_checkpoint(path: Path, identity: str, n_steps: int, state: State) -> None:
    """Replace the checkpoint at once, so that it is whole at every moment."""
    write_tensors(path, state, {"identity": identity, "n_steps": str(n_steps)})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], described: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file under a temporary name, then rename it."""
    from safetensors.torch import save

    temporary = path.with_name(f"{path.name}.tmp")
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    temporary.write_bytes(save(whole, dict(described or {})))
    temporary.replace(path)


def adam(state: State, gradients: Mapping[str, Tensor], i: int, rate: float, betas: tuple[float, float]) -> None:
    """One step of Adam (Kingma and Ba, ICLR 2015) on the entries of ``state`` that have a gradient, in place.

    The two averages of each gradient are the entries ``<name>.first`` and ``<name>.second``.
    """
    for name, gradient in gradients.items():
        first = state.setdefault(f"{name}.first", torch.zeros_like(gradient))
        second = state.setdefault(f"{name}.second", torch.zeros_like(gradient))
        first.lerp_(gradient, 1 - betas[0])
        second.lerp_(gradient.square(), 1 - betas[1])
        corrected = (second / (1 - betas[1] ** (i + 1))).sqrt_().add_(1e-8)
        state[name].addcdiv_(first, corrected, value=-rate / (1 - betas[0] ** (i + 1)))
