"""Sizes and spans of time: constants, rounding, and how a person reads them. Sizes are bytes."""

from __future__ import annotations

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

SECTOR = 512
"""Bytes in a sector, wherever a format does not say otherwise."""


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is not below ``value``."""
    return -(-value // multiple) * multiple


def to_gib(size: int) -> int:
    """Whole GiB that hold ``size`` bytes: the volume size that EC2 shows."""
    return -(-size // GIB)


def format_size(size: float) -> str:
    """``1610612736`` → ``"1.5 GiB"``; below one KiB ``"512 bytes"``."""
    if size < KIB:
        return f"{size:.0f} bytes"
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB")):
        if size >= unit:
            return f"{size / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{size / KIB:.1f}".removesuffix(".0") + " KiB"


def format_duration(seconds: float) -> str:
    """``3725`` → ``"1 h 02 min"``, ``75`` → ``"1 min 15 s"``, ``7.25`` → ``"7.2 s"``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
