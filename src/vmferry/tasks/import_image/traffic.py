"""What an import reads from the object store and writes to its images, counted as it goes by."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from vmferry.blob import Blob, Buffer, ByteRange, Part, WrappedBlob, read_view, write_parts
from vmferry.stores import ResumableBlobWriter


class Meter:
    """Bytes that went by since somebody last asked. Thread-safe."""

    def __init__(self) -> None:
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, length: int) -> None:
        """``length`` more bytes went by."""
        with self._lock:
            self._bytes += length

    def take(self) -> int:
        """Bytes since the last call."""
        with self._lock:
            taken, self._bytes = self._bytes, 0
            return taken


class MeteredBlob(WrappedBlob):
    """A blob whose reads are counted."""

    def __init__(self, blob: Blob, meter: Meter) -> None:
        super().__init__(blob)
        self._meter = meter

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._blob.read_at(offset, length)
        self._meter.add(length)
        return data

    def view_at(self, offset: int, length: int) -> memoryview:
        """As ``read_view``."""
        data = read_view(self._blob, offset, length)
        self._meter.add(length)
        return data


class MeteredWriter:
    """A ``ResumableBlobWriter`` whose writes are counted."""

    def __init__(self, target: ResumableBlobWriter, meter: Meter) -> None:
        self._target = target
        self._meter = meter
        self.set_size = target.set_size
        self.finish = target.finish
        self.abort = target.abort
        self.flush = target.flush
        self.detach = target.detach

    def write_at(self, offset: int, data: Buffer) -> None:
        self._target.write_at(offset, data)
        self._meter.add(len(data))

    def write_parts(self, offset: int, parts: Sequence[Part]) -> None:
        """As ``blob.write_parts``."""
        write_parts(self._target, offset, parts)
        self._meter.add(sum(map(len, parts)))

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        return self._target.data_ranges(start, end)
