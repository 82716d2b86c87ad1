"""The one big move: a Disk's data into a DiskWriter. The only file that knows threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

from vmferry.blob import Buffer, Part
from vmferry.convert.plan import cut, find_granules
from vmferry.digest import LEAF
from vmferry.disk import (
    Disk,
    DiskWriter,
    OrderedDiskWriter,
    Placed,
    SupportsPlacedSharing,
    SupportsRanges,
    SupportsReadParts,
    SupportsSharing,
    SupportsWriteParts,
)
from vmferry.errors import TaskCancelledError
from vmferry.ranges import StoredRanges
from vmferry.units import MIB

PIECE = 2 * MIB
"""Guest bytes that a thread reads and writes at once: large enough that a range request pays, small enough that all
threads' pieces together stay far below the memory that a conversion may take. As those below, it divides
``SLICE_STEP``."""

PARTS_PIECE = 4 * MIB
"""The same where a piece is decoded and written in parts: nothing waits for its turn, so there is room for more, and
what is done once for each piece, while every thread waits for the GIL, is done half as often."""

_FEW = 4
"""Threads that may have such pieces in hand: those of more take more memory than a conversion may."""

LOCAL_PIECE = MIB
"""The same where no request is to be paid: what was read is still in the processor's cache when it is written."""

MAX_THREADS = 8
"""Of one copy: more wait for each other."""

_COLLAPSE_AFTER = 256
"""Pieces, after which the digest lets go of what it need not know any more."""

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
    end: int
    """The guest offset up to which everything was copied."""


class SupportsDigest(Protocol):
    """What takes a digest from the bytes of a copy: ``DigestTree``, or several of them."""

    def add(self, offset: int, data: Buffer) -> None:
        """See ``DigestTree.add``."""

    def add_parts(self, offset: int, parts: Sequence[Part]) -> None:
        """See ``DigestTree.add_parts``."""

    def collapse(self, start: int, end: int) -> None:
        """See ``DigestTree.collapse``."""


def copy(
    disk: Disk,
    writer: DiskWriter | OrderedDiskWriter,
    start: int = 0,
    end: int | None = None,
    *,
    workers: int | None = None,
    digest: SupportsDigest | None = None,
    progress: Callable[[int], None] | None = None,
    checkpoint: Callable[[int], None] | None = None,
    cancelled: Cancelled | None = None,
    until: Callable[[int], bool] | None = None,
    placed: Callable[[int, Any], None] | None = None,
) -> CopyResult:
    """Copy the data of guest bytes ``[start, end)``: whole granules (``find_unit``), the disk's end excepted.

    ``workers`` threads (as many as there are cores when ``None``) take pieces in ascending order; an
    ``OrderedDiskWriter`` gets them placed in that order, too, up to the disk's end, and from its start on unless what
    comes before ``start`` was replayed. ``digest`` is given what is read. By one thread at a time, ``progress`` is told
    of guest bytes copied, ``checkpoint`` of a guest offset before which the writer has written everything, and
    ``placed`` of what an ``OrderedDiskWriter`` has placed, with the guest offset where it ends. The first error of any
    thread stops all and is raised, as is what those three raise; ``cancelled`` set stops with ``TaskCancelledError``.
    ``until`` is asked before each piece, by its guest offset, whether the copy is to end there, as if that were its
    end. Neither finishes nor aborts the writer.
    """
    begun = time.monotonic()
    limit = disk.size if end is None else end
    count = min(workers or default_workers(), MAX_THREADS)
    unit = find_unit(writer, digest)
    reader = _Reader(disk, unit, count, parts=isinstance(writer, SupportsWriteParts))
    pieces = cut(find_granules(disk.extents(start, limit), unit, limit), reader.piece)
    way: _Way = _Line(writer, count * _AHEAD, placed) if isinstance(writer, OrderedDiskWriter) else _AnyOrder(writer)
    run = _Run(reader, way, pieces, start, digest, progress, checkpoint, cancelled, until)
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
    limit = limit if run.stopped_at is None else run.stopped_at
    if digest is not None:
        digest.collapse(start, limit)
    return CopyResult(run.data, time.monotonic() - begun, limit)


def default_workers() -> int:
    """How many threads keep this machine busy."""
    return min(os.cpu_count() or 1, MAX_THREADS)


def find_unit(writer: DiskWriter | OrderedDiskWriter, digest: SupportsDigest | None = None) -> int:
    """The granules of a copy, in bytes: those of ``writer``, but whole leaves where a digest is taken."""
    return writer.granularity if digest is None else max(writer.granularity, LEAF)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Guest bytes in hand: ``parts``, or ``data``, which is a part of ``buffer`` where there is one."""

    number: int
    offset: int
    length: int
    data: Buffer
    buffer: memoryview | None = None
    stored: StoredRanges | None = None
    """Where else they lie, unencoded."""
    parts: Sequence[Part] | None = None
    """As ``SupportsReadParts`` gives them, for a ``SupportsWriteParts``."""

    def add_to(self, digest: SupportsDigest) -> None:
        """Count them in."""
        if self.parts is None:
            digest.add(self.offset, self.data)
        else:
            digest.add_parts(self.offset, self.parts)


class _Reader:
    """Reads pieces, where it can into memory that was used before: fresh pages cost as much as the copying.

    Safe from any thread.
    """

    def __init__(self, disk: Disk, granularity: int, threads: int, *, parts: bool) -> None:
        """Of pieces for so many ``threads``; ``parts``: they may come in such."""
        self._disk = disk
        self._stored = disk if isinstance(disk, SupportsRanges) else None
        self._parted = disk if parts and isinstance(disk, SupportsReadParts) and disk.read_parts(0, 0) == [] else None
        self._free: list[memoryview] = []
        found = None if self._stored is None else self._stored.ranges(0, 0)
        length = PIECE if self._parted is None or threads > _FEW else PARTS_PIECE
        if found is not None and found.in_place:
            length = LOCAL_PIECE
        self.piece = max(length // granularity * granularity, granularity)
        """Bytes of a piece: whole granules."""

    def read(self, number: int, start: int, end: int) -> _Piece:
        """Guest bytes ``[start, end)``, which are no more than a piece."""
        length = end - start
        found = None if self._stored is None else self._stored.ranges(start, length)
        if found is None and self._parted is not None:
            parts = self._parted.read_parts(start, length)
            if parts is not None:
                return _Piece(number, start, length, b"", parts=parts)
        if found is None or not found.in_place:
            return _Piece(number, start, length, self._disk.read_at(start, length), stored=found)
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = memoryview(bytearray(self.piece))
        found.read_into(buffer[:length])
        return _Piece(number, start, length, buffer[:length], buffer, found)

    def release(self, piece: _Piece) -> None:
        """Nobody looks at what ``piece`` holds any more."""
        if piece.buffer is not None:
            self._free.append(piece.buffer)


class _Frontier:
    """Up to which guest offset a copy is complete. Safe from any thread."""

    def __init__(self, start: int) -> None:
        self._taken_to = start
        self._in_hand: dict[int, int] = {}
        self._lock = threading.Lock()

    def take(self, number: int, start: int, end: int) -> None:
        """Somebody has piece ``number`` in hand, ``[start, end)``. Told in ascending order."""
        with self._lock:
            self._in_hand[number] = start
            self._taken_to = end

    def done(self, number: int) -> int:
        """Piece ``number`` is done; answers the offset before which every piece is."""
        with self._lock:
            del self._in_hand[number]
            return min(self._in_hand.values(), default=self._taken_to)


class _Way(Protocol):
    """How pieces reach a writer."""

    def put(self, piece: _Piece) -> Iterator[_Piece]:
        """Write ``piece``, now or with a later one; called by any thread. The pieces that were written: nobody looks at
        them any more."""

    def stop(self) -> None:
        """A piece will never come: nobody waits for it any more."""


class _AnyOrder:
    """To a writer that has a place for everything."""

    def __init__(self, writer: DiskWriter) -> None:
        self._writer = writer
        self._sharing = writer if isinstance(writer, SupportsSharing) else None
        self._gathering = writer if isinstance(writer, SupportsWriteParts) else None

    def put(self, piece: _Piece) -> Iterator[_Piece]:
        if piece.parts is not None and self._gathering is not None:
            self._gathering.write_parts(piece.offset, piece.parts)
        elif self._sharing is None:
            self._writer.write_at(piece.offset, piece.data)
        else:
            self._sharing.write_stored(piece.offset, piece.data, piece.stored)
        yield piece

    def stop(self) -> None:
        pass


class _Line:
    """To a writer that packs: pieces are encoded as they come, placed in their order, written by who placed them."""

    def __init__(self, writer: OrderedDiskWriter, ahead: int, listener: Callable[[int, Any], None] | None) -> None:
        self._writer = writer
        self._sharing = writer if isinstance(writer, SupportsPlacedSharing) else None
        self._ahead = ahead
        self._listener = listener
        self._waiting: dict[int, tuple[Any, _Piece]] = {}
        self._next = 0
        self._stopped = False
        self._moved = threading.Condition()

    def put(self, piece: _Piece) -> Iterator[_Piece]:
        encoded = self._writer.encode(piece.offset, piece.data)
        for placed, held in self._place(piece, encoded):
            if self._sharing is None:
                self._writer.write(placed)
            else:
                self._sharing.write_placed(placed, held.offset, held.stored)
            yield held

    def stop(self) -> None:
        with self._moved:
            self._stopped = True
            self._moved.notify_all()

    def _place(self, piece: _Piece, encoded: Any) -> list[tuple[Sequence[Placed], _Piece]]:
        """Place what has its turn now: nothing, this piece, or this one and those that waited for it.

        Each comes with the piece that it was encoded from, to which it may hold on.
        """
        placed = []
        with self._moved:
            self._moved.wait_for(lambda: self._stopped or piece.number < self._next + self._ahead)
            if self._stopped:
                return []
            self._waiting[piece.number] = encoded, piece
            while self._next in self._waiting:
                ready, held = self._waiting.pop(self._next)
                placed.append((self._writer.place(ready), held))
                if self._listener is not None:
                    self._listener(held.offset + held.length, ready)
                self._next += 1
            self._moved.notify_all()
        return placed


class _Run:
    """One copy as its threads share it."""

    def __init__(
        self,
        reader: _Reader,
        way: _Way,
        pieces: Iterator[tuple[int, int]],
        start: int,
        digest: SupportsDigest | None,
        progress: Callable[[int], None] | None,
        checkpoint: Callable[[int], None] | None,
        cancelled: Cancelled | None,
        until: Callable[[int], bool] | None,
    ) -> None:
        self._reader = reader
        self._way = way
        self._pieces = enumerate(pieces)
        self._start = start
        self._frontier = _Frontier(start)
        self._digest = digest
        self._progress = progress
        self._checkpoint = checkpoint
        self._cancelled = cancelled
        self._until = until
        self.stopped_at: int | None = None
        """Where ``until`` ended the copy."""
        self._taking = threading.Lock()
        self._telling = threading.Lock()
        self._complete = start
        """What was told last of how far the copy is complete."""
        self.error: BaseException | None = None
        self.data = 0

    def work(self) -> None:
        """Take pieces until there are none, or until something failed anywhere."""
        try:
            while (piece := self._take()) is not None:
                number, (start, end) = piece
                read = self._reader.read(number, start, end)
                if self._digest is not None:
                    read.add_to(self._digest)
                for written in self._way.put(read):
                    self._reader.release(written)
                    self._tell(written.number, written.length)
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that called copy
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Stop every thread after the piece it has in hand. The first error counts."""
        if self.error is None:
            self.error = error
        self._way.stop()

    def _take(self) -> tuple[int, tuple[int, int]] | None:
        with self._taking:
            if self.error is not None or self.stopped_at is not None:
                return None
            if self._cancelled is not None and self._cancelled.is_set():
                raise TaskCancelledError("The copy was cancelled.")
            taken = next(self._pieces, None)
            if taken is not None and self._until is not None and self._until(taken[1][0]):
                self.stopped_at = taken[1][0]
                return None
            if taken is not None:
                self._frontier.take(taken[0], *taken[1])
            return taken

    def _tell(self, number: int, copied: int) -> None:
        complete = self._frontier.done(number)
        with self._telling:
            self._complete = max(self._complete, complete)
            if self._digest is not None and number % _COLLAPSE_AFTER == 0:  # else its memory would grow with the disk
                # No farther than the next checkpoint tells: a node that reaches behind it could not be gone on with.
                self._digest.collapse(self._start, self._complete)
            self.data += copied
            if self._progress is not None:
                self._progress(copied)
            if self._checkpoint is not None:
                self._checkpoint(self._complete)
