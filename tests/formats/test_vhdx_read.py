"""VHDX: what QEMU writes is read as QEMU reads it; what it does not write is read as the specification says."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import google_crc32c
import pytest
import pyvhdi
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats import vhdx_builder as vhdx
from tests.formats.vhdx_builder import MIB, Picture, linkage, log_entry
from vmferry.blob import FileBlob, MemoryBlob
from vmferry.disk import Disk, SupportsFacts
from vmferry.errors import CorruptDiskError, UnknownFormatError, UnsupportedFeatureError, VmferryError
from vmferry.extent import ExtentKind
from vmferry.folder import Companions
from vmferry.formats import FORMATS, open_disk
from vmferry.formats.vhdx import FORMAT
from vmferry.formats.vhdx.structures import chunk_ratio, crc32c
from vmferry.units import TIB


def pattern(seed: int, length: int = MIB) -> bytes:
    return random.Random(seed).randbytes(length)


def opened(content: bytes, *parents: bytes) -> Disk:
    blobs = tuple(MemoryBlob(parent, f"parent{number}.vhdx") for number, parent in enumerate(parents))
    return FORMAT.open(MemoryBlob(content, "disk.vhdx"), Companions(parents=blobs))


def whole(disk: Disk) -> bytes:
    return bytes(disk.read_at(0, disk.size))


def runs(disk: Disk) -> list[tuple[int, int, str]]:
    return [(extent.start, extent.length, extent.kind.value) for extent in disk.extents()]


def warnings(disk: Disk) -> str:
    assert isinstance(disk, SupportsFacts)
    return " ".join(disk.facts.warnings)


@settings(deadline=None, max_examples=12)
@given(
    size=st.integers(1, 30_000),
    places=st.lists(st.tuples(st.integers(0, 29_999), st.integers(1, 3000)), max_size=5),
    block=st.sampled_from(["1M", "2M", "8M"]),
    subformat=st.sampled_from(["dynamic", "fixed"]),
)
def test_what_qemu_img_writes_is_read_as_it_reads_it(
    tmp_path_factory: pytest.TempPathFactory, size: int, places: list[tuple[int, int]], block: str, subformat: str
) -> None:
    folder = tmp_path_factory.mktemp("vhdx")
    raw, path = folder / "raw", folder / "disk.vhdx"
    data = bytearray(size * 512)
    for start, length in places:
        at = start % size * 512
        data[at : at + length * 512] = pattern(start, min(length * 512, len(data) - at))
    raw.write_bytes(data)
    options = f"subformat={subformat},block_size={block}"
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vhdx", "-o", options, str(raw), str(path)]
    subprocess.run(command, check=True, timeout=60)
    disk = open_disk(FileBlob(path))
    assert whole(disk)[: len(data)] == data
    assert isinstance(disk, SupportsFacts)
    assert disk.facts.subformat == subformat
    holes = [(start, length) for start, length, kind in runs(disk) if kind != "data"]
    assert not any(data[start : start + length].strip(b"\0") for start, length in holes)
    disk.close()


@pytest.mark.parametrize(("sector", "block", "ratio"), [(512, MIB, 4096), (512, 32 * MIB, 128), (4096, 32 * MIB, 1024)])
def test_the_chunk_ratio_is_that_of_the_specification(sector: int, block: int, ratio: int) -> None:
    assert chunk_ratio(block, sector) == ratio


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"\0\0\0\x00123456789", 0) == google_crc32c.value(b"\0\0\0\x00123456789")
    assert google_crc32c.value(b"123456789") == 0xE3069283


def test_every_state_of_a_block_means_what_the_specification_says() -> None:
    blocks = {0: (vhdx.PRESENT, pattern(1)), 1: (vhdx.ZERO, b""), 2: (vhdx.UNMAPPED, b""), 3: (vhdx.OLD_UNMAPPED, b"")}
    blocks |= {4: (vhdx.UNDEFINED, b""), 6: (vhdx.PRESENT, pattern(6))}
    disk = opened(Picture(7 * MIB, blocks=blocks).build())
    assert whole(disk) == pattern(1) + bytes(5 * MIB) + pattern(6)
    assert runs(disk) == [
        (0, MIB, "data"), (MIB, 4 * MIB, "zero"), (5 * MIB, MIB, "hole"), (6 * MIB, MIB, "data"),
    ]  # fmt: skip


@pytest.mark.slow
def test_bitmap_entries_stand_between_the_chunks(tmp_path: Path) -> None:
    """Past 4 GiB every block would be another's if they were forgotten."""
    blocks = {number: (vhdx.PRESENT, pattern(number)) for number in (0, 4095, 4096, 4097, 8192)}
    content = Picture(9000 * MIB, blocks=blocks).build()
    disk = opened(content)
    for number in blocks:
        assert bytes(disk.read_at(number * MIB, MIB)) == pattern(number)
    path = tmp_path / "disk.vhdx"
    path.write_bytes(content)
    theirs = tmp_path / "out.raw"
    subprocess.run(["qemu-img", "convert", "-f", "vhdx", "-O", "raw", str(path), str(theirs)], check=True, timeout=60)
    with theirs.open("rb") as file:
        for number in blocks:
            file.seek(number * MIB)
            assert file.read(MIB) == pattern(number)


def by_libvhdi(path: Path) -> bytes:
    handle = pyvhdi.file()
    handle.open(str(path))
    data: bytes = handle.read_buffer_at_offset(handle.get_media_size(), 0)
    handle.close()
    return data


def test_sectors_of_4096_bytes_are_read_and_told(tmp_path: Path) -> None:
    blocks = {0: (vhdx.PRESENT, pattern(1)), 3: (vhdx.PRESENT, pattern(3))}
    content = Picture(5 * MIB, sector=4096, blocks=blocks).build()
    disk = opened(content)
    assert isinstance(disk, SupportsFacts)
    assert disk.facts.sector_size == 4096
    assert "partition tables" in warnings(disk)
    path = tmp_path / "disk.vhdx"
    path.write_bytes(content)
    assert whole(disk) == by_libvhdi(path)


def test_a_snapshot_shows_its_parent_where_it_holds_nothing() -> None:
    parent = Picture(4 * MIB, blocks={number: (vhdx.PRESENT, pattern(number)) for number in (0, 1, 2)}).build()
    own = {0: (vhdx.PRESENT, pattern(10)), 1: (vhdx.PARTIAL, pattern(11)), 2: (vhdx.ZERO, b"")}
    mine = [0, 1, 7, 8, 2047]
    child = Picture(5 * MIB, blocks=own, own_sectors={1: mine}, parent=linkage(("relative_path", "base.vhdx"))).build()
    disk = opened(child, parent)
    expected = bytearray(pattern(10) + pattern(1) + bytes(3 * MIB))
    for sector in mine:
        place = MIB + sector * 512
        expected[place : place + 512] = pattern(11)[sector * 512 : sector * 512 + 512]
    assert whole(disk) == expected
    assert isinstance(disk, SupportsFacts)
    assert (disk.facts.subformat, disk.facts.parent is not None) == ("differencing", True)
    kinds = {(start, length): kind for start, length, kind in runs(disk)}
    assert kinds == {(0, 2 * MIB): "data", (2 * MIB, MIB): "zero", (3 * MIB, 2 * MIB): "hole"}


def test_a_parent_must_be_given_and_be_the_right_one() -> None:
    parent = Picture(MIB, blocks={0: (vhdx.PRESENT, pattern(1))}).build()
    names = ("absolute_win32_path", "C:\\vm\\base.vhdx")
    child = Picture(MIB, parent=linkage(names)).build()
    with pytest.raises(UnsupportedFeatureError, match=r"C:\\vm\\base.vhdx .*--parent"):
        opened(child)
    stranger = Picture(MIB, parent=linkage(names, data_write_id=b"\x55" * 16)).build()
    with pytest.raises(UnknownFormatError, match=r"is not the parent of .* or was changed since"):
        opened(stranger, parent)
    assert whole(opened(child, parent)) == pattern(1)
    with pytest.raises(UnknownFormatError, match="has no parent"):
        open_disk(MemoryBlob(parent), FORMATS["vhdx"], Companions(parents=(MemoryBlob(parent),)))


def dirty(picture: Picture, entries: list[bytes], at: int = 0) -> bytes:
    picture.log, picture.log_offset_in_ring = b"".join(entries), at
    return picture.build()


def bat_page(picture: Picture) -> bytes:
    table, _ = picture.entries()
    return struct.pack(f"<{len(table)}Q", *table).ljust(4096, b"\0")


@pytest.mark.parametrize("at", [0, MIB - 4096, MIB - 8192])
def test_what_is_only_in_the_log_is_read(at: int) -> None:
    """As in a file from the field: the table on the disk is empty, the real one is in the log, which may wrap."""
    picture = Picture(4 * MIB, blocks={1: (vhdx.PRESENT, pattern(1))}, bat_in_file=False)
    content = dirty(picture, [log_entry(9, at, {vhdx.BAT: bat_page(picture)})], at)
    before = bytes(content)
    disk = opened(content)
    assert whole(disk) == bytes(MIB) + pattern(1) + bytes(2 * MIB)
    assert "log was replayed" in warnings(disk)
    assert content == before


def test_of_several_sequences_the_last_whole_one_counts() -> None:
    picture = Picture(2 * MIB, blocks={0: (vhdx.PRESENT, pattern(1))})
    old, first, second = pattern(2)[:4096], pattern(3)[:4096], pattern(4)[:4096]
    stale = log_entry(3, 65536, {vhdx.DATA: old})
    chain = [
        log_entry(8, 0, {vhdx.DATA: first}),
        log_entry(9, 0, {vhdx.DATA + 4096: second}, [(vhdx.DATA + 8192, 4096)]),
    ]
    torn = bytearray(log_entry(10, 0, {vhdx.DATA: old}))
    torn[5000] ^= 1
    ring = b"".join(chain) + bytes(torn)
    content = dirty(picture, [ring.ljust(65536, b"\0") + stale])
    data = whole(opened(content))
    assert data[:12288] == first + second + bytes(4096)
    assert data[12288:MIB] == pattern(1)[12288:]


def test_a_clean_log_changes_nothing() -> None:
    picture = Picture(2 * MIB, blocks={0: (vhdx.PRESENT, pattern(1))})
    disk = opened(dirty(picture, [log_entry(4, 0)]))
    assert whole(disk)[:MIB] == pattern(1)
    assert "log" not in warnings(disk)


def test_a_file_shorter_than_its_log_says_is_cut_short() -> None:
    picture = Picture(2 * MIB, blocks={0: (vhdx.PRESENT, pattern(1))})
    with pytest.raises(CorruptDiskError, match="cut short"):
        opened(dirty(picture, [log_entry(4, 0, {vhdx.DATA: bytes(4096)}, flushed=64 * MIB)]))


def test_a_log_that_holds_nothing_whole_is_no_guess() -> None:
    picture = Picture(2 * MIB, blocks={0: (vhdx.PRESENT, pattern(1))})
    with pytest.raises(CorruptDiskError, match="no whole sequence"):
        opened(dirty(picture, [log_entry(4, 8192, {vhdx.DATA: bytes(4096)})]))


def test_a_log_is_replayed_as_qemu_replays_it(tmp_path: Path) -> None:
    """One that does not wrap: QEMU 7.2 passes over a sequence that goes on at the log's beginning."""
    picture = Picture(4 * MIB, blocks={1: (vhdx.PRESENT, pattern(1)), 2: (vhdx.PRESENT, pattern(2))}, bat_in_file=False)
    page = {vhdx.BAT: bat_page(picture), vhdx.DATA + 8192: pattern(5)[:4096]}
    entries = [log_entry(9, 0, page), log_entry(10, 0, {}, [(vhdx.DATA + 65536, 8192)])]
    content = dirty(picture, entries)
    path, out = tmp_path / "disk.vhdx", tmp_path / "out.raw"
    path.write_bytes(content)
    subprocess.run(["qemu-img", "check", "-q", "-r", "all", "-f", "vhdx", str(path)], check=True, timeout=60)
    subprocess.run(["qemu-img", "convert", "-f", "vhdx", "-O", "raw", str(path), str(out)], check=True, timeout=60)
    assert whole(opened(content)) == out.read_bytes()


def test_either_header_and_either_region_table_will_do() -> None:
    content = bytearray(Picture(MIB, blocks={0: (vhdx.PRESENT, pattern(1))}).build())
    for place, words in ((64 << 10, "headers"), (128 << 10, "headers"), (192 << 10, "region"), (256 << 10, "region")):
        damaged = bytearray(content)
        damaged[place + 20] ^= 1
        disk = opened(bytes(damaged))
        assert whole(disk) == pattern(1)
        assert words in warnings(disk)


@pytest.mark.slow
def test_64_tib_open_at_once_and_fit_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.vhdx"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", str(path), "64T"], check=True)
    script = (
        "import sys, time, resource\n"
        "from vmferry.blob import FileBlob\nfrom vmferry.formats import open_disk\n"
        "class Counted(FileBlob):\n"
        "    read = 0\n"
        "    def read_at(self, offset, length):\n"
        "        Counted.read += length\n"
        "        return super().read_at(offset, length)\n"
        "disk = open_disk(Counted(sys.argv[1]))\n"
        "opening = Counted.read\n"
        "runs = sum(1 for _ in disk.extents())\n"
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(disk.size, opening, runs, peak)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True, text=True, timeout=60)
    size, opening, count, peak = map(int, done.stdout.split())
    assert (size, count) == (64 * TIB, 1)
    assert opening < 8 * MIB
    assert peak * 1024 < 256 * MIB


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5 * MIB - 1), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_damage_gives_an_answer_or_a_reason(changes: list[tuple[int, int]], mended: bool) -> None:
    """Bytes changed anywhere that counts; in half of the cases with the checksums made right again."""
    places = [0, 64 << 10, 128 << 10, 192 << 10, 256 << 10, vhdx.METADATA, vhdx.METADATA + (64 << 10), vhdx.BAT]
    places.append(vhdx.LOG)
    picture = Picture(4 * MIB, blocks={1: (vhdx.PRESENT, pattern(1))})
    content = bytearray(dirty(picture, [log_entry(9, 0, {vhdx.BAT: bat_page(picture)})]))
    for where, value in changes:
        content[places[where % len(places)] + where % 97] = value
    if mended:
        for start, length in ((64 << 10, 4096), (128 << 10, 4096), (192 << 10, 65536), (256 << 10, 65536)):
            part = content[start : start + length]
            content[start + 4 : start + 8] = struct.pack("<I", crc32c(part, 4))
    begun, said = time.process_time(), ""
    try:
        disk = open_disk(MemoryBlob(bytes(content)), FORMATS["vhdx"])
        for extent in disk.extents():
            if extent.kind is ExtentKind.DATA:
                disk.read_at(extent.start, min(extent.length, MIB))
    except VmferryError as error:
        said = str(error)
    assert "\n" not in said
    assert time.process_time() - begun < 2
