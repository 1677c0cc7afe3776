"""Numbers as people write them."""

import math

NONE = "–"
LARGEST = 1e6  # from here on with an exponent


def number_text(value: float, digits: int = 3) -> str:
    """A few digits: 0.0123, 1.30, 1,000, 4,090, 4.09e6; a dash where there is none, and ∞."""
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    rounded = float(f"{value:.{digits - 1}e}")  # first, since 999.7 has the digits of 1,000
    if rounded != 0 and not 1e-3 <= abs(rounded) < LARGEST:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if abs(rounded) >= 10 ** (digits - 1):
        return f"{rounded:,.0f}"
    is_whole = math.isclose(value, round(value), rel_tol=1e-9)
    return f"{rounded:.{digits}g}" if abs(rounded) >= 10 or is_whole else f"{rounded:#.{digits}g}"
