"""The copy: every byte once, whatever the map; and errors, interruption and cancellation that end it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.convert.fakes import KeptWriter, MappedDisk, lay_out
from vmferry.blob import Buffer
from vmferry.convert import copy
from vmferry.convert.copy import PIECE
from vmferry.digest import DigestTree
from vmferry.errors import CorruptDiskError, OutOfSpaceError, TaskCancelledError
from vmferry.extent import Extent, ExtentKind
from vmferry.units import KIB, MIB

DATA, ZERO, HOLE = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.HOLE


@contextmanager
def no_thread_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@settings(deadline=None, max_examples=60)
@given(
    runs=st.lists(st.tuples(st.integers(1, 400), st.sampled_from([DATA, ZERO, HOLE])), min_size=1, max_size=12),
    granularity=st.sampled_from([512, 4096, 65536]),
    workers=st.integers(1, 4),
)
def test_the_copy_holds_what_the_disk_holds(runs: list[tuple[int, ExtentKind]], granularity: int, workers: int) -> None:
    disk = MappedDisk(lay_out(*((sectors * 512, kind) for sectors, kind in runs)))
    writer = KeptWriter(disk.size, granularity)
    told: list[int] = []
    result = copy(disk, writer, workers=workers, progress=told.append)
    assert bytes(writer.data) == disk.whole()
    assert sum(told) == result.data == sum(high - low for low, high in writer.ranges)
    written = sorted(writer.ranges)
    assert all(one[1] <= other[0] for one, other in pairwise(written))


def test_empty_space_is_neither_read_nor_written() -> None:
    disk = MappedDisk(lay_out((64 * KIB, HOLE), (1 << 40, ZERO), (1 << 40, HOLE), (64 * KIB, DATA)))

    class OnlyTheEnd(KeptWriter):
        def write_at(self, offset: int, data: Buffer) -> None:
            self.ranges.append((offset, offset + len(data)))

    writer = OnlyTheEnd(0, 65536)
    copy(disk, writer)
    start = 64 * KIB + (2 << 40)
    assert writer.ranges == [(start, start + 64 * KIB)]
    assert disk.reads == [(start, 64 * KIB)]


def test_only_the_range_that_is_asked_for_is_copied() -> None:
    disk = MappedDisk(lay_out((16 * MIB, DATA)))
    writer = KeptWriter(disk.size, 65536)
    result = copy(disk, writer, 5 * MIB, 9 * MIB, workers=2)
    assert result.data == 4 * MIB
    assert writer.data[5 * MIB : 9 * MIB] == disk.whole()[5 * MIB : 9 * MIB]
    assert not any(writer.data[: 5 * MIB])
    assert not any(writer.data[9 * MIB :])


def test_pieces_are_taken_in_ascending_order() -> None:
    disk = MappedDisk(lay_out((32 * MIB, DATA)))
    copy(disk, KeptWriter(disk.size, 512), workers=1)
    assert disk.reads == sorted(disk.reads)
    assert len(disk.reads) == disk.size // PIECE


class FailingDisk(MappedDisk):
    def read_at(self, offset: int, length: int) -> Buffer:
        if offset >= 2 * PIECE:
            raise CorruptDiskError("the third grain does not inflate")
        return super().read_at(offset, length)


class BrokenMap(MappedDisk):
    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        yield Extent(0, 4 * MIB, DATA)
        raise CorruptDiskError("the second table is damaged")


class FullWriter(KeptWriter):
    def write_at(self, offset: int, data: Buffer) -> None:
        if offset >= 2 * PIECE:
            raise OutOfSpaceError("no room left")
        super().write_at(offset, data)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_an_error_of_the_reader_ends_the_copy_and_is_raised(workers: int) -> None:
    disk = FailingDisk(lay_out((400 * MIB, DATA)))
    writer = KeptWriter(disk.size, 65536)
    with no_thread_left_behind(), pytest.raises(CorruptDiskError, match="does not inflate"):
        copy(disk, writer, workers=workers)
    assert len(writer.ranges) <= 2


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_an_error_of_the_writer_ends_the_copy_and_is_raised(workers: int) -> None:
    disk = MappedDisk(lay_out((400 * MIB, DATA)))
    with no_thread_left_behind(), pytest.raises(OutOfSpaceError):
        copy(disk, FullWriter(disk.size, 65536), workers=workers)
    assert len(disk.reads) <= 2 + workers


@pytest.mark.parametrize("workers", [1, 3])
def test_a_map_that_fails_on_the_way_ends_the_copy(workers: int) -> None:
    disk = BrokenMap(lay_out((64 * MIB, DATA)))
    with no_thread_left_behind(), pytest.raises(CorruptDiskError, match="second table"):
        copy(disk, KeptWriter(disk.size, 65536), workers=workers)


def test_what_progress_raises_ends_the_copy() -> None:
    def refuse(copied: int) -> None:
        raise RuntimeError(f"{copied} bytes are too many")

    disk = MappedDisk(lay_out((64 * MIB, DATA)))
    with no_thread_left_behind(), pytest.raises(RuntimeError, match="too many"):
        copy(disk, KeptWriter(disk.size, 65536), workers=2, progress=refuse)
    assert len(disk.reads) <= 4


def test_cancelling_ends_the_copy_after_the_pieces_in_hand() -> None:
    cancelled = threading.Event()
    disk = MappedDisk(lay_out((400 * MIB, DATA)))
    with no_thread_left_behind(), pytest.raises(TaskCancelledError):
        copy(
            disk,
            KeptWriter(disk.size, 65536),
            workers=2,
            progress=lambda copied: cancelled.set(),
            cancelled=cancelled,
        )
    assert len(disk.reads) <= 4


def test_ctrl_c_ends_every_thread_before_it_goes_on() -> None:
    class SlowDisk(MappedDisk):
        interrupted = False

        def read_at(self, offset: int, length: int) -> Buffer:
            if len(self.reads) >= 4 and not self.interrupted:
                self.interrupted = True
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            return super().read_at(offset, length)

    disk = SlowDisk(lay_out((400 * MIB, DATA)))
    with no_thread_left_behind(), pytest.raises(KeyboardInterrupt):
        copy(disk, KeptWriter(disk.size, 65536), workers=2)
    assert len(disk.reads) < 20


def test_progress_is_told_by_one_thread_at_a_time() -> None:
    inside = threading.Lock()

    def tell(copied: int) -> None:
        assert inside.acquire(blocking=False)
        time.sleep(0.002)
        inside.release()

    disk = MappedDisk(lay_out((40 * MIB, DATA)))
    assert copy(disk, KeptWriter(disk.size, 65536), workers=4, progress=tell).data == 40 * MIB


def test_a_digest_is_gone_on_with_from_every_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["vmferry.convert.copy"], "_COLLAPSE_AFTER", 1)
    disk = MappedDisk(lay_out((24 * MIB, DATA)))
    tree = DigestTree(disk.size)
    notes: list[tuple[int, bytes]] = []

    def note(offset: int) -> None:
        time.sleep(0.005)  # the other threads get ahead
        notes.append((offset, tree.pack()))

    copy(disk, KeptWriter(disk.size, 65536), workers=4, digest=tree, checkpoint=note)
    expected = tree.finish()
    for offset, nodes in notes:
        other = DigestTree(disk.size)
        other.merge(nodes)
        copy(disk, KeptWriter(disk.size, 65536), offset, digest=other)
        assert other.finish() == expected, offset
