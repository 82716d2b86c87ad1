"""Folders: the names in them, read and added to.

An index of names (``dir_index``) is given up where a name is added: the kernel reads such a folder from its first name
to its last, as ext2 does, and needs no index.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from vmferry.errors import GuestError
from vmferry.guest.ext_writer._checksums import crc32c
from vmferry.guest.ext_writer.blocks import Blocks
from vmferry.guest.ext_writer.inodes import INDEXED, Inode, Inodes
from vmferry.guest.ext_writer.maps import Maps
from vmferry.guest.ext_writer.superblock import FILE_TYPE, Superblock
from vmferry.limits import MAX_GUEST_NAMES

_ENTRY = struct.Struct("<IHBB")
_TAIL = struct.Struct("<IHBBI")
_TAIL_TYPE = 0xDE
_MAX_BLOCKS = 16_384
"""Blocks of one folder that are looked at."""
_MAX_NAME = 255
_SHORTEST = 12
"""Bytes of the shortest entry."""
_WHOLE = 65536
"""Bytes of the largest block, which an entry's length has no bits for."""

FILE, FOLDER = 1, 2
"""Kinds of names, as entries have them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder, or, where ``inode`` is 0, room for one."""

    at: int
    length: int
    """Bytes from this entry to the next."""
    inode: int
    name: bytes
    kind: int

    @property
    def room(self) -> int:
        """Bytes that it does not need."""
        return self.length - (_needed(self.name) if self.inode else 0)


class Folders:
    """The folders of a file system. For one thread."""

    def __init__(self, blocks: Blocks, inodes: Inodes, maps: Maps, superblock: Superblock) -> None:
        self._blocks = blocks
        self._inodes = inodes
        self._maps = maps
        self._superblock = superblock
        self._tail = _TAIL.size if superblock.checksums else 0

    def names(self, folder: Inode) -> Iterator[tuple[bytes, int]]:
        """``(name, inode)`` of everything in ``folder``, itself and the one above included."""
        count = 0
        for block in self.blocks(folder):
            for entry in self._entries(self._read(folder, block), folder):
                if entry.inode:
                    count += 1
                    if count > MAX_GUEST_NAMES:
                        raise GuestError(f"A folder of the guest has more than {MAX_GUEST_NAMES:,} names.")
                    yield entry.name, entry.inode

    def find(self, folder: Inode, name: bytes) -> int | None:
        """The inode that is called ``name`` in ``folder``."""
        return next((inode for found, inode in self.names(folder) if found == name), None)

    def blocks(self, folder: Inode) -> list[int]:
        """The blocks of ``folder``, in order. Raises ``GuestError`` where some are missing."""
        count = -(-folder.size // self._superblock.block_size)
        if count > _MAX_BLOCKS:
            raise GuestError(f"A folder of the guest takes more than {_MAX_BLOCKS:,} blocks.")
        found = list(islice(self._maps.read(folder).blocks(), count))
        if len(found) < count:
            raise GuestError(f"A folder of the guest (inode {folder.number}) has holes: run e2fsck on it.")
        return found

    def replace(self, folder: Inode, name: bytes, inode: int) -> None:
        """Let ``name``, which is in ``folder``, be another file."""
        for block in self.blocks(folder):
            content = bytearray(self._read(folder, block))
            for entry in self._entries(content, folder):
                if entry.inode and entry.name == name:
                    struct.pack_into("<I", content, entry.at, inode)
                    self._write(folder, block, content)
                    return
        raise GuestError(f"{name!r} is not in the folder.")

    def insert(self, folder: Inode, name: bytes, inode: int, kind: int) -> bool:
        """Add ``name``, which is not in ``folder``, where there is room; else answer ``False``."""
        if not 0 < len(name) <= _MAX_NAME:
            raise GuestError(f"A name of {len(name)} bytes is too long for a file.")
        self._give_up_index(folder)
        for block in self.blocks(folder):
            content = bytearray(self._read(folder, block))
            for entry in self._entries(content, folder):
                if entry.room >= _needed(name):
                    self._put_entry(content, entry, name, inode, kind)
                    self._write(folder, block, content)
                    return True
        return False

    def make(self, folder: Inode, above: int, block: int) -> None:
        """Let ``block`` be that of a new folder below the one of inode ``above``."""
        content = bytearray(self._superblock.block_size)
        end = len(content) - self._tail
        self._pack(content, 0, _SHORTEST, folder.number, b".", FOLDER)
        self._pack(content, _SHORTEST, end - _SHORTEST, above, b"..", FOLDER)
        self._add_tail(content)
        self._write(folder, block, content)

    def append(self, folder: Inode, block: int, name: bytes, inode: int, kind: int) -> None:
        """Let ``block`` be a new last one of ``folder``, with ``name`` in it."""
        content = bytearray(self._superblock.block_size)
        self._pack(content, 0, len(content) - self._tail, inode, name, kind)
        self._add_tail(content)
        self._write(folder, block, content)

    def _read(self, folder: Inode, block: int) -> bytes:
        """A block of ``folder``. Raises ``GuestError`` where its checksum is wrong."""
        content = self._blocks.read(block)
        if self._tail:
            end = len(content) - _TAIL.size
            sound = (
                crc32c(self._inodes.seed(folder), content[:end]) == int.from_bytes(content[-4:], "little")
                if self._has_tail(content)
                else folder.flags & INDEXED
            )
            if not sound:
                raise GuestError(
                    f"A folder of the guest (inode {folder.number}) has a wrong checksum: run e2fsck on it."
                )
        return content

    def _put_entry(self, content: bytearray, entry: Entry, name: bytes, inode: int, kind: int) -> None:
        at, length = entry.at, entry.length
        if entry.inode:
            used = _needed(entry.name)
            struct.pack_into("<H", content, at + 4, used)
            at, length = at + used, length - used
        self._pack(content, at, length, inode, name, kind)

    def _pack(self, content: bytearray, at: int, length: int, inode: int, name: bytes, kind: int) -> None:
        kind = kind if self._superblock.has(FILE_TYPE) else 0
        _ENTRY.pack_into(content, at, inode, _packed(length), len(name), kind)
        content[at + _ENTRY.size : at + _ENTRY.size + len(name)] = name

    def _entries(self, content: bytes | bytearray, folder: Inode) -> Iterator[Entry]:
        at, end = 0, len(content) - (self._tail if self._has_tail(content) else 0)
        while at < end:
            inode, length, name_length, kind = _ENTRY.unpack_from(content, at)
            length = _unpacked(length, len(content))
            kind = kind if self._superblock.has(FILE_TYPE) else 0
            name_length |= 0 if self._superblock.has(FILE_TYPE) else content[at + 7] << 8
            if length < _SHORTEST or length % 4 or at + length > len(content) or _ENTRY.size + name_length > length:
                raise GuestError(f"A folder of the guest (inode {folder.number}) is damaged: run e2fsck on it.")
            name = bytes(content[at + _ENTRY.size : at + _ENTRY.size + name_length])
            yield Entry(at, length, inode, name, kind)
            at += length

    def _has_tail(self, content: bytes | bytearray) -> bool:
        """Whether ``content`` ends with a checksum: the nodes of an index do not, or with another one."""
        if not self._tail:
            return False
        zero, length, name, kind, _ = _TAIL.unpack_from(content, len(content) - _TAIL.size)
        return (zero, length, name, kind) == (0, _TAIL.size, 0, _TAIL_TYPE)

    def _add_tail(self, content: bytearray) -> None:
        if self._tail:
            _TAIL.pack_into(content, len(content) - _TAIL.size, 0, _TAIL.size, 0, _TAIL_TYPE, 0)

    def _write(self, folder: Inode, block: int, content: bytearray) -> None:
        if self._has_tail(content):
            end = len(content) - _TAIL.size
            struct.pack_into("<I", content, len(content) - 4, crc32c(self._inodes.seed(folder), content[:end]))
        self._blocks.write(block, content)

    def _give_up_index(self, folder: Inode) -> None:
        """Let a folder with an index be one without. To those who know none, an index is a long unused entry; where
        there are checksums, that makes room for one."""
        if not folder.flags & INDEXED:
            return
        for block in self.blocks(folder) if self._tail else ():
            content = bytearray(self._read(folder, block))
            if self._has_tail(content):
                continue
            last = list(self._entries(content, folder))[-1]
            if last.at + last.length != len(content) or last.room < self._tail:
                raise GuestError(f"The index of a folder (inode {folder.number}) is damaged: run e2fsck on the guest.")
            struct.pack_into("<H", content, last.at + 4, _packed(last.length - self._tail))
            end = last.at + (_needed(last.name) if last.inode else _SHORTEST)
            content[end:] = bytes(len(content) - end)
            self._add_tail(content)
            self._write(folder, block, content)
        folder.flags &= ~INDEXED
        self._inodes.write(folder)


def _needed(name: bytes) -> int:
    """Bytes of an entry for ``name``."""
    return -(-(_ENTRY.size + len(name)) // 4) * 4


def _packed(length: int) -> int:
    return length if length < _WHOLE else 0xFFFF


def _unpacked(length: int, block: int) -> int:
    return block if block == _WHOLE and length in (0, 0xFFFF) else length
