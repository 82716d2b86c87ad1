"""The container of Hyper-V's ``.vmcx``: keys and values in tables. Not published; as open readers have found it out.

Little-endian and packed. Two headers, an object table at 8 KiB that says where the key tables lie, and in those entries
that name their parents by table and offset. A log that was not replayed is passed over: the file is a hint, the disks
are what matters.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from vmferry.errors import CorruptDiskError, UnsafeDiskError, quote
from vmferry.limits import MAX_VMCX_ENTRIES
from vmferry.units import KIB

Tree = dict[str, "Tree | str"]
"""A node's children by name; values as text."""

SIGNATURE = 0x01282014
_HEADERS = (0, 4 * KIB)
_OBJECT_TABLE = 8 * KIB
_OBJECT_TABLE_SIGNATURE = 0x01110001
_KEY_TABLE_SIGNATURE = 2
_HEADER = struct.Struct("<IIHIQIQQI")
_OBJECT_TABLE_HEADER = struct.Struct("<II")
_OBJECT = struct.Struct("<BIQIB")
_KEY_TABLE = struct.Struct("<HHHI")
_KEY = struct.Struct("<HIHIIIB")
_FILE_VALUE = struct.Struct("<IQ")
_IS_OBJECT_TABLE, _IS_KEY_TABLE = 1, 2
_FREE, _SIGNED, _UNSIGNED, _DOUBLE, _STRING, _BYTES, _BOOL, _NODE = (1, 3, 4, 5, 6, 7, 8, 9)
_IN_FILE = 0x100
_NUMBERS = {_SIGNED: struct.Struct("<q"), _UNSIGNED: struct.Struct("<Q"), _DOUBLE: struct.Struct("<d"),
            _BOOL: struct.Struct("<I")}  # fmt: skip
_MAX_DEPTH = 32

_Place = tuple[int, int]
"""Index of a key table, and an entry's offset in it."""


@dataclass(frozen=True, slots=True)
class _Key:
    place: _Place
    parent: _Place
    name: str
    value: str | None
    """``None``: a node."""


def is_vmcx(head: bytes) -> bool:
    """Whether ``head``, the first 8 KiB or more, holds one of the two headers."""
    return any(_signature(head, place) == SIGNATURE for place in _HEADERS)


def read_vmcx(content: bytes, name: str) -> Tree:
    """The tree in the file ``content``, to be called ``name``; a value that cannot be read is left out.

    Raises ``CorruptDiskError`` for what is no such file, ``UnsafeDiskError`` over 65,536 keys or 32 levels.
    """
    if not is_vmcx(content[: 2 * _HEADERS[1]]) or _signature(content, _OBJECT_TABLE) != _OBJECT_TABLE_SIGNATURE:
        raise CorruptDiskError(
            f"{quote(name)} is no Hyper-V configuration, or damaged: name the disks (.vhdx) themselves instead."
        )
    keys: dict[_Place, _Key] = {}
    for index, table in _key_tables(content, name).items():
        for key in _keys(content, index, table):
            keys[key.place] = key
            if len(keys) > MAX_VMCX_ENTRIES:
                raise UnsafeDiskError(
                    f"{quote(name)} has more than {MAX_VMCX_ENTRIES:,} keys; it describes no machine: "
                    "name the disks (.vhdx) themselves."
                )
    return _tree(keys, name)


def _signature(content: bytes, place: int) -> int:
    return int.from_bytes(content[place : place + 4], "little")


def _key_tables(content: bytes, name: str) -> dict[int, bytes]:
    """By index; of several with one index, the one that was written last."""
    newest: dict[int, tuple[int, bytes]] = {}
    for place, size in _objects(content, name):
        table = content[place : place + size]
        if len(table) < _KEY_TABLE.size:
            continue
        signature, index, sequence, _ = _KEY_TABLE.unpack_from(table)
        if signature == _KEY_TABLE_SIGNATURE and sequence >= newest.get(index, (0, b""))[0]:
            newest[index] = sequence, table
    return {index: table for index, (_, table) in newest.items()}


def _objects(content: bytes, name: str) -> Iterator[tuple[int, int]]:
    """Place and size of each key table that the object tables list; further object tables are among their objects."""
    waiting, seen, left = [_OBJECT_TABLE], {_OBJECT_TABLE}, MAX_VMCX_ENTRIES
    while waiting:
        table = waiting.pop()
        if table + _OBJECT_TABLE_HEADER.size > len(content):
            continue
        signature, count = _OBJECT_TABLE_HEADER.unpack_from(content, table)
        first = table + _OBJECT_TABLE_HEADER.size
        if signature != _OBJECT_TABLE_SIGNATURE:
            continue
        for number in range(min(count, (len(content) - first) // _OBJECT.size)):
            left -= 1
            if left < 0:
                raise UnsafeDiskError(
                    f"{quote(name)} has more than {MAX_VMCX_ENTRIES:,} objects; it describes no machine: "
                    "name the disks (.vhdx) themselves."
                )
            kind, _, place, size, allocated = _OBJECT.unpack_from(content, first + number * _OBJECT.size)
            if not allocated or place in seen or place >= len(content):
                continue
            seen.add(place)
            if kind == _IS_OBJECT_TABLE:
                waiting.append(place)
            elif kind == _IS_KEY_TABLE:
                yield place, size


def _keys(content: bytes, index: int, table: bytes) -> Iterator[_Key]:
    """The entries of one key table, up to one that says no size."""
    place = _KEY_TABLE.size
    while place + _KEY.size <= len(table):
        kind, size, parent_table, parent_place, _, _, data_offset = _KEY.unpack_from(table, place)
        entry = table[place : place + size]
        if size < _KEY.size or len(entry) < size:
            return
        if kind & 0xFF != _FREE and data_offset and _KEY.size + data_offset <= size:
            named = entry[_KEY.size : _KEY.size + data_offset - 1].decode("utf-8", "replace")
            value = None if kind & 0xFF == _NODE else _value(content, kind, entry[_KEY.size + data_offset :])
            if kind & 0xFF == _NODE or value is not None:
                yield _Key((index, place), (parent_table, parent_place), named, value)
        place += size


def _value(content: bytes, kind: int, data: bytes) -> str | None:
    """A value as text; ``None`` for bytes, and for what is not whole."""
    inside = bool(kind & _IN_FILE)
    if inside:
        if len(data) < _FILE_VALUE.size:
            return None
        size, place = _FILE_VALUE.unpack_from(data)
        data = content[place : place + size]
    kind &= 0xFF
    if kind == _STRING:
        size = int.from_bytes(data[:4], "little")
        if not inside or size == len(data) - 4:  # apart, its length has been seen only outside
            data = data[4 : 4 + size]
        return data[: len(data) & ~1].decode("utf-16-le", "replace").rstrip("\0")
    number = _NUMBERS.get(kind)
    if number is None or len(data) < number.size:
        return None
    return str(number.unpack_from(data)[0])


def _tree(keys: dict[_Place, _Key], name: str) -> Tree:
    """From the root, which is table 0, downwards: a circle of parents is never reached."""
    below: dict[_Place | None, list[_Key]] = {}
    for key in keys.values():
        below.setdefault(None if key.parent[0] == 0 else key.parent, []).append(key)
    root: Tree = {}
    level: list[tuple[_Place | None, Tree]] = [(None, root)]
    for _ in range(_MAX_DEPTH):
        deeper: list[tuple[_Place | None, Tree]] = []
        for place, node in level:
            for key in below.get(place, ()):
                if key.value is not None:
                    node[key.name] = key.value
                else:
                    child: Tree = {}
                    node[key.name] = child
                    deeper.append((key.place, child))
        level = deeper
    if level:
        raise UnsafeDiskError(
            f"{quote(name)} has keys nested over {_MAX_DEPTH} deep; it describes no machine: "
            "name the disks (.vhdx) themselves."
        )
    return root
