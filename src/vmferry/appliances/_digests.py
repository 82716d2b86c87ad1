"""Digests of an appliance's files: in a pass of their own, or in the same pass as the copy."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from struct import Struct

from vmferry.appliances._running_digest import RunningDigest
from vmferry.blob import Blob, Buffer, ByteRange, SupportsDataRanges, WrappedBlob, read_view
from vmferry.errors import CorruptDiskError, quote
from vmferry.machine import Digest
from vmferry.units import MIB

_STEP = 8 * MIB
WINDOW = 32 * MIB
"""Bytes read ahead of the digest that are kept for it: a few pieces of each thread."""
_MAX_GAP = 64 * MIB
"""What nobody has read is read for the digest at once when it is no longer than this: markers, tables, unused space."""

_SAVED = Struct("<Q")
"""In front of a digest's state: how many bytes it is of."""


class UnpackedFile(WrappedBlob):
    """A file that lies packed in a package: reads what is in it, while its digest is that of the packed bytes.

    Owns both blobs; ``unpacked`` closes ``packed`` or leaves it to this one.
    """

    def __init__(self, packed: Blob, unpacked: Blob) -> None:
        self.packed = packed
        """The bytes as they are stored, open as long as this blob is."""
        super().__init__(unpacked)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._blob.read_at(offset, length)

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        if not isinstance(self._blob, SupportsDataRanges):
            yield start, end
            return
        yield from self._blob.data_ranges(start, end)

    def close(self) -> None:
        super().close()
        self.packed.close()


def verify(name: str, blob: Blob, digest: Digest, on_progress: Callable[[int], None] | None = None) -> None:
    """Read ``blob`` (its packed bytes, if they are packed) from front to back and compare with ``digest``.

    ``on_progress`` is told of bytes read.

    Raises ``CorruptDiskError`` when it differs, ``StoreError``, and what ``on_progress`` raises.
    """
    if isinstance(blob, UnpackedFile):
        blob = blob.packed
    state = hashlib.new(digest.algorithm, usedforsecurity=False)
    for start in range(0, blob.size, _STEP):
        piece = blob.read_at(start, min(_STEP, blob.size - start))
        state.update(piece)
        if on_progress is not None:
            on_progress(len(piece))
    compare_digest(name, digest, state.digest())


def compare_digest(name: str, digest: Digest, found: bytes) -> None:
    """Raise ``CorruptDiskError`` unless the file ``name`` has the digest that the manifest says."""
    if found != digest.value:
        raise CorruptDiskError(
            f"{quote(name)}: its {digest.algorithm.upper()} digest is {found.hex()}, but the manifest says "
            f"{digest.value.hex()}. The file was damaged or changed after the export: export or upload it again."
        )


def _resume(algorithm: str, saved: bytes | None) -> tuple[int, RunningDigest]:
    """The frontier and the digest of what lies before it."""
    if saved is None or not RunningDigest.can_resume(algorithm, saved[_SAVED.size :]):
        return 0, RunningDigest(algorithm)
    return _SAVED.unpack_from(saved)[0], RunningDigest(algorithm, saved[_SAVED.size :])


def furthest(*states: bytes | None) -> bytes | None:
    """Of what ``HashedBlob.save`` answered at several times, for one file: what is of the most bytes."""
    return max((state for state in states if state is not None), key=_SAVED.unpack_from, default=None)


class HashedBlob(WrappedBlob):
    """A blob that takes its own digest while others read it, in any order and from any number of threads.

    A digest is a chain, so bytes count in order, from the *frontier* on. What is read ahead of it waits, up to
    ``window`` bytes. When the window is full, a reader waits for those who read or digest at the frontier; where nobody
    does, it reads the gap itself. Ahead of a gap over 64 MiB nothing more is kept: ``finish`` reads that again.

    The digest of a file that lies packed is of its packed bytes: those are read by ``finish``, front to back.

    Thread-safe. No lock is held while the blob is read or a digest updated; one thread digests, the others go on.
    """

    def __init__(self, blob: Blob, digest: Digest, window: int = WINDOW, saved: bytes | None = None) -> None:
        """``saved``: what ``save`` answered, for the same file, in this process or another. What cannot be gone on with
        counts as nothing: the file is then read again from its start."""
        super().__init__(blob)
        self._digest = digest
        self._window = window
        self._frontier, self._state = _resume(digest.algorithm, saved)
        self._changed = threading.Condition()
        self._digesting = False
        self._waiting: list[tuple[int, int, Buffer]] = []  # a heap: offset, number, bytes
        self._longest: dict[int, int] = {}  # of those that wait: offset → length
        self._held = 0
        self._reading: dict[int, tuple[int, int]] = {}  # number of a read under way → its range
        self._numbers = count()

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self.view_at(offset, length))

    def view_at(self, offset: int, length: int) -> memoryview:
        """As ``read_view``."""
        if isinstance(self._blob, UnpackedFile):
            return read_view(self._blob, offset, length)
        data, kept = self._read(offset, length)
        while not kept and self._must_fill_gap(offset, data):
            self._fill_gap(offset)
        self._digest_in_order()
        return data

    def finish(self, on_progress: Callable[[int], None] | None = None) -> None:
        """Read what nobody has read yet and compare: called once, when all readers are done.

        ``on_progress`` is told of bytes read. Raises ``CorruptDiskError`` when the digest differs, ``StoreError``, and
        what ``on_progress`` raises.
        """
        if isinstance(self._blob, UnpackedFile):
            verify(self.name, self._blob, self._digest, on_progress)
            return
        while (begun := self._frontier) < self.size:
            self._fill_gap(self.size)
            if on_progress is not None:
                on_progress(self._frontier - begun)
        compare_digest(self.name, self._digest, self._state.digest())

    def save(self) -> bytes | None:
        """How far the digest is, for another to go on; ``None`` where it cannot be told."""
        self._digest_in_order()
        with self._changed:
            self._changed.wait_for(lambda: not self._digesting)
            self._digesting = True
        try:
            frontier, state = self._frontier, self._state.save()
        finally:
            with self._changed:
                self._digesting = False
                self._changed.notify_all()
        self._digest_in_order()  # what came meanwhile, and found somebody at it
        return None if state is None else _SAVED.pack(frontier) + state

    def _read(self, offset: int, length: int) -> tuple[memoryview, bool]:
        """Read while others can see what is being read; and whether the bytes wait for the digest now, if they must."""
        number = next(self._numbers)
        with self._changed:
            self._reading[number] = (offset, offset + length)
        data, kept = memoryview(b""), True
        try:
            data = read_view(self._blob, offset, length)
        finally:
            with self._changed:
                del self._reading[number]
                kept = self._fits(offset, data)
                if kept:
                    self._keep(offset, data)
                self._changed.notify_all()
        return data, kept

    def _must_fill_gap(self, offset: int, data: Buffer) -> bool:
        """Let ``data`` wait for its turn, or drop it. True when something is to be read or digested before either."""
        with self._changed:
            while not self._fits(offset, data):
                if self._digesting or self._is_being_read(self._frontier):
                    self._changed.wait()
                else:
                    return self._gap_end(offset) - self._frontier <= _MAX_GAP
            self._keep(offset, data)
        return False

    def _fits(self, offset: int, data: Buffer) -> bool:
        return offset <= self._frontier or self._held + len(data) <= self._window

    def _keep(self, offset: int, data: Buffer) -> None:
        if offset + len(data) <= self._frontier or len(data) <= self._longest.get(offset, 0):
            return
        self._longest[offset] = len(data)
        self._held += len(data)
        heappush(self._waiting, (offset, next(self._numbers), data))

    def _is_being_read(self, offset: int) -> bool:
        return any(start <= offset < end for start, end in self._reading.values())

    def _gap_end(self, limit: int) -> int:
        return min(self._waiting[0][0], limit) if self._waiting else limit

    def _fill_gap(self, limit: int) -> None:
        """Read a step of what is missing from the frontier on, up to ``limit`` at the most; digest what is in order."""
        with self._changed:
            start = self._frontier
            length = min(self._gap_end(limit) - start, _STEP)
            missing = length > 0 and not self._digesting and not self._is_being_read(start)
        if missing:
            self._read(start, length)
        self._digest_in_order()

    def _digest_in_order(self) -> None:
        """Digest all that is in order, unless somebody is at it."""
        with self._changed:
            if self._digesting:
                return
            self._digesting = True
        while (piece := self._next_in_order()) is not None:
            self._state.update(piece)
            with self._changed:
                self._frontier += len(piece)
                self._changed.notify_all()

    def _next_in_order(self) -> memoryview | None:
        """The bytes from the frontier on, as far as they wait in one piece; ``None`` ends digesting."""
        with self._changed:
            while self._waiting and self._waiting[0][0] <= self._frontier:
                offset, _, data = heappop(self._waiting)
                self._held -= len(data)
                if self._longest.get(offset) == len(data):
                    del self._longest[offset]
                if offset + len(data) > self._frontier:
                    return memoryview(data)[self._frontier - offset :]
            self._digesting = False
            self._changed.notify_all()
        return None
