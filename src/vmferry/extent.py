"""NOUN Extent: a run of the virtual disk with one status."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum


class ExtentKind(Enum):
    """What a run of guest bytes is."""

    DATA = "data"
    """Stored; may hold anything, zeros too."""
    ZERO = "zero"
    """Reads as zeros and hides the parent."""
    HOLE = "hole"
    """Not allocated: shows the parent, or zeros where there is none."""


@dataclass(frozen=True, slots=True)
class Extent:
    """``length`` guest bytes from guest offset ``start``, all of one ``kind``. ``length`` is positive."""

    start: int
    length: int
    kind: ExtentKind

    @property
    def end(self) -> int:
        """The guest offset behind the last byte."""
        return self.start + self.length


def clip(extents: Iterable[Extent], start: int, end: int) -> Iterator[Extent]:
    """The parts of ascending ``extents`` that lie inside ``[start, end)``."""
    for extent in extents:
        if extent.end <= start:
            continue
        if extent.start >= end:
            return
        low, high = max(extent.start, start), min(extent.end, end)
        yield extent if (low, high) == (extent.start, extent.end) else Extent(low, high - low, extent.kind)


def merge(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Ascending ``extents`` with neighbours of one kind joined."""
    held: Extent | None = None
    for extent in extents:
        if held is not None and held.kind is extent.kind and held.end == extent.start:
            held = Extent(held.start, held.length + extent.length, held.kind)
            continue
        if held is not None:
            yield held
        held = extent
    if held is not None:
        yield held
