"""Options that commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Scale(StrEnum):
    """How much of a suite is run."""

    FULL = "full"
    SMALL = "small"


class Device(StrEnum):
    """Where runs and metrics are computed."""

    CPU = "cpu"
    CUDA = "cuda"


Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="Python file that registers more; repeatable.")]
DeviceOption = Annotated[Device, typer.Option(help="Where it is computed.")]
FloorsOption = Annotated[
    bool, typer.Option(help="Compute floors that are missing, minutes per target, once: they are kept in the cache.")
]
Slice = Annotated[
    list[str] | None, typer.Option(help="What --latex shows, in this order: names, separated by commas; repeatable.")
]
StoreArgument = Annotated[Path, typer.Argument(help="Directory of a store, as `run` made it.")]


def names_in(values: list[str] | None) -> list[str]:
    """The names of an option that takes several, separated by commas or repeated."""
    return [name.strip() for value in values or [] for name in value.split(",")]


def check_device(device: Device) -> None:
    """Raise ValueError if the device is not there."""
    if device is Device.CUDA:
        import torch

        if not torch.cuda.is_available():
            raise ValueError(f"--device cuda: this PyTorch ({torch.__version__}) finds no CUDA device")
