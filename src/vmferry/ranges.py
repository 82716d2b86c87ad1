"""NOUN StoredRange: guest bytes that lie unencoded at a place of a blob; read together where they are neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vmferry.blob import Blob, BlobWriter, Buffer, ReadInto, find_clone, find_reader_into, read_view
from vmferry.units import KIB, MIB

_MAX_GAP = 64 * KIB
"""Over a network a gap of this length costs less than another request."""
_MAX_READ = MIB
"""Bytes read at once, unless one range is longer: a request of this length pays for itself, and a second large buffer
beside the one that is filled makes the allocator return and fetch its memory anew each time, which halves the speed."""


@dataclass(frozen=True, slots=True)
class StoredRange:
    """``length`` bytes at ``position`` of what was asked for, which lie at ``source`` of what is read."""

    position: int
    source: int
    length: int


@dataclass(frozen=True, slots=True)
class StoredRanges:
    """Ranges of one blob, in guest order, apart. What lies between them reads as zeros."""

    blob: Blob
    ranges: Sequence[StoredRange]

    def read(self, length: int) -> Buffer:
        """All ``length`` bytes that were asked for."""
        ranges = self.ranges
        stored = sum(found.length for found in ranges)
        if not stored:
            return bytes(length)
        if len(ranges) == 1 and stored == length:
            return read_view(self.blob, ranges[0].source, length)
        # Memory that is about to be overwritten whole is not cleared first: that alone costs some percent.
        out = (np.empty if stored == length else np.zeros)(length, np.uint8).data
        read_ranges(partial(read_view, self.blob), ranges, out)
        return out

    @property
    def in_place(self) -> bool:
        """Whether ``read_into`` can be called, and is better than ``read``."""
        return self._into() is not None

    def read_into(self, out: memoryview) -> None:
        """Fill ``out`` with all bytes that were asked for."""
        into, end = self._into(), 0
        assert into is not None, "read_into without in_place"
        for found in self.ranges:
            _clear(out[end : found.position])
            end = found.position + found.length
            into(found.source, out[found.position : end])
        _clear(out[end:])

    def _into(self) -> ReadInto | None:
        return find_reader_into(self.blob)


def join_ranges(ranges: Iterable[StoredRange]) -> list[StoredRange]:
    """``ranges``, ascending by position, with those joined that are neighbours in guest and blob."""
    joined: list[StoredRange] = []
    for found in ranges:
        before = joined[-1] if joined else None
        if (
            before is not None
            and found.position == before.position + before.length
            and found.source == before.source + before.length
        ):
            joined[-1] = StoredRange(before.position, before.source, before.length + found.length)
        else:
            joined.append(found)
    return joined


def read_ranges(read_at: Callable[[int, int], Buffer], ranges: Sequence[StoredRange], out: memoryview) -> None:
    """Fill ``out`` with ``ranges`` by ``read_at(offset, length)``; what lies between them stays as it is."""
    ranges = sorted(ranges, key=lambda found: found.source)
    index = 0
    while index < len(ranges):
        begin, until = ranges[index].source, index + 1
        end = begin + ranges[index].length
        while until < len(ranges):
            after = ranges[until]
            if not (end <= after.source <= end + _MAX_GAP and after.source + after.length - begin <= _MAX_READ):
                break
            end, until = after.source + after.length, until + 1
        stored = memoryview(read_at(begin, end - begin))
        for found in ranges[index:until]:
            at = found.source - begin
            out[found.position : found.position + found.length] = stored[at : at + found.length]
        del stored  # before the next is read
        index = until


def put_run(target: BlobWriter, host: int, data: Buffer, position: int, stored: StoredRanges | None) -> None:
    """Let ``data`` stand at ``host`` of ``target``. With ``stored`` it lies there from ``position`` on, and is shared
    with that blob as far as may be. Raises as ``BlobWriter.write_at``."""
    view, done = memoryview(data), 0
    if stored is not None and (clone := find_clone(target)) is not None:
        for found in stored.ranges:
            low = max(found.position - position, 0)
            length = min(found.position + found.length - position, len(view)) - low
            if length <= 0:
                continue
            source = found.source + position + low - found.position
            if shared := clone(stored.blob, source, host + low, length):
                if done < low:
                    target.write_at(host + done, view[done:low])
                done = low + shared
    if done < len(view):
        target.write_at(host + done, view[done:])


def _clear(out: memoryview) -> None:
    if out:
        np.frombuffer(out, np.uint8)[:] = 0
