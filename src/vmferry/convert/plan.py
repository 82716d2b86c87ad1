"""What a copy has to do: the granules that hold data, cut into pieces for threads and into slices for workers.

Everything here streams over the disk's map: memory does not grow with the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vmferry.disk import Disk
from vmferry.extent import Extent, ExtentKind
from vmferry.units import MIB, round_up

SLICE_DATA = 256 * MIB
"""Data of one slice: over a second of work, so that the order of a step (about 0.1 s) is small beside it, and little
enough to be done again when a worker dies."""

SLICE_STEP = 4 * MIB
"""Slices begin and end at multiples of it, where there is data on both sides. The length of a copy's pieces divides it,
so that each lies in one slice: what is kept of a slice, its digest above all, is of whole pieces."""

MAX_SLICES = 2000
"""Slices of one disk: the workflow's history holds three events for each."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Guest bytes ``[start, end)``, of which ``data`` are to be copied. Whole granules, the disk's end excepted."""

    start: int
    end: int
    data: int


def find_granules(extents: Iterable[Extent], granularity: int, size: int) -> Iterator[tuple[int, int]]:
    """Ascending ranges ``[start, end)`` of whole granules that touch DATA, neighbours joined; none passes ``size``.

    A writer takes whole granules only, while a map may be finer: what lies around the data reads as zeros.
    """
    held: tuple[int, int] | None = None
    for extent in extents:
        if extent.kind is not ExtentKind.DATA:
            continue
        start = extent.start // granularity * granularity
        end = min(round_up(extent.end, granularity), size)
        if held is not None and start <= held[1]:
            held = (held[0], end)
            continue
        if held is not None:
            yield held
        held = (start, end)
    if held is not None:
        yield held


def count_granules(disk: Disk, granularity: int, end: int | None = None, start: int = 0) -> int:
    """Bytes of the ``find_granules`` of ``disk``, or of what lies between guest offsets ``start`` and ``end``."""
    limit = disk.size if end is None else end
    if start >= limit:
        return 0
    return sum(high - low for low, high in find_granules(disk.extents(start, limit), granularity, limit))


def cut(ranges: Iterable[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """``ranges`` in pieces of at most ``length`` bytes, which lie at multiples of ``length`` as far as they can."""
    for start, end in ranges:
        position = start
        while position < end:
            stop = min(end, (position // length + 1) * length)
            yield position, stop
            position = stop


def plan_slices(
    extents: Iterable[Extent],
    size: int,
    granularity: int,
    *,
    target: int = SLICE_DATA,
    most: int = MAX_SLICES,
    unit: int = 1,
) -> list[Slice]:
    """Slices of about ``target`` bytes of data, at most ``most``; empty space belongs to none and costs nothing.

    Every granule with data lies in exactly one slice, and every slice but the last holds at least ``target``; what lies
    between two multiples of ``unit`` is all of one slice. When there are too many, neighbours are joined and the target
    doubles, so the map is gone through once.
    """
    slices: list[Slice] = []
    step = min(target, SLICE_STEP) // granularity * granularity or granularity
    for start, end in cut(find_granules(extents, granularity, size), step):
        last = slices[-1] if slices else None
        if last is not None and (last.data < target or start // unit == (last.end - 1) // unit):
            slices[-1] = Slice(last.start, end, last.data + end - start)
            continue
        slices.append(Slice(start, end, end - start))
        if len(slices) > most:
            slices, target = _join_pairs(slices), target * 2
    return slices


def _join_pairs(slices: list[Slice]) -> list[Slice]:
    joined = []
    for index in range(0, len(slices), 2):
        pair = slices[index : index + 2]
        joined.append(Slice(pair[0].start, pair[-1].end, sum(piece.data for piece in pair)))
    return joined
