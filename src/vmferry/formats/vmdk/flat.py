"""Pieces of a disk that need no tables: raw bytes of a file, and zeros."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmferry.blob import Blob, Buffer, SliceBlob
from vmferry.extent import Extent, ExtentKind, check_inside, cut_range
from vmferry.formats.raw import RawDisk
from vmferry.ranges import StoredRanges


class FlatExtent:
    """The ``Piece`` of a disk that is ``size`` bytes of a blob from ``offset``; does not own the blob.

    Holes of a sparse file are HOLE; with ``hides_parent`` ZERO, since no parent shows through raw bytes. Any number of
    threads may read.
    """

    def __init__(self, blob: Blob, offset: int, size: int, *, hides_parent: bool) -> None:
        self._data = RawDisk(SliceBlob(blob, offset, size, blob.name))
        self._hides_parent = hides_parent

    @property
    def size(self) -> int:
        return self._data.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``."""
        for extent in self._data.extents(start, end):
            is_hidden = self._hides_parent and extent.kind is ExtentKind.HOLE
            yield replace(extent, kind=ExtentKind.ZERO) if is_hidden else extent

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``."""
        return self._data.read_at(offset, length)

    def ranges(self, offset: int, length: int) -> StoredRanges:
        """As ``SupportsRanges``."""
        return self._data.ranges(offset, length)

    def stored_size(self) -> int:
        """As ``SupportsStoredSize``."""
        return self._data.stored_size()

    def forget(self) -> None:
        """Nothing is kept."""


class ZeroExtent:
    """The ``Piece`` of a disk that is ``size`` zeros in no file, and hides the parent."""

    def __init__(self, size: int) -> None:
        self.size = size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``."""
        start, end = cut_range(self.size, start, end)
        if start < end:
            yield Extent(start, end - start, ExtentKind.ZERO)

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``."""
        check_inside(self.size, offset, length)
        return bytes(length)

    def stored_size(self) -> int:
        """None."""
        return 0

    def forget(self) -> None:
        """Nothing is kept."""
