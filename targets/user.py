"""Targets made of functions: any torch callable becomes a Target, with whatever else is known of its law."""

import re
import sys
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any, TypedDict, Unpack

from torch import Tensor

from .base import TARGETS, Marginal, Modes, Moments, one_digit
from .checks import require_at_least, require_positive
from .draws import Estimate
from .registry import unknown
from .user_checks import PointMap, PointSource, StatementCheck


class Knowledge(TypedDict, total=False):
    """What may be known of a law beside its density; left out (or None) is unknown."""

    score: PointMap | None  # gradient of log_prob, (n, dim) to (n, dim)
    log_z: Estimate | float | None  # log of the integral of exp(log_prob); a plain number is exact
    sample: PointSource | None  # (n, generator) to independent exact draws (n, dim), float64
    modes: Modes | None
    moments: Moments | None
    marginals: Sequence[Marginal] | None
    view: PointMap | None  # the coordinates in which distances are taken, (n, dim) to (n, dim)
    start: PointSource | None  # (n, generator) to public starting points (n, dim); default N(0, scale^2 I)
    reference: Tensor | None  # reference draws (n, dim), nearly independent, in random order


class UserTarget:
    """A target made of functions.

    Knowledge that was given is an attribute of the instance, and no other knowledge is: ``isinstance(target,
    HasSample)`` says whether ``sample`` was given. Build one with ``from_log_prob``, which checks it.

    Attributes:
        name, version: as registered.
        dim: number of coordinates.
        scale: root mean square radius per coordinate, to one digit.
        summary: one line for tables.
    """

    def __init__(
        self, log_prob: PointMap, *, dim: int, scale: float, name: str, version: int, summary: str,
        knowledge: Mapping[str, object],
    ) -> None:  # fmt: skip
        self.name, self.version, self.summary = name, version, summary
        self.dim, self.scale = dim, scale
        self._log_prob = log_prob
        vars(self).update(knowledge)

    def __repr__(self) -> str:
        return f"UserTarget({self.name}@{self.version}, dim={self.dim}, scale={self.scale:g})"

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        return self._log_prob(x)


def from_log_prob(
    log_prob: PointMap,
    *,
    dim: int,
    scale: float,
    name: str,
    version: int = 1,
    summary: str = "",
    batched: bool = True,
    register: bool = True,
    **knowledge: Unpack[Knowledge],
) -> UserTarget:
    """A target from a function, checked at a few points and registered under ``name``.

    Args:
        log_prob: log density in nats, maybe unnormalised: points ``(n, dim)`` to ``(n,)``, written with torch so that
            it can be differentiated (twice, for the one-step neural samplers); it keeps the dtype of its points.
        dim: number of coordinates.
        scale: root mean square radius per coordinate of the law, or a guess; rounded to one digit, and public.
        name: letters, digits, ``_``, ``-`` and ``.``.
        version: raise it whenever the law changes, also by data that the function reads: stored runs belong to it.
        summary: one line for ``samplerbench list``; by default the first of the function's docstring.
        batched: False if ``log_prob``, ``score`` and ``view`` take one point ``(dim,)``; ``torch.func.vmap`` maps them.
        register: False keeps the target out of the registry (a notebook that runs a cell twice).
        **knowledge: see ``Knowledge``; a wrong statement is worse than none, so each is checked as far as it can be.
    Returns:
        The target: give it to ``Meter``, or use its name in a suite with ``--plugin`` this file.
    Raises:
        ValueError: for a bad argument, or (TargetError) a function that breaks its contract at a probe point.
        TypeError: for knowledge of an unknown name.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ValueError(f"name must be letters, digits, '_', '-' and '.', got {name!r}")
    for field, number in (("dim", dim), ("version", version)):
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError(f"{field} must be an integer, got {number!r}")
    require_at_least(1, dim=dim, version=version)
    require_positive(scale=scale)
    for part in knowledge:
        if part not in Knowledge.__annotations__:
            raise TypeError(f"target {name!r}: {unknown('knowledge', part, Knowledge.__annotations__)}")
    check = StatementCheck(name, dim, one_digit(scale), batched)
    own = log_prob.__doc__ if isinstance(log_prob, FunctionType) else None
    first_line = (summary or own or "User-made density.").strip().split("\n")[0]
    given: dict[str, Any] = {part: value for part, value in knowledge.items() if value is not None}
    if "start" in given:  # before all others: they are probed where samplers start
        given["start"] = check.start(given["start"])
    density = check.log_prob(log_prob)
    stated = {part: value if part == "start" else getattr(check, part)(value) for part, value in given.items()}
    target = UserTarget(
        density, dim=dim, scale=one_digit(scale), name=name, version=version, summary=first_line, knowledge=stated
    )
    if register:
        register_user_target(target, module=sys._getframe(1).f_globals["__name__"])
    return target


def register_user_target(target: UserTarget, *, module: str) -> None:
    """Register a target as if ``module`` had defined it: the hash of a plug-in file belongs to its targets' runs."""

    def build(**parameters: object) -> UserTarget:
        for parameter in parameters:
            raise ValueError(f"unknown parameter {parameter!r}: a target made of functions has none")
        return target

    build.__doc__, build.__module__, build.__qualname__ = target.summary, module, f"from_log_prob({target.name!r})"
    try:
        TARGETS.register(target.name, build, version=target.version)
    except ValueError as error:
        raise ValueError(f"{error}; choose another name, or register=False where a cell is run again") from None
