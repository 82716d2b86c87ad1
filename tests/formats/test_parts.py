"""Guest bytes in parts, from the grains of a VMDK to a file: the same as in one piece, wherever they are looked at."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.test_qcow2_writer import create
from tests.formats.test_vmdk_read import SPARSE, STREAM, fill, open_image
from tests.formats.vmdk_builder import Image, Layout, build
from vmferry.blob import PART_SIZE, BlobWriter, Buffer, Part, write_parts
from vmferry.convert import copy
from vmferry.convert.copy import PARTS_PIECE, PIECE, _Reader
from vmferry.digest import DigestTree
from vmferry.disk import DiskWriter, SupportsReadParts, SupportsWriteParts
from vmferry.errors import CorruptDiskError, OutOfSpaceError
from vmferry.extent import Extent, ExtentKind, nonzero_parts, nonzero_runs
from vmferry.formats._raw_writer import RawWriter
from vmferry.formats.qcow2.layout import CLUSTER_SIZE
from vmferry.guest.overlay import OverlayDisk
from vmferry.stores.local import create_file
from vmferry.units import KIB, SECTOR

GRAINS = 40
CAPACITY = 128 * GRAINS - 37
"""Sectors: the last grain is a short one."""

CONTENT = st.sampled_from(
    [
        bytes(PART_SIZE),
        b"x" * PART_SIZE,
        b"x" * 4096 + bytes(PART_SIZE - 4096),
        bytes(PART_SIZE - 1) + b"x",
        bytes(8192) + b"x" + bytes(PART_SIZE - 8193),
    ]
)
PARTS = st.lists(st.tuples(CONTENT, st.sampled_from([bytes, bytearray])).map(lambda pair: pair[1](pair[0])), min_size=1)


@st.composite
def cut_parts(draw: st.DrawFn) -> list[Part]:
    """Parts of which the last may be a short one."""
    parts = draw(PARTS)
    parts[-1] = parts[-1][: draw(st.integers(1, PART_SIZE // SECTOR)) * SECTOR]
    return parts


def full_image(layout: Layout = STREAM) -> tuple[Image, bytes]:
    """A disk without a hole, and what it must read as."""
    grain = layout.grain_sectors * SECTOR
    count = -(-CAPACITY * SECTOR // grain)
    content = {number: fill(number, grain) for number in range(count)}
    return build(CAPACITY, dict(content), layout), b"".join(content.values())[: CAPACITY * SECTOR]


def read_parts(image: Image, offset: int, length: int) -> Sequence[Part] | None:
    disk = open_image(image)
    assert isinstance(disk, SupportsReadParts)
    return disk.read_parts(offset, length)


@pytest.mark.parametrize("layout", [STREAM, replace(STREAM, short_last=True), replace(STREAM, reverse=True)])
@pytest.mark.parametrize(("first", "last"), [(0, GRAINS), (0, 1), (3, 20), (GRAINS - 1, GRAINS)])
def test_grains_are_parts(layout: Layout, first: int, last: int) -> None:
    image, expected = full_image(layout)
    end = min(last * PART_SIZE, len(expected))
    parts = read_parts(image, first * PART_SIZE, end - first * PART_SIZE)
    assert parts is not None
    assert [len(part) for part in parts[:-1]] == [PART_SIZE] * (last - first - 1)
    assert b"".join(parts) == expected[first * PART_SIZE : end]


def test_what_does_not_lie_in_parts_is_read_in_one_piece() -> None:
    full, size = full_image()[0], CAPACITY * SECTOR
    hole = build(CAPACITY, {0: fill(0), 2: fill(2)}, STREAM)
    assert read_parts(full, 0, 0) == []
    assert read_parts(full, 512, PART_SIZE) is None
    assert read_parts(full, 0, PART_SIZE + 512) is None
    assert read_parts(full, 0, size - 512) is None
    assert read_parts(hole, 0, 3 * PART_SIZE) is None
    assert read_parts(hole, 2 * PART_SIZE, PART_SIZE) == [fill(2)]
    assert read_parts(full_image(SPARSE)[0], 0, PART_SIZE) is None
    assert read_parts(full_image(SPARSE)[0], 0, 0) is None
    assert read_parts(full_image(replace(STREAM, grain_sectors=16))[0], 0, PART_SIZE) is None
    with pytest.raises(ValueError, match="is not inside"):
        read_parts(full, 0, size + PART_SIZE)


def test_a_damaged_grain_is_told_as_it_is_in_one_piece() -> None:
    damaged = {
        "does not inflate": replace(STREAM, compress=lambda data: b"\x78\x9c" + b"damaged" * 9),
        "inflates to 512 bytes": replace(STREAM, compress=lambda data: STREAM.compress(data[:512])),
    }
    for words, layout in damaged.items():
        image = full_image(layout)[0]
        with pytest.raises(CorruptDiskError, match=words) as in_parts:
            read_parts(image, PART_SIZE, 4 * PART_SIZE)
        with pytest.raises(CorruptDiskError) as in_one:
            open_image(image).read_at(PART_SIZE, 4 * PART_SIZE)
        assert str(in_parts.value) == str(in_one.value)


@given(cut_parts(), st.sampled_from([4096, PART_SIZE]))
@settings(deadline=None, max_examples=60)
def test_runs_of_parts_are_those_of_the_whole(parts: list[Part], granularity: int) -> None:
    whole, runs = b"".join(parts), list(nonzero_parts(parts, granularity))
    assert [(start, start + sum(map(len, run))) for start, run in runs] == list(nonzero_runs(whole, granularity))
    assert all(b"".join(run) == whole[start : start + sum(map(len, run))] for start, run in runs)


@given(cut_parts(), st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_the_digest_is_that_of_the_whole(parts: list[Part], before: int) -> None:
    whole = b"".join(parts)
    trees = [DigestTree(before * PART_SIZE + len(whole)) for _ in range(2)]
    trees[0].add(before * PART_SIZE, whole)
    trees[1].add_parts(before * PART_SIZE, parts)
    assert trees[0].finish() == trees[1].finish()


def test_a_digest_takes_whole_leaves() -> None:
    tree = DigestTree(4 * PART_SIZE)
    for offset, parts in ((512, [bytes(PART_SIZE)]), (0, [bytes(512)]), (4 * PART_SIZE, [bytes(PART_SIZE)])):
        with pytest.raises(ValueError, match="are not whole leaves"):
            tree.add_parts(offset, parts)


def make_qcow2(target: BlobWriter, size: int) -> DiskWriter:
    return create(target, size, [Extent(0, size, ExtentKind.DATA)])


@pytest.mark.parametrize("make", [RawWriter, make_qcow2])
@given(parts=cut_parts())
@settings(deadline=None, max_examples=25)
def test_writers_write_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, make: Callable[[BlobWriter, int], DiskWriter], parts: list[Part]
) -> None:
    folder, whole = tmp_path_factory.mktemp("parts"), b"".join(parts)
    for name in ("one", "parts"):
        writer = make(create_file(folder / name, sync=False), len(whole))
        if name == "one":
            writer.write_at(0, whole)
        else:
            assert isinstance(writer, SupportsWriteParts)
            writer.write_parts(0, parts)
        writer.finish()
    assert (folder / "one").read_bytes() == (folder / "parts").read_bytes()
    assert (folder / "one").stat().st_blocks == (folder / "parts").stat().st_blocks


@pytest.mark.parametrize("make", [RawWriter, make_qcow2])
def test_parts_outside_the_disk_are_refused(tmp_path: Path, make: Callable[[BlobWriter, int], DiskWriter]) -> None:
    writer = make(create_file(tmp_path / "disk"), CLUSTER_SIZE)
    assert isinstance(writer, SupportsWriteParts)
    with pytest.raises(ValueError, match="disk of 64 KiB"):
        writer.write_parts(0, [bytes(PART_SIZE), bytes(PART_SIZE)])
    writer.abort()


@pytest.mark.parametrize("taken", [1, 4095, 3 * KIB, 1 << 40])
def test_a_file_takes_as_many_parts_as_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    parts = [bytes([number % 251 + 1]) * 1024 for number in range(2500)]  # more than one pwritev takes
    gather = os.pwritev

    def take_some(fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        return gather(fd, [b"".join(buffers)[:taken]], offset)

    monkeypatch.setattr(os, "pwritev", take_some if taken < 1 << 40 else gather)
    writer = create_file(tmp_path / "file", sync=False)
    write_parts(writer, 512, parts)
    writer.finish()
    assert (tmp_path / "file").read_bytes() == bytes(512) + b"".join(parts)


def test_no_room_is_said_for_parts_too(tmp_path: Path) -> None:
    writer = create_file(tmp_path / "file", sync=False)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._fd)
    os.close(full)
    with pytest.raises(OutOfSpaceError, match="No room left while writing"):
        write_parts(writer, 0, [b"x" * PART_SIZE])
    writer.abort()


def test_what_was_prepared_still_lies_in_parts(tmp_path: Path) -> None:
    image, expected = full_image()
    overlay = OverlayDisk(open_image(image))
    overlay.write_at(20 * PART_SIZE + SECTOR, b"w" * SECTOR)
    changed = expected[: 20 * PART_SIZE + SECTOR] + b"w" * SECTOR + expected[20 * PART_SIZE + 2 * SECTOR :]
    assert overlay.read_parts(0, 0) == []
    parts = overlay.read_parts(18 * PART_SIZE, 2 * PART_SIZE)
    assert parts is not None
    assert b"".join(parts) == expected[18 * PART_SIZE : 20 * PART_SIZE]
    assert overlay.read_parts(19 * PART_SIZE, 2 * PART_SIZE) is None
    assert OverlayDisk(open_image(full_image(SPARSE)[0])).read_parts(0, 0) is None
    with pytest.raises(ValueError, match="is not inside"):
        overlay.read_parts(0, GRAINS * PART_SIZE + PART_SIZE)
    writer = RawWriter(create_file(tmp_path / "disk.raw", sync=False), len(expected))
    copy(overlay, writer)
    writer.finish()
    assert (tmp_path / "disk.raw").read_bytes() == changed


def test_a_copy_goes_in_parts_where_both_sides_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, expected = full_image()
    joined: list[int] = []
    monkeypatch.setattr(RawWriter, "write_at", lambda writer, offset, data: joined.append(offset))
    writer, digest = RawWriter(create_file(tmp_path / "disk.raw", sync=False), len(expected)), DigestTree(len(expected))
    result = copy(open_image(image), writer, digest=digest)
    writer.finish()
    assert result.data == len(expected)
    assert not joined
    assert (tmp_path / "disk.raw").read_bytes() == expected
    one = DigestTree(len(expected))
    one.add(0, expected)
    assert digest.finish() == one.finish()


def test_pieces_are_larger_where_few_threads_have_parts_in_hand() -> None:
    parted, plain = open_image(full_image()[0]), open_image(full_image(SPARSE)[0])
    assert _Reader(parted, PART_SIZE, 4, parts=True).piece == PARTS_PIECE
    assert _Reader(parted, PART_SIZE, 5, parts=True).piece == PIECE  # the memory of a conversion
    assert _Reader(parted, PART_SIZE, 4, parts=False).piece == PIECE
    assert _Reader(plain, PART_SIZE, 4, parts=True).piece == PIECE
