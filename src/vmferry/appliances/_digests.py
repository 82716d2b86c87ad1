"""Digests of an appliance's files: in a pass of their own, or in the same pass as the copy."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, quote
from vmferry.machine import Digest
from vmferry.units import MIB

_STEP = 8 * MIB
WINDOW = 32 * MIB
"""Bytes read ahead of the digest that are kept for it: a few pieces of each thread."""


def verify(name: str, blob: Blob, digest: Digest, on_progress: Callable[[int], None] | None = None) -> None:
    """Read ``blob`` from front to back and compare with ``digest``; ``on_progress`` is told of bytes read.

    Raises ``CorruptDiskError`` when it differs, and what ``on_progress`` raises.
    """
    state = hashlib.new(digest.algorithm, usedforsecurity=False)
    for start in range(0, blob.size, _STEP):
        piece = blob.read_at(start, min(_STEP, blob.size - start))
        state.update(piece)
        if on_progress is not None:
            on_progress(len(piece))
    _compare(name, digest, state.digest())


class HashedBlob:
    """A blob that takes its own digest while others read it, in any order and from any number of threads.

    A digest is a chain, so bytes count in order: what is read ahead waits, up to ``window`` bytes, and what does not
    fit is read again at the end. Thread-safe; no lock is held while the blob is read or a digest updated.
    """

    def __init__(self, blob: Blob, digest: Digest, window: int = WINDOW) -> None:
        self._blob = blob
        self._digest = digest
        self._window = window
        self._state = hashlib.new(digest.algorithm, usedforsecurity=False)
        self._frontier = 0
        self._waiting: dict[int, bytes] = {}
        self._held = 0
        self._hashing = False
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return self._blob.size

    @property
    def name(self) -> str:
        return self._blob.name

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._blob.read_at(offset, length)
        self._offer(offset, data)
        return data

    def finish(self) -> None:
        """Read what nobody has read yet and compare. Raises ``CorruptDiskError``. Call it when all readers are done."""
        while self._frontier < self.size:
            start = self._frontier
            ahead = min((offset for offset in self._waiting if offset > start), default=self.size)
            self._offer(start, self._blob.read_at(start, min(_STEP, max(ahead - start, 1))))
        _compare(self.name, self._digest, self._state.digest())

    def close(self) -> None:
        self._blob.close()

    def _offer(self, offset: int, data: bytes) -> None:
        """Keep ``data`` for the digest if it may still count, and digest what is in order, one thread at a time."""
        with self._lock:
            if offset + len(data) <= self._frontier:
                return
            needed_now = offset <= self._frontier
            known = self._waiting.get(offset, b"")
            if len(data) <= len(known) or (not needed_now and self._held + len(data) > self._window):
                return
            self._waiting[offset] = data
            self._held += len(data) - len(known)
            if self._hashing:
                return
            self._hashing = True
        self._digest_in_order()

    def _digest_in_order(self) -> None:
        while True:
            with self._lock:
                piece = self._take_next()
                if piece is None:
                    self._hashing = False
                    return
            self._state.update(piece)
            with self._lock:
                self._frontier += len(piece)

    def _take_next(self) -> memoryview | None:
        """The waiting bytes that begin at the frontier or before it, from the frontier on."""
        for offset in sorted(self._waiting):
            if offset > self._frontier:
                return None
            data = self._waiting.pop(offset)
            self._held -= len(data)
            if offset + len(data) > self._frontier:
                return memoryview(data)[self._frontier - offset :]
        return None


def _compare(name: str, digest: Digest, found: bytes) -> None:
    if found != digest.value:
        raise CorruptDiskError(
            f"{quote(name)}: its {digest.algorithm.upper()} digest is {found.hex()}, but the manifest says "
            f"{digest.value.hex()}. The file was damaged or changed after the export: export or upload it again."
        )
