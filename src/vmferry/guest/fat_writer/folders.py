"""The names in the folders of a FAT file system: long ones are read; short ones, of eight and three, are written."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

SIZE = 32
"""Bytes of an entry."""
FOLDER, ARCHIVE = 0x10, 0x20
"""Attributes."""
_LABEL, _LONG = 0x08, 0x0F
_LOWER_BASE, _LOWER_SUFFIX = 0x08, 0x10
"""Bits of Windows NT's, for short names that are shown in small letters."""
_DELETED, _END = 0xE5, 0x00
_ENTRY = struct.Struct("<11sBBBHHHHHHHI")
_LONG_PARTS = (slice(1, 11), slice(14, 26), slice(28, 32))


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder."""

    name: str
    attributes: int
    cluster: int
    size: int

    @property
    def is_folder(self) -> bool:
        return bool(self.attributes & FOLDER)


def read_entries(content: bytes) -> Iterator[Entry]:
    """What is in a folder that holds ``content``; itself and the one above are left out."""
    long: list[bytes] = []
    for at in range(0, len(content) - SIZE + 1, SIZE):
        raw = content[at : at + SIZE]
        if raw[0] == _END:
            return
        if raw[0] == _DELETED:
            long = []
        elif raw[11] & 0x3F == _LONG:
            long.insert(0, b"".join(raw[part] for part in _LONG_PARTS))
        else:
            if not raw[11] & _LABEL and raw[:1] != b".":
                yield _read(raw, b"".join(long))
            long = []


def _read(raw: bytes, long: bytes) -> Entry:
    short, attributes, case, _, _, _, _, high, _, _, low, size = _ENTRY.unpack(raw)
    base, suffix = (part.decode("cp437").rstrip() for part in (short[:8], short[8:]))
    base, suffix = base.lower() if case & _LOWER_BASE else base, suffix.lower() if case & _LOWER_SUFFIX else suffix
    name = long.decode("utf-16-le", "replace").partition("\0")[0] if long else base + ("." + suffix if suffix else "")
    return Entry(name, attributes, low | high << 16, size)


def make_entry(name: str, attributes: int, cluster: int, size: int, stamp: tuple[int, int]) -> bytes:
    """An entry for a ``name`` of at most eight characters, a dot and three; ``stamp``: date and time, as FAT has
    them."""
    base, _, suffix = (name, "", "") if name in (".", "..") else name.upper().partition(".")
    short = base.ljust(8).encode("ascii") + suffix.ljust(3).encode("ascii")
    date, time = stamp
    return _ENTRY.pack(short, attributes, 0, 0, time, date, date, cluster >> 16, time, date, cluster & 0xFFFF, size)


def put_entry(content: bytes, at: int, entry: bytes) -> bytes:
    """``content`` of a folder with ``entry`` in the room at ``at``. What was behind a folder's end stays behind it."""
    rest = content[at + SIZE :]
    return content[:at] + entry + (rest if content[at] == _DELETED else bytes(len(rest)))


def find_room(content: bytes) -> int | None:
    """Where in a folder that holds ``content`` another entry goes; ``None`` where it is full."""
    return next((at for at in range(0, len(content), SIZE) if content[at] in (_END, _DELETED)), None)
