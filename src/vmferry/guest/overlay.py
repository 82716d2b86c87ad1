"""A disk with changes of ours over it: what a guest's preparation writes to. The source is never written."""

from __future__ import annotations

import tempfile
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import IO, NamedTuple

from vmferry.blob import Buffer, Part
from vmferry.disk import Disk, DiskFacts, SupportsFacts, SupportsRanges, SupportsReadParts
from vmferry.errors import GuestError, OutOfSpaceError, quote
from vmferry.extent import Extent, ExtentKind, check_inside, cut_range, merge
from vmferry.limits import MAX_OVERLAY
from vmferry.ranges import StoredRanges
from vmferry.units import MIB, SECTOR, format_size

_IN_MEMORY = 16 * MIB
"""Bytes of changes that stay in memory; more go into a file without a name."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Changed guest bytes ``[start, end)``, which lie at ``place`` of the changes; zeros where that is ``None``."""

    start: int
    end: int
    place: int | None

    def cut(self, start: int, end: int) -> _Run:
        """The part of it that lies in ``[start, end)``, which it overlaps."""
        low = max(self.start, start)
        return _Run(low, min(self.end, end), None if self.place is None else self.place + low - self.start)


class Written(NamedTuple):
    """Guest bytes ``[start, end)`` that were written."""

    start: int
    end: int
    is_zero: bool
    """Whether they are known to be zeros."""


class OverlayDisk:
    """A ``Disk`` (``SupportsFacts``, ``SupportsRanges``, ``SupportsReadParts``) over ``disk``, which it owns and never
    writes to.

    ``write_at`` and ``zero_at`` are for one thread, while nobody reads; everything else for any number of threads at
    once.
    """

    def __init__(self, disk: Disk, limit: int = MAX_OVERLAY) -> None:
        """``limit``: bytes that may be changed in all; zeros do not count."""
        self._disk = disk
        self._limit = limit
        self._runs: list[_Run] = []
        self._starts: list[int] = []
        self._used = 0
        self._lock = threading.Lock()
        self.bytes_read = 0
        """Guest bytes of the source that ``read_at`` has read."""
        self._store: IO[bytes] = BytesIO()

    @property
    def size(self) -> int:
        """The source's."""
        return self._disk.size

    @property
    def facts(self) -> DiskFacts:
        """The source's."""
        return self._disk.facts if isinstance(self._disk, SupportsFacts) else DiskFacts()

    def changed(self) -> Iterator[Written]:
        """What was written: ascending, apart or of different kinds, of whole sectors."""
        held: Written | None = None
        for run in self._runs:
            if held is not None and (held.end, held.is_zero) == (run.start, run.place is None):
                held = held._replace(end=run.end)
                continue
            if held is not None:
                yield held
            held = Written(run.start, run.end, run.place is None)
        if held is not None:
            yield held

    def write_at(self, offset: int, data: Buffer) -> None:
        """Change what is at ``offset``: whole sectors, inside the disk (``ValueError`` otherwise).

        Raises ``GuestError`` above the limit, ``OutOfSpaceError`` where this machine has no room for the changes.
        """
        self._check(offset, len(data))
        if not data:
            return
        with self._lock:
            self._write(offset, data)

    def zero_at(self, offset: int, length: int) -> None:
        """Let there be zeros, which take no room: whole sectors, inside the disk (``ValueError`` otherwise)."""
        self._check(offset, length)
        if length:
            with self._lock:
                self._place(_Run(offset, offset + length, None))

    def _check(self, offset: int, length: int) -> None:
        check_inside(self.size, offset, length)
        if offset % SECTOR or length % SECTOR:
            raise ValueError(f"[{offset}, {offset + length}) is not of whole sectors")

    def _write(self, offset: int, data: Buffer) -> None:
        end = offset + len(data)
        first, last = self._overlapping(offset, end)
        covered = self._runs[first] if last == first + 1 else None
        if covered is not None and covered.place is not None and covered.start <= offset and end <= covered.end:
            self._put(covered.place + offset - covered.start, data)
            return
        if self._used + len(data) > self._limit:
            raise GuestError(
                f"More than {format_size(self._limit)} of the disk would be changed, the most that is kept beside it."
            )
        self._put(self._used, data)
        self._place(_Run(offset, end, self._used))
        self._used += len(data)

    def _place(self, run: _Run) -> None:
        """Let ``run`` stand where it says, over what stood there."""
        first, last = self._overlapping(run.start, run.end)
        pieces = [run]
        if first < last:
            low, high = self._runs[first], self._runs[last - 1]
            if low.start < run.start:
                pieces.insert(0, low.cut(low.start, run.start))
            if run.end < high.end:
                pieces.append(high.cut(run.end, high.end))
        self._runs[first:last] = pieces
        self._starts[first:last] = [piece.start for piece in pieces]

    def _put(self, place: int, data: Buffer) -> None:
        try:
            if isinstance(self._store, BytesIO) and place + len(data) > _IN_MEMORY:
                held, self._store = self._store, tempfile.TemporaryFile()  # noqa: SIM115
                self._store.write(held.getbuffer())
            self._store.seek(place)
            self._store.write(data)
        except OSError as error:
            raise OutOfSpaceError(
                f"The changes to the disk do not fit into {quote(tempfile.gettempdir())}: {quote(error.strerror)}. "
                "Make room, or set TMPDIR."
            ) from error

    def _overlapping(self, start: int, end: int) -> tuple[int, int]:
        """Indexes of the runs that share bytes with ``[start, end)``, as a slice's."""
        first = max(bisect_right(self._starts, start) - 1, 0)
        while first < len(self._runs) and self._runs[first].end <= start:
            first += 1
        last = first
        while last < len(self._runs) and self._runs[last].start < end:
            last += 1
        return first, last

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``: what was written is data, or zeros."""
        return merge(self._pieces(*cut_range(self.size, start, end)))

    def _pieces(self, start: int, end: int) -> Iterator[Extent]:
        while start < end:
            first, last = self._overlapping(start, end)
            run = self._runs[first] if first < last else None
            if run is not None and run.start <= start:
                stop = min(run.end, end)
                yield Extent(start, stop - start, ExtentKind.ZERO if run.place is None else ExtentKind.DATA)
            else:
                stop = end if run is None else run.start
                yield from self._disk.extents(start, stop)
            start = stop

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``."""
        check_inside(self.size, offset, length)
        end = offset + length
        first, last = self._overlapping(offset, end)
        if first == last:
            return self._read_source(offset, length)
        out = memoryview(bytearray(length))
        for run in self._runs[first:last]:
            if offset < run.start:
                out[-(end - offset) :][: run.start - offset] = self._read_source(offset, run.start - offset)
            part = run.cut(offset, end)
            offset = part.end
            if part.place is not None:
                with self._lock:
                    self._store.seek(part.place)
                    out[part.start - end + length :][: offset - part.start] = self._store.read(offset - part.start)
        if offset < end:
            out[offset - end :] = self._read_source(offset, end - offset)
        return out

    def _read_source(self, offset: int, length: int) -> Buffer:
        with self._lock:
            self.bytes_read += length
        return self._disk.read_at(offset, length)

    def ranges(self, offset: int, length: int) -> StoredRanges | None:
        """As ``SupportsRanges``, where nothing was written."""
        if not isinstance(self._disk, SupportsRanges):
            return None
        first, last = self._overlapping(offset, offset + length)
        return self._disk.ranges(offset, length) if first == last or not length else None

    def read_parts(self, offset: int, length: int) -> Sequence[Part] | None:
        """As ``SupportsReadParts``, where nothing was written."""
        check_inside(self.size, offset, length)
        first, last = self._overlapping(offset, offset + length)
        if not isinstance(self._disk, SupportsReadParts) or (first != last and length):
            return None
        return self._disk.read_parts(offset, length)

    def close(self) -> None:
        """Close the source, and forget the changes."""
        self._store.close()
        self._disk.close()
