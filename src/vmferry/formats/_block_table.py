"""Blocks of one size that lie anywhere in a file, and the table that says where: the map of a VHD, and of a VDI."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vmferry.blob import Blob, Buffer
from vmferry.extent import Extent, ExtentKind, clip, merge
from vmferry.formats._pieces import Piece, read_pieces

UNALLOCATED = 0xFFFFFFFF
"""The entry of a block that is not in the file: the parent's, or zeros."""
ZERO_BLOCK = 0xFFFFFFFE
"""VDI only: the entry of a block of zeros, which hides the parent's."""

_CHUNK = 65_536
"""Entries that are looked at together: what they take of memory is bounded, whatever the size of the table."""

Entries = NDArray[np.uint32]


class BlockTable:
    """Guest bytes through a checked table: block ``n`` begins at host offset ``base + entries[n] * unit``.

    Immutable, so any number of threads may ask it. It does not own ``blob``.
    """

    def __init__(
        self, blob: Blob, entries: Entries, size: int, block_size: int, *, base: int, unit: int, zeros: bool = False
    ) -> None:
        """``size`` guest bytes in ``entries``, one a block. ``zeros``: the entry ``ZERO_BLOCK`` has its meaning."""
        self._blob = blob
        self._entries = entries
        self.size = size
        self.block_size = block_size
        self._base = base
        self._unit = unit
        self._lowest_special = ZERO_BLOCK if zeros else UNALLOCATED

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``."""
        start, end = max(0, start), self.size if end is None else min(end, self.size)
        return clip(merge(self._runs(start // self.block_size, -(-end // self.block_size))), start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"[{offset}, {offset + length}) is not inside a disk of {self.size} bytes")
        pieces = self._pieces(offset, length)
        stored = sum(piece.length for piece in pieces)
        if not stored:
            return bytes(length)
        if len(pieces) == 1 and stored == length:
            return self._blob.read_at(pieces[0].source, length)
        # Memory that is about to be overwritten whole is not cleared first: that alone costs some percent.
        out = (np.empty if stored == length else np.zeros)(length, np.uint8).data
        read_pieces(self._blob.read_at, pieces, out)
        return out

    def stored_size(self) -> int:
        """Guest bytes of the blocks that are in the file."""
        stored = int(np.count_nonzero(self._entries < self._lowest_special))
        overhang = len(self._entries) * self.block_size - self.size
        cut = overhang if len(self._entries) and self.is_stored(len(self._entries) - 1) else 0
        return stored * self.block_size - cut

    def is_stored(self, block: int) -> bool:
        """Whether ``block`` is in the file."""
        return bool(self._entries[block] < self._lowest_special)

    def host(self, block: int) -> int:
        """Where the data of ``block``, which is in the file, begins."""
        return self._base + int(self._entries[block]) * self._unit

    def stored_blocks(self, first: int, last: int) -> list[int]:
        """The blocks of ``[first, last)`` that are in the file, ascending."""
        return [first + index for index in np.flatnonzero(self._entries[first:last] < self._lowest_special).tolist()]

    def _runs(self, first: int, last: int) -> Iterator[Extent]:
        size = self.block_size
        for low in range(first, last, _CHUNK):
            entries = self._entries[low : min(low + _CHUNK, last)]
            kinds = np.where(entries < self._lowest_special, np.uint32(0), entries)
            edges = [0, *(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist(), len(kinds)]
            for begin, end in pairwise(edges):
                yield Extent((low + begin) * size, (end - begin) * size, _kind(int(kinds[begin])))

    def _pieces(self, offset: int, length: int) -> list[Piece]:
        """Where the stored bytes of a range lie, in guest order; neighbours in guest and file are one piece."""
        if not length:
            return []
        size = self.block_size
        first, last = offset // size, -(-(offset + length) // size)
        pieces: list[Piece] = []
        for index, entry in enumerate(self._entries[first:last].tolist(), first):
            if entry >= self._lowest_special:
                continue
            low, high = max(offset, index * size), min(offset + length, (index + 1) * size)
            host, position = self._base + entry * self._unit + low - index * size, low - offset
            before = pieces[-1] if pieces else None
            if (
                before is not None
                and position == before.position + before.length
                and host == before.source + before.length
            ):
                pieces[-1] = Piece(before.position, before.source, before.length + high - low)
            else:
                pieces.append(Piece(position, host, high - low))
        return pieces


def ascending(entries: Entries) -> Entries:
    """``entries`` in ascending order. Most tables ascend as they are, and come back uncopied."""
    return entries if len(entries) < 2 or bool((entries[1:] >= entries[:-1]).all()) else np.sort(entries)


def _kind(entry: int) -> ExtentKind:
    match entry:
        case 0:
            return ExtentKind.DATA
        case value if value == UNALLOCATED:
            return ExtentKind.HOLE
        case _:
            return ExtentKind.ZERO
