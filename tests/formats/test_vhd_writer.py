"""VHDs of ours obey the rules of Hyper-V and Azure, and other programs read the same bytes out of them."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path

import pytest
import pyvhdi
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.blob import FileBlob
from vmferry.convert import copy
from vmferry.disk import OrderedDiskWriter
from vmferry.errors import UnsupportedFeatureError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import SupportsCreate, WriteOptions, open_disk
from vmferry.formats.raw import FORMAT as RAW
from vmferry.formats.vhd import FORMAT
from vmferry.formats.vhd.footer import geometry
from vmferry.formats.vhd.writer import MAX_SIZE
from vmferry.stores.local import create_file
from vmferry.units import GIB, KIB, MIB, round_up

KINDS = ["dynamic", "fixed"]
BLOCK = 2 * MIB


def random_disk(size: int, *pieces: tuple[int, int], seed: int = 0) -> bytes:
    """``size`` bytes of zeros with random bytes in ``(place, length)``."""
    data = bytearray(size)
    for place, length in pieces:
        data[place : place + length] = random.Random(place + seed).randbytes(length)
    return bytes(data)


def make(data: bytes, path: Path, subformat: str | None = None, *, workers: int = 2) -> bytes:
    """``data`` as a VHD at ``path``, by the way that a conversion takes."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(data)
    disk = RAW.open(FileBlob(raw))
    writer = FORMAT.create(create_file(path, sync=False), disk.size, disk.extents(), WriteOptions(subformat))
    copy(disk, writer, workers=workers)
    writer.finish()
    disk.close()
    assert writer.size == round_up(len(data), MIB)
    return path.read_bytes()


def by_qemu(path: Path) -> bytes:
    out = path.with_suffix(".out")
    source = f"driver=vpc,force_size_calc=current_size,file.filename={path}"
    subprocess.run(["qemu-img", "convert", "--image-opts", source, "-O", "raw", str(out)], check=True, timeout=60)
    return out.read_bytes()


def by_libvhdi(path: Path) -> bytes:
    file = pyvhdi.file()
    file.open(str(path))
    try:
        data: bytes = file.read_buffer_at_offset(file.get_media_size(), 0)
    finally:
        file.close()
    return data


def by_7z(path: Path) -> bytes:
    """What 7z unpacks of it; it names the disk after the file and goes no further into partitions with -tvhd."""
    command = ["7z", "e", "-tvhd", "-so", str(path)]
    return subprocess.run(command, check=True, timeout=60, capture_output=True).stdout


DISKS = {
    "empty": random_disk(5 * MIB),
    "first and last sector": random_disk(9 * MIB, (0, 512), (9 * MIB - 512, 512)),
    "odd size": random_disk(5 * MIB + 1536, (MIB - 512, 1024), (4 * MIB, MIB + 1536)),
    "a single sector": random_disk(512, (0, 512)),
    "full": random_disk(6 * MIB, (0, 6 * MIB)),
    "holes in blocks": random_disk(12 * MIB, (0, 4096), (BLOCK + 8192, 100), (5 * BLOCK - 1, 1)),
}


@pytest.mark.parametrize("subformat", KINDS)
@pytest.mark.parametrize("name", DISKS)
def test_other_programs_read_the_same_bytes(name: str, subformat: str, tmp_path: Path) -> None:
    data, path = DISKS[name], tmp_path / "disk.vhd"
    make(data, path, subformat)
    expected = data.ljust(round_up(len(data), MIB), b"\0")
    assert by_qemu(path) == expected
    assert by_libvhdi(path) == expected
    assert by_7z(path) == expected
    disk = open_disk(FileBlob(path), FORMAT)
    assert bytes(disk.read_at(0, disk.size)) == expected
    disk.close()


@pytest.mark.parametrize("subformat", KINDS)
@pytest.mark.parametrize("size", [512, MIB - 512, MIB, 20 * MIB, 31 * MIB + 7 * 512])
def test_azures_and_hyper_vs_rules_are_kept(size: int, subformat: str, tmp_path: Path) -> None:
    """Azure: a whole number of MiB, in the footer and in the file; Hyper-V: one size that all programs see."""
    file = make(random_disk(size, (0, 512)), tmp_path / "disk.vhd", subformat)
    footer = file[-512:]
    original, current, cylinders, heads, sectors, kind = struct.unpack_from(">QQHBBI", footer, 40)
    assert original == current == round_up(size, MIB)
    assert kind == (2 if subformat == "fixed" else 3)
    assert (cylinders, heads, sectors) == geometry(current)
    assert footer[28:40] == b"win \x00\x0a\x00\x00Wi2k"
    assert footer[84] == 0
    if subformat == "fixed":
        assert (len(file) - 512) % MIB == 0
        assert len(file) - 512 == current
        assert footer[16:24] == b"\xff" * 8
    else:
        assert file[:512] == footer
        assert len(file) % 4096 == 0  # the next block's bitmap takes the footer's place, so its data is aligned


def test_blocks_are_aligned_and_their_bitmaps_full(tmp_path: Path) -> None:
    file = make(random_disk(10 * BLOCK, (0, 512), (3 * BLOCK, BLOCK), (9 * BLOCK, 1)), tmp_path / "disk.vhd")
    assert file[512:520] == b"cxsparse"
    bat_at, version, entries, block_size = struct.unpack_from(">QIII", file, 512 + 16)
    assert (version, entries, block_size) == (0x10000, 10, BLOCK)
    bat = struct.unpack_from(">128I", file, bat_at)
    assert [number for number, place in enumerate(bat) if place != 0xFFFFFFFF] == [0, 3, 9]
    assert [bat[0], bat[3], bat[9]] == [7, 7 + 4104, 7 + 2 * 4104]  # as Windows places them, after a BAT of one sector
    for place in (bat[0], bat[3], bat[9]):
        assert (place * 512 + 512) % 4096 == 0
        assert file[place * 512 : place * 512 + 512] == b"\xff" * 512
    assert len(file) == (bat[9] + 4104) * 512 + 512


def test_a_table_of_many_sectors_keeps_the_alignment(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    size = 127 * GIB
    writer = FORMAT.create(create_file(path, sync=False), size, ())
    piece = random_disk(BLOCK, (BLOCK - 512, 512))
    writer.write(writer.place(writer.encode(size - BLOCK, piece)))
    writer.finish()
    disk = open_disk(FileBlob(path))
    assert disk.size == size
    assert list(disk.extents()) == [
        Extent(0, size - BLOCK, ExtentKind.HOLE),
        Extent(size - BLOCK, BLOCK, ExtentKind.DATA),
    ]
    assert bytes(disk.read_at(size - BLOCK, BLOCK)) == piece
    disk.close()
    assert path.stat().st_size % 4096 == 0
    info = subprocess.run(["qemu-img", "info", "-f", "vpc", path], check=True, capture_output=True, text=True).stdout
    assert f"({size} bytes)" in info


@pytest.mark.parametrize("subformat", KINDS)
def test_a_disk_of_2040_gib_fits_and_no_larger_one(subformat: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    writer = FORMAT.create(create_file(path, sync=False), MAX_SIZE, (), WriteOptions(subformat))
    piece = random_disk(BLOCK, (BLOCK - 512, 512))
    writer.write(writer.place(writer.encode(MAX_SIZE - BLOCK, piece)))
    writer.finish()
    disk = open_disk(FileBlob(path))
    assert disk.size == MAX_SIZE
    assert bytes(disk.read_at(MAX_SIZE - BLOCK, BLOCK)) == piece
    disk.close()
    with pytest.raises(UnsupportedFeatureError, match="write a VHDX instead"):
        FORMAT.create(create_file(tmp_path / "other.vhd"), MAX_SIZE + 512, (), WriteOptions(subformat))


def test_the_last_block_of_a_full_disk_still_has_a_place() -> None:
    """Every block of the largest disk has a sector number of 32 bits."""
    first, blocks = 1536 + 4 * (MAX_SIZE // BLOCK) + 4096, MAX_SIZE // BLOCK
    assert (first + blocks * (BLOCK + 4096)) // 512 < 0xFFFFFFFF


@pytest.mark.parametrize("subformat", KINDS)
def test_the_same_disk_gives_the_same_bytes_however_it_comes(subformat: str, tmp_path: Path) -> None:
    data = random_disk(21 * MIB + 512, (0, 3 * MIB), (8 * MIB + 512, 6 * MIB), (21 * MIB, 512))
    first = make(data, tmp_path / "one.vhd", subformat, workers=1)
    assert make(data, tmp_path / "two.vhd", subformat, workers=4) == first
    path = tmp_path / "three.vhd"
    writer = FORMAT.create(create_file(path, sync=False), len(data), (), WriteOptions(subformat))
    for start in range(0, len(data), BLOCK):  # a block at a time, zeros too
        writer.write(writer.place(writer.encode(start, data[start : start + BLOCK])))
    writer.finish()
    assert path.read_bytes() == first


@pytest.mark.parametrize("subformat", KINDS)
def test_two_disks_have_two_ids(subformat: str, tmp_path: Path) -> None:
    files = [
        make(random_disk(4 * MIB, (place, 512), seed=seed), tmp_path / "disk.vhd", subformat)
        for place, seed in ((0, 0), (0, 1), (BLOCK, -BLOCK))
    ]
    assert len({file[-512 + 68 : -512 + 84] for file in files}) == 3


def test_zeros_take_no_room(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    data = random_disk(64 * MIB, (30 * MIB, 4096))
    assert len(make(data, path)) < BLOCK + 16 * KIB
    assert path.stat().st_blocks * 512 < 64 * KIB
    make(data, path, "fixed")
    assert path.stat().st_blocks * 512 < 64 * KIB


def test_what_is_no_whole_block_is_the_callers_mistake(tmp_path: Path) -> None:
    writer = FORMAT.create(create_file(tmp_path / "disk.vhd"), 5 * MIB, ())
    assert isinstance(writer, OrderedDiskWriter)
    assert isinstance(FORMAT, SupportsCreate)
    for offset, length in ((512, BLOCK), (0, 512), (4 * MIB, BLOCK), (-BLOCK, BLOCK)):
        with pytest.raises(ValueError, match="not whole blocks"):
            writer.encode(offset, bytes(length))
    with pytest.raises(ValueError, match="no subformat 'thin'"):
        FORMAT.create(create_file(tmp_path / "other.vhd"), 5 * MIB, (), WriteOptions("thin"))
    writer.abort()
    assert list(tmp_path.glob("disk*")) == []


@settings(deadline=None, max_examples=15)
@given(draw=st.data())
def test_any_disk_comes_back(draw: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    size = draw.draw(st.integers(1, 16 * 1024)) * 512
    places = draw.draw(st.lists(st.tuples(st.integers(0, size), st.integers(1, 3 * MIB)), max_size=4))
    data = random_disk(size, *places)[:size]
    path = tmp_path_factory.mktemp("vhd") / "disk.vhd"
    file = make(data, path, draw.draw(st.sampled_from(KINDS)))
    disk = open_disk(FileBlob(path))
    assert bytes(disk.read_at(0, size)) == data
    assert not any(disk.read_at(size, disk.size - size))
    assert file[-512:-504] == b"conectix"
    disk.close()
    assert by_libvhdi(path)[:size] == data
