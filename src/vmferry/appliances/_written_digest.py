"""The digest of a file that is being written, taken from its bytes as they pass."""

from __future__ import annotations

import hashlib
import threading

from vmferry.blob import Buffer
from vmferry.units import MIB

WINDOW = 32 * MIB
"""Bytes written ahead of the digest that are kept for it: a few pieces of each thread."""
PATIENCE = 5.0
"""Seconds that a full window waits for bytes that nobody seems to bring."""
_ZEROS = bytes(MIB)


class WrittenDigest:
    """Takes the digest of bytes that come nearly in order, from any number of threads, each byte once.

    A digest is a chain, so bytes count in order, from the *frontier* on. What comes ahead of it waits, up to ``window``
    bytes; when the window is full, whoever comes ahead waits too. The digest is *lost* when bytes come behind the
    frontier, as those of a header that is written last, or when those at the frontier do not come at all.

    Thread-safe. No lock is held while a digest is updated; one thread digests, the others go on.
    """

    def __init__(self, algorithm: str, window: int = WINDOW, patience: float = PATIENCE) -> None:
        self._state = hashlib.new(algorithm, usedforsecurity=False)
        self._window = window
        self._patience = patience
        self._changed = threading.Condition()
        self._frontier = 0
        self._digesting = False
        self._waiting: dict[int, bytes] = {}
        self._held = 0
        self._storing = 0
        self._lost = False

    def add(self, offset: int, data: Buffer) -> None:
        """Count in ``data``, which is written at ``offset``. It may be changed when this has returned."""
        if len(data) and self._has_turn(offset, data):
            self._digest(data)

    def store_begins(self) -> None:
        """Somebody stores bytes that were counted in, and may bring those at the frontier after that."""
        with self._changed:
            self._storing += 1

    def store_ends(self) -> None:
        """That is done, or failed."""
        with self._changed:
            self._storing -= 1
            self._changed.notify_all()

    def finish(self, size: int) -> bytes | None:
        """The digest of the file of ``size`` bytes, what was never written being zeros; ``None`` when it is lost.

        Called once, when every ``add`` has returned.
        """
        if self._lost:
            return None
        for offset in sorted(self._waiting):
            self._digest_zeros(offset)
            if offset != self._frontier:
                return None
            self._digesting = True
            self._digest(self._waiting.pop(offset))
        self._digest_zeros(size)
        return self._state.digest() if self._frontier == size else None

    def _has_turn(self, offset: int, data: Buffer) -> bool:
        """Whether this thread digests now. Else ``data`` waits for the one that does, or the digest is lost."""
        with self._changed:
            while not self._lost:
                if offset < self._frontier or offset in self._waiting:
                    self._lose()
                elif offset == self._frontier and not self._digesting:
                    self._digesting = True
                    return True
                elif self._held + len(data) <= self._window:
                    self._waiting[offset] = bytes(data)
                    self._held += len(data)
                    return False
                elif not self._changed.wait(self._patience) and not self._digesting and not self._storing:
                    self._lose()
        return False

    def _digest(self, data: Buffer) -> None:
        """Digest ``data``, and what waits behind it in one piece; all others see that this thread is at it."""
        piece: Buffer | None = data
        while piece is not None:
            self._state.update(piece)
            with self._changed:
                self._frontier += len(piece)
                piece = self._waiting.pop(self._frontier, None)
                self._held -= len(piece or b"")
                self._digesting = piece is not None
                self._changed.notify_all()

    def _digest_zeros(self, end: int) -> None:
        while self._frontier < end:
            piece = memoryview(_ZEROS)[: end - self._frontier]
            self._state.update(piece)
            self._frontier += len(piece)

    def _lose(self) -> None:
        self._lost = True
        self._waiting.clear()
        self._held = 0
        self._changed.notify_all()
