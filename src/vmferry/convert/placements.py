"""Notes of what a writer that packs has placed: by them a ``Journal`` brings a new writer to where it was."""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from vmferry.directory import sync_directory

_RECORD = struct.Struct("<QI")
"""The guest offset where a piece ends, and the bytes of its note, which follow."""


class Placements:
    """A file of notes, in the order of placing. ``add`` and ``save`` are each called by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Opened when something is kept or asked for; ``path`` is removed at ``remove`` only."""
        self._path = path
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._fd = -1
        self._end = 0
        self._has_durable_name = False

    def load(self, end: int) -> Iterator[bytes]:
        """The notes in the first ``end`` bytes; what is behind them is overwritten from now on.

        ``ValueError`` when the file does not hold so many, whole.
        """
        if not end:
            return
        self._open()
        if os.fstat(self._fd).st_size < end:
            raise ValueError(f"{self._path} is shorter than {end} bytes")
        self._end = 0
        while self._end < end:
            head = os.pread(self._fd, _RECORD.size, self._end)
            if len(head) < _RECORD.size:
                raise ValueError(f"{self._path} ends inside a note")
            _, length = _RECORD.unpack(head)
            note = os.pread(self._fd, length, self._end + _RECORD.size)
            if len(note) < length or self._end + _RECORD.size + length > end:
                raise ValueError(f"{self._path} ends inside a note")
            self._end += _RECORD.size + length
            yield note

    def add(self, end: int, note: bytes) -> None:
        """A piece that ends at guest offset ``end`` was placed."""
        self._waiting.append((end, note))

    def save(self, complete: int) -> int:
        """Keep the notes of what lies before guest offset ``complete``. How many bytes the file has of them; it is made
        with the first. Raises ``OSError``."""
        kept: list[bytes] = []
        while self._waiting and self._waiting[0][0] <= complete:
            end, note = self._waiting.popleft()
            kept += (_RECORD.pack(end, len(note)), note)
        data = memoryview(b"".join(kept))
        while data:
            self._open()
            written = os.pwrite(self._fd, data, self._end)
            data, self._end = data[written:], self._end + written
        return self._end

    def flush(self) -> None:
        """Make what was kept durable, and that it is there. Raises ``OSError``."""
        if self._fd < 0:
            return
        os.fdatasync(self._fd)
        if not self._has_durable_name:
            sync_directory(self._path.parent)
            self._has_durable_name = True

    def remove(self) -> None:
        """The conversion is at its end, or begins anew."""
        self.close()
        self._path.unlink(missing_ok=True)
        self._end = 0

    def close(self) -> None:
        """Let go of the file, which stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
