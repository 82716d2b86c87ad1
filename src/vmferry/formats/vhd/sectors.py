"""Which sectors of a differencing VHD are its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vmferry.blob import Blob, Buffer
from vmferry.extent import Extent, ExtentKind, clip, cut_range, equal_runs, merge
from vmferry.formats._block_table import BlockTable
from vmferry.formats.vhd.header import DynamicHeader
from vmferry.units import MIB, SECTOR

_BITMAP_CACHE = 8 * MIB
"""Bytes of sector bitmaps that are held: 32 GiB of a disk in blocks of 2 MiB."""

_KINDS = (ExtentKind.HOLE, ExtentKind.DATA)


class SectorLayer:
    """What a differencing VHD holds itself: DATA where the bit of a sector is set, HOLE where the parent shows.

    Source: the specification, "Block Allocation Table and Data Blocks": the first sector of a block has the most
    significant bit of the bitmap's first byte. Safe from any number of threads; does not own ``blob``.
    """

    def __init__(self, blob: Blob, table: BlockTable, header: DynamicHeader) -> None:
        self._blob = blob
        self._table = table
        self._bitmap_size = header.bitmap_size
        self._sectors = header.block_size // SECTOR
        self._bitmap = lru_cache(_BITMAP_CACHE // header.bitmap_size)(self._read_bitmap)

    @property
    def size(self) -> int:
        return self._table.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``; reads the bitmaps of the blocks that are in the file."""
        start, end = cut_range(self.size, start, end)
        return clip(merge(self._runs(start, end)), start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        """The bytes of the blocks that are in the file: those of DATA extents count, others may be anything."""
        return self._table.read_at(offset, length)

    def stored_size(self) -> int:
        """Whole blocks, whatever their bitmaps say."""
        return self._table.stored_size()

    def _runs(self, start: int, end: int) -> Iterator[Extent]:
        size = self._table.block_size
        for extent in self._table.extents(start, end):
            if extent.kind is not ExtentKind.DATA:
                yield extent
                continue
            for block in range(extent.start // size, -(-extent.end // size)):
                yield from self._block_runs(block)

    def _block_runs(self, block: int) -> Iterator[Extent]:
        base = block * self._table.block_size
        bits = self._bits(block)
        for low, high in equal_runs(bits):
            yield Extent(base + low * SECTOR, (high - low) * SECTOR, _KINDS[bits[low]])

    def _bits(self, block: int) -> NDArray[np.uint8]:
        """1 for each sector of ``block`` that is the disk's own."""
        return np.unpackbits(np.frombuffer(self._bitmap(block), np.uint8), count=self._sectors, bitorder="big")

    def _read_bitmap(self, block: int) -> bytes:
        """The bitmap that stands in front of ``block``."""
        return self._blob.read_at(self._table.host(block) - self._bitmap_size, self._bitmap_size)
