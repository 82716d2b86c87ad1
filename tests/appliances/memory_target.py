"""Blobs being made in memory, for tests of writers: one that can be read back, and one that cannot."""

from __future__ import annotations

from threading import Lock

from vmferry.blob import Buffer


class MemoryTarget:
    """A ``BlobWriter`` whose bytes are there to look at. ``state`` says whether it was finished or aborted."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.state = "open"
        self._lock = Lock()

    def write_at(self, offset: int, data: Buffer) -> None:
        with self._lock:
            self._grow(offset + len(data))
            self.data[offset : offset + len(data)] = data

    def set_size(self, size: int) -> None:
        assert size >= len(self.data)
        self._grow(size)

    def finish(self) -> None:
        assert self.state == "open"
        self.state = "finished"

    def abort(self) -> None:
        self.state = "aborted" if self.state == "open" else self.state

    def _grow(self, size: int) -> None:
        self.data.extend(bytes(max(size - len(self.data), 0)))


class ReadableTarget(MemoryTarget):
    """One that ``SupportsReadBack``. ``read`` counts the bytes that were read."""

    read = 0

    def read_back(self, offset: int, length: int) -> bytes:
        self.read += length
        return bytes(self.data[offset : offset + length]).ljust(length, b"\0")
