"""Blocks of one size that lie anywhere in a file, and the table that says where: the map of a VHD, and of a VDI."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vmferry.blob import Blob, Buffer
from vmferry.extent import Extent, ExtentKind, check_inside, clip, cut_range, equal_runs, merge
from vmferry.ranges import StoredRange, StoredRanges, join_ranges

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
        start, end = cut_range(self.size, start, end)
        return clip(merge(self._runs(start // self.block_size, -(-end // self.block_size))), start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``."""
        return self.ranges(offset, length).read(length)

    def ranges(self, offset: int, length: int) -> StoredRanges:
        """As ``SupportsRanges``."""
        check_inside(self.size, offset, length)
        return StoredRanges(self._blob, join_ranges(self._stored(offset, offset + length)))

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

    def _runs(self, first: int, last: int) -> Iterator[Extent]:
        size = self.block_size
        for low in range(first, last, _CHUNK):
            entries = self._entries[low : min(low + _CHUNK, last)]
            kinds = np.where(entries < self._lowest_special, np.uint32(0), entries)
            for begin, end in equal_runs(kinds):
                yield Extent((low + begin) * size, (end - begin) * size, _kind(int(kinds[begin])))

    def _stored(self, start: int, end: int) -> Iterator[StoredRange]:
        """Each block's part of ``[start, end)`` that is in the file."""
        size = self.block_size
        first, last = start // size, -(-end // size)
        for index, entry in enumerate(self._entries[first:last].tolist(), first):
            if entry < self._lowest_special:
                low, high = max(start, index * size), min(end, (index + 1) * size)
                host = self._base + entry * self._unit + low - index * size
                yield StoredRange(low - start, host, high - low)


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
