"""Reading ahead: always the blob's own bytes, in fewer requests where reads lie side by side."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.appliances import HashedBlob
from vmferry.blob import MemoryBlob, SliceBlob, read_view
from vmferry.errors import CorruptDiskError, StoreError
from vmferry.machine import Digest
from vmferry.stores import ReadAheadBlob
from vmferry.stores._read_ahead import BLOCK
from vmferry.units import KIB, MIB

SMALL = 64
CONTENT = random.Random(1).randbytes(10 * SMALL + 7)


class Store:
    """Counts what is asked for, and fails where it is told to."""

    name = "s3://imports/disk"

    def __init__(self, content: bytes) -> None:
        self._blob = MemoryBlob(content, self.name)
        self.size = len(content)
        self.requests: list[tuple[int, int]] = []
        self.failing: set[int] = set()
        self.closed = False

    def read_at(self, offset: int, length: int) -> bytes:
        self.requests.append((offset, length))
        if offset in self.failing:
            raise StoreError("the store is away", retryable=True)
        return self._blob.read_at(offset, length)

    def close(self) -> None:
        self.closed = True


class LateFetcher:
    """A lock after which the thread that fetches ahead is always the last to go on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if threading.current_thread().name.startswith("fetch"):
            time.sleep(0.02)


READS = st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 3 * SMALL)), max_size=40)


@settings(deadline=None)
@given(reads=READS, kept=st.integers(1, 4), threads=st.integers(1, 4), views=st.booleans())
def test_whatever_is_read_is_what_is_there(reads: list[tuple[int, int]], kept: int, threads: int, views: bool) -> None:
    blob = ReadAheadBlob(Store(CONTENT), SMALL, kept)
    read = blob.view_at if views else blob.read_at
    wanted = [(offset, min(length, len(CONTENT) - offset)) for offset, length in reads]
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda where: bytes(read(*where)), wanted))
    assert found == [CONTENT[offset : offset + length] for offset, length in wanted]


def test_what_is_viewed_of_a_block_is_not_copied() -> None:
    """From the store through a member of an appliance: the memory is the block's own, and nobody can change it."""
    blob = HashedBlob(
        SliceBlob(ReadAheadBlob(Store(bytes(2 * BLOCK))), 0, 2 * BLOCK, "disk.vmdk"), Digest("sha256", b"")
    )
    views = [read_view(blob, MIB, MIB), read_view(blob, 2 * MIB, MIB)]
    starts = [np.frombuffer(view, np.uint8).ctypes.data for view in views]
    assert starts[1] - starts[0] == MIB
    assert all(view.readonly for view in views)


@pytest.mark.parametrize(
    ("threads", "step"),
    [
        (1, 1_300 * KIB),
        (4, 1_300 * KIB),
        (8, BLOCK // 2 + 60 * KIB),
        (4, BLOCK),
        (1, BLOCK + 60 * KIB),
        (4, BLOCK + 60 * KIB),
    ],
)
def test_reads_side_by_side_fetch_each_byte_once_in_blocks(threads: int, step: int) -> None:
    store = Store(bytes(19 * BLOCK + 5))
    blob = ReadAheadBlob(store)
    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, blob.size, threads * step):  # nobody falls behind: a block that waits long is let go
            end = min(begin + threads * step, blob.size)
            list(pool.map(lambda o: blob.read_at(o, min(step, blob.size - o)), range(begin, end, step)))
    blob.close()
    assert sorted(store.requests) == [(o, min(BLOCK, blob.size - o)) for o in range(0, blob.size, BLOCK)]


def test_small_reads_in_order_are_noticed_and_scattered_ones_left_alone() -> None:
    store = Store(bytes(64 * MIB))
    blob = ReadAheadBlob(store)
    places = random.Random(2).sample(range(0, 64 * MIB, MIB), 20)
    for place in places:
        blob.read_at(place, 10 * KIB)
    assert store.requests == [(place, 10 * KIB) for place in places]
    store.requests.clear()
    fresh = ReadAheadBlob(store)
    for place in range(0, 8 * MIB, 10 * KIB):
        fresh.read_at(place, 10 * KIB)
    fresh.close()
    asked = sorted(request for request in store.requests if request[0] < 3 * BLOCK)  # the others are ahead of the last
    assert asked == [(0, 10 * KIB), (0, BLOCK), (BLOCK, BLOCK), (2 * BLOCK, BLOCK)]


def test_a_read_of_two_blocks_goes_through_as_it_is() -> None:
    store = Store(bytes(4 * BLOCK))
    blob = ReadAheadBlob(store)
    blob.read_at(BLOCK // 2, 2 * BLOCK)
    assert store.requests == [(BLOCK // 2, 2 * BLOCK)]


def test_the_next_blocks_are_fetched_at_once_while_readers_go_on() -> None:
    together = threading.Barrier(3, timeout=10)

    class Watched(Store):
        def read_at(self, offset: int, length: int) -> bytes:
            if offset in (2 * SMALL, 3 * SMALL):
                together.wait()  # each waits for the other, and for us
            return super().read_at(offset, length)

    blob = ReadAheadBlob(Watched(CONTENT), SMALL)
    blob.read_at(0, SMALL // 2)
    assert not blob.read_at(SMALL // 2, 0)
    blob.read_at(SMALL, SMALL // 2)
    together.wait()
    blob.close()


def test_a_block_that_readers_are_through_with_is_not_fetched_ahead_afterwards() -> None:
    store = Store(CONTENT)
    blob = ReadAheadBlob(store, SMALL)
    blob._lock = LateFetcher()  # type: ignore[assignment]
    for place in range(0, 6 * SMALL, SMALL // 2):
        blob.read_at(place, SMALL // 2)
    blob.close()
    begins = [offset for offset, _ in store.requests]
    assert sorted(set(begins)) == sorted(begins)


def test_a_block_that_was_read_is_let_go_and_few_are_kept() -> None:
    blob = ReadAheadBlob(Store(bytes(40 * SMALL)), SMALL, 3)
    for place in range(0, 20 * SMALL, SMALL // 2):
        blob.read_at(place, SMALL // 2)
    assert len(blob._blocks) <= 1
    for number in range(20, 40):
        blob.read_at(number * SMALL, SMALL // 2)
    assert len(blob._blocks) == 3


def test_a_failure_is_told_to_who_reads_and_not_kept() -> None:
    store = Store(CONTENT)
    blob = ReadAheadBlob(store, SMALL)
    store.failing = {0}
    with pytest.raises(StoreError, match="away"):
        blob.read_at(0, SMALL // 2)
    store.failing = set()
    assert blob.read_at(0, SMALL // 2) == CONTENT[: SMALL // 2]


def test_who_waits_gets_an_error_of_its_own_read() -> None:
    """The block fails for one reader; the other, who waited for it, reads what it needs by itself."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Store):
        def read_at(self, offset: int, length: int) -> bytes:
            if length == SMALL and offset == 0:
                begun.set()
                assert go_on.wait(10)
                raise StoreError("the store is away", retryable=True)
            return super().read_at(offset, length)

    blob = ReadAheadBlob(Slow(CONTENT), SMALL)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(blob.read_at, 0, SMALL // 2)
        assert begun.wait(10)
        second = pool.submit(blob.read_at, SMALL // 2, SMALL // 2)
        while blob._blocks:  # until all of the block is asked for
            time.sleep(0.001)
        go_on.set()
        assert second.result(10) == CONTENT[SMALL // 2 : SMALL]
        with pytest.raises(StoreError):
            first.result(10)


def test_a_pointer_out_of_the_file_is_refused_as_ever_and_closing_closes() -> None:
    store = Store(CONTENT)
    blob = ReadAheadBlob(store, SMALL)
    with pytest.raises(CorruptDiskError):
        blob.read_at(len(CONTENT) - 3, 5)
    blob.close()
    assert store.closed
