"""What a plan promises: all data once, whole granules, few slices, and no memory that grows with the map."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.convert.fakes import lay_out
from vmferry.convert.copy import LOCAL_PIECE, PARTS_PIECE, PIECE
from vmferry.convert.plan import SLICE_STEP, cut, find_granules, plan_slices
from vmferry.extent import Extent, ExtentKind
from vmferry.units import GIB, KIB, MIB, TIB

DATA, ZERO, HOLE = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.HOLE

maps = st.lists(st.tuples(st.integers(1, 300), st.sampled_from([DATA, ZERO, HOLE])), min_size=1, max_size=30).map(
    lambda runs: lay_out(*((sectors * 512, kind) for sectors, kind in runs))
)


def granules_with_data(extents: list[Extent], granularity: int) -> set[int]:
    return {
        granule
        for extent in extents
        if extent.kind is DATA
        for granule in range(extent.start // granularity, -(-extent.end // granularity))
    }


@settings(deadline=None, max_examples=150)
@given(
    extents=maps, granularity=st.sampled_from([512, 4096, 65536]), target=st.integers(1, 200), most=st.integers(1, 9)
)
def test_every_granule_with_data_lies_in_exactly_one_slice(
    extents: list[Extent], granularity: int, target: int, most: int
) -> None:
    size = extents[-1].end
    slices = plan_slices(extents, size, granularity, target=target * 1024, most=most)
    wanted = granules_with_data(extents, granularity)
    held = [granule for piece in slices for granule in range(piece.start // granularity, -(-piece.end // granularity))]
    assert len(held) == len(set(held))
    assert wanted <= set(held)
    assert len(slices) <= most
    for piece in slices:
        assert piece.start % granularity == 0
        assert piece.end % granularity == 0 or piece.end == size
    starts = [piece.start for piece in slices]
    assert starts == sorted(starts)
    assert sum(piece.data for piece in slices) == sum(
        min((granule + 1) * granularity, size) - granule * granularity for granule in wanted
    )


@settings(deadline=None, max_examples=100)
@given(extents=maps, granularity=st.sampled_from([512, 4096]), target=st.integers(1, 64))
def test_no_slice_but_the_last_is_smaller_than_the_target(extents: list[Extent], granularity: int, target: int) -> None:
    slices = plan_slices(extents, extents[-1].end, granularity, target=target * 1024, most=10**6)
    assert all(target * 1024 <= piece.data < target * 2048 + granularity for piece in slices[:-1])


def test_a_disk_full_of_data_is_split_evenly() -> None:
    slices = plan_slices(lay_out((64 * GIB, DATA)), 64 * GIB, 64 * KIB)
    assert len(slices) == 256
    assert {piece.data for piece in slices} == {256 * MIB}


def test_empty_space_costs_nothing() -> None:
    extents = lay_out((GIB, DATA), (TIB, HOLE), (GIB, DATA), (TIB, ZERO))
    slices = plan_slices(extents, extents[-1].end, 64 * KIB)
    assert sum(piece.data for piece in slices) == 2 * GIB
    assert len(slices) == 8
    assert slices[-1].end == GIB + TIB + GIB


def test_a_disk_without_data_needs_no_slice() -> None:
    assert plan_slices(lay_out((TIB, HOLE)), TIB, 512) == []


def test_an_enormous_disk_gets_larger_slices_instead_of_more() -> None:
    slices = plan_slices(lay_out((4 * TIB, DATA)), 4 * TIB, 64 * KIB, most=2000)
    assert 1000 <= len(slices) <= 2000
    assert sum(piece.data for piece in slices) == 4 * TIB


@pytest.mark.slow
@pytest.mark.parametrize("granularity", [512, 65536])
def test_memory_does_not_grow_with_the_map(granularity: int) -> None:
    def fragments() -> Iterator[Extent]:
        for number in range(100_000):
            yield Extent(number * 2 * MIB, MIB, DATA)
            yield Extent(number * 2 * MIB + MIB, MIB, HOLE)

    tracemalloc.start()
    try:
        slices = plan_slices(fragments(), 100_000 * 2 * MIB, granularity)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(piece.data for piece in slices) == 100_000 * MIB
    assert peak < MIB


@settings(deadline=None, max_examples=100)
@given(extents=maps, granularity=st.sampled_from([512, 4096, 65536]))
def test_granules_are_joined_and_end_with_the_disk(extents: list[Extent], granularity: int) -> None:
    ranges = list(find_granules(extents, granularity, extents[-1].end))
    assert all(low < high for low, high in ranges)
    assert all(one[1] < other[0] for one, other in pairwise(ranges))
    covered = {granule for low, high in ranges for granule in range(low // granularity, -(-high // granularity))}
    assert covered == granules_with_data(extents, granularity)


@settings(deadline=None, max_examples=100)
@given(
    bounds=st.lists(st.integers(0, 5000), min_size=2, max_size=12, unique=True).map(sorted), length=st.integers(1, 700)
)
def test_cut_pieces_are_the_ranges_again(bounds: list[int], length: int) -> None:
    ranges = list(zip(bounds[::2], bounds[1::2], strict=False))
    pieces = list(cut(ranges, length))
    assert [n for low, high in pieces for n in range(low, high)] == [
        n for low, high in ranges for n in range(low, high)
    ]
    assert all(high - low <= length for low, high in pieces)
    assert all(low // length == (high - 1) // length for low, high in pieces)


def test_pieces_of_a_copy_lie_in_one_slice() -> None:
    for length in (PIECE, PARTS_PIECE, LOCAL_PIECE):
        assert SLICE_STEP % length == 0
    extents = [Extent(MIB, 50 * MIB, ExtentKind.DATA), Extent(60 * MIB, 3 * MIB, ExtentKind.DATA)]
    slices = plan_slices(extents, 64 * MIB, 64 * KIB, target=9 * MIB)
    assert len(slices) > 3
    for start, end in cut(find_granules(extents, 64 * KIB, 64 * MIB), PARTS_PIECE):
        assert any(piece.start <= start and end <= piece.end for piece in slices)
