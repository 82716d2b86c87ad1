"""The raw writer, and the zero test that it shares with other writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.blob import Buffer
from vmferry.extent import is_zero, nonzero_runs
from vmferry.formats._raw_writer import RawWriter
from vmferry.stores.local import create_file
from vmferry.units import GIB, KIB, MIB


@st.composite
def sparse_bytes(draw: st.DrawFn, longest: int = 40_000) -> bytes:
    """Mostly zeros, with some other bytes and runs of them, of any length."""
    data = bytearray(draw(st.integers(0, longest)))
    for _ in range(draw(st.integers(0, 5)) if data else 0):
        start = draw(st.integers(0, len(data) - 1))
        end = draw(st.one_of(st.just(start + 1), st.integers(start, len(data))))
        data[start:end] = bytes([draw(st.integers(1, 255))]) * (end - start)
    return bytes(data)


def slow_runs(data: bytes, granularity: int) -> list[tuple[int, int]]:
    """The same as ``nonzero_runs``, one byte after the other."""
    runs: list[tuple[int, int]] = []
    for start in range(0, len(data), granularity):
        end = min(start + granularity, len(data))
        if not any(data[start:end]):
            continue
        if runs and runs[-1][1] == start:
            start = runs.pop()[0]
        runs.append((start, end))
    return runs


@settings(deadline=None, max_examples=150)
@given(sparse_bytes(), st.sampled_from([8, 512, 4096, 65536]), st.sampled_from([bytes, bytearray, memoryview]))
def test_nonzero_runs_are_found(data: bytes, granularity: int, kind: type[bytes | bytearray | memoryview]) -> None:
    assert list(nonzero_runs(kind(data), granularity)) == slow_runs(data, granularity)
    assert is_zero(kind(data)) == (not any(data))


def test_a_view_that_begins_at_an_odd_place_is_searched_too() -> None:
    data = bytes(4097) + b"x" + bytes(9000)
    assert list(nonzero_runs(memoryview(data)[1:], 4096)) == [(4096, 8192)]
    assert list(nonzero_runs(memoryview(data)[3:], 4096)) == [(0, 4096)]


@settings(deadline=None, max_examples=30)
@given(st.lists(sparse_bytes(), min_size=1, max_size=4))
def test_what_is_written_lies_there(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    pieces = [part.ljust(-(-len(part) // 4096) * 4096, b"\0") for part in parts]
    whole = b"".join(pieces) + b"tail"
    path = tmp_path_factory.mktemp("raw") / "disk.raw"
    writer = RawWriter(create_file(path, sync=False), len(whole))
    starts = np.cumsum([0, *(len(piece) for piece in pieces)]).tolist()
    for start, piece in reversed(list(zip(starts, [*pieces, b"tail"], strict=True))):
        writer.write_at(start, piece)
    writer.finish()
    assert path.read_bytes() == whole


def test_zeros_take_no_room(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    writer = RawWriter(create_file(path, sync=False), 4 * GIB)
    writer.write_at(0, b"x" * 4096 + bytes(MIB) + b"y" * 4096)
    writer.write_at(3 * GIB, bytes(8 * MIB))
    writer.finish()
    assert path.stat().st_size == 4 * GIB
    assert path.stat().st_blocks * 512 <= 64 * KIB


def test_a_disk_of_zeros_has_its_size(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    RawWriter(create_file(path), 12345 * 512).finish()
    assert path.read_bytes() == bytes(12345 * 512)


@pytest.mark.parametrize(("offset", "data"), [(-512, b"x" * 512), (4096, b"x" * 4097), (1 << 40, b"x")])
def test_nothing_is_written_outside_the_disk(tmp_path: Path, offset: int, data: Buffer) -> None:
    writer = RawWriter(create_file(tmp_path / "disk.raw"), 8192)
    with pytest.raises(ValueError, match="do not lie in a disk"):
        writer.write_at(offset, data)
    writer.abort()
    assert list(tmp_path.iterdir()) == []
