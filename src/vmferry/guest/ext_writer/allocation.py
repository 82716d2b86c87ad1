"""Free blocks and inodes become somebody's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from vmferry.errors import GuestError
from vmferry.extent import equal_runs
from vmferry.guest.ext_writer.groups import Bits, Groups
from vmferry.guest.ext_writer.superblock import Superblock
from vmferry.units import format_size

_MAX_BLOCK = 1 << 32
"""Blocks below this one can be named by files without extents."""
_SHORTEST = (2048, 64, 1)
"""Blocks of a free run that is taken, at the least: long ones are looked for first."""


@dataclass(frozen=True, slots=True)
class Span:
    """``count`` blocks from block ``start``."""

    start: int
    count: int


class Allocator:
    """For one thread."""

    def __init__(self, groups: Groups, superblock: Superblock) -> None:
        self._groups = groups
        self._superblock = superblock

    def check_room(self, blocks: int, inodes: int) -> None:
        """Raise ``GuestError`` unless so many blocks and inodes are free."""
        size, free = self._superblock.block_size, self._superblock.free_blocks
        if blocks > free:
            raise GuestError(
                f"The file system has {format_size(free * size)} free, {format_size(blocks * size)} are needed: make "
                "room on the guest."
            )
        if inodes > self._superblock.free_inodes:
            raise GuestError(
                f"The file system has {self._superblock.free_inodes} free inodes, {inodes} are needed: delete files on "
                "the guest."
            )

    def take_blocks(self, count: int, near: int) -> list[Span]:
        """``count`` free blocks, which are in use from now on, from group ``near`` on; long runs where there are some.

        Raises ``GuestError`` where not so many are free.
        """
        self.check_room(count, 0)
        taken: list[Span] = []
        for shortest in _SHORTEST:
            for number in self._order(near):
                if count and self._groups.read(number).free_blocks >= min(shortest, count):
                    spans = self._take_from(number, count, min(shortest, count))
                    taken += spans
                    count -= sum(span.count for span in spans)
        if count:
            raise GuestError("The ext superblock counts more free blocks than there are: run e2fsck on the guest.")
        return taken

    def _order(self, near: int) -> Iterator[int]:
        for step in range(self._groups.count):
            number = (near + step) % self._groups.count
            if self._groups.first_block(number) < _MAX_BLOCK:
                yield number

    def _take_from(self, number: int, count: int, shortest: int) -> list[Span]:
        group = self._groups.read(number)
        bits = self._groups.used_blocks(group)
        first, taken = self._groups.first_block(number), []
        for low, high in list(equal_runs(bits)):
            if bits[low] == 0 and high - low >= shortest and count:
                length = min(high - low, count)
                bits[low : low + length] = 1
                taken.append(Span(first + low, length))
                count -= length
        if taken:
            self._groups.use_blocks(group, bits)
            self._superblock.free_blocks -= sum(span.count for span in taken)
        return taken

    def free_blocks(self, numbers: Iterable[int]) -> None:
        """Nobody uses the blocks ``numbers`` any more."""
        per_group = self._superblock.blocks_per_group
        for block in numbers:
            number, index = divmod(block - self._superblock.first_block, per_group)
            group = self._groups.read(number)
            bits = self._groups.used_blocks(group)
            if not bits[index]:
                raise GuestError(
                    f"Ext block {block:,} is in use, and its bitmap says it is free: run e2fsck on the guest."
                )
            bits[index] = 0
            self._groups.use_blocks(group, bits)
            self._superblock.free_blocks += 1

    def take_inode(self, near: int, *, folder: bool = False) -> int:
        """The number of a free inode, which is in use from now on, from group ``near`` on."""
        self.check_room(0, 1)
        for step in range(self._groups.count):
            number = (near + step) % self._groups.count
            group = self._groups.read(number)
            if not group.free_inodes:
                continue
            bits = self._groups.used_inodes(group)
            index = self._first_free(bits, number)
            if index is None:
                continue
            bits[index] = 1
            self._groups.use_inodes(group, bits, folders=int(folder))
            self._superblock.free_inodes -= 1
            return number * self._superblock.inodes_per_group + index + 1
        raise GuestError("The ext superblock counts more free inodes than there are: run e2fsck on the guest.")

    def _first_free(self, bits: Bits, number: int) -> int | None:
        reserved = max(self._superblock.first_inode - 1 - number * self._superblock.inodes_per_group, 0)
        free = np.flatnonzero(bits[reserved:] == 0)
        return int(free[0]) + reserved if len(free) else None
