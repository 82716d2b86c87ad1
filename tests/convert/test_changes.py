"""Which units of two disks differ: held against a comparison of all their bytes."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.convert.fakes import lay_out
from vmferry.blob import Buffer
from vmferry.convert import find_changes
from vmferry.extent import Extent, ExtentKind, clip

UNIT = 4096
_CELL = 1024
_BYTES = st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=1, max_size=40)


class _Cells:
    """A disk of cells, each filled with one byte; zeros are DATA in some, holes in others."""

    def __init__(self, cells: list[int], stored_zeros: bool) -> None:
        self._data = b"".join(bytes([cell]) * _CELL for cell in cells)
        self.size = len(self._data)
        kinds = [ExtentKind.DATA if cell or stored_zeros else ExtentKind.HOLE for cell in cells]
        self._map = lay_out(*((_CELL, kind) for kind in kinds))
        self.read = 0

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        return clip(self._map, start, self.size if end is None else end)

    def read_at(self, offset: int, length: int) -> Buffer:
        assert 0 <= offset <= offset + length <= self.size
        self.read += length
        return self._data[offset : offset + length]

    def close(self) -> None:
        raise AssertionError("the disk is not the comparison's")

    def unit(self, number: int) -> bytes:
        return self._data[number * UNIT : (number + 1) * UNIT].ljust(UNIT, b"\0")


@settings(max_examples=60, deadline=None)
@given(_BYTES, _BYTES, st.booleans(), st.integers(0, 12), st.integers(1, 5))
def test_pages_of_changes_are_all_changes(
    one: list[int], other: list[int], stored_zeros: bool, start: int, most: int
) -> None:
    first, second = _Cells(one, stored_zeros), _Cells(other, False)
    count = -(-max(first.size, second.size) // UNIT)
    expected = [number for number in range(start, count) if first.unit(number) != second.unit(number)]
    found: list[int] = []
    following: int | None = start
    while following is not None:
        page = find_changes(first, second, UNIT, following, most, seconds=10)
        assert len(page.units) <= most
        assert page.following is None or page.following > following
        found, following = found + page.units, page.following
    assert found == expected


def test_a_page_without_time_looks_at_something() -> None:
    first, second = _Cells([1] * 4096, False), _Cells([2] * 4096, False)
    found: list[int] = []
    following: int | None = 0
    pages = 0
    while following is not None:
        page = find_changes(first, second, UNIT, following, 10_000, seconds=0)
        found, pages, following = found + page.units, pages + 1, page.following
    assert pages > 1
    assert found == list(range(1024))


def test_what_both_maps_call_empty_is_not_read() -> None:
    first, second = _Cells([0] * 400 + [1] * 4, False), _Cells([0] * 404, False)
    assert find_changes(first, second, UNIT, 0, 100, seconds=10).units == [100]
    assert first.read == second.read == UNIT
