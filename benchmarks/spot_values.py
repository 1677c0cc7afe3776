"""Values of log_prob at fixed points, recorded once per version: a law cannot change under its name."""

import contextlib
import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import torch
from torch import Generator, Tensor

from ..targets.base import TARGETS, HasStart, Target
from ..targets.datasets import DataFileError
from .store import write_text
from .subject import Row, Subject

SPOT_FILE = Path(str(resources.files("samplerbench.targets.data") / "spot_values.json"))
SPOT_TOLERANCE = 1e-9


def spot_points(dim: int, scale: float) -> Tensor:
    """Three fixed points ``(3, dim)``: normal quantiles of multiples of the golden ratio, times scale."""
    golden = (math.sqrt(5) - 1) / 2
    levels = (golden * torch.arange(1, 3 * dim + 1, dtype=torch.float64)) % 1
    quantiles: Tensor = torch.special.ndtri(levels)
    return scale * quantiles.reshape(3, dim)


def spot_values(target: Target) -> list[float]:
    """``log_prob`` at the fixed points: what a law's version stands for."""
    points = spot_points(target.dim, target.scale)
    if isinstance(target, HasStart):  # normal points may be too far out to tell laws apart
        points = target.start(3, Generator().manual_seed(0)).to(torch.float64)
    with torch.no_grad():
        values: list[float] = target.log_prob(points).tolist()
    return values


def recorded_values(file: Path = SPOT_FILE) -> dict[str, list[float]]:
    """What is recorded, by ``name@version``."""
    values: dict[str, list[float]] = json.loads(file.read_text()) if file.is_file() else {}
    return values


def check_spot_values(subject: Subject) -> list[Row]:
    """``log_prob`` at fixed points as recorded for this version: the law cannot change under its name."""
    if not subject.is_shipped:
        return subject.without("spot_values", "recorded for the project's own targets only")
    recorded = recorded_values().get(subject.name)
    if recorded is None:
        return subject.without("spot_values", "no values are recorded for this version", "uncertified")
    now = spot_values(subject.target)
    errors = [abs(a - b) / (1 + abs(b)) for a, b in zip(now, recorded, strict=True)]
    passed = all(error < SPOT_TOLERANCE for error in errors)
    worst = next((i for i, error in enumerate(errors) if not error < SPOT_TOLERANCE), 0)
    reason = "" if passed else "the law changed: give it another version"
    return [subject.row("spot_values", now[worst], recorded[worst], 0.0, passed, reason)]


def record_spot_values(names: Sequence[str], file: Path = SPOT_FILE) -> list[str]:
    """Record ``log_prob`` at fixed points for versions that have none yet; what is recorded is never changed.

    Returns:
        The versions that were recorded; those whose data are not at hand are left for another time.
    """
    recorded = recorded_values(file)
    new = {}
    for name in names:
        if (version := TARGETS.versioned(name)) not in recorded:
            with contextlib.suppress(DataFileError):
                new[version] = spot_values(TARGETS.get(name))
    lines = [f'"{name}": {json.dumps(values)}' for name, values in sorted({**recorded, **new}.items())]
    write_text(file, "{\n" + ",\n".join(lines) + "\n}\n")
    return list(new)
