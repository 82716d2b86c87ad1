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


class PackedWriter:
    """Packs what it gets without gaps, in the order in which it is placed."""

    def __init__(self, granularity: int) -> None:
        self.granularity = granularity
        self.file = bytearray()
        self.index: list[tuple[int, int, int]] = []
        """Guest offset, host offset, length of each piece, in the order of placing."""
        self.encoding = 0
        self.most_encoded = 0
        self._lock = threading.Lock()
        self._end = 0

    def encode(self, offset: int, data: Buffer) -> tuple[int, bytes]:
        with self._lock:
            self.encoding += 1
            self.most_encoded = max(self.most_encoded, self.encoding)
        return offset, bytes(data)[::-1]

    def place(self, encoded: tuple[int, bytes]) -> list[tuple[int, bytes]]:
        offset, data = encoded
        self.index.append((offset, self._end, len(data)))
        self._end += len(data)
        with self._lock:
            self.encoding -= 1
        return [(self.index[-1][1], data)]

    def write(self, placed: Sequence[tuple[int, Buffer]]) -> None:
        with self._lock:
            for host, data in placed:
                self.file.extend(bytes(max(0, host + len(data) - len(self.file))))
                self.file[host : host + len(data)] = data

    def finish(self) -> None:
        raise AssertionError("copy does not finish the writer")

    def abort(self) -> None:
        raise AssertionError("copy does not abort the writer")

    def whole(self, size: int) -> bytes:
        """The guest bytes that were packed, unpacked."""
        out = bytearray(size)
        for guest, host, length in self.index:
            out[guest : guest + length] = self.file[host : host + length][::-1]
        return bytes(out)
