"""Checks of configuration values that several targets share."""

import math


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
