"""Rounding of a value with its errors for print."""

import math
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal

__all__ = ["pdg_place", "place", "rounded"]


def pdg_place(error: float) -> int:
    """Return the power of ten of the last digit of an error by the rule of the PDG.

    The three leading digits decide: 100 to 354, two digits are kept; 355 to 949, one; 950 to 999,
    the error is rounded up to 1000 and two are kept (Review of Particle Physics, Introduction).

    Args:
        error: finite, > 0.

    Returns:
        -2 for hundredths.

    Raises:
        ValueError: error not finite or not positive.
    """
    if not (math.isfinite(error) and error > 0):
        msg = f"an error must be finite and positive, got {error!r}"
        raise ValueError(msg)
    number = Decimal(repr(float(error)))
    leading = int(number.scaleb(2 - number.adjusted()))  # truncated to three digits
    return number.adjusted() - (1 if leading <= 354 else 0)


def place(value: float, errors: Iterable[float]) -> int:
    """Return the power of ten of the last digit for a value and all its errors.

    The smallest error asks for it by the rule of the PDG, but gets one digit more than the largest
    would at most, so that a negligible error does not blow up the row. Errors that are 0 or not
    finite ask for nothing; without any the value has three significant digits.

    Args:
        value: finite.
        errors: absolute errors, all sides and sources.

    Returns:
        -2 for hundredths; the value never has more than 16 digits.
    """
    places = [pdg_place(error) for error in errors if math.isfinite(error) and error > 0]
    size = [Decimal(repr(float(value))).adjusted()] if value else []
    if not places:
        return size[0] - 2 if size else -2
    return max(min(places), max(places) - 1, *(x - 15 for x in size))


def rounded(value: float, last: int, *, up: bool = False) -> Decimal:
    """Round to a power of ten.

    Args:
        value: finite.
        last: power of ten of the last digit.
        up: towards +infinity (for upper limits) instead of to the nearest.

    Returns:
        The number, within half a unit (one unit if up) of the last digit; its exponent is ``last``.
    """
    # Decimal(float) is exact, so that ties are those of the binary number
    mode = ROUND_CEILING if up else ROUND_HALF_EVEN
    return Decimal(value).quantize(Decimal((0, (1,), last)), rounding=mode)
