"""A hosted sparse extent: grains behind a grain directory, in one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vmferry.blob import PART_SIZE, Blob, Buffer, Part
from vmferry.extent import Extent, check_inside, cut_range, merge
from vmferry.formats.vmdk.directory import TABLE_SIZE, GrainDirectory
from vmferry.formats.vmdk.grains import GrainReader, copy_grains
from vmferry.formats.vmdk.header import SparseHeader
from vmferry.formats.vmdk.tables import GrainTables
from vmferry.units import SECTOR


class HostedExtent:
    """The ``Piece`` of a disk in a hosted sparse extent; does not own its blob. Any number of threads may read."""

    def __init__(self, blob: Blob, header: SparseHeader, directory: GrainDirectory) -> None:
        self._blob = blob
        self._header = header
        self._directory = directory
        self._tables = GrainTables(blob, header, directory)
        self._grains = GrainReader(blob, header)

    @property
    def size(self) -> int:
        return self._header.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``; HOLE is what the parent shows."""
        start, end = cut_range(self.size, start, end)
        return merge(self._runs(start, end)) if start < end else iter(())

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``; holes read as zeros."""
        check_inside(self.size, offset, length)
        size = self._header.grain_size
        first, last = offset // size, -(-(offset + length) // size)
        entries = self._tables.entries(first, last) if length else np.zeros(0, np.uint32)
        stored = np.flatnonzero(entries >= self._header.lowest_pointer)
        if not stored.size:
            return bytes(length)
        hosts = entries[stored].astype(np.int64) * SECTOR
        if not self._header.compressed and stored.size == entries.size and (np.diff(hosts) == size).all():
            return self._blob.read_at(int(hosts[0]) + offset - first * size, length)
        # Memory that is about to be overwritten whole is not cleared first: that alone costs some percent.
        out = (np.empty if stored.size == entries.size else np.zeros)(length, np.uint8).data
        if self._header.compressed:
            hint = self._tables.stored_behind(last) * SECTOR
            self._grains.inflate(stored + first, hosts, out, offset, hint)
        else:
            copy_grains(self._blob, size, stored + first, hosts, out, offset)
        return out

    def read_parts(self, offset: int, length: int) -> Sequence[Part] | None:
        """As ``SupportsReadParts``: compressed grains, where none is missing."""
        check_inside(self.size, offset, length)
        end = offset + length
        if not self._header.compressed or self._header.grain_size != PART_SIZE:
            return None
        if offset % PART_SIZE or (end % PART_SIZE and end != self.size):
            return None
        if not length:
            return []
        first, last = offset // PART_SIZE, -(-end // PART_SIZE)
        entries = self._tables.entries(first, last)
        if (entries < self._header.lowest_pointer).any():
            return None
        hosts, hint = entries.astype(np.int64) * SECTOR, self._tables.stored_behind(last) * SECTOR
        return self._grains.inflate_parts(np.arange(first, last), hosts, offset, length, hint)

    def stored_size(self) -> int:
        """What is left of the file without its header, descriptor and tables; markers and padding are counted in."""
        copies = len(self._header.directory_offsets)
        metadata = copies * (self._directory.tables.size * TABLE_SIZE + self._directory.entries.nbytes)
        return max(0, self._header.data_end - metadata - (1 + self._header.descriptor_size) * SECTOR)

    def forget(self) -> None:
        """Let go of the grain tables that are kept in memory."""
        self._tables.forget()

    def _runs(self, start: int, end: int) -> Iterator[Extent]:
        size = self._header.grain_size
        for first, last, kind in self._tables.runs(start // size, -(-end // size)):
            low, high = max(start, first * size), min(end, last * size)
            yield Extent(low, high - low, kind)
