"""The parts of an object on their way into S3: bytes in memory, or a stream where a part is too large for that."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from vmferry.blob import Buffer
from vmferry.convert import Cancelled
from vmferry.units import MIB

MAX_HELD = 8 * MIB
"""Bytes of a part that is held in memory: a worker has four on their way at once, and 256 MiB for all."""
_STEP = MIB


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes of the object from ``start`` on, up to the next segment."""

    start: int
    read: Callable[[int, int], Buffer]
    """``(offset, length)``, counted from ``start``."""


class ObjectView:
    """An object's bytes, as far as they are known. Safe from any thread, as far as what it reads is."""

    def __init__(self, segments: list[Segment], end: int) -> None:
        """``segments`` without gaps, ascending, up to ``end``; those that are empty hold nothing."""
        self._segments = segments
        self._starts = [segment.start for segment in segments]
        self.end = end

    def read_at(self, offset: int, length: int) -> bytearray:
        """``length`` bytes from ``offset``, all of them known. A MiB at a time: what is held beside them is little."""
        data, done = bytearray(length), 0
        while done < length:
            index = bisect_right(self._starts, offset + done) - 1
            limit = self._starts[index + 1] if index + 1 < len(self._starts) else self.end
            taken = min(length - done, limit - offset - done, _STEP)
            assert taken > 0, "more than is known was asked for"
            data[done : done + taken] = self._segments[index].read(offset + done - self._starts[index], taken)
            done += taken
        return data


class StoppedError(BaseException):
    """The step ends. No ``Exception``: S3's client would take it for a failure of the network, and try again."""


class ViewStream:
    """Bytes ``[start, end)`` of a view, as a ``PartStream``."""

    def __init__(self, view: ObjectView, start: int, end: int, moved: Callable[[], None], stop: Cancelled) -> None:
        """``moved`` is told of each read; with ``stop`` set they raise ``StoppedError``."""
        self._view = view
        self._start = start
        self._length = end - start
        self._moved = moved
        self._stop = stop
        self._position = 0
        self._held, self._held_at = bytearray(), 0

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes:
        """The next bytes, ``_STEP`` at the most: who wants more asks again."""
        if self._stop.is_set():
            raise StoppedError
        inside = self._position - self._held_at
        if not 0 <= inside < len(self._held):
            length = min(_STEP, self._length - self._position)
            self._held, self._held_at, inside = (
                self._view.read_at(self._start + self._position, length),
                self._position,
                0,
            )
            self._moved()
        data = bytes(memoryview(self._held)[inside:][: None if size < 0 else size])
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position
