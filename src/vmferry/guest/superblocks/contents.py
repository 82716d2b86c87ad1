"""What a superblock says, and the bytes it is read from."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from vmferry.guest.window import Area
from vmferry.units import KIB

_HEAD = 68 * KIB


@dataclass(frozen=True, slots=True)
class Contents:
    """What stands in an area. See ``VolumeFacts``, whose words these are."""

    kind: str | None
    label: str | None = None
    uuid: str | None = None
    free: int | None = None
    free_inodes: int | None = None
    dirty: bool = False
    features: tuple[str, ...] = ()
    problem: str | None = None
    last_used: int = 0
    """Seconds since 1970 when it was last mounted or written to; 0 where nothing tells."""


class Head:
    """The beginning of ``area``, and any other piece of it; what lies outside reads as zeros."""

    def __init__(self, area: Area) -> None:
        self.area = area
        self._first = bytes(area.read_at(0, min(_HEAD, area.size)))

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``."""
        if offset >= 0 and offset + length <= len(self._first):
            return self._first[offset : offset + length]
        if offset < 0 or offset >= self.area.size:
            return bytes(length)
        data = bytes(self.area.read_at(offset, min(length, self.area.size - offset)))
        return data.ljust(length, b"\0")

    def has(self, offset: int, magic: bytes) -> bool:
        """Whether ``magic`` stands at ``offset``."""
        return self.read(offset, len(magic)) == magic


def text(data: bytes, encoding: str = "utf-8") -> str | None:
    """``data`` up to its first zero and without spaces around it; ``None`` where nothing is left."""
    return data.decode(encoding, "replace").partition("\0")[0].strip() or None


def uuid_text(data: bytes) -> str | None:
    """16 bytes as fstab has them; ``None`` where all are zero."""
    return str(uuid.UUID(bytes=data)) if any(data) else None


def feature_names(bits: int, names: dict[int, str], prefix: str) -> tuple[str, ...]:
    """The names of the features that ``bits`` hold; unknown ones by ``prefix`` and their number."""
    return tuple(names.get(1 << bit, f"{prefix}-{bit}") for bit in range(bits.bit_length()) if bits >> bit & 1)
