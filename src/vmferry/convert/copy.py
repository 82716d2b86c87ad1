"""The one big move: a Disk's data into a DiskWriter. The only file that knows threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from vmferry.convert.plan import cut, find_granules
from vmferry.disk import Disk, DiskWriter
from vmferry.errors import TaskCancelledError
from vmferry.units import MIB

PIECE = 4 * MIB
"""Guest bytes that a thread reads and writes at once: large enough that a range request pays, small enough that all
threads' pieces together stay far below the memory that a conversion may take."""

MAX_THREADS = 8


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
    writer: DiskWriter,
    start: int = 0,
    end: int | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    cancelled: Cancelled | None = None,
) -> CopyResult:
    """Copy the data of guest bytes ``[start, end)``, which are whole granules of ``writer``, the disk's end excepted.

    ``workers`` threads (as many as there are cores when ``None``) take pieces in ascending order. ``progress`` is told
    of guest bytes copied, by one thread at a time. The first error of any thread stops all and is raised, as is what
    ``progress`` raises; ``cancelled`` set stops with ``TaskCancelledError``. Neither finishes nor aborts the writer.
    """
    begun = time.monotonic()
    limit = disk.size if end is None else end
    run = _Run(disk, writer, _pieces(disk, writer.granularity, start, limit), progress, cancelled)
    count = min(workers or os.cpu_count() or 1, MAX_THREADS)
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


class _Run:
    """One copy as its threads share it."""

    def __init__(
        self,
        disk: Disk,
        writer: DiskWriter,
        pieces: Iterator[tuple[int, int]],
        progress: Callable[[int], None] | None,
        cancelled: Cancelled | None,
    ) -> None:
        self._disk = disk
        self._writer = writer
        self._pieces = pieces
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
                start, end = piece
                self._writer.write_at(start, self._disk.read_at(start, end - start))
                self._tell(end - start)
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that called copy
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Stop every thread after the piece it has in hand. The first error counts."""
        if self.error is None:
            self.error = error

    def _take(self) -> tuple[int, int] | None:
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
