"""VMDKs of ours keep to VMware's layout, and other programs read the same bytes out of them."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest
import pyvmdk
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_utils.imageutils import format_inspector

from vmferry.blob import FileBlob
from vmferry.convert import copy
from vmferry.disk import OrderedDiskWriter
from vmferry.errors import UnsupportedFeatureError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import Compression, WriteOptions, open_disk
from vmferry.formats.raw import FORMAT as RAW
from vmferry.formats.vmdk import FORMAT, descriptor_text
from vmferry.formats.vmdk.descriptor_text import content_id
from vmferry.formats.vmdk.sparse_writer import MonolithicSparseWriter
from vmferry.formats.vmdk.stream_writer import StreamOptimizedWriter
from vmferry.limits import MAX_DISK_SIZE
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


def output_of(*command: str | Path) -> bytes:
    """What a program that must succeed says."""
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def by_qemu(path: Path) -> bytes:
    out = path.with_suffix(".out")
    output_of("qemu-img", "convert", "-f", "vmdk", "-O", "raw", path, out)
    return out.read_bytes()


def by_7z(path: Path) -> bytes:
    return output_of("7z", "e", "-so", "-tvmdk", path)


def feed(writer: OrderedDiskWriter, data: bytes, piece: int) -> None:
    """All of ``data``, in pieces of ``piece`` bytes."""
    for offset in range(0, len(data), piece):
        writer.write(writer.place(writer.encode(offset, data[offset : offset + piece])))
    writer.finish()


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
    assert by_7z(path) == whole
    assert b"No errors" in output_of("qemu-img", "check", "-f", "vmdk", path)
    facts = json.loads(output_of("qemu-img", "info", "-f", "vmdk", "--output=json", path))
    assert facts["virtual-size"] == len(whole)
    assert facts["format-specific"]["data"]["create-type"] == kind


@pytest.mark.slow
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
    output_of("qemu-img", "compare", "-f", "raw", "-F", "vmdk", path.with_suffix(".raw"), path)
    assert make(data, path, kind, workers=1, compression=compression) == made


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_neither_threads_nor_pieces_change_a_byte(kind: str, tmp_path: Path) -> None:
    data = some_disk(75 * MIB, *((place * MIB, 3 * MIB - 5000) for place in range(0, 75, 6)))
    made = {make(data, tmp_path / "made.vmdk", kind, workers=workers) for workers in (1, 2, 3, 8)}
    for piece in (GRAIN, 5 * MIB, 75 * MIB):
        path = tmp_path / "fed.vmdk"
        whole_map = [Extent(0, len(data), ExtentKind.DATA)]
        feed(FORMAT.create(create_file(path, sync=False), len(data), whole_map, WriteOptions(kind)), data, piece)
        made.add(path.read_bytes())
    assert len(made) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_descriptor_has_what_vmware_and_virtualbox_ask_for(kind: str, tmp_path: Path) -> None:
    made = make(some_disk(3 * MIB, (0, 512)), tmp_path / "made.vmdk", kind)
    lines = descriptor(made).splitlines()
    assert lines[0] == "# Disk DescriptorFile"
    values = values_of(made)
    assert values["version"] == "1"
    assert values["parentCID"] == "ffffffff"
    assert values["createType"] == f'"{kind}"'
    assert values["ddb.longContentID"].strip('"')[-8:] == values["CID"]
    assert values["CID"] not in ("00000000", "fffffffe", "ffffffff")
    assert f'RW {3 * MIB // 512} SPARSE "disk.vmdk"' in lines
    verdict = format_inspector.detect_file_format(str(tmp_path / "made.vmdk"))
    assert verdict is not None
    assert str(verdict) == "vmdk"
    verdict.safety_check()


def descriptor(made: bytes) -> str:
    return made[512 : 21 * 512].rstrip(b"\0").decode("ascii")


def values_of(made: bytes) -> dict[str, str]:
    """The lines of the descriptor that say something, by what they say it of."""
    pairs = (line.split("=", 1) for line in descriptor(made).splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def test_the_content_id_of_a_stream_follows_from_its_size_and_first_grain(tmp_path: Path) -> None:
    def cid(size: int, letter: bytes) -> str:
        path = tmp_path / "made.vmdk"
        feed(
            FORMAT.create(create_file(path, sync=False), size, [], WriteOptions("streamOptimized")),
            letter * GRAIN,
            GRAIN,
        )
        return values_of(path.read_bytes())["CID"]

    one = cid(2 * MIB, b"a")
    assert cid(2 * MIB, b"a") == one
    assert len({one, cid(3 * MIB, b"a"), cid(2 * MIB, b"b")}) == 3


def test_the_content_id_of_a_sparse_disk_follows_from_every_grain(tmp_path: Path) -> None:
    ids = set()
    for place in (0, 512, MIB, 2 * MIB - 512):
        data = bytearray(some_disk(2 * MIB, (0, 2 * MIB)))
        data[place] ^= 1
        ids.add(values_of(make(bytes(data), tmp_path / "made.vmdk", "monolithicSparse"))["CID"])
    assert len(ids) == 4


def test_a_content_id_never_means_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    cid, long = content_id("a disk")
    assert long.endswith(f"{cid:08x}")
    monkeypatch.setattr(descriptor_text, "_NO_CONTENT", {cid})
    assert content_id("a disk") == (1, long[:-8] + "00000001")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [3 * TIB, MAX_DISK_SIZE])
def test_a_huge_disk_costs_what_it_holds(kind: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / "huge.vmdk"
    ends = [Extent(0, GRAIN, ExtentKind.DATA), Extent(size - GRAIN, GRAIN, ExtentKind.DATA)]
    writer = FORMAT.create(create_file(path, sync=False), size, ends, WriteOptions(kind))
    for place, letter in ((0, b"a"), (size - GRAIN, b"z")):
        writer.write(writer.place(writer.encode(place, letter * GRAIN)))
    writer.finish()
    assert path.stat().st_blocks * 512 < 20 * MIB
    disk = open_disk(FileBlob(path))
    assert (disk.size, bytes(disk.read_at(size - 512, 512))) == (size, b"z" * 512)
    if size == 3 * TIB:
        data = [extent for extent in disk.extents() if extent.kind is ExtentKind.DATA]
        assert [(extent.start, extent.length) for extent in data] == [(0, GRAIN), (size - GRAIN, GRAIN)]
    disk.close()
    reads = [f"read -P {ord('a')} 0 {GRAIN}", f"read -P {ord('z')} {size - GRAIN} {GRAIN}", f"read -P 0 {MIB} {GRAIN}"]
    seen = output_of("qemu-io", "-r", "-f", "vmdk", *(word for read in reads for word in ("-c", read)), path)
    assert b"failed" not in seen


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_nobody_would_read_again_is_not_begun(kind: str, tmp_path: Path) -> None:
    target = create_file(tmp_path / "made.vmdk")
    with pytest.raises(UnsupportedFeatureError, match="64 TiB at the most"):
        FORMAT.create(target, MAX_DISK_SIZE + 512, [], WriteOptions(kind))
    target.abort()


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused_in_time(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmferry.formats.vmdk.layout.MAX_SECTORS", 4 * MIB // 512)
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_in_the_package_stands_in_the_descriptor(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.vmdk"
    begin(kind, path, "web-disk1.vmdk").finish()
    assert 'SPARSE "web-disk1.vmdk"\n' in descriptor(path.read_bytes())
    assert open_disk(FileBlob(path)).size == GIB


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["", 'a".vmdk', "a\nRW 1 FLAT b", "../a.vmdk", "a\\b", "ä.vmdk", "a" * 256])
def test_a_name_that_would_spoil_the_descriptor_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be the file's name"):
        begin(kind, tmp_path / "x.vmdk", name)


def begin(kind: str, path: Path, name: str) -> OrderedDiskWriter:
    target = create_file(path, sync=False)
    try:
        if kind == "streamOptimized":
            return StreamOptimizedWriter(target, GIB, Compression.FAST, name=name)
        return MonolithicSparseWriter(target, GIB, name=name)
    except ValueError:
        target.abort()
        raise
