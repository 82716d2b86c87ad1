"""Inodes: what a file is, apart from its names and its content."""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass

from vmferry.errors import GuestError
from vmferry.guest.ext_writer._checksums import crc32c
from vmferry.guest.ext_writer.blocks import Blocks
from vmferry.guest.ext_writer.groups import Groups
from vmferry.guest.ext_writer.superblock import EXTENTS, Superblock
from vmferry.units import SECTOR

ROOT = 2
"""The inode of the root folder."""

INDEXED, HAS_EXTENTS, INLINE = 0x1000, 0x80000, 0x10000000
_ENCRYPTED, _VERITY, _CASEFOLD, _HUGE, _VALUES_APART = 0x800, 0x100000, 0x40000000, 0x40000, 0x200000
_KEPT = 0x8 | 0x10 | 0x20 | 0x40 | 0x80
"""Flags of a file that a new one in its place gets: synchronous, immutable, append only, no dump, no access time."""
_OLD = 128
"""Bytes of an inode of revision 0; in larger ones two bytes behind them say how many more are used."""
_DELETED = slice(0x14, 0x18)
"""When it was deleted; of one that is to be, or to be cut, the next of those."""
_LOW, _HIGH = 0x7C, 0x82
"""Where the halves of the checksum are."""
_MAX_SHARED = 1024
"""Inodes that may share a block of extended attributes."""
_ATTRIBUTES = 0xEA020000
MAP = slice(0x28, 0x28 + 60)
"""Where an inode says in which blocks its content is, or holds the target of a short link."""


@dataclass(slots=True)
class Inode:
    """One inode; ``raw`` is what it is written as."""

    number: int
    raw: bytearray

    def _get(self, at: int, width: int) -> int:
        return int.from_bytes(self.raw[at : at + width], "little")

    def _put(self, at: int, value: int, width: int) -> None:
        self.raw[at : at + width] = value.to_bytes(width, "little")

    @property
    def mode(self) -> int:
        return self._get(0, 2)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def size(self) -> int:
        return self._get(0x4, 4) | self._get(0x6C, 4) << 32

    @size.setter
    def size(self, value: int) -> None:
        self._put(0x4, value & 0xFFFFFFFF, 4)
        self._put(0x6C, value >> 32, 4)

    @property
    def changed(self) -> int:
        """Seconds since 1970 of the last change of the content."""
        return self._get(0x10, 4)

    @property
    def links(self) -> int:
        return self._get(0x1A, 2)

    @links.setter
    def links(self, count: int) -> None:
        self._put(0x1A, count, 2)

    @property
    def flags(self) -> int:
        return self._get(0x20, 4)

    @flags.setter
    def flags(self, value: int) -> None:
        self._put(0x20, value, 4)

    @property
    def generation(self) -> bytes:
        return bytes(self.raw[0x64:0x68])

    @property
    def attributes_block(self) -> int:
        """The block of extended attributes, or 0."""
        return self._get(0x68, 4) | self._get(0x76, 2) << 32

    @property
    def sectors(self) -> int:
        """Sectors of all blocks that the file takes, those of its map and its attributes included."""
        return self._get(0x1C, 4) | self._get(0x74, 2) << 32

    @sectors.setter
    def sectors(self, count: int) -> None:
        self._put(0x1C, count & 0xFFFFFFFF, 4)
        self._put(0x74, count >> 32, 2)

    def touch(self, now: int) -> None:
        """Let its content have changed at ``now``, seconds since 1970."""
        for at in (0xC, 0x10):
            self._put(at, now & 0xFFFFFFFF, 4)
        if len(self.raw) > _OLD:
            for at in (0x84, 0x88):  # parts of a second, and the years after 2038
                if at + 4 <= _OLD + self._get(_OLD, 2):
                    self._put(at, _epoch(now), 4)

    def check_plain(self, what: str) -> None:
        """Raise ``GuestError`` where it is stored in a way that is not written to here."""
        for flag, name in (
            (_ENCRYPTED, "encrypted"),
            (_VERITY, "sealed by fs-verity"),
            (_CASEFOLD, "a folder that ignores case"),
            (INLINE, "stored inside its inode"),
            (_VALUES_APART, "an attribute's value"),
        ):
            if self.flags & flag:
                raise GuestError(f"{what} is {name}, which is not written to here.")


class Inodes:
    """The inodes of a file system. For one thread; changes reach ``blocks``, which flush them."""

    def __init__(self, blocks: Blocks, groups: Groups, superblock: Superblock) -> None:
        self._blocks = blocks
        self._groups = groups
        self._superblock = superblock

    def read(self, number: int) -> Inode:
        """An inode. Raises ``GuestError`` where there is none of that number, or its checksum is wrong."""
        block, at = self._place(number)
        inode = Inode(number, bytearray(self._blocks.read(block)[at : at + self._superblock.inode_size]))
        if self._superblock.checksums and not self._is_sound(inode):
            raise GuestError(f"Ext inode {number} has a wrong checksum: run e2fsck on the guest.")
        return inode

    def write(self, inode: Inode) -> None:
        """Let the inode be what ``inode`` says."""
        if self._superblock.checksums:
            checksum = self._checksum(inode)
            struct.pack_into("<H", inode.raw, _LOW, checksum & 0xFFFF)
            if self._has_high_half(inode):
                struct.pack_into("<H", inode.raw, _HIGH, checksum >> 16)
        block, at = self._place(inode.number)
        content = bytearray(self._blocks.read(block))
        content[at : at + len(inode.raw)] = inode.raw
        self._blocks.write(block, content)

    def make(self, number: int, mode: int, owner: tuple[int, int], now: int) -> Inode:
        """A new inode of that number, which has no content yet; ``owner``: user and group. It is not written."""
        inode = Inode(number, bytearray(self._superblock.inode_size))
        raw = inode.raw
        struct.pack_into("<HH", raw, 0, mode, owner[0] & 0xFFFF)
        struct.pack_into("<H", raw, 0x18, owner[1] & 0xFFFF)
        struct.pack_into("<HH", raw, 0x78, owner[0] >> 16, owner[1] >> 16)
        struct.pack_into("<I", raw, 0x8, now & 0xFFFFFFFF)
        if len(raw) > _OLD:
            extra = min(self._superblock.extra_inode_size or 28, len(raw) - _OLD) // 4 * 4
            struct.pack_into("<H", raw, _OLD, extra)
            if extra >= 16:
                struct.pack_into("<I", raw, 0x8C, _epoch(now))
            if extra >= 24:  # the time of birth
                struct.pack_into("<II", raw, 0x90, now & 0xFFFFFFFF, _epoch(now))
        inode.links = 1
        inode.flags = HAS_EXTENTS if self._superblock.has(EXTENTS) else 0
        inode.touch(now)
        return inode

    def copy(self, old: Inode, number: int, now: int) -> Inode:
        """A new inode with owner, rights and extended attributes of ``old``, without its content. It is not written.

        Raises ``GuestError`` where the attributes cannot be shared.
        """
        inode = Inode(number, bytearray(old.raw))
        inode.raw[MAP] = bytes(MAP.stop - MAP.start)
        inode.raw[_DELETED] = bytes(4)
        inode.links = 1
        inode.flags = old.flags & _KEPT | (HAS_EXTENTS if self._superblock.has(EXTENTS) else 0)
        inode.touch(now)
        inode.sectors = 0
        if old.attributes_block:
            self._share_attributes(old.attributes_block)
            inode.sectors = self._blocks.size // SECTOR
        return inode

    def _share_attributes(self, block: int) -> None:
        """Count one more inode for a block of extended attributes."""
        raw = bytearray(self._blocks.read(block))
        magic, count = struct.unpack_from("<II", raw)
        if magic != _ATTRIBUTES or not 0 < count < _MAX_SHARED:
            raise GuestError(
                f"Ext block {block:,} is to hold attributes of files, and cannot: run e2fsck on the guest."
            )
        struct.pack_into("<I", raw, 4, count + 1)
        if self._superblock.checksums:
            struct.pack_into("<I", raw, 16, 0)
            seed = crc32c(self._superblock.seed, struct.pack("<Q", block))
            struct.pack_into("<I", raw, 16, crc32c(seed, raw))
        self._blocks.write(block, raw)

    def seed(self, inode: Inode) -> int:
        """What the checksums of the blocks begin with that belong to ``inode``."""
        return crc32c(crc32c(self._superblock.seed, struct.pack("<I", inode.number)), inode.generation)

    def _place(self, number: int) -> tuple[int, int]:
        """The block of an inode, and the offset in it."""
        if not 1 <= number <= self._superblock.inode_count:
            raise GuestError(f"The ext file system refers to inode {number:,}, which it does not have.")
        group, index = divmod(number - 1, self._superblock.inodes_per_group)
        block, at = divmod(index * self._superblock.inode_size, self._superblock.block_size)
        return self._groups.read(group).inode_table + block, at

    def _has_high_half(self, inode: Inode) -> bool:
        return len(inode.raw) > _OLD and int.from_bytes(inode.raw[_OLD : _OLD + 2], "little") >= 4

    def _checksum(self, inode: Inode) -> int:
        raw = bytearray(inode.raw)
        raw[_LOW : _LOW + 2] = bytes(2)
        if self._has_high_half(inode):
            raw[_HIGH : _HIGH + 2] = bytes(2)
        return crc32c(self.seed(inode), raw)

    def _is_sound(self, inode: Inode) -> bool:
        wide = self._has_high_half(inode)
        stored = int.from_bytes(inode.raw[_LOW : _LOW + 2], "little")
        if wide:
            stored |= int.from_bytes(inode.raw[_HIGH : _HIGH + 2], "little") << 16
        return stored == self._checksum(inode) & (0xFFFFFFFF if wide else 0xFFFF)


def _epoch(now: int) -> int:
    """The two bits that go on where the 32 of a time, which have a sign, end in 2038."""
    return (now + (1 << 31)) >> 32 & 3
