"""The trees of a Btrfs: the superblock, where logical addresses lie on the disk, and items in the order of their keys.

Source: btrfs-dev-docs, "On-disk format". Every node is checked: its checksum, its address, its level, its bounds.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import google_crc32c
import xxhash

from vmferry.errors import FormatError, GuestError
from vmferry.guest.window import Area
from vmferry.limits import MAX_BTRFS_CHUNKS, MAX_BTRFS_VISITS
from vmferry.units import KIB

SUPERBLOCK = 64 * KIB
_SUPERBLOCK_SIZE = 4 * KIB
_SYSTEM_CHUNKS = 0x32B
_KEY = struct.Struct("<QBQ")
_HEADER = 101
_ITEM = 25
_POINTER = 33
_CHUNK_ITEM = 228
_CHUNK, _STRIPE = 48, 32
_NODES_KEPT = 256
_MAX_LEVEL = 8
_SPREAD = 0x8 | 0x40 | 0x80 | 0x100
"""Profiles that deal out data in turn: RAID0, RAID10, RAID5, RAID6."""

Key = tuple[int, int, int]
"""Object, type, offset."""

LAST = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class TreeRoot:
    """Where a tree begins: a logical address, and the level of the node there."""

    address: int
    level: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    start: int
    length: int
    place: int | None
    """On this device; ``None`` where all of it is on others, or it is dealt out."""


def damaged(what: str) -> GuestError:
    """The error of all that is unsound."""
    return GuestError(f"The Btrfs file system is damaged: {what}.")


class _Node:
    """A node that is whole: its keys, and what stands at each."""

    def __init__(self, block: bytes, address: int) -> None:
        count = struct.unpack_from("<I", block, 96)[0]
        self._block = block
        self._address = address
        self.level = block[100]
        width = _POINTER if self.level else _ITEM
        if struct.unpack_from("<Q", block, 48)[0] != address or _HEADER + count * width > len(block):
            raise damaged(f"the node at {address:,} belongs somewhere else, or has {count:,} entries")
        self.keys = [_key(block, _HEADER + index * width) for index in range(count)]

    def child(self, index: int) -> int:
        """The logical address below."""
        return int(struct.unpack_from("<Q", self._block, _HEADER + index * _POINTER + _KEY.size)[0])

    def item(self, index: int) -> bytes:
        """The bytes of a leaf's item."""
        offset, size = struct.unpack_from("<II", self._block, _HEADER + index * _ITEM + _KEY.size)
        if _HEADER + offset + size > len(self._block):
            raise damaged(f"an item of the node at {self._address:,} lies outside it")
        return self._block[_HEADER + offset : _HEADER + offset + size]


class BtrfsTrees:
    """The trees on the device that ``area`` is. For one thread. Everything raises ``GuestError``."""

    def __init__(self, area: Area) -> None:
        self._area = area
        block = self._read_place(SUPERBLOCK, _SUPERBLOCK_SIZE)
        if block[64:72] != b"_BHRfS_M":
            raise damaged("it has no superblock")
        self._check = _checksum(struct.unpack_from("<H", block, 0xC4)[0])
        if not self._is_sound(block):
            raise damaged("the checksum of its superblock is wrong")
        self._node_size = struct.unpack_from("<I", block, 0x94)[0]
        self.sector_size: int = struct.unpack_from("<I", block, 0x90)[0]
        if not 4 * KIB <= self._node_size <= 64 * KIB or not 4 * KIB <= self.sector_size <= 64 * KIB:
            raise damaged(f"its nodes have {self._node_size:,} bytes")
        self._device = struct.unpack_from("<Q", block, 0xC9)[0]
        root, chunk_root = struct.unpack_from("<QQ", block, 0x50)
        self.root = TreeRoot(root, block[0xC6])
        self.root_folder: int = struct.unpack_from("<Q", block, 0x80)[0]
        self._nodes: OrderedDict[int, _Node] = OrderedDict()
        self._visits = 0
        self._chunks: list[_Chunk] = []
        self._starts: list[int] = []
        self._set_chunks(self._system_chunks(block))
        items = self.items(TreeRoot(chunk_root, block[0xC7]), (0, _CHUNK_ITEM, 0), (LAST, _CHUNK_ITEM, LAST))
        self._set_chunks([self._chunk(key[2], item) for key, item in items if key[1] == _CHUNK_ITEM])

    def read(self, address: int, length: int) -> bytes:
        """``length`` bytes from a logical address."""
        parts = []
        while length > 0:
            chunk = self._chunks[bisect_right(self._starts, address) - 1] if self._chunks else None
            if chunk is None or not chunk.start <= address < chunk.start + chunk.length:
                raise damaged(f"nothing lies at its address {address:,}")
            if chunk.place is None:
                raise GuestError("The Btrfs file system is spread over several devices, which is not read.")
            count = min(length, chunk.start + chunk.length - address)
            parts.append(self._read_place(chunk.place + address - chunk.start, count))
            address, length = address + count, length - count
        return b"".join(parts)

    def items(self, root: TreeRoot, first: Key, last: Key) -> Iterator[tuple[Key, bytes]]:
        """The items of a tree whose keys lie between ``first`` and ``last``, both included, ascending."""
        yield from self._items_below(root.address, root.level, first, last)

    def last_before(self, root: TreeRoot, key: Key) -> Key | None:
        """The last key of a tree that is not above ``key``; ``None`` where none is."""
        address, level = root.address, root.level
        while True:
            node = self._node(address, level)
            index = bisect_right(node.keys, key) - 1
            if index < 0:
                return None
            if level == 0:
                return node.keys[index]
            address, level = node.child(index), level - 1

    def _items_below(self, address: int, level: int, first: Key, last: Key) -> Iterator[tuple[Key, bytes]]:
        node = self._node(address, level)
        start = bisect_right(node.keys, first) - 1
        if level == 0:
            start += not (start >= 0 and node.keys[start] == first)
        for index in range(max(start, 0), len(node.keys)):
            if node.keys[index] > last:
                return
            if level:
                yield from self._items_below(node.child(index), level - 1, first, last)
            else:
                yield node.keys[index], node.item(index)

    def _node(self, address: int, level: int) -> _Node:
        self._visits += 1
        if level >= _MAX_LEVEL or self._visits > MAX_BTRFS_VISITS:
            raise damaged("its trees are deeper, or hold more, than they can")
        node = self._nodes.get(address)
        if node is None:
            block = self.read(address, self._node_size)
            if not self._is_sound(block):
                raise damaged(f"the checksum of the node at {address:,} is wrong")
            node = self._nodes[address] = _Node(block, address)
            if len(self._nodes) > _NODES_KEPT:
                self._nodes.popitem(last=False)
        if node.level != level:
            raise damaged(f"the node at {address:,} has another level")
        return node

    def _is_sound(self, block: bytes) -> bool:
        found = self._check(block[32:])
        return block.startswith(found)

    def _read_place(self, place: int, length: int) -> bytes:
        if place < 0 or place + length > self._area.size:
            raise damaged(f"byte {place:,} lies behind its end")
        try:
            return bytes(self._area.read_at(place, length))
        except FormatError as error:
            raise GuestError(str(error)) from error

    def _system_chunks(self, block: bytes) -> list[_Chunk]:
        """Those that hold the chunk tree itself."""
        end = _SYSTEM_CHUNKS + min(struct.unpack_from("<I", block, 0xA0)[0], 2048)
        at, found = _SYSTEM_CHUNKS, []
        while at + _KEY.size + _CHUNK <= end:
            start = _key(block, at)[2]
            stripes = struct.unpack_from("<H", block, at + _KEY.size + 44)[0]
            size = _CHUNK + _STRIPE * stripes
            found.append(self._chunk(start, block[at + _KEY.size : at + _KEY.size + size]))
            at += _KEY.size + size
        return found

    def _chunk(self, start: int, item: bytes) -> _Chunk:
        if len(item) < _CHUNK:
            raise damaged("a chunk has no length")
        length, _, _, profile = struct.unpack_from("<QQQQ", item)
        count = struct.unpack_from("<H", item, 44)[0]
        if not length or len(item) < _CHUNK + _STRIPE * count:
            raise damaged("a chunk is cut short")
        if profile & _SPREAD and count > 1:
            return _Chunk(start, length, None)
        for index in range(count):
            device, place = struct.unpack_from("<QQ", item, _CHUNK + _STRIPE * index)
            if device == self._device:
                return _Chunk(start, length, place)
        return _Chunk(start, length, None)

    def _set_chunks(self, chunks: list[_Chunk]) -> None:
        if len(chunks) > MAX_BTRFS_CHUNKS:
            raise damaged(f"it has {len(chunks):,} chunks")
        self._chunks = sorted(chunks, key=lambda chunk: chunk.start)
        self._starts = [chunk.start for chunk in self._chunks]


def _key(block: bytes, at: int) -> Key:
    found: Key = _KEY.unpack_from(block, at)
    return found


def _checksum(kind: int) -> Callable[[bytes], bytes]:
    """What gives the checksum of a block behind its first 32 bytes."""
    if kind == 0:
        return lambda data: struct.pack("<I", google_crc32c.value(data))
    if kind == 1:
        return lambda data: xxhash.xxh64_digest(data)[::-1]
    if kind == 2:
        return lambda data: hashlib.sha256(data).digest()
    if kind == 3:
        return lambda data: hashlib.blake2b(data, digest_size=32).digest()
    raise GuestError(f"The Btrfs file system has checksums of kind {kind}, which is not known.")
