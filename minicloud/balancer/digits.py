"""Numbers that callers write as text: what is accepted here, `int` reads as the number that was checked. Pure."""

from __future__ import annotations

DIGITS_MAX = 9


def is_number(text: str, low: int, high: int) -> bool:
    """Decimal digits, of a value within these bounds."""
    return len(text) <= DIGITS_MAX and text.isascii() and text.isdigit() and low <= int(text) <= high
