"""Disk against disk, and the digest of a disk: the engine of a copy, with nothing written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from vmferry.blob import Buffer, ByteRange
from vmferry.convert.copy import copy
from vmferry.convert.plan import find_granules
from vmferry.digest import LEAF, DigestTree
from vmferry.disk import Disk
from vmferry.errors import TaskCancelledError
from vmferry.extent import Extent, ExtentKind

Progress = Callable[[int], None]


class NullWriter:
    """A ``DiskWriter`` that keeps nothing, for who only wants to read."""

    granularity = LEAF

    def write_at(self, offset: int, data: Buffer) -> None:
        pass

    def finish(self) -> None:
        pass

    def abort(self) -> None:
        pass


def digest_disk(disk: Disk, *, workers: int | None = None, progress: Progress | None = None) -> str:
    """The guest digest of ``disk``, in text. ``workers`` and ``progress`` as for ``copy``; raises as it does."""
    tree = DigestTree(disk.size)
    copy(disk, NullWriter(), workers=workers, digest=tree, progress=progress)
    return tree.finish()


def compare_disks(
    one: Disk, other: Disk, *, workers: int | None = None, progress: Progress | None = None
) -> int | None:
    """The first guest offset at which the disks differ; ``None`` where they do not.

    Where one is longer, it must hold zeros behind the other's end. What both maps call empty is not read.
    """
    first = _find_difference(one, other, one.size, workers, progress)
    limit = other.size if first is None else min(first, other.size)
    second = _find_difference(_Rest(other, one), one, limit, workers, progress)
    return first if second is None else second


def count_data(one: Disk, other: Disk | None = None) -> int:
    """Guest bytes that ``digest_disk``, or ``compare_disks``, has to look at when nothing differs."""
    disks = [one] if other is None else [one, _Rest(other, one)]
    return sum(high - low for disk in disks for low, high in find_granules(disk.extents(), LEAF, disk.size))


def read_filled(disk: Disk, offset: int, length: int) -> NDArray[np.uint8]:
    """``length`` guest bytes from ``offset``; behind the end of ``disk`` there are zeros."""
    there = max(0, min(length, disk.size - offset))
    data = np.zeros(length, np.uint8)
    if there:
        data[:there] = np.frombuffer(disk.read_at(offset, there), np.uint8)
    return data


def _find_difference(disk: Disk, other: Disk, end: int, workers: int | None, progress: Progress | None) -> int | None:
    """The first guest offset before ``end`` where ``disk`` has DATA that is not what ``other`` holds."""
    comparison = _Comparison(other)
    with suppress(TaskCancelledError):  # nobody but the comparison ends it early
        copy(disk, comparison, 0, end, workers=workers, progress=progress, cancelled=comparison)
    return comparison.difference


class _Comparison(NullWriter):
    """Compares what it is given with another disk; behind the other's end with zeros."""

    def __init__(self, other: Disk) -> None:
        self._other = other
        self._lock = threading.Lock()
        self.difference: int | None = None
        """The first guest offset that differs, of all that was given."""

    def write_at(self, offset: int, data: Buffer) -> None:
        mine, other = np.frombuffer(data, np.uint8), read_filled(self._other, offset, len(data))
        if not np.array_equal(mine, other):
            place = offset + int(np.argmax(mine != other))
            with self._lock:
                self.difference = place if self.difference is None else min(place, self.difference)

    def is_set(self) -> bool:
        """Whether enough is known: pieces are taken in ascending order, so later ones do not matter any more."""
        return self.difference is not None


class _Rest:
    """A disk whose map has DATA only where another disk's has none."""

    def __init__(self, disk: Disk, other: Disk) -> None:
        self._disk = disk
        self._other = other
        self.size = disk.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        limit = self.size if end is None else end
        own = find_granules(self._disk.extents(start, limit), LEAF, limit)
        shared = min(limit, self._other.size)
        others = find_granules(self._other.extents(start, shared), LEAF, shared) if start < shared else iter(())
        for low, high in _subtract(own, others):
            yield Extent(low, high - low, ExtentKind.DATA)

    def read_at(self, offset: int, length: int) -> Buffer:
        return self._disk.read_at(offset, length)

    def close(self) -> None:
        self._disk.close()


def _subtract(ranges: Iterator[ByteRange], others: Iterator[ByteRange]) -> Iterator[ByteRange]:
    """What of ascending ``ranges`` is in none of the ascending ``others``."""
    other = next(others, None)
    for low, high in ranges:
        position = low
        while other is not None and other[0] < high:
            if other[0] > position:
                yield position, other[0]
            position = max(position, other[1])
            if position >= high:
                break
            other = next(others, None)
        if position < high:
            yield position, high
