"""Quantities as OVF writes them: programmatic units (DSP0004, annex C.1) and the words of older writers."""

from __future__ import annotations

import re

_WORDS = {
    "byte": 1, "bytes": 1, "b": 1,
    "kilobyte": 1 << 10, "kilobytes": 1 << 10, "kb": 1 << 10, "kib": 1 << 10,
    "megabyte": 1 << 20, "megabytes": 1 << 20, "mb": 1 << 20, "mib": 1 << 20,
    "gigabyte": 1 << 30, "gigabytes": 1 << 30, "gb": 1 << 30, "gib": 1 << 30,
    "terabyte": 1 << 40, "terabytes": 1 << 40, "tb": 1 << 40, "tib": 1 << 40,
}  # fmt: skip
_FACTOR = re.compile(r"([0-9]{1,12})(?:\^([0-9]{1,2}))?")
_MAX = 1 << 63
_MAX_FACTORS = 8


def parse_whole(text: str | None) -> int | None:
    """Decimal digits, blanks around them allowed, from 0 to 2^63; ``None`` for anything else."""
    digits = (text or "").strip()
    if not re.fullmatch(r"[0-9]{1,19}", digits):
        return None
    value = int(digits)
    return value if value <= _MAX else None


def parse_unit(units: str) -> int | None:
    """Bytes in one: ``byte * 2^20``, ``byte*1024*1024``, ``MegaBytes``, ``MB``. ``None`` for no unit, or over 2^63."""
    first, *factors = "".join(units.lower().split()).split("*")
    if len(factors) > _MAX_FACTORS:
        return None
    total = _WORDS.get(first)
    for factor in factors:
        match = _FACTOR.fullmatch(factor)
        if match is None or total is None:
            return None
        base, exponent = int(match[1]), int(match[2] or 1)
        if base.bit_length() * exponent > 128:  # before the power is taken, which may be astronomical
            return None
        total *= base**exponent
    return total if total is not None and 0 < total <= _MAX else None


def parse_quantity(text: str | None, units: str | None, default_unit: int = 1) -> int | None:
    """``("30", "byte * 2^30")`` → bytes, up to 2^63. ``None`` for what is no whole number of a known unit."""
    value = parse_whole(text)
    unit = parse_unit(units) if units else default_unit
    if value is None or unit is None or value * unit > _MAX:
        return None
    return value * unit
