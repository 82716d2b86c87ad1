"""Registry hives from nested dicts, written after the published specification, for readers to be tried on.

``build_hive({"Select": {"Current": 1}, "Names": ("a", "b")})``: a dict is a key, everything else a value; ``int`` is a
REG_DWORD, ``str`` a REG_SZ, a tuple a REG_MULTI_SZ, ``bytes`` a REG_BINARY, ``Typed`` any type. ``""`` is the default
value. A path with backslashes is keys inside one another.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

_BASE = 4096
_BIN_HEAD = 32
_NONE = 0xFFFFFFFF
_SEGMENT = 16344
_FILETIME = 0x01DA000000000000


@dataclass(frozen=True)
class Typed:
    """A value of any type, in bytes."""

    kind: int
    data: bytes


def expand(text: str) -> Typed:
    """A REG_EXPAND_SZ."""
    return Typed(2, _text(text))


def qword(number: int) -> Typed:
    """A REG_QWORD."""
    return Typed(11, struct.pack("<Q", number))


@dataclass
class HiveOptions:
    """How the hive is written."""

    minor: int = 5
    """Version 1.``minor``: values over 16,344 bytes are in pieces from 1.4 on."""
    kind: bytes = b"lh"
    """Of lists of subkeys: ``li``, ``lf``, ``lh``."""
    per_list: int = 500
    """Subkeys that one list has; where a key has more, an ``ri`` lists the lists."""
    sequences: tuple[int, int] = (7, 7)
    name: str = "SYSTEM"
    wide_names: bool = False
    """Whether names have two bytes per character, as those have that need it."""


@dataclass
class _Writer:
    options: HiveOptions
    data: bytearray = field(default_factory=bytearray)
    bin_end: int = 0
    starts: list[int] = field(default_factory=list)
    security: int = 0

    def cell(self, content: bytes) -> int:
        """Write a cell; answers its place."""
        size = -(-(4 + len(content)) // 8) * 8
        if len(self.data) + size > self.bin_end:
            self._close()
            self.starts.append(len(self.data))
            self.bin_end = len(self.data) + -(-(size + _BIN_HEAD) // 4096) * 4096
            self.data += bytes(_BIN_HEAD)
        place = len(self.data)
        self.data += struct.pack("<i", -size) + content + bytes(size - 4 - len(content))
        return place

    def _close(self) -> None:
        """The rest of the last bin is one free cell."""
        rest = self.bin_end - len(self.data)
        if rest:
            self.data += struct.pack("<i", rest) + bytes(rest - 4)

    def finish(self) -> bytes:
        """All bins, with their heads."""
        self._close()
        for start, end in zip(self.starts, [*self.starts[1:], len(self.data)], strict=True):
            struct.pack_into("<4sII8xQ4x", self.data, start, b"hbin", start, end - start, _FILETIME)
        return bytes(self.data)


def build_hive(content: Mapping[str, Any], options: HiveOptions | None = None) -> bytes:
    """The bytes of a hive whose root key has ``content``."""
    writer = _Writer(options or HiveOptions())
    descriptor = struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0, 0, 0)
    writer.cell(b"")  # so that the place 32 is not the security cell's: some readers take the root to stand first
    place = len(writer.data)
    writer.security = writer.cell(b"sk\0\0" + struct.pack("<IIII", place, place, 1, len(descriptor)) + descriptor)
    root = _write_key(writer, "ROOT", nest(content), _NONE, root=True)
    bins = writer.finish()
    return _base_block(writer.options, root, len(bins)) + bins


def nest(content: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` with every path of several keys taken apart."""
    out: dict[str, Any] = {}
    for path, value in content.items():
        *above, name = path.split("\\")
        target = out
        for part in above:
            target = target.setdefault(part, {})
        if isinstance(value, Mapping):
            merge(target.setdefault(name, {}), nest(value))
        else:
            target[name] = value
    return out


def merge(target: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """``target`` with ``more`` in it, keys inside keys."""
    for name, value in more.items():
        if isinstance(value, Mapping) and isinstance(target.get(name), dict):
            merge(target[name], value)
        else:
            target[name] = value
    return target


def seal(hive: bytes) -> bytes:
    """``hive`` with the checksum that its base block should have."""
    total = reduce(lambda a, b: a ^ b, struct.unpack("<127I", hive[:508]))
    return hive[:508] + struct.pack("<I", {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(total, total)) + hive[512:]


def _base_block(options: HiveOptions, root: int, length: int) -> bytes:
    begun, ended = options.sequences
    head = struct.pack("<4sIIQIIIIIII", b"regf", begun, ended, _FILETIME, 1, options.minor, 0, 1, root, length, 1)
    head += options.name.encode("utf-16-le")[:62].ljust(64, b"\0")
    return seal(head.ljust(_BASE, b"\0"))


def _write_key(writer: _Writer, name: str, content: Mapping[str, Any], parent: int, *, root: bool = False) -> int:
    values = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    keys = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    raw, latin = _name(writer, name)
    place = writer.cell(bytes(76) + raw)
    value_list = writer.cell(b"".join(struct.pack("<I", _write_value(writer, *item)) for item in values.items())) \
        if values else _NONE  # fmt: skip
    below = [(key, _write_key(writer, key, keys[key], place)) for key in sorted(keys, key=str.upper)]
    subkey_list = _write_lists(writer, below) if below else _NONE
    flags = (0x0C if root else 0) | (0x20 if latin else 0)
    struct.pack_into(
        "<2sHQIIIIIIIIIIIIIIIHH", writer.data, place + 4, b"nk", flags, _FILETIME, 0,
        parent if parent != _NONE else 0, len(below), 0, subkey_list, _NONE, len(values), value_list, writer.security,
        _NONE, max((len(key) * 2 for key in keys), default=0), 0, max((len(key) * 2 for key in values), default=0),
        0, 0, len(raw), 0,
    )  # fmt: skip
    return place


def _write_lists(writer: _Writer, below: list[tuple[str, int]]) -> int:
    size = writer.options.per_list
    lists = [_write_list(writer, below[at : at + size]) for at in range(0, len(below), size)]
    if len(lists) == 1:
        return lists[0]
    return writer.cell(struct.pack("<2sH", b"ri", len(lists)) + b"".join(struct.pack("<I", place) for place in lists))


def _write_list(writer: _Writer, below: list[tuple[str, int]]) -> int:
    kind = writer.options.kind
    entries = bytearray()
    for name, place in below:
        entries += struct.pack("<I", place)
        if kind == b"lf":
            entries += name[:4].encode("latin-1", "replace").ljust(4, b"\0")
        elif kind == b"lh":
            value = 0
            for char in name.upper():
                value = (value * 37 + ord(char)) % (1 << 32)
            entries += struct.pack("<I", value)
    return writer.cell(struct.pack("<2sH", kind, len(below)) + entries)


def _write_value(writer: _Writer, name: str, value: Any) -> int:
    kind, data = _encode(value)
    raw, latin = _name(writer, name)
    size, place = len(data), 0
    if size <= 4:
        size, place = size | 0x80000000, int.from_bytes(data.ljust(4, b"\0"), "little")
    elif size > _SEGMENT and writer.options.minor >= 4:
        pieces = [writer.cell(data[at : at + _SEGMENT]) for at in range(0, size, _SEGMENT)]
        listed = writer.cell(b"".join(struct.pack("<I", piece) for piece in pieces))
        place = writer.cell(struct.pack("<2sHI", b"db", len(pieces), listed))
    else:
        place = writer.cell(data)
    return writer.cell(struct.pack("<2sHIIIHH", b"vk", len(raw), size, place, kind, int(latin), 0) + raw)


def _encode(value: Any) -> tuple[int, bytes]:
    if isinstance(value, Typed):
        return value.kind, value.data
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, str):
        return 1, _text(value)
    if isinstance(value, tuple):
        return 7, b"".join(_text(text) for text in value) + b"\0\0"
    assert isinstance(value, bytes)
    return 3, value


def _name(writer: _Writer, name: str) -> tuple[bytes, bool]:
    """The name as it is stored, and whether with one byte per character."""
    try:
        latin = name.encode("latin-1")
    except UnicodeEncodeError:
        return name.encode("utf-16-le"), False
    return (name.encode("utf-16-le"), False) if writer.options.wide_names else (latin, True)


def _text(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")
