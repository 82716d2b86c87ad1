"""Reading into memory that is used again: what one piece held never shows in another."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.convert.fakes import KeptWriter, PackedWriter
from vmferry import formats
from vmferry.blob import FileBlob, MemoryBlob, SliceBlob
from vmferry.convert import copy
from vmferry.errors import CorruptDiskError
from vmferry.formats.raw import RawDisk
from vmferry.ranges import StoredRange, StoredRanges, join_ranges
from vmferry.stores.local import create_file
from vmferry.units import KIB, MIB


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 64 KiB in which no two words are alike."""
    path = tmp_path_factory.mktemp("numbers") / "numbers"
    path.write_bytes(np.arange(1, 8 * KIB + 1, dtype="<u8").tobytes())
    return path


_PLACES = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(1, 3000), st.integers(0, 60_000)), min_size=0, max_size=8
)


@settings(deadline=None)
@given(places=_PLACES, behind=st.integers(0, 5000))
def test_ranges_read_alike_into_fresh_memory_and_into_used(
    numbers: Path, places: list[tuple[int, int, int]], behind: int
) -> None:
    position, ranges = 0, []
    for gap, length, source in places:
        ranges.append(StoredRange(position + gap, source, length))
        position += gap + length
    content = numbers.read_bytes()
    expected = bytearray(position + behind)
    for found in ranges:
        expected[found.position : found.position + found.length] = content[found.source : found.source + found.length]
    file = FileBlob(numbers)
    try:
        stored = StoredRanges(file, ranges)
        assert bytes(stored.read(len(expected))) == expected
        used = memoryview(bytearray(b"\xff" * len(expected)))
        stored.read_into(used)
        assert used == expected
    finally:
        file.close()


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9), breaks=st.sets(st.integers(1, 8)))
def test_neighbours_in_guest_and_file_become_one_range(lengths: list[int], breaks: set[int]) -> None:
    ranges, position, source = [], 0, 100
    for index, length in enumerate(lengths):
        if index in breaks:
            source += 1
        ranges.append(StoredRange(position, source, length))
        position, source = position + length, source + length
    joined = join_ranges(ranges)
    assert len(joined) == 1 + len([index for index in breaks if index < len(lengths)])
    covered = [(found.position + at, found.source + at) for found in joined for at in range(found.length)]
    assert covered == [(found.position + at, found.source + at) for found in ranges for at in range(found.length)]


def test_a_slice_of_a_file_is_read_into_memory_too(numbers: Path) -> None:
    file = FileBlob(numbers)
    part = SliceBlob(file, 1000, 500, "part")
    into = part.reader_into()
    assert into is not None
    out = memoryview(bytearray(200))
    into(300, out)
    assert out == numbers.read_bytes()[1300:1500]
    with pytest.raises(CorruptDiskError, match="ends at 500"):
        into(301, out)
    assert SliceBlob(MemoryBlob(bytes(9)), 0, 9, "no file").reader_into() is None
    file.close()


def test_the_map_of_a_file_that_shrinks_meanwhile_leads_to_who_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "disk.raw", os.lseek
    path.write_bytes(b"x" * MIB)
    blob = FileBlob(path)

    def lseek(fd: int, offset: int, whence: int) -> int:
        if whence == os.SEEK_HOLE:
            os.truncate(path, 0)
        return real(fd, offset, whence)

    monkeypatch.setattr(os, "lseek", lseek)
    assert list(blob.data_ranges(0, MIB)) == [(0, MIB)]
    with pytest.raises(CorruptDiskError, match="became shorter"):
        blob.read_at(0, MIB)
    blob.close()


def test_a_file_that_shrinks_while_it_is_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "shrinking"
    path.write_bytes(bytes(8 * KIB))
    file = FileBlob(path)
    os.truncate(path, 5 * KIB)
    with pytest.raises(CorruptDiskError, match="became shorter"):
        file.read_into(4 * KIB, memoryview(bytearray(4 * KIB)))
    with pytest.raises(CorruptDiskError, match="became shorter"):
        file.read_at(4 * KIB, 4 * KIB)
    file.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_what_waits_for_its_turn_keeps_its_memory(tmp_path: Path, workers: int) -> None:
    content = np.arange(3 * MIB, dtype="<u8").tobytes()
    path = tmp_path / "disk.raw"
    path.write_bytes(content)
    disk = RawDisk(FileBlob(path))
    packed, kept = PackedWriter(64 * KIB), KeptWriter(len(content), 64 * KIB)
    copy(disk, packed, workers=workers)
    copy(disk, kept, workers=workers)
    assert packed.whole(disk.size) == content
    assert bytes(kept.data) == content
    disk.close()


@pytest.mark.parametrize("name", ["vhd", "vhdx", "vdi", "qcow2"])
def test_scattered_blocks_of_a_file_arrive_at_their_places(tmp_path: Path, name: str) -> None:
    """With holes between them: those must be zeros although the memory was used before."""
    content = bytearray(24 * MIB)
    for block in (1, 2, 5, 8, 9, 14, 21, 23):
        content[block * MIB + 64 * KIB * (block % 3) : (block + 1) * MIB] = os.urandom(MIB - 64 * KIB * (block % 3))
    raw, made, back = (tmp_path / part for part in ("in.raw", f"disk.{name}", "out.raw"))
    raw.write_bytes(content)
    for source, form, target in ((raw, name, made), (made, "raw", back)):
        disk = formats.open_disk(FileBlob(source))
        maker = formats.FORMATS[form]
        assert isinstance(maker, formats.SupportsCreate)
        writer = maker.create(create_file(target, sync=False), disk.size, disk.extents())
        copy(disk, writer, workers=2)
        writer.finish()
        disk.close()
    assert back.read_bytes() == content
