"""VMDKs of ours keep to VMware's layout, and other programs read the same bytes out of them."""

from __future__ import annotations

import random
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
import pyvmdk
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.blob import Buffer, FileBlob
from vmferry.convert import copy
from vmferry.errors import UnsupportedFeatureError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import Compression, WriteOptions, open_disk
from vmferry.formats.raw import FORMAT as RAW
from vmferry.formats.vmdk import FORMAT
from vmferry.formats.vmdk.stream_writer import StreamOptimizedWriter
from vmferry.stores.local import create_file
from vmferry.units import GIB, KIB, MIB, TIB, round_up

KINDS = ["streamOptimized", "monolithicSparse"]
GRAIN = 64 * KIB
SECTOR = 512


def make(
    data: bytes, path: Path, kind: str, *, workers: int = 2, compression: Compression = Compression.BALANCED
) -> bytes:
    """``data`` as a VMDK at ``path``, by the way that a conversion takes."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(data)
    disk = RAW.open(FileBlob(raw))
    options = WriteOptions(kind, compression)
    writer = FORMAT.create(create_file(path, sync=False), disk.size, disk.extents(), options)
    copy(disk, writer, workers=workers)
    writer.finish()
    disk.close()
    return path.read_bytes()


def by_qemu(path: Path) -> bytes:
    out = path.with_suffix(".out")
    command = ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", str(path), str(out)]
    subprocess.run(command, check=True, timeout=60)
    return out.read_bytes()


def by_libvmdk(path: Path) -> bytes:
    """By libvmdk, which wants the extent's file to be called as the descriptor calls it."""
    named = path.with_name("disk.vmdk")
    path.rename(named)
    handle = pyvmdk.handle()
    handle.open(str(named))
    try:
        handle.open_extent_data_files()
        data: bytes = handle.read_buffer_at_offset(handle.get_media_size(), 0)
    finally:
        handle.close()
        named.rename(path)
    return data


def some_disk(size: int, *places: tuple[int, int]) -> bytes:
    """``size`` bytes with data at ``(place, length)``, by turns text and random bytes."""
    data = bytearray(size)
    for number, (place, length) in enumerate(places):
        piece = random.Random(place).randbytes(length) if number % 2 else (b"text that deflates. " * length)[:length]
        data[place : place + length] = piece[: max(0, size - place)]
    return bytes(data)


def ours(path: Path) -> bytes:
    disk = open_disk(FileBlob(path), FORMAT)
    data = bytes(disk.read_at(0, disk.size))
    disk.close()
    return data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("size", "places"),
    [
        (512, [(0, 512)]),
        (MIB, []),
        (40 * MIB, [(0, 512), (40 * MIB - 512, 512), (5 * MIB, 300_000), (33 * MIB, 100_000)]),
        (7 * MIB + 1536, [(7 * MIB, 1536), (MIB, 70_000)]),
    ],
)
def test_other_programs_read_what_was_written(
    kind: str, size: int, places: list[tuple[int, int]], tmp_path: Path
) -> None:
    data = some_disk(size, *places)
    path = tmp_path / "made.vmdk"
    make(data, path, kind)
    whole = data.ljust(round_up(size, MIB), b"\0")
    assert ours(path) == whole
    assert by_qemu(path) == whole
    assert by_libvmdk(path) == whole
    done = subprocess.run(["qemu-img", "check", "-f", "vmdk", str(path)], capture_output=True, text=True, timeout=60)
    assert "No errors" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 70_000),
    st.lists(st.tuples(st.integers(0, 69_999), st.integers(1, 400)), max_size=6),
    st.integers(1, 4),
    st.sampled_from(Compression),
)
def test_any_disk_goes_there_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    sectors: int,
    runs: list[tuple[int, int]],
    workers: int,
    compression: Compression,
) -> None:
    data = some_disk(sectors * 512, *((start % sectors * 512, length * 512) for start, length in runs))[: sectors * 512]
    path = tmp_path_factory.mktemp("any") / "made.vmdk"
    made = make(data, path, kind, workers=workers, compression=compression)
    assert ours(path).rstrip(b"\0") == data.rstrip(b"\0")
    assert make(data, path, kind, workers=1, compression=compression) == made


def walk(stream: bytes) -> tuple[dict[int, bytes], list[str], bytes]:
    """A stream by its markers alone: guest sector → grain, the kinds in their order, the footer."""
    grains: dict[int, bytes] = {}
    kinds: list[str] = []
    footer = b""
    position = 128 * SECTOR
    while True:
        value, size, kind = struct.unpack_from("<QII", stream, position)
        if size:
            end = position + 12 + size
            grains[value] = zlib.decompress(stream[position + 12 : end])
            assert len(grains[value]) == GRAIN
            assert stream[position + 12 : position + 14] == b"\x78\x01"
            following = round_up(end, SECTOR)
            assert not any(stream[end:following])
            kinds.append("grain")
        else:
            assert not any(stream[position + 16 : position + SECTOR])
            kinds.append({0: "end", 1: "table", 2: "directory", 3: "footer"}[kind])
            following = position + SECTOR * (1 + value)
            if kind == 3:
                footer = stream[position + SECTOR : following]
            if kind == 0:
                assert following == len(stream)
                return grains, kinds, footer
        position = following


def test_a_stream_is_laid_out_as_vmware_does_it(tmp_path: Path) -> None:
    data = some_disk(100 * MIB, (0, 200_000), (70 * MIB, 200_000), (99 * MIB, 100_000))
    stream = make(data, tmp_path / "made.vmdk", "streamOptimized")
    header = struct.unpack_from("<4sIIQQQQIQQQB4sH", stream)
    assert header[:8] == (b"KDMV", 3, 0x30001, 100 * MIB // 512, 128, 1, 20, 512)
    assert header[8:] == (0, (1 << 64) - 1, 128, 0, b"\n \r\n", 1)
    grains, kinds, footer = walk(stream)
    assert list(grains) == sorted(grains)
    first, second, third = 4, 4, 2
    assert kinds == [
        *(["grain"] * first + ["table"] + ["grain"] * second + ["table"] + ["grain"] * third + ["table"]),
        *("directory", "footer", "end"),
    ]
    assert footer[:56] == stream[:56]
    (directory,) = struct.unpack_from("<Q", footer, 56)
    entries = struct.unpack_from("<4I", stream, directory * SECTOR)
    assert [bool(entry) for entry in entries] == [True, False, True, True]
    rebuilt = bytearray(100 * MIB)
    for sector, grain in grains.items():
        rebuilt[sector * 512 : sector * 512 + GRAIN] = grain
    assert rebuilt == data
    for table, entry in enumerate(entries):
        slots = struct.unpack_from("<512I", stream, entry * SECTOR) if entry else [0] * 512
        for slot, place in enumerate(slots):
            sector = (table * 512 + slot) * 128
            assert bool(place) == (sector in grains)
            assert not place or struct.unpack_from("<Q", stream, place * SECTOR) == (sector,)


def test_the_descriptor_has_what_vmware_and_virtualbox_ask_for(tmp_path: Path) -> None:
    made = [
        make(some_disk(3 * MIB, (0, 512 + place)), tmp_path / "made.vmdk", kind) for kind in KINDS for place in (0, 512)
    ]
    texts = [stream[512 : 21 * 512].rstrip(b"\0").decode() for stream in made]
    for kind, text in zip(("streamOptimized",) * 2 + ("monolithicSparse",) * 2, texts, strict=True):
        lines = text.splitlines()
        assert lines[0] == "# Disk DescriptorFile"
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        assert values["version"] == "1"
        assert values["parentCID"] == "ffffffff"
        assert values["createType"] == f'"{kind}"'
        assert values["ddb.longContentID "].strip().strip('"')[-8:] == values["CID"]
        assert f'RW {3 * MIB // 512} SPARSE "disk.vmdk"' in lines
    assert len({text.splitlines()[2] for text in texts}) == 4, "another disk, another content id"


def test_a_stream_is_written_from_front_to_back() -> None:
    class Tape:
        """Takes bytes at its end only."""

        def __init__(self) -> None:
            self.end = 0
            self.is_whole = False

        def write_at(self, offset: int, data: Buffer) -> None:
            assert offset == self.end
            self.end += len(data)

        def set_size(self, size: int) -> None:
            assert size == self.end

        def finish(self) -> None:
            self.is_whole = True

        def abort(self) -> None:
            raise AssertionError("nothing failed")

    tape = Tape()
    writer = StreamOptimizedWriter(tape, 100 * MIB, Compression.FAST)
    for place in range(0, 100 * MIB, 12 * MIB):
        writer.write(writer.place(writer.encode(place, some_disk(MIB, (GRAIN, 200_000)))))
    writer.finish()
    assert tape.is_whole
    assert tape.end % SECTOR == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [3 * TIB, 16 * TIB])
def test_a_huge_disk_costs_what_it_holds(kind: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / "huge.vmdk"
    ends = [Extent(0, GRAIN, ExtentKind.DATA), Extent(size - GRAIN, GRAIN, ExtentKind.DATA)]
    writer = FORMAT.create(create_file(path, sync=False), size, ends, WriteOptions(kind))
    for place, letter in ((0, b"a"), (size - GRAIN, b"z")):
        writer.write(writer.place(writer.encode(place, letter * GRAIN)))
    writer.finish()
    assert path.stat().st_blocks * 512 < 24 * MIB
    disk = open_disk(FileBlob(path))
    assert (disk.size, bytes(disk.read_at(size - 512, 512))) == (size, b"z" * 512)
    data = [extent for extent in disk.extents() if extent.kind is ExtentKind.DATA]
    assert [(extent.start, extent.length) for extent in data] == [(0, GRAIN), (size - GRAIN, GRAIN)]
    disk.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused_in_time(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("stream_writer", "sparse_writer"):
        monkeypatch.setattr(f"vmferry.formats.vmdk.{module}.MAX_SECTORS", 4 * MIB // 512)
    with pytest.raises(UnsupportedFeatureError, match="would pass"):
        make(random.Random(1).randbytes(5 * MIB), tmp_path / "made.vmdk", kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("offset", "length"), [(512, GRAIN), (0, GRAIN - 512), (MIB, 2 * MIB), (-GRAIN, GRAIN)])
def test_pieces_are_whole_grains(kind: str, offset: int, length: int, tmp_path: Path) -> None:
    writer = FORMAT.create(create_file(tmp_path / "x.vmdk"), 2 * MIB, [], WriteOptions(kind))
    with pytest.raises(ValueError, match="not whole grains"):
        writer.encode(offset, b"x" * length)
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_best_is_no_larger_than_what_qemu_img_writes(tmp_path: Path) -> None:
    tree = b"".join(path.read_bytes() for path in sorted(Path(struct.__file__).parent.glob("*.py"))[:60])
    data = (tree + random.Random(1).randbytes(200_000)).ljust(24 * MIB, b"\0")[: 24 * MIB]
    sizes = {
        level: len(make(data, tmp_path / "made.vmdk", "streamOptimized", compression=level)) for level in Compression
    }
    options = ["-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    theirs = tmp_path / "theirs.vmdk"
    subprocess.run(["qemu-img", "convert", *options, tmp_path / "made.raw", theirs], check=True, timeout=120)
    assert sizes[Compression.BEST] <= theirs.stat().st_size
    assert sizes[Compression.BEST] < sizes[Compression.BALANCED] < sizes[Compression.FAST]
    assert sizes[Compression.BALANCED] < 1.2 * sizes[Compression.BEST]


def test_a_name_in_the_package_stands_in_the_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "x.vmdk"
    writer = StreamOptimizedWriter(create_file(path, sync=False), GIB, Compression.FAST, "web-disk1.vmdk")
    writer.finish()
    assert b'SPARSE "web-disk1.vmdk"' in path.read_bytes()
    assert open_disk(FileBlob(path)).size == GIB
