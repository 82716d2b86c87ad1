"""The one big move: a Disk's data into a DiskWriter. The only file that knows threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

from vmferry.blob import Buffer
from vmferry.convert.plan import cut, find_granules
from vmferry.disk import Disk, DiskWriter, OrderedDiskWriter, Placed
from vmferry.errors import TaskCancelledError
from vmferry.units import MIB

PIECE = 4 * MIB
"""Guest bytes that a thread reads and writes at once: large enough that a range request pays, small enough that all
threads' pieces together stay far below the memory that a conversion may take."""

MAX_THREADS = 8

_AHEAD = 2
"""Pieces for each thread that may be encoded and wait for their turn."""


class Cancelled(Protocol):
    """Somebody's word to stop: a ``threading.Event``."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a copy did. ``data`` counts guest bytes that were read and handed to the writer."""

    data: int
    seconds: float


def copy(
    disk: Disk,
    writer: DiskWriter | OrderedDiskWriter,
    start: int = 0,
    end: int | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    cancelled: Cancelled | None = None,
) -> CopyResult:
    """Copy the data of guest bytes ``[start, end)``, which are whole granules of ``writer``, the disk's end excepted.

    ``workers`` threads (as many as there are cores when ``None``) take pieces in ascending order; an
    ``OrderedDiskWriter`` gets them placed in that order, too, and copies the whole disk. ``progress`` is told
    of guest bytes copied, by one thread at a time. The first error of any thread stops all and is raised, as is what
    ``progress`` raises; ``cancelled`` set stops with ``TaskCancelledError``. Neither finishes nor aborts the writer.
    """
    begun = time.monotonic()
    limit = disk.size if end is None else end
    count = min(workers or os.cpu_count() or 1, MAX_THREADS)
    line = _Line(writer, count * _AHEAD) if isinstance(writer, OrderedDiskWriter) else _AnyOrder(writer)
    run = _Run(disk, line, _pieces(disk, writer.granularity, start, limit), progress, cancelled)
    # Leaving the block waits for the threads. Thread.join alone would not do: one that Ctrl-C interrupts takes the
    # thread for ended (CPython 3.11), and the writer would be aborted below its hands.
    with ThreadPoolExecutor(count, "copy") as pool:
        try:
            wait([pool.submit(run.work) for _ in range(count)])
        except BaseException as error:  # Ctrl-C reaches the thread that waits
            run.fail(error)
            raise
    if run.error is not None:
        raise run.error
    return CopyResult(run.data, time.monotonic() - begun)


def _pieces(disk: Disk, granularity: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    length = max(PIECE // granularity * granularity, granularity)
    return cut(find_granules(disk.extents(start, end), granularity, end), length)


class _Way(Protocol):
    """How pieces reach a writer."""

    def put(self, number: int, offset: int, data: Buffer) -> None:
        """Write piece ``number``, which holds ``data`` from guest ``offset``; called by any thread."""

    def stop(self) -> None:
        """A piece will never come: nobody waits for it any more."""


class _AnyOrder:
    """To a writer that has a place for everything."""

    def __init__(self, writer: DiskWriter) -> None:
        self._writer = writer

    def put(self, number: int, offset: int, data: Buffer) -> None:
        self._writer.write_at(offset, data)

    def stop(self) -> None:
        pass


class _Line:
    """To a writer that packs: pieces are encoded as they come, placed in their order, written by who placed them."""

    def __init__(self, writer: OrderedDiskWriter, ahead: int) -> None:
        self._writer = writer
        self._ahead = ahead
        self._waiting: dict[int, Any] = {}
        self._next = 0
        self._stopped = False
        self._moved = threading.Condition()

    def put(self, number: int, offset: int, data: Buffer) -> None:
        encoded = self._writer.encode(offset, data)
        for placed in self._place(number, encoded):
            self._writer.write(placed)

    def stop(self) -> None:
        with self._moved:
            self._stopped = True
            self._moved.notify_all()

    def _place(self, number: int, encoded: Any) -> list[Sequence[Placed]]:
        """Place what has its turn now: nothing, this piece, or this one and those that waited for it."""
        placed = []
        with self._moved:
            self._moved.wait_for(lambda: self._stopped or number < self._next + self._ahead)
            if self._stopped:
                return []
            self._waiting[number] = encoded
            while self._next in self._waiting:
                placed.append(self._writer.place(self._waiting.pop(self._next)))
                self._next += 1
            self._moved.notify_all()
        return placed


class _Run:
    """One copy as its threads share it."""

    def __init__(
        self,
        disk: Disk,
        way: _Way,
        pieces: Iterator[tuple[int, int]],
        progress: Callable[[int], None] | None,
        cancelled: Cancelled | None,
    ) -> None:
        self._disk = disk
        self._way = way
        self._pieces = enumerate(pieces)
        self._progress = progress
        self._cancelled = cancelled
        self._taking = threading.Lock()
        self._telling = threading.Lock()
        self.error: BaseException | None = None
        self.data = 0

    def work(self) -> None:
        """Take pieces until there are none, or until something failed anywhere."""
        try:
            while (piece := self._take()) is not None:
                number, (start, end) = piece
                self._way.put(number, start, self._disk.read_at(start, end - start))
                self._tell(end - start)
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that called copy
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Stop every thread after the piece it has in hand. The first error counts."""
        if self.error is None:
            self.error = error
        self._way.stop()

    def _take(self) -> tuple[int, tuple[int, int]] | None:
        with self._taking:
            if self.error is not None:
                return None
            if self._cancelled is not None and self._cancelled.is_set():
                raise TaskCancelledError("The copy was cancelled.")
            return next(self._pieces, None)

    def _tell(self, copied: int) -> None:
        with self._telling:
            self.data += copied
            if self._progress is not None:
                self._progress(copied)
