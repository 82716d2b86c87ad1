"""Fewer requests for who looks here and there in an object: what lies around a small read comes with it."""

from __future__ import annotations

from vmferry.blob import Blob, WrappedBlob
from vmferry.units import KIB

_BLOCK = 256 * KIB
_MOST = 16


class NearbyBlob(WrappedBlob):
    """A blob whose headers and tables are fetched in blocks of 256 KiB, each once: the first sixteen that are read of.

    Whatever else is read, and reads longer than a block, go through as they are, so no more than 4 MiB are fetched that
    nobody asked for. Thread-safe; two threads that want the same block at once may both fetch it.
    """

    def __init__(self, blob: Blob, block: int = _BLOCK, most: int = _MOST) -> None:
        super().__init__(blob)
        self._size = block
        self._most = most
        self._blocks: dict[int, bytes] = {}

    def read_at(self, offset: int, length: int) -> bytes:
        if offset < 0 or not 0 < length <= self._size or offset + length > self.size:
            return self._blob.read_at(offset, length)
        first, last = offset // self._size, (offset + length - 1) // self._size
        if first not in self._blocks or last not in self._blocks:
            if len(self._blocks) >= self._most:
                return self._blob.read_at(offset, length)
            self._fetch(first, last)
        found = self._blocks[first] if first == last else self._blocks[first] + self._blocks[last]
        start = offset - first * self._size
        return found[start : start + length]

    def _fetch(self, first: int, last: int) -> None:
        begin = first * self._size
        data = self._blob.read_at(begin, min((last + 1) * self._size, self.size) - begin)
        for number in range(first, last + 1):
            start = (number - first) * self._size
            self._blocks[number] = data[start : start + self._size]
