"""The journal of ext3 and ext4: what a system that was switched off had written there, and nowhere else yet, is put in
its place.

Source: "Journal (jbd2)" in the kernel's documentation, filesystems/ext4/journal.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from vmferry.errors import GuestError
from vmferry.guest.ext_writer._checksums import crc32c
from vmferry.guest.ext_writer.filesystem import ExtFileSystem
from vmferry.guest.ext_writer.superblock import RECOVER

_MAGIC = 0xC03B3998
_HEADER = struct.Struct(">III")
_DESCRIPTOR, _COMMIT, _SUPERBLOCK_1, _SUPERBLOCK_2, _REVOKE = 1, 2, 3, 4, 5
_WIDE, _CHECKSUM_2, _CHECKSUM_3, _FAST_COMMIT = 0x2, 0x8, 0x10, 0x20
_KNOWN = 0x1 | _WIDE | _CHECKSUM_2 | _CHECKSUM_3 | _FAST_COMMIT
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_UUID = 16
_SUPERBLOCK = 1024
_SUM = 0xFC
_COMMIT_SUM = 16
_MAX_BLOCKS = 1 << 19
"""Blocks of the largest journal that is replayed: 2 GiB of 4 KiB."""
_FAST_BLOCKS = 256
"""Blocks behind the log for fast commits, where the journal does not say how many."""
_MAX_REVOKED = 1 << 20
"""Blocks that all transactions revoke."""
_FAST_HEAD = 9
_ALL = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Tag:
    """A block that a transaction wrote: ``place`` in the journal, ``block`` in the file system."""

    place: int
    block: int
    escaped: bool
    checksum: int


@dataclass(slots=True)
class _Transaction:
    number: int
    tags: list[_Tag] = field(default_factory=list)
    revoked: set[int] = field(default_factory=set)


def replay_journal(system: ExtFileSystem) -> bool:
    """Bring the file system to where its journal has it, and leave that empty; ``False`` where there was nothing to do.

    ``system`` must not be used any more: open it again. Raises ``GuestError`` where the journal is damaged, or keeps
    things in a way that is not known here.
    """
    if not system.superblock.has(RECOVER):
        return False
    journal = _Journal(system)
    journal.check()
    transactions = list(journal.transactions())
    journal.check_fast_commits(journal.number + len(transactions))
    revoked: dict[int, int] = {}
    for transaction in transactions:
        revoked |= dict.fromkeys(transaction.revoked, transaction.number)
    wanted = [
        (transaction, tag)
        for transaction in transactions
        for tag in transaction.tags
        if revoked.get(tag.block, -1) < transaction.number
    ]
    for transaction, tag in wanted:  # all of it is known to be sound before anything is written
        journal.content(transaction, tag)
    for transaction, tag in wanted:
        system.blocks.write_now(tag.block, journal.content(transaction, tag))
    journal.finish(len(transactions))
    _settle(ExtFileSystem(system.blocks.volume))
    return True


def _settle(system: ExtFileSystem) -> None:
    """Say in the superblock that there is nothing to replay, and how much is free: a running system counts that in
    memory, and what it has written is old."""
    blocks = inodes = 0
    for group in map(system.groups.read, range(system.groups.count)):
        blocks += group.free_blocks
        inodes += group.free_inodes
    system.superblock.free_blocks, system.superblock.free_inodes = blocks, inodes
    system.superblock.incompat &= ~RECOVER
    system.superblock.flush()


class _Journal:
    """The journal of one file system."""

    def __init__(self, system: ExtFileSystem) -> None:
        self._system = system
        number = system.superblock.journal_inode
        if not number:
            raise GuestError("The ext file system's journal is on another disk: mount and unmount it on the guest.")
        self._blocks = list(islice(system.maps.read(system.inodes.read(number)).blocks(), _MAX_BLOCKS))
        self._size = system.superblock.block_size
        self._head = bytearray(self._read(0))
        self._features = self._u32(0x28) if self._u32(4) == _SUPERBLOCK_2 else 0
        self._seed = crc32c(_ALL, self._head[0x30:0x40])
        self._checked = bool(self._features & (_CHECKSUM_2 | _CHECKSUM_3))
        self._first, self._end = self._u32(0x14), self._u32(0x10)
        self.number = self._u32(0x18)
        """Of the first transaction."""

    def _u32(self, at: int) -> int:
        return int.from_bytes(self._head[at : at + 4], "big")

    def check(self) -> None:
        """Raise ``GuestError`` unless it can be replayed."""
        sane = (
            self._u32(0) == _MAGIC
            and self._u32(4) in (_SUPERBLOCK_1, _SUPERBLOCK_2)
            and self._u32(0xC) == self._size
            and 1 <= self._first < self._end <= len(self._blocks)
        )
        if sane and self._checked:
            sane = self._head_checksum() == self._u32(_SUM)
        if not sane:
            raise _damaged()
        unknown = self._features & ~_KNOWN
        if unknown:
            raise GuestError(
                f"The ext journal uses unknown features ({unknown:#x}): shut the guest down, and export it again."
            )
        if self._features & _FAST_COMMIT:
            self._end -= self._u32(0x54) or _FAST_BLOCKS
            if self._end <= self._first:
                raise _damaged()

    def check_fast_commits(self, number: int) -> None:
        """Raise ``GuestError`` where transaction ``number``, the next one, has begun behind the log."""
        if self._features & _FAST_COMMIT:
            kind, length, _, found = struct.unpack_from("<HHII", self._read(self._end))
            if (kind, length, found) == (_FAST_HEAD, 8, number):
                raise GuestError(
                    "The ext journal has fast commits, which are not replayed here: shut the guest down, and export it "
                    "again."
                )

    def _head_checksum(self) -> int:
        head = bytearray(self._head[:_SUPERBLOCK])
        head[_SUM : _SUM + 4] = bytes(4)
        return crc32c(_ALL, head)

    def _read(self, place: int) -> bytes:
        if place >= len(self._blocks):
            raise _damaged()
        return self._system.blocks.read(self._blocks[place])

    def _next(self, place: int, count: int = 1) -> int:
        """The place ``count`` blocks further on, in the ring."""
        return (place - self._first + count) % (self._end - self._first) + self._first

    def transactions(self) -> Iterator[_Transaction]:
        """Those that were committed, in order."""
        place, seen = self._u32(0x1C), 0
        if place and not self._first <= place < self._end:
            raise _damaged()
        open_one, revoked = _Transaction(self.number), 0
        while place and seen < self._end - self._first:
            content = self._read(place)
            magic, kind, found = _HEADER.unpack_from(content)
            if magic != _MAGIC or found != open_one.number:
                return
            place, seen = self._next(place), seen + 1
            if kind == _DESCRIPTOR:
                self._check_tail(content)
                for tag in self._tags(content, place):
                    open_one.tags.append(tag)
                    place, seen = self._next(place), seen + 1
            elif kind == _REVOKE:
                self._check_tail(content)
                known = len(open_one.revoked)
                open_one.revoked.update(self._revoked(content))
                revoked += len(open_one.revoked) - known
                if revoked > _MAX_REVOKED:
                    raise GuestError(f"The ext journal revokes more than {_MAX_REVOKED:,} blocks: run e2fsck on it.")
            elif kind == _COMMIT:
                if self._checked and not self._is_whole(content):
                    return
                yield open_one
                open_one = _Transaction((open_one.number + 1) & _ALL)
            else:
                return

    def _check_tail(self, content: bytes) -> None:
        if self._checked:
            body = content[:-4] + bytes(4)
            if crc32c(self._seed, body) != int.from_bytes(content[-4:], "big"):
                raise _damaged()

    def _is_whole(self, content: bytes) -> bool:
        stored = int.from_bytes(content[_COMMIT_SUM : _COMMIT_SUM + 4], "big")
        body = content[:_COMMIT_SUM] + bytes(4) + content[_COMMIT_SUM + 4 :]
        return crc32c(self._seed, body) == stored

    def _tags(self, content: bytes, place: int) -> Iterator[_Tag]:
        """What a descriptor lists; the first block is at ``place`` of the journal."""
        at, end = _HEADER.size, len(content) - (4 if self._checked else 0)
        size = self._tag_size()
        while at + size <= end:
            if self._features & _CHECKSUM_3:
                low, flags, high, checksum = struct.unpack_from(">IIII", content, at)
            else:
                low, checksum, flags = struct.unpack_from(">IHH", content, at)
                high = int.from_bytes(content[at + 8 : at + 12], "big") if self._features & _WIDE else 0
            at += size + (0 if flags & _SAME_UUID else _UUID)
            high = high if self._features & _WIDE else 0
            yield _Tag(place, low | high << 32, bool(flags & _ESCAPED), checksum)
            if flags & _LAST:
                return
            place = self._next(place)

    def _tag_size(self) -> int:
        if self._features & _CHECKSUM_3:
            return 16
        return 8 + (2 if self._features & _CHECKSUM_2 else 0) + (4 if self._features & _WIDE else 0)

    def _revoked(self, content: bytes) -> Iterator[int]:
        end, width = int.from_bytes(content[12:16], "big"), 8 if self._features & _WIDE else 4
        if not 16 <= end <= len(content):
            raise _damaged()
        for at in range(16, end - width + 1, width):
            yield int.from_bytes(content[at : at + width], "big")

    def content(self, transaction: _Transaction, tag: _Tag) -> bytes:
        """The bytes of a block that ``transaction`` wrote. Raises ``GuestError`` where they are not what it wrote."""
        superblock = self._system.superblock
        data = self._read(tag.place)
        if self._checked:
            mask = _ALL if self._features & _CHECKSUM_3 else 0xFFFF
            checksum = crc32c(crc32c(self._seed, struct.pack(">I", transaction.number)), data)
            if checksum & mask != tag.checksum:
                raise _damaged()
        if not superblock.first_block <= tag.block < superblock.block_count and tag.block:
            raise _damaged()
        return struct.pack(">I", _MAGIC) + data[4:] if tag.escaped else data

    def finish(self, replayed: int) -> None:
        """Write that it is empty, and which transaction is next."""
        struct.pack_into(">II", self._head, 0x18, (self.number + replayed + 1) & _ALL, 0)
        if self._checked:
            struct.pack_into(">I", self._head, _SUM, self._head_checksum())
        self._system.blocks.write_now(self._blocks[0], self._head)


def _damaged() -> GuestError:
    return GuestError("The ext journal is damaged: start the guest, shut it down, and export it again.")
