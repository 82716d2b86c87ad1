"""The qcow2 reader, on images that ``qemu-img`` made."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.blob import FileBlob, MemoryBlob
from vmferry.disk import Disk, SupportsStoredSize
from vmferry.errors import UnsafeDiskError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import open_disk
from vmferry.formats.qcow2 import FORMAT
from vmferry.units import KIB, MIB, TIB

_SIZE = 5 * MIB + 37 * 512


def qemu_img(*arguments: str | Path) -> str:
    return subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def guest_bytes(size: int = _SIZE) -> bytes:
    """Text, noise and holes, in pieces that fit no cluster."""
    chance = random.Random(7)
    data = bytearray(size)
    position = 0
    while position < size:
        length = min(chance.choice([512, 9 * 512, 70 * KIB, 300 * KIB, MIB]), size - position)
        match chance.choice(["text", "noise", "hole"]):
            case "text":
                piece = (b"%d bottles of beer on the wall, " % length * (length // 20 + 1))[:length]
            case "noise":
                piece = chance.randbytes(length)
            case _:
                piece = bytes(length)
        data[position : position + length] = piece
        position += length
    return bytes(data)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qcow2") / "disk.raw"
    path.write_bytes(guest_bytes())
    return path


@pytest.fixture(scope="module")
def compressed(raw: Path) -> Path:
    path = raw.with_name("compressed.qcow2")
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", raw, path)
    return path


def covered(disk: Disk) -> list[Extent]:
    """All extents of ``disk``, which cover it without gaps and differ from their neighbours."""
    extents = list(disk.extents())
    assert [extent.end for extent in extents] == [*(extent.start for extent in extents[1:]), disk.size]
    assert all(one.kind is not other.kind for one, other in pairwise(extents))
    return extents


@pytest.mark.slow
@pytest.mark.parametrize("compat", ["0.10", "1.1"])
@pytest.mark.parametrize("cluster_size", [512, 4 * KIB, 64 * KIB, 2 * MIB])
@pytest.mark.parametrize("compress", [False, True])
def test_images_of_qemu_are_read(raw: Path, tmp_path: Path, compat: str, cluster_size: int, compress: bool) -> None:
    path = tmp_path / "disk.qcow2"
    options = f"compat={compat},cluster_size={cluster_size}"
    qemu_img("convert", *(["-c"] if compress else []), "-f", "raw", "-O", "qcow2", "-o", options, raw, path)
    disk = open_disk(FileBlob(path))
    expected = raw.read_bytes()
    assert disk.size == _SIZE
    assert disk.read_at(0, _SIZE) == expected
    for extent in covered(disk):
        if extent.kind is not ExtentKind.DATA:
            assert not any(expected[extent.start : extent.end])
    shown = json.loads(qemu_img("map", "-f", "qcow2", "--output=json", path))
    data = sum(min(entry["start"] + entry["length"], _SIZE) - entry["start"] for entry in shown if entry["data"])
    assert sum(extent.length for extent in disk.extents() if extent.kind is ExtentKind.DATA) == data
    assert isinstance(disk, SupportsStoredSize)
    assert 0 < disk.stored_size() <= path.stat().st_size
    disk.close()


@settings(deadline=None, max_examples=60)
@given(offset=st.integers(0, _SIZE), length=st.integers(0, 2 * MIB))
def test_any_range_is_read(raw: Path, compressed: Path, offset: int, length: int) -> None:
    disk = FORMAT.open(FileBlob(compressed))
    length = min(length, _SIZE - offset)
    assert disk.read_at(offset, length) == raw.read_bytes()[offset : offset + length]
    assert sum(extent.length for extent in disk.extents(offset, offset + length)) == length
    disk.close()


def test_threads_share_a_disk(raw: Path, compressed: Path) -> None:
    disk = FORMAT.open(FileBlob(compressed))
    starts = range(0, _SIZE, 100 * KIB)
    with ThreadPoolExecutor(8) as pool:
        pieces = pool.map(lambda start: bytes(disk.read_at(start, min(100 * KIB, _SIZE - start))), starts)
        assert b"".join(pieces) == raw.read_bytes()
    disk.close()


class Counting(MemoryBlob):
    """Counts the requests that a network would have to carry."""

    reads = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().read_at(offset, length)


def test_neighbours_are_read_at_once(raw: Path, compressed: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, plain)
    for path, most in ((plain, 8), (compressed, 12)):
        blob = Counting(path.read_bytes())
        disk = FORMAT.open(blob)
        list(disk.extents())
        blob.reads = 0
        disk.read_at(0, disk.size)
        assert blob.reads <= most


def test_a_range_outside_the_disk_is_a_mistake_of_the_caller(compressed: Path) -> None:
    disk = FORMAT.open(FileBlob(compressed))
    for offset, length in ((-1, 1), (0, _SIZE + 1), (_SIZE, 1), (0, -1)):
        with pytest.raises(ValueError, match="is not inside a disk"):
            disk.read_at(offset, length)
    disk.close()
    disk.close()


def test_a_written_zero_hides_and_a_hole_does_not(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", path, "1M")
    commands = ["write -P 65 0 192k", "write -z 64k 64k", "write -z 512k 64k"]
    subprocess.run(
        ["qemu-io", "-f", "qcow2", *(part for command in commands for part in ("-c", command)), str(path)],
        check=True,
        capture_output=True,
    )
    disk = FORMAT.open(FileBlob(path))
    data, zero, hole = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.HOLE
    assert [(extent.length // (64 * KIB), extent.kind) for extent in covered(disk)] == [
        *((1, data), (1, zero), (1, data), (5, hole), (1, zero), (7, hole))
    ]
    assert disk.read_at(0, 192 * KIB) == b"A" * 64 * KIB + bytes(64 * KIB) + b"A" * 64 * KIB
    disk.close()


def test_internal_snapshots_are_left_aside(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, path)
    qemu_img("snapshot", "-c", "before", path)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 66 1M 100k", str(path)], check=True, capture_output=True)
    expected = bytearray(raw.read_bytes())
    expected[MIB : MIB + 100 * KIB] = b"B" * 100 * KIB
    disk = FORMAT.open(FileBlob(path))
    assert disk.read_at(0, _SIZE) == expected
    disk.close()


def test_a_dirty_image_is_read(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", "lazy_refcounts=on", raw, path)
    image = bytearray(path.read_bytes())
    image[79] |= 1
    disk = FORMAT.open(MemoryBlob(bytes(image)))
    assert disk.read_at(0, _SIZE) == raw.read_bytes()


def test_a_tail_that_was_cut_off_reads_as_zeros(tmp_path: Path) -> None:
    source, path = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    source.write_bytes(b"A" * 128 * KIB)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", source, path)
    image = path.read_bytes()
    disk = FORMAT.open(MemoryBlob(image[: image.rindex(b"A") + 1 - 4096]))
    assert disk.read_at(0, 128 * KIB) == b"A" * (128 * KIB - 4096) + bytes(4096)


def test_a_size_that_is_not_whole_sectors_is_rounded_up(tmp_path: Path) -> None:
    source, path = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    source.write_bytes(b"A" * 1024)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", source, path)
    image = bytearray(path.read_bytes())
    struct.pack_into(">Q", image, 24, 1000)
    disk = FORMAT.open(MemoryBlob(bytes(image)))
    assert disk.size == 1024
    assert [(extent.start, extent.length) for extent in disk.extents()] == [(0, 1024)]


@pytest.mark.parametrize("size", ["512", "64k", "1T", "16T"])
def test_an_empty_disk_is_one_hole(tmp_path: Path, size: str) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", path, size)
    disk = FORMAT.open(FileBlob(path))
    assert [extent.kind for extent in covered(disk)] == [ExtentKind.HOLE]
    assert disk.read_at(disk.size - 512, 512) == bytes(512)
    disk.close()


def test_a_large_disk_is_mapped_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", path, "8T")
    for place in ("0", "5T", "8191G"):
        command = ["qemu-io", "-f", "qcow2", "-c", f"write -P 67 {place} 64k", str(path)]
        subprocess.run(command, check=True, capture_output=True)
    disk = FORMAT.open(FileBlob(path))
    found = [extent.start for extent in covered(disk) if extent.kind is ExtentKind.DATA]
    assert found == [0, 5 * TIB, 8191 << 30]
    assert [extent.kind for extent in disk.extents(5 * TIB + 1024, 5 * TIB + 2048)] == [ExtentKind.DATA]
    assert disk.read_at(5 * TIB - 512, 1024) == bytes(512) + b"C" * 512
    disk.close()


@pytest.fixture
def reference(tmp_path: Path) -> Iterator[Path]:
    """An overlay, its backing file and an image with a data file, side by side."""
    qemu_img("create", "-f", "qcow2", tmp_path / "base.qcow2", "1M")
    qemu_img("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", tmp_path / "overlay.qcow2")
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path}/data.raw", tmp_path / "outside.qcow2", "1M")
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("overlay", r"overlay of another file, base\.qcow2, .*--parent.*qemu-img convert"),
        ("outside", r"data lies in another file, .*--extent.*qemu-img convert"),
    ],
)
def test_what_is_not_read_is_refused_with_the_remedy(reference: Path, name: str, reason: str) -> None:
    blob = FileBlob(reference / f"{name}.qcow2")
    with pytest.raises(UnsafeDiskError, match=reason):
        FORMAT.open(blob)
    blob.close()
