"""A disk of several pieces, one behind another: guest ranges, each in a file of its own kind."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np

from vmferry.blob import Buffer
from vmferry.extent import Extent, check_inside, cut_range, merge

_MAX_REMEMBERED = 4
"""Pieces that may keep tables in memory at once: each keeps as much as a disk that is one file."""


class Piece(Protocol):
    """A run of the disk in one file, by itself. Offsets begin at its own start. Any number of threads may read."""

    @property
    def size(self) -> int:
        """Guest bytes, a multiple of 512."""

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``; HOLE is what the parent shows."""

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``; holes read as zeros."""

    def stored_size(self) -> int:
        """As ``SupportsStoredSize``."""

    def forget(self) -> None:
        """Let go of tables that can be read again. Others may be reading meanwhile."""


class Composite:
    """Pieces one behind another, itself a ``Piece``. Any number of threads may read at once.

    Only the four pieces that were used last keep their tables, so memory does not grow with the number of files.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = tuple(pieces)
        self._starts = [0, *accumulate(piece.size for piece in pieces)]
        self._recent: dict[int, None] = {}
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return self._starts[-1]

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``."""
        start, end = cut_range(self.size, start, end)
        return merge(self._runs(start, end)) if start < end else iter(())

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``."""
        check_inside(self.size, offset, length)
        spans = list(self._spans(offset, offset + length))
        if len(spans) == 1:
            index, low, high = spans[0]
            return self._piece(index).read_at(low, high - low)
        out = np.empty(length, np.uint8).data
        position = 0
        for index, low, high in spans:
            out[position : position + high - low] = self._piece(index).read_at(low, high - low)
            position += high - low
        return out

    def stored_size(self) -> int:
        """As ``SupportsStoredSize``, of all pieces together."""
        return sum(piece.stored_size() for piece in self._pieces)

    def forget(self) -> None:
        """As ``Piece.forget``, for all pieces."""
        for piece in self._pieces:
            piece.forget()

    def _runs(self, start: int, end: int) -> Iterator[Extent]:
        for index, low, high in self._spans(start, end):
            base = self._starts[index]
            for extent in self._piece(index).extents(low, high):
                yield Extent(base + extent.start, extent.length, extent.kind)

    def _spans(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """``(piece, from, to)`` of ``[start, end)``, in offsets of the piece."""
        index = bisect_right(self._starts, start) - 1
        while start < end:
            base, high = self._starts[index], min(end, self._starts[index + 1])
            yield index, start - base, high - base
            start, index = high, index + 1

    def _piece(self, index: int) -> Piece:
        """The piece ``index``, which is among those used last from now on."""
        with self._lock:
            self._recent.pop(index, None)
            self._recent[index] = None
            if len(self._recent) > _MAX_REMEMBERED:
                oldest = next(iter(self._recent))
                del self._recent[oldest]
                self._pieces[oldest].forget()
        return self._pieces[index]
