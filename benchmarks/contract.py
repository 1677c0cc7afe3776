"""What the checks of plug-ins share: a check is a function that returns what it saw, or raises what is broken."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..samplers.base import NotApplicableError

S = TypeVar("S")
Verdict: TypeAlias = Literal["pass", "fail", "not_applicable"]
Check: TypeAlias = Callable[[S], str]
"""Examines a subject and returns one line of what it measured, with the rule.

Raises:
    BrokenRule: if the subject breaks the rule.
    DoesNotApply: if there is nothing to examine.
"""


class BrokenRule(Exception):
    """A rule of the contract that a plug-in breaks; the message names the thing, the rule and the value."""


class DoesNotApply(Exception):
    """Nothing to examine: the plug-in does not have, or this machine does not offer, what the check is about."""


@dataclass(frozen=True)
class Finding:
    """How one check of one plug-in ended.

    Attributes:
        kind, name: of the plug-in; the name with its version.
        check: name of the check.
        verdict: pass, fail or not_applicable.
        reason: the numbers and the rule.
        seconds: that the check took.
    """

    kind: str
    name: str
    check: str
    verdict: Verdict
    reason: str
    seconds: float


def require(holds: object, what: str, rule: str, got: object) -> None:
    """Go on if ``holds``.

    Raises:
        BrokenRule: naming the thing, the rule and the value.
    """
    if not holds:
        raise BrokenRule(f"{what} must {rule}, got {got}")


def findings(kind: str, name: str, build: Callable[[], S], checks: Sequence[Check[S]]) -> Iterator[Finding]:
    """Make the checks in turn; an exception of one, whatever it is, ends that check alone.

    Args:
        kind, name: of the plug-in.
        build: makes the subject; if it raises, that is the only finding.
        checks: named after their functions.
    """
    subject: list[S] = []

    def construction(_: None) -> str:
        subject.append(build())
        return "the registry builds it with its defaults"

    yield _finding(kind, name, construction, None)
    for check in checks if subject else ():
        yield _finding(kind, name, check, subject[0])


def _finding(kind: str, name: str, check: Check[S], subject: S) -> Finding:
    began = time.monotonic()
    verdict: Verdict
    try:
        verdict, reason = "pass", check(subject)
    except BrokenRule as error:
        verdict, reason = "fail", str(error)
    except (DoesNotApply, NotApplicableError, FileNotFoundError) as error:
        verdict, reason = "not_applicable", str(error)
    except ModuleNotFoundError as error:
        verdict, reason = "not_applicable", f"needs the package {error.name}"
    except Exception as error:  # the plug-in's: to be shown, and the other checks made
        verdict, reason = "fail", f"raised {type(error).__name__}: {error}"
    return Finding(kind, name, check.__name__, verdict, reason, time.monotonic() - began)


def described(value: object) -> str:
    """Shape and dtype of a tensor; the text of anything else."""
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else repr(value)


def require_tensor(what: str, value: object, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Go on if ``value`` is a tensor of that shape and dtype; BrokenRule if not."""
    fits = isinstance(value, Tensor) and tuple(value.shape) == shape and value.dtype == dtype
    require(fits, what, f"be a tensor {shape} {dtype}", described(value))


def require_close(what: str, value: Tensor, expected: Tensor, *, relative: float, absolute: float) -> float:
    """Largest difference of two tensors; BrokenRule if an entry is off by more than the tolerances add up to."""
    gap = (value - expected).abs()
    gap = torch.where(value == expected, torch.zeros_like(gap), gap)  # infinities that agree
    allowed = absolute + relative * expected.abs()
    largest = gap.max().item() if gap.numel() else 0.0
    rule = f"agree within {absolute:g} + {relative:g} of the value"
    require((gap <= allowed).all(), what, rule, f"a difference of {largest:.3g}")
    return largest


def global_states() -> dict[str, Any]:
    """States of the global random generators, as comparable values."""
    states = {
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state(legacy=False)),  # noqa: NPY002
        "random": random.getstate(),
    }
    if torch.cuda.is_available():
        states["torch.cuda"] = [state.tolist() for state in torch.cuda.get_rng_state_all()]
    return states


def require_states(before: dict[str, Any], what: str) -> str:
    """What to say if the global random states are those of ``before``; BrokenRule if one of them moved."""
    after = global_states()
    moved = [name for name, state in before.items() if after[name] != state]
    require(not moved, what, "leave the global random states alone", f"another state of {', '.join(moved)}")
    return f"the global generators of {', '.join(before)} are as they were"
