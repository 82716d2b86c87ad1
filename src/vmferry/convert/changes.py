"""Where two disks differ, unit by unit: the engine of a copy once more, with nothing written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge

import numpy as np

from vmferry.blob import Buffer, ByteRange
from vmferry.convert.copy import copy
from vmferry.convert.plan import find_granules
from vmferry.convert.verify import NullWriter, read_filled
from vmferry.disk import Disk
from vmferry.extent import Extent, ExtentKind


@dataclass(frozen=True, slots=True)
class Changes:
    """Numbers of units that differ, ascending, and the first that was not looked at; ``None`` at the disks' end."""

    units: list[int]
    following: int | None


def find_changes(one: Disk, other: Disk, unit: int, start: int, most: int, seconds: float) -> Changes:
    """Which units, of ``unit`` bytes, from number ``start`` on hold different bytes in ``one`` and ``other``.

    What both maps call empty is not read, and behind a disk's end there are zeros. Ends early with ``most`` changes, or
    after ``seconds``, but has looked at something then. Raises as ``Disk.read_at`` does.
    """
    both = _Both(one, other, unit)
    if start * unit >= both.size:
        return Changes([], None)
    found = _Differences(one, unit)
    ends_at, begun = time.monotonic() + seconds, False

    def is_over(_: int) -> bool:
        nonlocal begun
        over = begun and (time.monotonic() > ends_at or found.count > most)
        begun = True
        return over

    end = copy(both, found, start * unit, until=is_over).end
    units = found.units()
    if len(units) > most:
        return Changes(units[:most], units[most])
    return Changes(units, end // unit if end < both.size else None)


class _Differences(NullWriter):
    """Compares what it is given with another disk."""

    def __init__(self, disk: Disk, unit: int) -> None:
        self.granularity = unit
        self._disk = disk
        self._lock = threading.Lock()
        self._units: list[int] = []

    @property
    def count(self) -> int:
        return len(self._units)

    def units(self) -> list[int]:
        return sorted(self._units)

    def write_at(self, offset: int, data: Buffer) -> None:
        unit = self.granularity
        apart = np.frombuffer(data, np.uint8) != read_filled(self._disk, offset, len(data))
        edges = range(0, len(data), unit)
        found = [(offset + low) // unit for low in edges if apart[low : low + unit].any()]
        with self._lock:
            self._units += found


class _Both:
    """The second of two disks, with a map that has DATA where either has, as long as the longer one."""

    def __init__(self, one: Disk, other: Disk, unit: int) -> None:
        self._disks = one, other
        self._unit = unit
        self.size = max(one.size, other.size)

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        limit = self.size if end is None else end
        first, second = (self._ranges(disk, start, min(limit, disk.size)) for disk in self._disks)
        for low, high in _unite(first, second):
            yield Extent(low, high - low, ExtentKind.DATA)

    def read_at(self, offset: int, length: int) -> Buffer:
        return read_filled(self._disks[1], offset, length).data

    def close(self) -> None:
        """The disks are their owners'."""

    def _ranges(self, disk: Disk, start: int, end: int) -> Iterator[ByteRange]:
        return find_granules(disk.extents(start, end), self._unit, end) if start < end else iter(())


def _unite(first: Iterator[ByteRange], second: Iterator[ByteRange]) -> Iterator[ByteRange]:
    """What is in either of two ascending streams of ranges: ascending, apart."""
    held: ByteRange | None = None
    for low, high in merge(first, second):
        if held is not None and low <= held[1]:
            held = held[0], max(held[1], high)
            continue
        if held is not None:
            yield held
        held = low, high
    if held is not None:
        yield held
