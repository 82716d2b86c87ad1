"""Quantities as OVF writes them: programmatic units (DSP0004, annex C.1) and the words of older writers."""

from __future__ import annotations

import re

from vmferry.errors import FormatError, quote

_WORDS = {
    "byte": 1, "bytes": 1, "b": 1,
    "kilobytes": 1 << 10, "kb": 1 << 10, "kib": 1 << 10,
    "megabytes": 1 << 20, "mb": 1 << 20, "mib": 1 << 20,
    "gigabytes": 1 << 30, "gb": 1 << 30, "gib": 1 << 30,
    "terabytes": 1 << 40, "tb": 1 << 40, "tib": 1 << 40,
}  # fmt: skip
_FACTOR = re.compile(r"(\d{1,9})(?:\^(\d{1,2}))?")
_MAX = 1 << 63


def parse_quantity(text: str, units: str | None, what: str, *, default_unit: int = 1) -> int:
    """``("30", "byte * 2^30", …)`` → bytes. ``what`` names the quantity in errors.

    Raises ``FormatError`` for what is no whole number from 0 to 2^63, and for units that are no units.
    """
    if not re.fullmatch(r"\d{1,19}", text.strip(), re.ASCII):
        raise FormatError(f"OVF: {what} is {quote(text)!r}, which is not a whole number: export the machine again.")
    value = int(text) * (parse_unit(units, what) if units else default_unit)
    if value > _MAX:
        raise FormatError(f"OVF: {what} is {value:,}, which is more than 2^63: export the machine again.")
    return value


def parse_unit(units: str, what: str) -> int:
    """``byte * 2^20``, ``byte*1024*1024``, ``MegaBytes``, ``MB`` → bytes in one."""
    first, *factors = "".join(units.lower().split()).split("*")
    total = _WORDS.get(first)
    for factor in factors:
        match = _FACTOR.fullmatch(factor)
        if match is None or total is None:
            total = None
            break
        base, exponent = int(match[1]), int(match[2] or 1)
        total = total * base**exponent if base.bit_length() * exponent <= 80 else None
    if total is None or total > _MAX:
        raise FormatError(f"OVF: the units of {what}, {quote(units)!r}, are not understood: export the machine again.")
    return total
