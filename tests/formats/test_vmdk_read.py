"""Every layout of a hosted sparse VMDK, read; ``qemu-img`` judges what it can write or read itself."""

from __future__ import annotations

import random
import subprocess
import threading
import tracemalloc
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.vmdk_builder import Image, Layout, build, stream_descriptor
from vmferry.blob import FileBlob, MemoryBlob
from vmferry.disk import Disk, SupportsStoredSize
from vmferry.extent import Extent, ExtentKind
from vmferry.formats.vmdk import FORMAT
from vmferry.formats.vmdk.directory import read_directory
from vmferry.formats.vmdk.header import read_header
from vmferry.formats.vmdk.hosted import HostedExtent
from vmferry.units import GIB, KIB, MIB, SECTOR, TIB

GRAIN = 64 * KIB
STREAM = Layout()
SPARSE = Layout(place="front", compressed=False, version=1)
SMALL_GRAIN = 16
VARIANTS = {
    "vmware stream": STREAM,
    "virtualbox blank": replace(STREAM, all_tables=True),
    "directory at the end, no footer": replace(STREAM, place="end"),
    "vdiskmanager": replace(STREAM, place="front", all_tables=True),
    "qemu": replace(STREAM, place="front", redundant=True, all_tables=True),
    "progress markers": replace(STREAM, progress=9),
    "table markers of value 0": replace(STREAM, table_marker_value=0),
    "zeros behind the end marker": replace(STREAM, padding=7 * SECTOR),
    "many zeros behind the end marker": replace(STREAM, padding=200 * SECTOR),
    "stray bytes behind the end marker": replace(STREAM, padding=100),
    "short last grain": replace(STREAM, short_last=True),
    "stored grains": replace(STREAM, compress=lambda data: zlib.compress(data, 0)),
    "grains in reverse": replace(STREAM, reverse=True),
    "no descriptor": replace(STREAM, descriptor_sectors=0, descriptor=b""),
    "version 1": replace(STREAM, version=1),
    "version 2 with zero entries": replace(STREAM, version=2, zero_flag=True),
    "monolithic": SPARSE,
    "monolithic, redundant": replace(SPARSE, redundant=True, all_tables=True),
    "monolithic, only redundant": replace(SPARSE, redundant_only=True),
    "monolithic, backwards": replace(SPARSE, reverse=True),
    "monolithic with zero entries": replace(SPARSE, version=2, zero_flag=True),
    "monolithic, short last grain": replace(SPARSE, short_last=True),
    "monolithic, version 3": replace(SPARSE, version=3),
}
VARIANTS = {name: replace(layout, grain_sectors=SMALL_GRAIN) for name, layout in VARIANTS.items()} | {
    "stream of 64 KiB grains": STREAM,
    "monolithic of 64 KiB grains": SPARSE,
}


def fill(seed: int, size: int = GRAIN) -> bytes:
    """Half noise, half pattern: it shrinks, but not to nothing."""
    source = random.Random(seed)
    return (source.randbytes(size // 2) + bytes([seed & 0xFF]) * size)[:size]


def sample(layout: Layout) -> tuple[Image, bytes]:
    """A disk of 1.5 tables and a bit with grains here and there, and what it must read as."""
    grain = layout.grain_sectors * SECTOR
    capacity = layout.grain_sectors * 800 - 5
    grains: dict[int, bytes | None] = {
        number: fill(number, grain) for number in (0, 1, 2, 7, 8, 511, 512, 600, 798, 799)
    }
    if layout.zero_flag:
        grains |= {3: None, 4: None, 700: None}
    expected = bytearray(grain * 800)
    for number, content in grains.items():
        expected[number * grain : (number + 1) * grain] = content or bytes(grain)
    return build(capacity, grains, layout), bytes(expected[: capacity * SECTOR])


def open_image(image: Image | bytes) -> Disk:
    return FORMAT.open(MemoryBlob(bytes(image.data if isinstance(image, Image) else image), "disk.vmdk"))


def check_extents(disk: Disk, expected: bytes) -> list[Extent]:
    """The extents cover the disk, and all that is no DATA reads as zeros."""
    extents = list(disk.extents())
    position = 0
    for extent in extents:
        assert extent.start == position
        assert extent.length > 0
        position = extent.end
        if extent.kind is not ExtentKind.DATA:
            assert not any(expected[extent.start : extent.end])
    assert position == disk.size
    assert all(one.kind is not other.kind for one, other in pairwise(extents))
    return extents


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_layout_reads_as_what_was_put_in(name: str) -> None:
    image, expected = sample(VARIANTS[name])
    disk = open_image(image)
    assert disk.size == len(expected)
    assert bytes(disk.read_at(0, disk.size)) == expected
    check_extents(disk, expected)
    picks = random.Random(name)
    for _ in range(60):
        start = picks.randrange(disk.size)
        length = min(picks.choice((1, 511, 4096, 9000, 70_000, 300_000)), disk.size - start)
        assert bytes(disk.read_at(start, length)) == expected[start : start + length]


def test_zero_entries_are_zeros_and_missing_ones_are_holes() -> None:
    layout = replace(STREAM, version=2, zero_flag=True, place="front")
    disk = open_image(build(128 * 512 * 4, {0: fill(1), 1: None, 1024: None}, layout, zero_tables=[3]))
    kinds = [(extent.start // GRAIN, extent.kind.value) for extent in disk.extents()]
    assert kinds == [(0, "data"), (1, "zero"), (2, "hole"), (1024, "zero"), (1025, "hole"), (1536, "zero")]
    assert bytes(disk.read_at(1536 * GRAIN, 2 * GRAIN)) == bytes(2 * GRAIN)
    assert bytes(disk.read_at(GRAIN // 2, GRAIN)) == fill(1)[GRAIN // 2 :] + bytes(GRAIN // 2)


def test_extents_are_clipped_to_the_range_that_was_asked_for() -> None:
    disk = open_image(build(128 * 1200, {1: fill(1), 700: fill(2)}))
    assert list(disk.extents(GRAIN + 512, 3 * GRAIN)) == [
        Extent(GRAIN + 512, GRAIN - 512, ExtentKind.DATA),
        Extent(2 * GRAIN, GRAIN, ExtentKind.HOLE),
    ]
    assert list(disk.extents(600 * GRAIN, 700 * GRAIN)) == [Extent(600 * GRAIN, 100 * GRAIN, ExtentKind.HOLE)]
    assert list(disk.extents(5, 5)) == []


@pytest.mark.parametrize(("offset", "length"), [(-1, 2), (0, 10**9), (0, -1)])
def test_a_range_outside_of_the_disk_is_a_programming_error(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="not inside"):
        open_image(build(128, {0: fill(0)})).read_at(offset, length)


def test_nothing_read_is_nothing() -> None:
    assert bytes(open_image(build(128, {0: fill(0)})).read_at(128 * SECTOR, 0)) == b""


@pytest.mark.parametrize(
    "descriptor",
    [
        stream_descriptor().replace(b"\n", b"\r\n"),
        stream_descriptor().rstrip(b"\n"),
        b"\n\n" + stream_descriptor().upper().replace(b"FFFFFFFF", b"ffffffff"),
        stream_descriptor().replace(b"generated-stream", "Gerät".encode("cp1252")),
        stream_descriptor()
        .replace(b"generated-stream", "日本".encode("shift_jis"))
        .replace(b"CID", b"encoding=x\nCID", 1),
        stream_descriptor().replace(b"ffffffff", b"4294967295"),
        stream_descriptor().replace(b"generated-stream.vmdk", b"/etc/passwd"),
        b"   " + stream_descriptor().replace(b"\n", b"\n    ").replace(b"=", b" = "),
    ],
)
def test_embedded_descriptors_are_read_leniently_and_their_names_not_at_all(descriptor: bytes) -> None:
    disk = open_image(build(128, {0: fill(5)}, replace(STREAM, descriptor=descriptor)))
    assert bytes(disk.read_at(0, GRAIN)) == fill(5)


def test_the_redundant_directory_stands_in_for_a_damaged_one() -> None:
    image, expected = sample(replace(SPARSE, redundant=True, grain_sectors=SMALL_GRAIN))
    image.patch(image.directory, "I", 0xFFFFFFF0)
    assert bytes(open_image(image).read_at(0, len(expected))) == expected
    image.patch_header(gd=1 << 40)
    assert bytes(open_image(image).read_at(0, len(expected))) == expected


def test_any_vmdk_is_recognised_so_that_none_is_taken_for_raw() -> None:
    for head in (b"KDMV", b"COWD", b"\xbe\xba\xfe\xca\0\0\0\0", b"\xef\xbb\xbf\n# disk descriptorfile\r\nversion=1\n"):
        assert FORMAT.probe(MemoryBlob(head))
    for head in (b"", b"\0" * 2048, b"\xeb\x63\0# Disk DescriptorFile\n", b"# Disk DescriptorFile\n" * 30_000):
        assert not FORMAT.probe(MemoryBlob(head))


def test_the_stored_size_is_about_the_grains() -> None:
    disk = open_image(build(128 * 5000, {number: random.Random(number).randbytes(GRAIN) for number in range(40)}))
    assert isinstance(disk, SupportsStoredSize)
    assert 40 * GRAIN <= disk.stored_size() <= 41 * GRAIN + 128 * SECTOR


def test_closing_the_disk_closes_its_blob(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    path.write_bytes(build(128, {0: fill(0)}).data)
    disk = FORMAT.open(FileBlob(path))
    disk.close()
    disk.close()


def test_many_threads_read_one_disk() -> None:
    image, expected = sample(SPARSE)
    disk = open_image(image)
    wrong: list[int] = []

    def read_some(seed: int) -> None:
        picks = random.Random(seed)
        for _ in range(40):
            start = picks.randrange(disk.size - MIB)
            if bytes(disk.read_at(start, MIB)) != expected[start : start + MIB]:
                wrong.append(start)

    threads = [threading.Thread(target=read_some, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@settings(deadline=None, max_examples=12)
@given(
    letters=st.lists(st.sampled_from("dznr"), min_size=1, max_size=40),
    tail=st.sampled_from([0, 512, 4096, 33 * KIB]),
    subformat=st.sampled_from(["streamOptimized", "monolithicSparse"]),
)
def test_what_qemu_writes_reads_as_qemu_was_given_it(
    tmp_path_factory: pytest.TempPathFactory, letters: list[str], tail: int, subformat: str
) -> None:
    """Each letter is a grain: data, zeros written, nothing at all, noise that does not shrink."""
    folder = tmp_path_factory.mktemp("qemu")
    contents = {"d": fill(3), "z": bytes(GRAIN), "n": bytes(GRAIN), "r": random.Random(9).randbytes(GRAIN)}
    expected = b"".join(contents[letter] for letter in letters) + fill(8)[:tail]
    (folder / "disk.raw").write_bytes(expected)
    target = str(folder / "disk.vmdk")
    subprocess.run(
        [
            "qemu-img",
            "convert",
            "-f",
            "raw",
            "-O",
            "vmdk",
            "-o",
            f"subformat={subformat}",
            str(folder / "disk.raw"),
            target,
        ],
        check=True,
        capture_output=True,
    )
    disk = FORMAT.open(FileBlob(target))
    assert disk.size == len(expected)
    assert bytes(disk.read_at(0, disk.size)) == expected
    check_extents(disk, expected)
    disk.close()


@pytest.mark.parametrize("name", ["vmware stream", "qemu", "monolithic", "stored grains"])
def test_qemu_reads_the_hand_made_files_alike(name: str, tmp_path: Path) -> None:
    image, expected = sample(VARIANTS[name])
    (tmp_path / "disk.vmdk").write_bytes(image.data)
    command = [
        "qemu-img",
        "convert",
        "-f",
        "vmdk",
        "-O",
        "raw",
        str(tmp_path / "disk.vmdk"),
        str(tmp_path / "disk.raw"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "disk.raw").read_bytes() == expected


class CountingBlob:
    """A file of 1 TiB of uncompressed grains that exists as tables only; it counts what is read of it."""

    def __init__(self, capacity: int, stored: bool) -> None:
        self.tables = -(-capacity // (128 * 512))
        self.stored = stored
        image = build(128, {}, replace(SPARSE, all_tables=True))
        image.patch_header(capacity=capacity, gd=64, overhead=0)
        self.head = bytes(image.data[: 64 * SECTOR])
        self.first_table = 64 + -(-self.tables * 4 // SECTOR)
        self.first_grain = -(-(self.first_table + self.tables * 4) // 128) * 128
        self.size = (self.first_grain + capacity) * SECTOR
        self.name = "terabyte.vmdk"
        self.bytes_read = self.reads = 0

    def read_at(self, offset: int, length: int) -> bytes:
        assert offset + length <= self.size
        self.bytes_read += length
        self.reads += 1
        if offset < 64 * SECTOR:
            return self.head[offset : offset + length].ljust(length, b"\0")
        if offset < self.first_table * SECTOR:
            first = (offset - 64 * SECTOR) // 4
            return (self.first_table + 4 * np.arange(first, first + length // 4)).astype("<u4").tobytes()
        if offset < self.first_grain * SECTOR:
            first = (offset - self.first_table * SECTOR) // 4
            numbers = self.first_grain + 128 * np.arange(first, first + length // 4)
            return (numbers * self.stored).astype("<u4").tobytes()
        return b"\x5a" * length

    def close(self) -> None:
        pass


def test_looking_into_a_terabyte_reads_next_to_nothing() -> None:
    blob = CountingBlob(TIB // SECTOR, stored=True)
    disk = FORMAT.open(blob)
    for offset in (0, 512, MIB, 500 * GIB, TIB - 17 * KIB):
        assert bytes(disk.read_at(offset, 16 * KIB)) == b"\x5a" * 16 * KIB
    assert blob.bytes_read < 4 * MIB
    assert blob.reads < 24


def test_only_so_many_tables_are_kept() -> None:
    blob = CountingBlob(8 * TIB // SECTOR, stored=False)
    header = read_header(blob)
    disk = HostedExtent(blob, header, read_directory(blob, header))
    for _ in range(2):
        for offset in range(0, 8 * TIB, TIB):
            assert bytes(disk.read_at(offset, KIB)) == bytes(KIB)
    assert len(disk._tables._regions) == 4
    assert blob.bytes_read < 20 * MIB


@pytest.mark.parametrize("stored", [True, False])
def test_the_map_of_a_terabyte_takes_bounded_memory_and_few_reads(stored: bool) -> None:
    blob = CountingBlob(TIB // SECTOR, stored=stored)
    disk = FORMAT.open(blob)
    tracemalloc.start()
    assert [extent.length for extent in disk.extents()] == [TIB]
    assert [extent.kind for extent in disk.extents()] == [ExtentKind.DATA if stored else ExtentKind.HOLE]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 96 * MIB
    assert blob.bytes_read < 65 * MIB
    assert blob.reads < 80
