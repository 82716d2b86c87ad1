"""The smallest disk and writer that hold something: what they do is checked, not assumed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from vmferry.blob import Buffer
from vmferry.extent import Extent, ExtentKind, clip


class MappedDisk:
    """A disk with a given map, whose DATA holds the number of its 512-byte sector in every eight bytes."""

    def __init__(self, extents: Sequence[Extent]) -> None:
        self._extents = tuple(extents)
        self.size = self._extents[-1].end
        self.reads: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        return clip(self._extents, start, self.size if end is None else end)

    def read_at(self, offset: int, length: int) -> Buffer:
        with self._lock:
            self.reads.append((offset, length))
        out = bytearray(length)
        for extent in self.extents(offset, offset + length):
            if extent.kind is ExtentKind.DATA:
                content = b"".join(
                    (sector + 1).to_bytes(8, "little") * 64
                    for sector in range(extent.start // 512, -(-extent.end // 512))
                )
                out[extent.start - offset : extent.end - offset] = content[: extent.length]
        return out

    def close(self) -> None:
        pass

    def whole(self) -> bytes:
        """Every guest byte."""
        return bytes(self.read_at(0, self.size))


class KeptWriter:
    """Keeps what is written, and which ranges were."""

    def __init__(self, size: int, granularity: int) -> None:
        self.granularity = granularity
        self.data = bytearray(size)
        self.ranges: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def write_at(self, offset: int, data: Buffer) -> None:
        assert offset % self.granularity == 0
        end = offset + len(data)
        assert end % self.granularity == 0 or end == len(self.data)
        with self._lock:
            self.data[offset:end] = data
            self.ranges.append((offset, end))

    def finish(self) -> None:
        raise AssertionError("copy does not finish the writer")

    def abort(self) -> None:
        raise AssertionError("copy does not abort the writer")


def lay_out(*runs: tuple[int, ExtentKind]) -> list[Extent]:
    """Extents one behind another, from their lengths and kinds."""
    extents, position = [], 0
    for length, kind in runs:
        extents.append(Extent(position, length, kind))
        position += length
    return extents
