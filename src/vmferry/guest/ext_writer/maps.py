"""Where a file's content is: trees of extents (ext4), and lists of blocks (ext2, ext3). Read, and made anew."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from vmferry.errors import GuestError
from vmferry.guest.ext_writer._checksums import crc32c
from vmferry.guest.ext_writer.allocation import Span
from vmferry.guest.ext_writer.blocks import Blocks
from vmferry.guest.ext_writer.inodes import HAS_EXTENTS, MAP, Inode, Inodes
from vmferry.guest.ext_writer.superblock import Superblock
from vmferry.units import MIB, format_size

_MAGIC = 0xF30A
_HEADER = struct.Struct("<HHHHI")
_LEAF = struct.Struct("<IHHI")
_BRANCH = struct.Struct("<IIHH")
_ENTRY = 12
_IN_INODE = 4
"""Entries of a tree's root, which is in the inode."""
_MAX_DEPTH = 5
_LONGEST = 32768
"""Blocks of one extent; longer ones are not written yet, and read as zeros."""
_MAX_MAP = 64 * MIB
"""Bytes of one file's map that are looked at: enough for 64 GiB in blocks of 4 KiB, each for itself."""
_MAX_PIECES = 1 << 20
"""Pieces that one file lies in."""
_DIRECT = 12


@dataclass(frozen=True, slots=True)
class Run:
    """Blocks ``[first, first + count)`` of a file are those from ``block`` of the file system on."""

    first: int
    count: int
    block: int


@dataclass(slots=True)
class FileMap:
    """All of a file's blocks. What no run covers reads as zeros."""

    runs: list[Run] = field(default_factory=list)
    """Ascending, apart."""
    nodes: list[int] = field(default_factory=list)
    """Blocks that hold the map itself."""

    @property
    def count(self) -> int:
        """Blocks of all runs."""
        return sum(run.count for run in self.runs)

    def blocks(self) -> Iterator[int]:
        """The blocks of all runs, in order: a hostile map has four billion."""
        return (run.block + step for run in self.runs for step in range(run.count))


class Maps:
    """The maps of a file system's files. For one thread."""

    def __init__(self, blocks: Blocks, inodes: Inodes, superblock: Superblock) -> None:
        self._blocks = blocks
        self._inodes = inodes
        self._superblock = superblock
        self._fanout = (superblock.block_size - _HEADER.size) // _ENTRY
        self._pointers = superblock.block_size // 4

    def read(self, inode: Inode) -> FileMap:
        """Where the content of ``inode`` is. Raises ``GuestError`` where that is not sound."""
        found = FileMap()
        root = bytes(inode.raw[MAP])
        if inode.flags & HAS_EXTENTS:
            self._read_tree(inode, root, None, found)
        else:
            self._read_lists(root, found)
        return found

    def _read_tree(self, inode: Inode, node: bytes, above: int | None, found: FileMap) -> None:
        magic, count, most, depth, _ = _HEADER.unpack_from(node)
        fitting = (len(node) - _HEADER.size) // _ENTRY
        if magic != _MAGIC or not count <= most <= fitting or depth != (above if above is not None else depth):
            raise _damaged(inode)
        if depth > _MAX_DEPTH:
            raise _damaged(inode)
        if above is not None and self._superblock.checksums:
            end = _HEADER.size + _ENTRY * most
            if crc32c(self._inodes.seed(inode), node[:end]) != int.from_bytes(node[end : end + 4], "little"):
                raise _damaged(inode)
        for at in range(_HEADER.size, _HEADER.size + _ENTRY * count, _ENTRY):
            if depth:
                _, low, high, _ = _BRANCH.unpack_from(node, at)
                child = low | high << 32
                self._note_node(child, found)
                self._read_tree(inode, self._blocks.read(child), depth - 1, found)
                continue
            first, length, high, low = _LEAF.unpack_from(node, at)
            written, length = length <= _LONGEST, length if length <= _LONGEST else length - _LONGEST
            self._add(Run(first, length, low | high << 32) if written else Run(first, length, 0), found)

    def _read_lists(self, root: bytes, found: FileMap) -> None:
        pointers = struct.unpack("<15I", root)
        self._add_pointers(pointers[:_DIRECT], 0, found)
        first = _DIRECT
        for level, pointer in enumerate(pointers[_DIRECT:], 1):
            self._read_list(pointer, level, first, found)
            first += self._pointers**level

    def _read_list(self, block: int, level: int, first: int, found: FileMap) -> None:
        if not block:
            return
        self._note_node(block, found)
        pointers = struct.unpack(f"<{self._pointers}I", self._blocks.read(block))
        if level == 1:
            self._add_pointers(pointers, first, found)
            return
        for index, pointer in enumerate(pointers):
            self._read_list(pointer, level - 1, first + index * self._pointers ** (level - 1), found)

    def _add_pointers(self, pointers: Sequence[int], first: int, found: FileMap) -> None:
        for index, block in enumerate(pointers):
            if block:
                self._add(Run(first + index, 1, block), found)

    def _note_node(self, block: int, found: FileMap) -> None:
        found.nodes.append(block)
        if len(found.nodes) * self._superblock.block_size > _MAX_MAP:
            raise GuestError(f"A file's map takes more than {format_size(_MAX_MAP)}: run e2fsck on the guest.")

    def _add(self, run: Run, found: FileMap) -> None:
        """Add ``run``; one without a block is zeros that were never written."""
        last = found.runs[-1] if found.runs else Run(0, 0, 0)
        if run.first < last.first + last.count or (run.block and not self._is_inside(run)):
            raise GuestError("A file's map names blocks twice, or such as the file system does not have: run e2fsck.")
        if not run.block:
            return
        if last.count and (last.first + last.count, last.block + last.count) == (run.first, run.block):
            found.runs[-1] = Run(last.first, last.count + run.count, last.block)
        elif len(found.runs) == _MAX_PIECES:
            raise GuestError(f"A file of the guest lies in more than {_MAX_PIECES:,} pieces, which is not read here.")
        else:
            found.runs.append(run)

    def _is_inside(self, run: Run) -> bool:
        return self._superblock.first_block <= run.block <= self._superblock.block_count - run.count

    def node_count(self, inode: Inode, spans: int, blocks: int) -> int:
        """How many blocks the map of ``inode`` takes at the most, for so many blocks in so many spans."""
        if inode.flags & HAS_EXTENTS:
            entries, nodes = spans + blocks // _LONGEST, 0
            while entries > _IN_INODE:
                entries = -(-entries // self._fanout)
                nodes += entries
            return nodes
        nodes, left, level = 0, blocks - _DIRECT, 1
        while left > 0:
            here = min(left, self._pointers**level)
            nodes += sum(-(-here // self._pointers**step) for step in range(1, level + 1))
            left -= self._pointers**level
            level += 1
        return nodes

    def write(self, inode: Inode, spans: Sequence[Span], take: Callable[[], int]) -> None:
        """Let the content of ``inode`` be in ``spans``, one after the other; ``take`` answers a block for the map.

        Neither the size nor the blocks that are counted in ``inode`` are changed, nor is it written.
        """
        inode.raw[MAP] = bytes(MAP.stop - MAP.start)
        if inode.flags & HAS_EXTENTS:
            self._write_tree(inode, spans, take)
        else:
            self._write_lists(inode, spans, take)

    def _write_tree(self, inode: Inode, spans: Sequence[Span], take: Callable[[], int]) -> None:
        entries = [
            (first, _LEAF.pack(first, count, block >> 32, block & 0xFFFFFFFF)) for first, count, block in _cut(spans)
        ]
        depth = 0
        while len(entries) > _IN_INODE:
            above = []
            rest = iter(entries)
            while part := list(islice(rest, self._fanout)):
                block = take()
                self._write_node(inode, block, part, depth)
                above.append((part[0][0], _BRANCH.pack(part[0][0], block & 0xFFFFFFFF, block >> 32, 0)))
            entries = above
            depth += 1
        header = _HEADER.pack(_MAGIC, len(entries), _IN_INODE, depth, 0)
        content = header + b"".join(entry for _, entry in entries)
        inode.raw[MAP.start : MAP.start + len(content)] = content

    def _write_node(self, inode: Inode, block: int, entries: Sequence[tuple[int, bytes]], depth: int) -> None:
        node = bytearray(self._superblock.block_size)
        content = _HEADER.pack(_MAGIC, len(entries), self._fanout, depth, 0) + b"".join(entry for _, entry in entries)
        node[: len(content)] = content
        end = _HEADER.size + _ENTRY * self._fanout
        if self._superblock.checksums:
            struct.pack_into("<I", node, end, crc32c(self._inodes.seed(inode), node[:end]))
        self._blocks.write(block, node)

    def _write_lists(self, inode: Inode, spans: Sequence[Span], take: Callable[[], int]) -> None:
        numbers = (span.start + step for span in spans for step in range(span.count))
        pointers = _padded(list(islice(numbers, _DIRECT)), _DIRECT)
        pointers += [self._write_list(numbers, level, take) for level in (1, 2, 3)]
        struct.pack_into(f"<{len(pointers)}I", inode.raw, MAP.start, *pointers)

    def _write_list(self, numbers: Iterator[int], level: int, take: Callable[[], int]) -> int:
        """Write a list of ``level`` levels that takes what it holds from ``numbers``; its block, or 0 for nothing."""
        pointers: list[int] = []
        while len(pointers) < self._pointers:
            found = next(numbers, 0) if level == 1 else self._write_list(numbers, level - 1, take)
            if not found:
                break
            pointers.append(found)
        if not pointers:
            return 0
        block = take()
        self._blocks.write(block, struct.pack(f"<{self._pointers}I", *_padded(pointers, self._pointers)))
        return block


def _cut(spans: Sequence[Span]) -> Iterator[tuple[int, int, int]]:
    """``(first block in the file, blocks, block)`` of extents that are not too long."""
    first = 0
    for span in spans:
        for at in range(0, span.count, _LONGEST):
            count = min(_LONGEST, span.count - at)
            yield first, count, span.start + at
            first += count


def _padded(pointers: Sequence[int], count: int) -> list[int]:
    """``pointers`` with zeros behind them, ``count`` at the least."""
    return [*pointers, *[0] * (count - len(pointers))]


def _damaged(inode: Inode) -> GuestError:
    return GuestError(f"The map of ext inode {inode.number} is damaged: run e2fsck on the guest.")
