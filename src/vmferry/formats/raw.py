"""raw: the file is the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vmferry.blob import Blob, BlobWriter, Buffer, SupportsDataRanges
from vmferry.disk import Disk, DiskWriter
from vmferry.errors import CorruptDiskError, UnsafeDiskError, quote
from vmferry.extent import Extent, ExtentKind, check_inside
from vmferry.folder import ALONE, Companions
from vmferry.formats import DEFAULTS, WriteOptions
from vmferry.formats._raw_writer import RawWriter
from vmferry.limits import MAX_DISK_SIZE
from vmferry.ranges import StoredRange, StoredRanges
from vmferry.registry import About
from vmferry.units import KIB, SECTOR, format_size, round_up

_PAGE = 4 * KIB


class RawFormat:
    """The way in. Stateless, so safe from any thread."""

    name = "raw"
    ec2_name = "RAW"
    qemu_name = "raw"
    subformats: tuple[str, ...] = ()
    compressed: tuple[str, ...] = ()
    about = About(
        title="raw",
        reads="any bytes; holes of a sparse file are kept; a last partial sector is filled with zeros",
        writes="sparse",
        refuses="an empty file; unless declared raw, every file that shows another format",
        limits="64 TiB",
    )

    def probe(self, blob: Blob) -> bool:
        """Always: a raw disk may begin with anything, so nothing can speak against it."""
        return True

    def open(self, blob: Blob, companions: Companions = ALONE) -> Disk:
        """The disk that ``blob`` is. Raises ``CorruptDiskError`` when it is empty, ``UnsafeDiskError`` over 64 TiB."""
        if blob.size == 0:
            raise CorruptDiskError(f"raw: {quote(blob.name)} is empty. Export or upload it again.")
        if blob.size > MAX_DISK_SIZE:
            raise UnsafeDiskError(
                f"raw: {quote(blob.name)} has {format_size(blob.size)}; at most {format_size(MAX_DISK_SIZE)} "
                "are accepted. Import a smaller disk."
            )
        return RawDisk(blob)

    def create(
        self, target: BlobWriter, size: int, extents: Iterable[Extent], options: WriteOptions = DEFAULTS
    ) -> DiskWriter:
        """A writer whose layout is the guest's own; ``extents`` change nothing."""
        return RawWriter(target, size)


class RawDisk:
    """A ``Disk`` (and ``SupportsStoredSize``) that is its blob, which it owns. Any number of threads may read at once.

    A file that ends inside a sector is read as if zeros filled that sector.
    """

    def __init__(self, blob: Blob) -> None:
        self._blob = blob

    @property
    def size(self) -> int:
        return round_up(self._blob.size, SECTOR)

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        position, end = max(0, start), self.size if end is None else min(end, self.size)
        for low, high in self._data_ranges(position, end):
            if low > position:
                yield Extent(position, low - position, ExtentKind.HOLE)
            yield Extent(low, high - low, ExtentKind.DATA)
            position = high
        if position < end:
            yield Extent(position, end - position, ExtentKind.HOLE)

    def read_at(self, offset: int, length: int) -> Buffer:
        return self.ranges(offset, length).read(length)

    def ranges(self, offset: int, length: int) -> StoredRanges:
        """As ``SupportsRanges``."""
        check_inside(self.size, offset, length)
        stored = min(offset + length, self._blob.size) - offset
        return StoredRanges(self._blob, [StoredRange(0, offset, stored)] if stored > 0 else [])

    def stored_size(self) -> int:
        """Bytes outside the file's holes, in whole pages."""
        return sum(high - low for low, high in self._data_ranges(0, self.size))

    def close(self) -> None:
        self._blob.close()

    def _data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Ascending ranges of ``[start, end)`` that may hold data, in whole pages, never one right behind another."""
        if start >= end:
            return
        if not isinstance(self._blob, SupportsDataRanges):
            yield start, end
            return
        held: tuple[int, int] | None = None
        for low, high in self._blob.data_ranges(min(start, self._blob.size), min(end, self._blob.size)):
            first, last = max(start, low // _PAGE * _PAGE), min(end, round_up(high, _PAGE))
            if held is not None and first <= held[1]:
                held = held[0], max(last, held[1])
                continue
            if held is not None:
                yield held
            held = first, last
        if held is not None:
            yield held


FORMAT = RawFormat()
