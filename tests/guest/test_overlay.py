"""A disk with changes over it: what was written is read, everything else is the source's, which nobody writes to."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.blob import MemoryBlob
from vmferry.errors import GuestError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import FORMATS, open_disk
from vmferry.guest.overlay import OverlayDisk
from vmferry.units import KIB, MIB, SECTOR

SECTORS = 64
BASE = bytes(range(1, 65)) * (SECTORS * SECTOR // 64)


class Patchy(MemoryBlob):
    """Only every second page holds data."""

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        for low in range(0, self.size, 16 * SECTOR):
            if low < end and start < low + 8 * SECTOR:
                yield max(low, start), min(low + 8 * SECTOR, end)


def make(data: bytes = BASE, limit: int = MIB) -> OverlayDisk:
    return OverlayDisk(open_disk(Patchy(data), FORMATS["raw"]), limit)


def write(overlay: OverlayDisk, first: int, count: int, value: int) -> None:
    """``count`` sectors of ``value``; zeros as such."""
    if value == 0:
        overlay.zero_at(first * SECTOR, count * SECTOR)
    else:
        overlay.write_at(first * SECTOR, bytes([value]) * (count * SECTOR))


writes = st.lists(
    st.tuples(st.integers(0, SECTORS - 1), st.integers(1, 20), st.integers(0, 3)).map(
        lambda write: (write[0], min(write[1], SECTORS - write[0]), write[2])
    ),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(writes=writes, start=st.integers(0, SECTORS * SECTOR), length=st.integers(0, SECTORS * SECTOR))
def test_it_is_the_source_with_the_writes_in_their_order(
    writes: list[tuple[int, int, int]], start: int, length: int
) -> None:
    overlay, source = make(), bytes(make().read_at(0, len(BASE)))
    wanted, touched = bytearray(source), [False] * SECTORS
    for first, count, value in writes:
        write(overlay, first, count, value)
        wanted[first * SECTOR : (first + count) * SECTOR] = bytes([value]) * (count * SECTOR)
        touched[first : first + count] = [True] * count
    end = min(start + length, len(BASE))
    assert bytes(overlay.read_at(start, end - start)) == wanted[start:end]
    changed = list(overlay.changed())
    assert [any(low <= sector * SECTOR < high for low, high, _ in changed) for sector in range(SECTORS)] == touched
    assert all(one.end < other.start + (one.is_zero != other.is_zero) for one, other in pairwise(changed))
    assert all(not any(wanted[low:high]) for low, high, is_zero in changed if is_zero)
    ranges = overlay.ranges(start, end - start)
    assert (ranges is None) == any(low < end and start < high for low, high, _ in changed if start < end)
    if ranges is not None:
        assert bytes(ranges.read(end - start)) == wanted[start:end]


@settings(max_examples=200, deadline=None)
@given(writes=writes, start=st.integers(0, SECTORS), length=st.integers(0, SECTORS))
def test_the_map_is_exact(writes: list[tuple[int, int, int]], start: int, length: int) -> None:
    overlay = make()
    kinds = [ExtentKind.DATA if sector % 16 < 8 else ExtentKind.HOLE for sector in range(SECTORS)]
    for first, count, value in writes:
        write(overlay, first, count, value)
        kinds[first : first + count] = [ExtentKind.DATA if value else ExtentKind.ZERO] * count
    end = min(start + length, SECTORS)
    extents = list(overlay.extents(start * SECTOR, end * SECTOR))
    found = [extent.kind for extent in extents for _ in range(extent.length // SECTOR)]
    assert found == kinds[start:end]
    assert_ascending(extents, start * SECTOR, end * SECTOR)


def assert_ascending(extents: list[Extent], start: int, end: int) -> None:
    for extent in extents:
        assert extent.start == start
        start = extent.end
    assert not extents or start == end
    assert all(one.kind is not other.kind for one, other in pairwise(extents))


def test_large_changes_leave_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmferry.guest.overlay._IN_MEMORY", 4 * KIB)
    overlay = make(bytes(BASE))
    overlay.write_at(0, b"\xaa" * 2 * KIB)
    overlay.write_at(0, b"\xaa" * 8 * KIB)
    overlay.write_at(8 * KIB, b"\xbb" * SECTOR)
    assert not isinstance(overlay._store, BytesIO)
    assert bytes(overlay.read_at(0, 9 * KIB)) == b"\xaa" * 8 * KIB + b"\xbb" * SECTOR + BASE[8 * KIB + SECTOR : 9 * KIB]
    overlay.close()


def test_too_many_changes_are_refused() -> None:
    overlay = make(limit=4 * KIB)
    overlay.write_at(0, bytes(4 * KIB))
    overlay.write_at(SECTOR, bytes(KIB))  # the same place again takes nothing
    with pytest.raises(GuestError, match="More than 4 KiB of the disk would be changed"):
        overlay.write_at(8 * KIB, bytes(SECTOR))
    overlay.zero_at(8 * KIB, 16 * KIB)  # and zeros, too
    assert bytes(overlay.read_at(0, len(BASE))) == bytes(4 * KIB) + BASE[: 4 * KIB] + bytes(16 * KIB) + BASE[24 * KIB :]


def test_only_whole_sectors_inside_are_written() -> None:
    overlay = make()
    for offset, length in ((1, SECTOR), (0, 100), (len(BASE), SECTOR), (-SECTOR, SECTOR)):
        with pytest.raises(ValueError, match=r"sectors|inside"):
            overlay.write_at(offset, bytes(length))
        with pytest.raises(ValueError, match=r"sectors|inside"):
            overlay.zero_at(offset, length)
    assert list(overlay.changed()) == []
