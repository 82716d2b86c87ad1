"""The copy to a writer that packs: all threads encode, yet every byte lies where one thread would have put it."""

from __future__ import annotations

import random
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.convert.fakes import MappedDisk, PackedWriter, lay_out
from vmferry.blob import Buffer
from vmferry.convert import copy
from vmferry.convert.copy import PIECE
from vmferry.errors import CorruptDiskError, UnsupportedFeatureError
from vmferry.extent import ExtentKind
from vmferry.units import KIB, MIB

DATA, ZERO, HOLE = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.HOLE


class JitteryDisk(MappedDisk):
    """Answers late, some pieces later than others."""

    def read_at(self, offset: int, length: int) -> Buffer:
        time.sleep(random.Random(offset).random() / 500)
        return super().read_at(offset, length)


@settings(deadline=None, max_examples=40)
@given(
    runs=st.lists(st.tuples(st.integers(1, 400), st.sampled_from([DATA, ZERO, HOLE])), min_size=1, max_size=12),
    granularity=st.sampled_from([512, 4096, 65536]),
    workers=st.integers(1, 4),
)
def test_the_copy_holds_what_the_disk_holds(runs: list[tuple[int, ExtentKind]], granularity: int, workers: int) -> None:
    disk = MappedDisk(lay_out(*((sectors * 512, kind) for sectors, kind in runs)))
    writer = PackedWriter(granularity)
    result = copy(disk, writer, workers=workers)
    assert writer.whole(disk.size) == disk.whole()
    assert all(one[0] + one[2] <= other[0] for one, other in pairwise(writer.index))
    assert result.data == len(writer.file)


@pytest.mark.parametrize("workers", [2, 5])
def test_threads_change_nothing_about_the_file(workers: int) -> None:
    runs = [(24 * MIB, DATA), (MIB, HOLE), (9 * MIB, DATA), (MIB, ZERO), (64 * KIB, DATA)]
    alone, together = PackedWriter(64 * KIB), PackedWriter(64 * KIB)
    copy(MappedDisk(lay_out(*runs)), alone, workers=1)
    copy(JitteryDisk(lay_out(*runs)), together, workers=workers)
    assert together.index == alone.index
    assert together.file == alone.file


def test_what_waits_for_its_turn_is_bounded() -> None:
    class StuckDisk(MappedDisk):
        """Its first piece comes when the others have had time to run far ahead."""

        def read_at(self, offset: int, length: int) -> Buffer:
            if offset == 0:
                time.sleep(0.3)
            return b"x" * length

    writer = PackedWriter(64 * KIB)
    copy(StuckDisk(lay_out((160 * MIB, DATA))), writer, workers=3)
    assert len(writer.index) == 160 * MIB // PIECE
    assert writer.most_encoded <= 3 * 2 + 3


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_an_error_while_pieces_wait_ends_the_copy(workers: int) -> None:
    class FailingDisk(MappedDisk):
        def read_at(self, offset: int, length: int) -> Buffer:
            if offset == 0:
                time.sleep(0.05)
                raise CorruptDiskError("the first grain does not inflate")
            return bytes(length)

    before = set(threading.enumerate())
    with pytest.raises(CorruptDiskError, match="does not inflate"):
        copy(FailingDisk(lay_out((160 * MIB, DATA))), PackedWriter(65536), workers=workers)
    assert set(threading.enumerate()) <= before


def test_a_format_that_is_full_ends_the_copy() -> None:
    class FullWriter(PackedWriter):
        def place(self, encoded: tuple[int, bytes]) -> list[tuple[int, bytes]]:
            if encoded[0]:
                raise UnsupportedFeatureError("the file would pass 2 TiB")
            return super().place(encoded)

    with pytest.raises(UnsupportedFeatureError, match="2 TiB"):
        copy(MappedDisk(lay_out((64 * MIB, DATA))), FullWriter(65536), workers=3)
