"""A file that lies in several pieces: OVF's ``chunkSize``."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from vmferry.blob import Blob, check_range


class ConcatBlob:
    """Several blobs, one behind another, as one; it owns them."""

    def __init__(self, blobs: Sequence[Blob], name: str) -> None:
        self._blobs = tuple(blobs)
        self._name = name
        self._ends: list[int] = []
        for blob in self._blobs:
            self._ends.append(blob.size + (self._ends[-1] if self._ends else 0))

    @property
    def size(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def name(self) -> str:
        return self._name

    def read_at(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        pieces = []
        while length:
            index = bisect_right(self._ends, offset)
            inside = offset - (self._ends[index] - self._blobs[index].size)
            count = min(length, self._blobs[index].size - inside)
            pieces.append(self._blobs[index].read_at(inside, count))
            offset, length = offset + count, length - count
        return b"".join(pieces)

    def close(self) -> None:
        for blob in self._blobs:
            blob.close()
