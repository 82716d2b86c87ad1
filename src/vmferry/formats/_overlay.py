"""A layer over its parent: what a snapshot's disk image holds itself, and the disk that shows through its holes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from vmferry.blob import Buffer
from vmferry.disk import Disk
from vmferry.extent import Extent, ExtentKind, check_inside, merge
from vmferry.ranges import StoredRange, read_ranges


class Layer(Protocol):
    """One disk image of a chain, by itself. Any number of threads may read at once."""

    @property
    def size(self) -> int:
        """As ``Disk.size``."""

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``; HOLE is what the parent shows."""

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``; in holes it may give anything."""


class Overlay:
    """``layer`` with ``parent`` showing through its holes; zeros where the parent, which may be shorter, has ended.

    Owns neither. Any number of threads may read at once.
    """

    def __init__(self, layer: Layer, parent: Disk) -> None:
        self._layer = layer
        self._parent = parent

    @property
    def size(self) -> int:
        return self._layer.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``: DATA and ZERO of the layer or else of the parent, HOLE where neither has any."""
        return merge(self._runs(start, end))

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``."""
        check_inside(self.size, offset, length)
        own: list[StoredRange] = []
        shown: list[StoredRange] = []
        for extent in self._layer.extents(offset, offset + length):
            low, high = extent.start, extent.end
            if extent.kind is ExtentKind.DATA:
                own.append(StoredRange(low - offset, low, high - low))
            elif extent.kind is ExtentKind.HOLE and low < self._parent.size:
                shown.append(StoredRange(low - offset, low, min(high, self._parent.size) - low))
        for ranges, source in ((own, self._layer), (shown, self._parent)):
            if ranges and ranges[0].length == length:
                return source.read_at(offset, length)
        out = np.zeros(length, np.uint8).data
        read_ranges(self._layer.read_at, own, out)
        read_ranges(self._parent.read_at, shown, out)
        return out

    def _runs(self, start: int, end: int | None) -> Iterator[Extent]:
        """The layer's map, its holes cut along the parent's, which is gone through once beside it."""
        limit = min(self.size if end is None else end, self._parent.size)
        below = self._parent.extents(start, limit) if start < limit else iter(())
        seen = next(below, None)
        for extent in self._layer.extents(start, end):
            if extent.kind is not ExtentKind.HOLE:
                yield extent
                continue
            position = extent.start
            while seen is not None and position < extent.end:
                if seen.end > position:
                    high = min(seen.end, extent.end)
                    yield Extent(position, high - position, seen.kind)
                    position = high
                if seen.end <= position:
                    seen = next(below, None)
            if position < extent.end:
                yield Extent(position, extent.end - position, ExtentKind.HOLE)
