"""What lies around small reads comes with them: always the blob's own bytes, in fewer requests."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stores.test_read_ahead import Store
from vmferry.errors import CorruptDiskError
from vmferry.stores import NearbyBlob

BLOCK = 64
CONTENT = random.Random(3).randbytes(40 * BLOCK + 7)
READS = st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 3 * BLOCK)), max_size=60)


@given(reads=READS, most=st.integers(0, 8))
def test_whatever_is_read_is_what_is_there(reads: list[tuple[int, int]], most: int) -> None:
    store = Store(CONTENT)
    blob = NearbyBlob(store, BLOCK, most)
    wanted = [(offset, min(length, len(CONTENT) - offset)) for offset, length in reads]
    found = [blob.read_at(*read) for read in wanted]
    assert found == [CONTENT[offset : offset + length] for offset, length in wanted]
    assert sum(length for _, length in store.requests) <= sum(length for _, length in wanted) + (most + 1) * BLOCK


def test_small_reads_side_by_side_are_one_request_and_the_blocks_are_few() -> None:
    store = Store(CONTENT)
    blob = NearbyBlob(store, BLOCK, 3)
    for offset in (0, 10, 50, 100, 120):
        blob.read_at(offset, 8)
    assert store.requests == [(0, BLOCK), (BLOCK, BLOCK)]
    blob.read_at(5 * BLOCK - 4, 8)
    assert store.requests[2:] == [(4 * BLOCK, 2 * BLOCK)]
    blob.read_at(20 * BLOCK, 8)
    assert store.requests[3:] == [(20 * BLOCK, 8)]


def test_a_pointer_out_of_the_file_is_refused_as_ever() -> None:
    with pytest.raises(CorruptDiskError):
        NearbyBlob(Store(CONTENT), BLOCK).read_at(len(CONTENT) - 3, 5)
