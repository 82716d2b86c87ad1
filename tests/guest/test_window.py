"""Areas, the cache over them and the file object for libyal show the same bytes, in few and bounded reads."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.errors import CorruptDiskError
from vmferry.guest.window import BlockCache, Slice, Window
from vmferry.limits import MAX_LOOK_RANGE
from vmferry.units import KIB, MIB

CONTENT = os.urandom(3 * MIB + 513)


class Counted:
    """An area that remembers how it was read."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self._content = content
        self.size = len(content)
        self.reads: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size
        self.reads.append((offset, length))
        return self._content[offset : offset + length]


RANGES = st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 300 * KIB)), min_size=1, max_size=20)


@settings(max_examples=150, deadline=None)
@given(RANGES, st.integers(64 * KIB, MIB))
def test_a_cache_shows_what_is_beneath(ranges: list[tuple[int, int]], limit: int) -> None:
    area = Counted()
    cache = BlockCache(area, limit)
    for offset, length in ranges:
        length = min(length, area.size - offset)
        assert cache.read_at(offset, length) == CONTENT[offset : offset + length]
        assert len(cache._blocks) * 64 * KIB <= max(limit, 64 * KIB)
    assert all(length <= MAX_LOOK_RANGE for _, length in area.reads)


def test_small_reads_again_and_again_cost_one() -> None:
    area = Counted()
    cache = BlockCache(area)
    for offset in range(0, 60 * KIB, 100):
        cache.read_at(offset, 16)
    assert len(area.reads) == 1


def test_who_reads_on_is_read_ahead_for_and_who_jumps_is_not() -> None:
    area = Counted(bytes(16 * MIB))
    cache = BlockCache(area)
    for offset in range(0, area.size, 4096):
        cache.read_at(offset, 4096)
    assert len(area.reads) < 16
    jumps = Counted(bytes(16 * MIB))
    cache = BlockCache(jumps)
    for offset in range(0, jumps.size, 512 * KIB):
        cache.read_at(offset, 16)
    assert {length for _, length in jumps.reads} == {64 * KIB}


def test_a_large_read_is_one_of_what_is_beneath() -> None:
    area = Counted()
    assert BlockCache(area).read_at(10, 2 * MIB) == CONTENT[10 : 10 + 2 * MIB]
    assert len(area.reads) == 1


def test_a_slice_ends_where_what_it_lies_in_does() -> None:
    piece = Slice(Counted(), len(CONTENT) - 100, 1 << 40)
    assert piece.size == 100
    assert piece.read_at(90, 10) == CONTENT[-10:]
    assert piece.read_at(100, 0) == b""
    assert Slice(Counted(), 1 << 40, 10).size == 0
    for offset, length in ((-1, 1), (0, 101), (101, 0), (0, -1)):
        with pytest.raises(ValueError, match="not inside"):
            piece.read_at(offset, length)


def test_a_window_is_a_file() -> None:
    window = Window(Slice(Counted(), 1000, 500))
    assert window.get_size() == 500
    assert window.read(3) == CONTENT[1000:1003]
    assert window.tell() == 3
    assert window.seek(-10, 2) == 490
    assert window.read() == CONTENT[1490:1500]
    assert window.read(5) == b""
    assert window.seek(-5, 1) == 495
    assert window.read(100) == CONTENT[1495:1500]
    assert window.seek(1000) == 1000
    assert window.read(1) == b""


def test_a_window_keeps_why_bytes_could_not_be_read() -> None:
    class Broken:
        size = 100

        def read_at(self, offset: int, length: int) -> bytes:
            raise CorruptDiskError("grain 3 is damaged")

    window = Window(Broken())
    with pytest.raises(CorruptDiskError):
        window.read(10)
    assert str(window.failure) == "grain 3 is damaged"
