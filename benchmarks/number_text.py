"""Numbers as people write them."""

import math


def number_text(value: float, digits: int = 3) -> str:
    """A few digits; large numbers in full, with separators; a dash for nan."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if 10**digits - 0.5 <= abs(value) < 1e7 else f"{value:.{digits}g}"
