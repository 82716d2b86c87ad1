"""VDIs of ours: ``qemu-img`` finds no fault with them, and it and 7z read the same bytes out of them."""

from __future__ import annotations

import json
import random
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.blob import FileBlob
from vmferry.convert import copy
from vmferry.disk import OrderedDiskWriter
from vmferry.errors import UnsupportedFeatureError
from vmferry.formats import WriteOptions, open_disk
from vmferry.formats.raw import FORMAT as RAW
from vmferry.formats.vdi import FORMAT
from vmferry.stores.local import create_file
from vmferry.units import GIB, KIB, MIB, TIB

KINDS = ["dynamic", "fixed"]


def random_disk(size: int, *pieces: tuple[int, int], seed: int = 0) -> bytes:
    """``size`` bytes of zeros with random bytes in ``(place, length)``."""
    data = bytearray(size)
    for place, length in pieces:
        data[place : place + length] = random.Random(place + seed).randbytes(length)
    return bytes(data)


def make(data: bytes, path: Path, subformat: str | None = None, *, workers: int = 2) -> bytes:
    """``data`` as a VDI at ``path``, by the way that a conversion takes."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(data)
    disk = RAW.open(FileBlob(raw))
    writer = FORMAT.create(create_file(path, sync=False), disk.size, disk.extents(), WriteOptions(subformat))
    copy(disk, writer, workers=workers)
    writer.finish()
    disk.close()
    return path.read_bytes()


def check(path: Path) -> None:
    """Whether ``qemu-img`` finds no fault with the image at ``path``."""
    command = ["qemu-img", "check", "-f", "vdi", "--output=json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["check-errors"] == 0
    assert "corruptions" not in report


def by_qemu(path: Path) -> bytes:
    out = path.with_suffix(".out")
    subprocess.run(["qemu-img", "convert", "-f", "vdi", "-O", "raw", str(path), str(out)], check=True, timeout=60)
    return out.read_bytes()


def by_7z(path: Path) -> bytes:
    command = ["7z", "e", "-tvdi", "-so", str(path)]
    return subprocess.run(command, check=True, timeout=60, capture_output=True).stdout


DISKS = {
    "empty": random_disk(5 * MIB),
    "first and last sector": random_disk(9 * MIB, (0, 512), (9 * MIB - 512, 512)),
    "odd size": random_disk(5 * MIB + 1536, (MIB - 512, 1024), (4 * MIB, MIB + 1536)),
    "a single sector": random_disk(512, (0, 512)),
    "full": random_disk(6 * MIB, (0, 6 * MIB)),
    "holes in blocks": random_disk(12 * MIB, (0, 4096), (2 * MIB + 8192, 100), (5 * MIB - 1, 1)),
}


@pytest.mark.parametrize("subformat", KINDS)
@pytest.mark.parametrize("name", DISKS)
def test_other_programs_read_the_same_bytes(name: str, subformat: str, tmp_path: Path) -> None:
    data, path = DISKS[name], tmp_path / "disk.vdi"
    make(data, path, subformat)
    check(path)
    assert by_qemu(path) == data
    assert by_7z(path) == data
    disk = open_disk(FileBlob(path))
    assert bytes(disk.read_at(0, disk.size)) == data
    disk.close()


@pytest.mark.parametrize("subformat", KINDS)
def test_the_header_is_that_of_version_1_1(subformat: str, tmp_path: Path) -> None:
    file = make(random_disk(5 * MIB, (3 * MIB, 512)), tmp_path / "disk.vdi", subformat)
    signature, version, header_size, kind, flags = struct.unpack_from("<IIIII", file, 64)
    assert (signature, version, header_size, flags) == (0xBEDA107F, 0x10001, 400, 0)
    assert kind == (2 if subformat == "fixed" else 1)
    map_at, data_at = struct.unpack_from("<II", file, 340)
    assert (map_at, data_at) == (MIB, 2 * MIB)
    size, block_size, extra, blocks, allocated = struct.unpack_from("<QIIII", file, 368)
    assert (size, block_size, extra, blocks) == (5 * MIB, MIB, 0, 5)
    assert allocated == (5 if subformat == "fixed" else 1)
    entries = struct.unpack_from("<5I", file, map_at)
    hole = 0xFFFFFFFF
    assert entries == ((0, 1, 2, 3, 4) if subformat == "fixed" else (hole, hole, hole, 0, hole))
    assert len(file) == data_at + allocated * MIB
    image, modification = file[392:408], file[408:424]
    assert image != modification
    assert bytes(16) not in (image, modification)
    assert file[424:456] == bytes(32)


@pytest.mark.parametrize("subformat", KINDS)
def test_the_same_disk_gives_the_same_bytes_however_it_comes(subformat: str, tmp_path: Path) -> None:
    data = random_disk(13 * MIB + 512, (0, 3 * MIB), (8 * MIB + 512, 2 * MIB), (13 * MIB, 512))
    first = make(data, tmp_path / "one.vdi", subformat, workers=1)
    assert make(data, tmp_path / "two.vdi", subformat, workers=4) == first
    path = tmp_path / "three.vdi"
    writer = FORMAT.create(create_file(path, sync=False), len(data), (), WriteOptions(subformat))
    for start in range(0, len(data), MIB):
        writer.write(writer.place(writer.encode(start, data[start : start + MIB])))
    writer.finish()
    assert path.read_bytes() == first
    other = make(random_disk(len(data), (0, 3 * MIB), seed=1), tmp_path / "four.vdi", subformat)
    assert other[392:408] != first[392:408]


def test_zeros_take_no_room(tmp_path: Path) -> None:
    path = tmp_path / "disk.vdi"
    data = random_disk(64 * MIB, (30 * MIB, 4096))
    assert len(make(data, path)) == 3 * MIB
    assert path.stat().st_blocks * 512 < 64 * KIB
    make(data, path, "fixed")
    assert path.stat().st_blocks * 512 < 64 * KIB


def test_a_disk_of_8_tib_fits_and_no_larger_one(tmp_path: Path) -> None:
    path = tmp_path / "disk.vdi"
    writer = FORMAT.create(create_file(path, sync=False), 8 * TIB, ())
    piece = random_disk(MIB, (MIB - 512, 512))
    writer.write(writer.place(writer.encode(8 * TIB - MIB, piece)))
    writer.finish()
    disk = open_disk(FileBlob(path))
    assert disk.size == 8 * TIB
    assert bytes(disk.read_at(8 * TIB - MIB, MIB)) == piece
    assert [extent.length for extent in disk.extents()] == [8 * TIB - MIB, MIB]
    disk.close()
    with pytest.raises(UnsupportedFeatureError, match="write a VHDX or a qcow2 instead"):
        FORMAT.create(create_file(tmp_path / "other.vdi"), 8 * TIB + 512, ())


def test_what_is_no_whole_block_is_the_callers_mistake(tmp_path: Path) -> None:
    writer = FORMAT.create(create_file(tmp_path / "disk.vdi"), 5 * MIB - 512, ())
    assert isinstance(writer, OrderedDiskWriter)
    for offset, length in ((512, MIB), (0, 512), (4 * MIB, MIB), (-MIB, MIB)):
        with pytest.raises(ValueError, match="not whole blocks"):
            writer.encode(offset, bytes(length))
    with pytest.raises(ValueError, match="no subformat 'thin'"):
        FORMAT.create(create_file(tmp_path / "other.vdi"), GIB, (), WriteOptions("thin"))
    writer.abort()
    assert list(tmp_path.glob("disk*")) == []


@settings(deadline=None, max_examples=10)
@given(draw=st.data())
def test_any_disk_comes_back(draw: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    size = draw.draw(st.integers(1, 16 * 1024)) * 512
    places = draw.draw(st.lists(st.tuples(st.integers(0, size), st.integers(1, 3 * MIB)), max_size=4))
    data = random_disk(size, *places)[:size]
    path = tmp_path_factory.mktemp("vdi") / "disk.vdi"
    make(data, path, draw.draw(st.sampled_from(KINDS)))
    disk = open_disk(FileBlob(path))
    assert bytes(disk.read_at(0, disk.size)) == data
    disk.close()
    check(path)
    assert by_qemu(path) == data
