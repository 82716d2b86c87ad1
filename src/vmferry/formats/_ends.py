"""The two ends of a blob, by which formats are told apart."""

from __future__ import annotations

from vmferry.blob import Blob, WrappedBlob
from vmferry.units import KIB

_HEAD = 4 * KIB
_TAIL = 2 * KIB


class Ends(WrappedBlob):
    """A blob whose first 4 KiB and last 2 KiB are read once, however many ask whether it is theirs.

    Leaves the blob open.
    """

    def __init__(self, blob: Blob) -> None:
        super().__init__(blob)
        self._head = blob.read_at(0, min(_HEAD, blob.size))
        self._tail_start = max(blob.size - _TAIL, 0)
        self._tail = blob.read_at(self._tail_start, blob.size - self._tail_start) if blob.size > _HEAD else self._head
        if blob.size <= _HEAD:
            self._tail_start = 0

    def read_at(self, offset: int, length: int) -> bytes:
        for start, part in ((0, self._head), (self._tail_start, self._tail)):
            if start <= offset <= offset + length <= start + len(part):
                return part[offset - start : offset - start + length]
        return self._blob.read_at(offset, length)

    def close(self) -> None:
        pass
