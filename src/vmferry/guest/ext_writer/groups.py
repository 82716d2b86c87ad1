"""Block groups: descriptors, and the bitmaps that say which blocks and inodes are in use."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmferry.errors import GuestError
from vmferry.guest.ext_writer._checksums import crc16, crc32c
from vmferry.guest.ext_writer.blocks import Blocks
from vmferry.guest.ext_writer.superblock import BITS_64, META_BG, Superblock
from vmferry.units import KIB

_INODES_UNUSED, _BLOCKS_UNUSED = 0x1, 0x2
"""Flags of a group whose bitmap of inodes, or of blocks, was never written."""
_CHECKSUM = 0x1E
_WIDE = 64
"""Bytes of a descriptor that has high halves."""

Bits = NDArray[np.uint8]
"""A bitmap as an array of zeros and ones."""


@dataclass(slots=True)
class Group:
    """One descriptor; ``raw`` is what it is written as."""

    number: int
    raw: bytearray

    def get(self, low: int, high: int, width: int = 4) -> int:
        """The field at ``low``, whose upper half is at ``high`` of a descriptor that has one; halves of ``width``."""
        value = int.from_bytes(self.raw[low : low + width], "little")
        if len(self.raw) >= _WIDE:
            value |= int.from_bytes(self.raw[high : high + width], "little") << 8 * width
        return value

    def put(self, low: int, high: int, value: int, width: int = 4) -> None:
        """Set what ``get`` answers."""
        data = value.to_bytes(2 * width, "little")
        self.raw[low : low + width] = data[:width]
        if len(self.raw) >= _WIDE:
            self.raw[high : high + width] = data[width:]

    @property
    def block_bitmap(self) -> int:
        return self.get(0x0, 0x20)

    @property
    def inode_bitmap(self) -> int:
        return self.get(0x4, 0x24)

    @property
    def inode_table(self) -> int:
        return self.get(0x8, 0x28)

    @property
    def free_blocks(self) -> int:
        return self.get(0xC, 0x2C, 2)

    @property
    def free_inodes(self) -> int:
        return self.get(0xE, 0x2E, 2)

    @property
    def flags(self) -> int:
        return int.from_bytes(self.raw[0x12:0x14], "little")


class Groups:
    """The groups of a file system. For one thread; changes reach ``blocks``, which flush them."""

    def __init__(self, blocks: Blocks, superblock: Superblock) -> None:
        self._blocks = blocks
        self._superblock = superblock
        self.count = superblock.group_count
        self._per_block = superblock.block_size // superblock.descriptor_size

    def first_block(self, number: int) -> int:
        """The first block of a group."""
        return self._superblock.first_block + number * self._superblock.blocks_per_group

    def block_count(self, number: int) -> int:
        """Blocks of a group; the last one may have fewer than all others."""
        left = self._superblock.block_count - self.first_block(number)
        return min(self._superblock.blocks_per_group, left)

    def read(self, number: int) -> Group:
        """A group's descriptor. Raises ``GuestError`` where its checksum is wrong or it points nowhere."""
        block, at = self._place(number)
        group = Group(number, bytearray(self._blocks.read(block)[at : at + self._superblock.descriptor_size]))
        if self._superblock.group_checksums and self._checksum(group) != int.from_bytes(
            group.raw[_CHECKSUM : _CHECKSUM + 2], "little"
        ):
            raise GuestError(f"The descriptor of ext group {number} has a wrong checksum: run e2fsck on the guest.")
        for place in (group.block_bitmap, group.inode_bitmap, group.inode_table):
            if not self._superblock.first_block <= place < self._superblock.block_count:
                raise GuestError(f"The descriptor of ext group {number} points outside: run e2fsck on the guest.")
        return group

    def write(self, group: Group) -> None:
        """Let the descriptor be what ``group`` says."""
        if self._superblock.group_checksums:
            struct.pack_into("<H", group.raw, _CHECKSUM, self._checksum(group))
        block, at = self._place(group.number)
        content = bytearray(self._blocks.read(block))
        content[at : at + len(group.raw)] = group.raw
        self._blocks.write(block, content)

    def _place(self, number: int) -> tuple[int, int]:
        """The block of a group's descriptor, and the offset in it."""
        meta, index = divmod(number, self._per_block)
        first_meta = self._superblock.first_meta_group
        if first_meta is None or meta < first_meta:
            block = KIB // self._superblock.block_size + 1 + meta
        else:
            first = meta * self._per_block
            block = self.first_block(first) + self._superblock.has_backup(first)
        return block, index * self._superblock.descriptor_size

    def _checksum(self, group: Group) -> int:
        raw, number = group.raw, struct.pack("<I", group.number)
        if self._superblock.checksums:
            covered = bytes(raw[:_CHECKSUM]) + bytes(2) + bytes(raw[_CHECKSUM + 2 :])
            return crc32c(crc32c(self._superblock.seed, number), covered) & 0xFFFF
        rest = bytes(raw[_CHECKSUM + 2 :]) if self._superblock.has(BITS_64) else b""
        return crc16(0xFFFF, self._superblock.uuid + number + bytes(raw[:_CHECKSUM]) + rest)

    def used_blocks(self, group: Group) -> Bits:
        """One for each block of ``group`` that is in use. Raises ``GuestError`` where the bitmap is not sound."""
        count = self.block_count(group.number)
        if group.flags & _BLOCKS_UNUSED and self._superblock.group_checksums:
            bits = self._untouched(group)
        else:
            bits = self._bitmap(group.block_bitmap, self._superblock.blocks_per_group, group, 0x18, 0x38)[:count]
        return self._counted(bits, group, group.free_blocks, "blocks")

    def used_inodes(self, group: Group) -> Bits:
        """As ``used_blocks``, of inodes."""
        if group.flags & _INODES_UNUSED and self._superblock.group_checksums:
            bits = np.zeros(self._superblock.inodes_per_group, np.uint8)
        else:
            bits = self._bitmap(group.inode_bitmap, self._superblock.inodes_per_group, group, 0x1A, 0x3A)
        return self._counted(bits, group, group.free_inodes, "inodes")

    def use_blocks(self, group: Group, bits: Bits) -> None:
        """Let ``bits`` be the blocks of ``group`` that are in use, and write the descriptor."""
        group.put(0xC, 0x2C, int((bits == 0).sum()), 2)
        self._set_flags(group, group.flags & ~_BLOCKS_UNUSED)
        self._put_bitmap(group, group.block_bitmap, bits, self._superblock.blocks_per_group, (0x18, 0x38))

    def use_inodes(self, group: Group, bits: Bits, *, folders: int = 0) -> None:
        """As ``use_blocks``, of inodes; ``folders`` of those that are new are folders."""
        per_group = self._superblock.inodes_per_group
        group.put(0xE, 0x2E, int((bits == 0).sum()), 2)
        there = group.get(0x10, 0x30, 2) + folders
        if there > per_group:
            raise GuestError(f"Ext group {group.number} counts {there:,} folders: run e2fsck on the guest.")
        group.put(0x10, 0x30, there, 2)
        self._set_flags(group, group.flags & ~_INODES_UNUSED)
        if self._superblock.group_checksums:  # inodes at the table's end that nobody need look at
            unused = per_group - 1 - int(np.flatnonzero(bits)[-1])
            group.put(0x1C, 0x32, min(unused, group.get(0x1C, 0x32, 2)), 2)
        self._put_bitmap(group, group.inode_bitmap, bits, per_group, (0x1A, 0x3A))

    def _set_flags(self, group: Group, flags: int) -> None:
        struct.pack_into("<H", group.raw, 0x12, flags)

    def _bitmap(self, block: int, count: int, group: Group, low: int, high: int) -> Bits:
        """The bitmap of ``count`` bits in ``block``, whose checksum the descriptor has."""
        raw = np.frombuffer(self._blocks.read(block), np.uint8)
        if self._superblock.checksums:
            checksum = crc32c(self._superblock.seed, raw[: count // 8].tobytes())
            mask = 0xFFFFFFFF if len(group.raw) >= _WIDE else 0xFFFF
            if checksum & mask != group.get(low, high, 2):
                raise GuestError(f"A bitmap of ext group {group.number} has a wrong checksum: run e2fsck on the guest.")
        return np.unpackbits(raw, bitorder="little")[:count]

    def _put_bitmap(self, group: Group, block: int, bits: Bits, count: int, places: tuple[int, int]) -> None:
        whole = np.ones(8 * self._superblock.block_size, np.uint8)  # what is behind the end counts as used
        whole[: len(bits)] = bits
        raw = np.packbits(whole, bitorder="little").tobytes()
        if self._superblock.checksums:
            group.put(*places, crc32c(self._superblock.seed, raw[: count // 8]), 2)
        self._blocks.write(block, raw)
        self.write(group)

    def _counted(self, bits: Bits, group: Group, free: int, what: str) -> Bits:
        if int((bits == 0).sum()) != free:
            raise GuestError(
                f"Ext group {group.number} counts {free:,} free {what}, its bitmap {int((bits == 0).sum()):,}: run "
                "e2fsck on the guest."
            )
        return bits

    def _untouched(self, group: Group) -> Bits:
        """The bitmap of a group whose blocks were never used: only its own metadata lie there."""
        superblock, count, first = self._superblock, self.block_count(group.number), self.first_block(group.number)
        bits = np.zeros(count, np.uint8)
        bits[: self._copies(group.number)] = 1
        table = -(-superblock.inodes_per_group * superblock.inode_size // superblock.block_size)
        for start, length in ((group.block_bitmap, 1), (group.inode_bitmap, 1), (group.inode_table, table)):
            low, high = start - first, start - first + length
            bits[max(low, 0) : max(high, 0)] = 1
        return bits

    def _copies(self, number: int) -> int:
        """Blocks at a group's start that hold copies of the superblock and of descriptors."""
        superblock = self._superblock
        backup = int(superblock.has_backup(number))
        meta, index = divmod(number, self._per_block)
        first_meta = superblock.first_meta_group
        if first_meta is not None and superblock.has(META_BG) and meta >= first_meta:
            return backup + (index in (0, 1, self._per_block - 1))
        if not backup:
            return 0
        tables = -(-self.count // self._per_block) if first_meta is None else first_meta
        return 1 + tables + superblock.reserved_descriptor_blocks
