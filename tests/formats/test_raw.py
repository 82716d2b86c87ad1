"""raw: the file is the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.blob import FileBlob, MemoryBlob
from vmferry.disk import SupportsStoredSize
from vmferry.errors import CorruptDiskError, UnsafeDiskError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats.raw import FORMAT
from vmferry.units import KIB, MIB, TIB


class PatchyBlob(MemoryBlob):
    """Bytes with ranges that say where data may lie."""

    def __init__(self, data: bytes, ranges: list[tuple[int, int]]) -> None:
        super().__init__(data)
        self._ranges = ranges

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        for low, high in self._ranges:
            if max(low, start) < min(high, end):
                yield max(low, start), min(high, end)


def test_the_disk_is_the_file() -> None:
    data = os.urandom(64 * KIB)
    disk = FORMAT.open(MemoryBlob(data))
    assert disk.size == len(data)
    assert bytes(disk.read_at(1000, 5000)) == data[1000:6000]
    assert list(disk.extents()) == [Extent(0, len(data), ExtentKind.DATA)]


def test_a_file_that_ends_inside_a_sector_goes_on_with_zeros() -> None:
    disk = FORMAT.open(MemoryBlob(b"x" * 700))
    assert disk.size == 1024
    assert disk.read_at(0, 1024) == b"x" * 700 + bytes(324)
    assert disk.read_at(690, 20) == b"x" * 10 + bytes(10)
    assert disk.read_at(800, 224) == bytes(224)
    assert list(disk.extents()) == [Extent(0, 1024, ExtentKind.DATA)]


def test_an_empty_file_is_no_disk() -> None:
    with pytest.raises(CorruptDiskError, match="empty"):
        FORMAT.open(MemoryBlob(b""))


class HugeBlob(MemoryBlob):
    """Says that it has more bytes than any disk may have."""

    @property
    def size(self) -> int:
        return 64 * TIB + 512


def test_a_file_of_more_than_64_tib_is_refused() -> None:
    with pytest.raises(UnsafeDiskError, match="64 TiB"):
        FORMAT.open(HugeBlob(b""))


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 1025), (0, -1)])
def test_a_range_outside_of_the_disk_is_a_programming_error(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="not inside"):
        FORMAT.open(MemoryBlob(bytes(1024))).read_at(offset, length)


def test_a_raw_disk_is_raw_whatever_it_begins_with() -> None:
    disk = FORMAT.open(MemoryBlob(b"KDMV".ljust(512, b"\0")))
    assert bytes(disk.read_at(0, 4)) == b"KDMV"


def test_the_holes_of_a_sparse_file_are_holes_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
        file.seek(2 * MIB)
        file.write(b"data" * KIB)
    disk = FORMAT.open(FileBlob(path))
    data = [extent for extent in disk.extents() if extent.kind is ExtentKind.DATA]
    assert data[0].start == 2 * MIB
    assert sum(extent.length for extent in data) < MIB
    assert isinstance(disk, SupportsStoredSize)
    assert disk.stored_size() == sum(extent.length for extent in data)
    disk.close()


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 200_000),
    cuts=st.lists(st.integers(0, 200_000), max_size=12),
    window=st.tuples(st.integers(0, 200_000), st.integers(0, 200_000)),
)
def test_extents_cover_the_window_and_hide_no_data(size: int, cuts: list[int], window: tuple[int, int]) -> None:
    edges = sorted({min(cut, size) for cut in cuts})
    ranges = list(zip(edges[::2], edges[1::2], strict=False))
    content = bytearray(size)
    for low, high in ranges:
        content[low:high] = b"\xff" * (high - low)
    disk = FORMAT.open(PatchyBlob(bytes(content), ranges))
    start, end = sorted(min(edge, disk.size) for edge in window)
    position = start
    last = None
    for extent in disk.extents(start, end):
        assert extent.start == position
        assert extent.length > 0
        assert extent.kind is not last
        last, position = extent.kind, extent.end
        if extent.kind is ExtentKind.HOLE:
            assert not any(disk.read_at(extent.start, extent.length))
    assert position == end
