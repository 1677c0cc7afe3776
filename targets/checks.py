"""Checks of configuration values that several targets share."""

import math
from typing import get_args


def require_positive(**values: float) -> None:
    """Accept positive finite numbers.

    Raises:
        ValueError: naming the first field that is not one, the rule and the value.
    """
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be positive and finite, got {value}")


def require_at_least(least: int, **values: int) -> None:
    """Accept integers from ``least`` on.

    Raises:
        ValueError: naming the first field below, the rule and the value.
    """
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def require_one_of(choices: object, **values: str) -> None:
    """Accept the values of a Literal type.

    Raises:
        ValueError: naming the first field with another value, the rule and the value.
    """
    for name, value in values.items():
        if value not in get_args(choices):
            raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}")
