"""The cells of a registry hive, read by ranges and checked: what ``hive`` is made of. Everything here may raise
``GuestError``, a sentence that names the file.

Source: M. Suhanov, "Windows registry file format specification"; J. Metz, "Windows NT Registry File (REGF) format
specification".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import NamedTuple

from vmferry.errors import GuestError, quote
from vmferry.limits import MAX_HIVE_CELLS, MAX_HIVE_READ, MAX_HIVE_VALUE
from vmferry.units import KIB, format_size

ReadAt = Callable[[int, int], bytes]
"""``read_at(offset, length)``: fewer bytes only at the end."""

NOWHERE = 0xFFFFFFFF
_BASE = 4096
"""Bytes of the base block; places of cells count from its end."""
_HEADER = struct.Struct("<4sII8xIIIIII")
"""Signature, two sequence numbers, major and minor version, type, format, root key, bytes of all bins."""
_BLOCK = 16 * KIB
_KEY = struct.Struct("<2sH16xI4xI4xII28xH2x")
"""Signature, flags, number of subkeys, their list, number of values, their list, length of the name."""
_VALUE = struct.Struct("<2sHIIIH2x")
"""Signature, length of the name, size and place of the data, type, flags."""
_LATIN_KEY, _LATIN_VALUE = 0x20, 1
"""Flags: the name has one byte per character."""
_INLINE = 0x80000000
_MAX_NAME = 2048
"""Bytes of a name that are looked at: a key's has 512 at the most."""
_MAX_LIST = 1 << 20
"""Bytes of a list: 65,535 entries have half of it."""
_SEGMENT = 16344
"""Bytes of data in one piece of a big value."""
_ENTRIES_PER_CELL = 4
"""Entries of a list that are counted as one cell."""
_BYTES_PER_CELL = KIB
"""Bytes of a cell that are counted as another."""


@dataclass(frozen=True, slots=True)
class BaseBlock:
    """The head of a hive."""

    begun: int
    """Number of the last write that was begun."""
    ended: int
    """Number of the last write that was finished: the same in a hive that is whole."""
    minor: int
    root: int
    """Place of the root key."""
    length: int
    """Bytes that are claimed to follow the base block."""
    sound: bool
    """Whether its checksum is right."""


@dataclass(frozen=True, slots=True)
class KeyCell:
    """One key: its name, and where its subkeys and values are listed."""

    name: str
    subkeys: int
    subkey_list: int
    values: int
    value_list: int


@dataclass(frozen=True, slots=True)
class ValueCell:
    """One value: its name, its type as a number, and where its data lie."""

    name: str
    kind: int
    size: int
    """Bytes; with the highest bit set, the data stand in ``place`` itself."""
    place: int


class SubkeyEntry(NamedTuple):
    """One subkey in a list, with what the list says of its name, so that not every key need be read."""

    place: int
    hint: bytes = b""
    """The first four characters of its name (``lf``), or the hash of all (``lh``); empty where the list has neither."""
    hashed: bool = False


class Cells:
    """The cells of one hive. At most ``MAX_HIVE_READ`` bytes are read, and held; at most ``MAX_HIVE_CELLS`` cells."""

    def __init__(self, read_at: ReadAt, size: int, name: str) -> None:
        self.name = name
        self._read_at = read_at
        self._size = size
        self._blocks: dict[int, bytes] = {}
        self._left = MAX_HIVE_CELLS
        self.base = self._read_base()
        self.cut_short = _BASE + self.base.length > size
        self._end = min(_BASE + self.base.length, size)

    @property
    def exhausted(self) -> bool:
        """Whether no cell is looked at any more."""
        return self._left < 0

    def key(self, place: int) -> KeyCell:
        """The key at ``place``."""
        cell = self._cell(place, _KEY.size + _MAX_NAME)
        if len(cell) < _KEY.size:
            raise self._damaged(place, "is too short for a key")
        mark, flags, subkeys, subkey_list, values, value_list, length = _KEY.unpack_from(cell)
        if mark != b"nk":
            raise self._damaged(place, "is no key")
        name = _name(cell[_KEY.size : _KEY.size + length], latin=bool(flags & _LATIN_KEY))
        return KeyCell(name, subkeys, subkey_list, values, value_list)

    def subkeys(self, key: KeyCell) -> Iterator[SubkeyEntry]:
        """Where the subkeys of ``key`` are."""
        if key.subkeys == 0 or key.subkey_list == NOWHERE:
            return
        cell = self._cell(key.subkey_list)
        if cell[:2] != b"ri":
            yield from self._entries(cell, key.subkey_list)
            return
        for (place,) in struct.iter_unpack("<I", self._array(cell, key.subkey_list, 4)):
            yield from self._entries(self._cell(place), place)

    def values(self, key: KeyCell) -> Iterator[ValueCell]:
        """The values of ``key``."""
        if key.values == 0 or key.value_list == NOWHERE:
            return
        cell = self._cell(key.value_list)
        if len(cell) < key.values * 4:
            raise self._damaged(key.value_list, f"is too short for the {key.values} values that it is to list")
        for (place,) in struct.iter_unpack("<I", cell[: key.values * 4]):
            yield self._value(place)

    def data(self, value: ValueCell) -> bytes:
        """What ``value`` holds, at most its first ``MAX_HIVE_VALUE`` bytes."""
        if value.size & _INLINE:
            return value.place.to_bytes(4, "little")[: value.size & ~_INLINE]
        if value.size == 0:
            return b""
        wanted = min(value.size, MAX_HIVE_VALUE)
        if value.size > _SEGMENT and self.base.minor >= 4:
            return self._big(value, wanted)
        cell = self._cell(value.place, wanted)
        if len(cell) < wanted:
            raise self._damaged(value.place, f"is too short for a value of {value.size} bytes")
        return cell[:wanted]

    def _read_base(self) -> BaseBlock:
        base = self._read_at(0, _BASE)
        if len(base) < _BASE or base[:4] != b"regf":
            raise GuestError(f"{quote(self.name)} does not begin as a registry hive does.", path=self.name)
        _, begun, ended, _, minor, _, _, root, length = _HEADER.unpack_from(base)
        sound = _checksum(base) == int.from_bytes(base[508:512], "little")
        return BaseBlock(begun, ended, minor, root, length, sound)

    def _value(self, place: int) -> ValueCell:
        cell = self._cell(place, _VALUE.size + _MAX_NAME)
        if len(cell) < _VALUE.size:
            raise self._damaged(place, "is too short for a value")
        mark, length, size, data, kind, flags = _VALUE.unpack_from(cell)
        if mark != b"vk":
            raise self._damaged(place, "is no value")
        name = _name(cell[_VALUE.size : _VALUE.size + length], latin=bool(flags & _LATIN_VALUE))
        return ValueCell(name, kind, size, data)

    def _big(self, value: ValueCell, wanted: int) -> bytes:
        """Data in several cells."""
        head = self._cell(value.place, 8)
        if head[:2] != b"db" or len(head) < 8:
            raise self._damaged(value.place, f"is no list of the pieces of a value of {value.size} bytes")
        count, places = struct.unpack_from("<HI", head, 2)
        count = min(count, -(-wanted // _SEGMENT))
        listed = self._cell(places, count * 4)
        data = b"".join(
            self._cell(place, _SEGMENT)[:_SEGMENT] for (place,) in struct.iter_unpack("<I", listed[: count * 4])
        )
        if len(data) < wanted:
            raise self._damaged(value.place, f"is too short for a value of {value.size} bytes")
        return data[:wanted]

    def _entries(self, cell: bytes, place: int) -> Iterator[SubkeyEntry]:
        """The entries of a list of the kinds ``li``, ``lf`` and ``lh``."""
        if cell[:2] == b"li":
            for (key,) in struct.iter_unpack("<I", self._array(cell, place, 4)):
                yield SubkeyEntry(key)
        elif cell[:2] in (b"lf", b"lh"):
            hashed = cell[:2] == b"lh"
            for key, hint in struct.iter_unpack("<I4s", self._array(cell, place, 8)):
                yield SubkeyEntry(key, hint, hashed)
        else:
            raise self._damaged(place, "is no list of keys")

    def _array(self, cell: bytes, place: int, width: int) -> bytes:
        """The elements of a list: behind its mark stands how many there are."""
        count = int.from_bytes(cell[2:4], "little")
        if len(cell) < 4 + count * width:
            raise self._damaged(place, f"is too short for the {count} keys that it is to list")
        self._spend(count // _ENTRIES_PER_CELL)
        return cell[4 : 4 + count * width]

    def _cell(self, place: int, length: int = _MAX_LIST) -> bytes:
        """What is in the cell at ``place``, at most ``length`` bytes."""
        self._spend(1)
        start = _BASE + place
        if place == NOWHERE or place % 8 or start + 8 > self._end:
            raise self._damaged(place, "lies outside of the file")
        (size,) = struct.unpack("<i", self._read(start, 4))
        if size >= 0:
            raise self._damaged(place, "is not in use")
        if size > -8 or start - size > self._end:
            raise self._damaged(place, "reaches past the end of the file")
        length = min(-size - 4, length)
        self._spend(length // _BYTES_PER_CELL)
        return self._read(start + 4, length)

    def _read(self, start: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``start``."""
        end = start + length
        first, last = start // _BLOCK, (end - 1) // _BLOCK
        if first == last:
            block, skipped = self._block(first), start - first * _BLOCK
            data = block[skipped : skipped + length]
        else:
            joined = b"".join(self._block(number) for number in range(first, last + 1))
            data = joined[start - first * _BLOCK : end - first * _BLOCK]
        if len(data) < length:
            raise GuestError(f"{quote(self.name)} ends at {start + len(data)}, before what it refers to.")
        return data

    def _block(self, number: int) -> bytes:
        block = self._blocks.get(number)
        if block is None:
            if len(self._blocks) * _BLOCK >= MAX_HIVE_READ:
                raise GuestError(f"{quote(self.name)}: what is asked of it lies too far apart; after "
                                 f"{format_size(MAX_HIVE_READ)} it is read no further.")  # fmt: skip
            block = self._blocks[number] = self._read_at(number * _BLOCK, _BLOCK)
        return block

    def _spend(self, cells: int) -> None:
        self._left -= cells
        if self._left < 0:
            raise GuestError(f"{quote(self.name)} has more on the way to what is asked of it than the "
                             f"{MAX_HIVE_CELLS} cells that are looked at.")  # fmt: skip

    def _damaged(self, place: int, why: str) -> GuestError:
        return GuestError(f"{quote(self.name)} is damaged: the cell at {_BASE + place} {why}.", path=self.name)


def name_hash(name: str) -> int:
    """What a list of the kind ``lh`` says of a key called ``name``."""
    return reduce(lambda total, char: (total * 37 + ord(char)) & 0xFFFFFFFF, name.upper(), 0)


def _checksum(base: bytes) -> int:
    total = reduce(xor, struct.unpack("<127I", base[:508]), 0)
    return {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(total, total)


def _name(data: bytes, *, latin: bool) -> str:
    return data.decode("latin-1") if latin else data.decode("utf-16-le", "replace")
