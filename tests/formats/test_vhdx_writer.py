"""VHDXs of ours: other programs find them sound and read the same bytes out of them."""

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
from vmferry.errors import UnsupportedFeatureError
from vmferry.extent import ExtentKind
from vmferry.formats import WriteOptions, open_disk
from vmferry.formats.raw import FORMAT as RAW
from vmferry.formats.vhdx import FORMAT
from vmferry.formats.vhdx.structures import crc32c
from vmferry.stores.local import create_file
from vmferry.units import GIB, KIB, MIB, TIB

KINDS = ["dynamic", "fixed"]


def some_disk(size: int, *places: tuple[int, int]) -> bytes:
    data = bytearray(size)
    for place, length in places:
        piece = random.Random(place).randbytes(min(length, size - place))
        data[place : place + len(piece)] = piece
    return bytes(data)


def make(data: bytes, path: Path, kind: str, *, workers: int = 2) -> bytes:
    """``data`` as a VHDX at ``path``, by the way that a conversion takes."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(data)
    disk = RAW.open(FileBlob(raw))
    writer = FORMAT.create(create_file(path, sync=False), disk.size, disk.extents(), WriteOptions(kind))
    copy(disk, writer, workers=workers)
    writer.finish()
    disk.close()
    return path.read_bytes()


def by_qemu(path: Path) -> bytes:
    out = path.with_suffix(".out")
    subprocess.run(["qemu-img", "convert", "-f", "vhdx", "-O", "raw", str(path), str(out)], check=True, timeout=60)
    return out.read_bytes()


def by_libvhdi(path: Path) -> bytes:
    handle = pyvhdi.file()
    handle.open(str(path))
    data: bytes = handle.read_buffer_at_offset(handle.get_media_size(), 0)
    handle.close()
    return data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("size", "places"),
    [
        (512, [(0, 512)]),
        (3 * MIB, []),
        (40 * MIB, [(0, 512), (40 * MIB - 512, 512), (5 * MIB, 3_000_000)]),
        (7 * MIB + 1536, [(7 * MIB, 1536), (MIB, 70_000)]),
    ],
)
def test_other_programs_read_what_was_written(
    kind: str, size: int, places: list[tuple[int, int]], tmp_path: Path
) -> None:
    data, path = some_disk(size, *places), tmp_path / "made.vhdx"
    make(data, path, kind)
    assert by_qemu(path) == data
    assert by_libvhdi(path) == data
    done = subprocess.run(["qemu-img", "check", "-f", "vhdx", str(path)], capture_output=True, text=True, timeout=60)
    assert "No errors" in done.stdout
    info = subprocess.run(["qemu-img", "info", "-f", "vhdx", str(path)], capture_output=True, text=True, timeout=60)
    assert f"({size} bytes)" in info.stdout


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(st.integers(1, 40_000), st.lists(st.tuples(st.integers(0, 39_999), st.integers(1, 4000)), max_size=6), st.data())
def test_any_disk_goes_there_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory, kind: str, sectors: int, runs: list[tuple[int, int]], data: st.DataObject
) -> None:
    content = some_disk(sectors * 512, *((start % sectors * 512, length * 512) for start, length in runs))
    path = tmp_path_factory.mktemp("any") / "made.vhdx"
    made = make(content, path, kind, workers=data.draw(st.integers(2, 4)))
    disk = open_disk(FileBlob(path))
    assert bytes(disk.read_at(0, disk.size)) == content
    used = {place // MIB for place in range(0, len(content), 512) if any(content[place : place + 512])}
    stored = {
        block
        for extent in disk.extents()
        if extent.kind is ExtentKind.DATA
        for block in range(extent.start // MIB, -(-extent.end // MIB))
    }
    assert stored == (used if kind == "dynamic" else set(range(-(-len(content) // MIB))))
    disk.close()
    assert make(content, path, kind, workers=1) == made


@pytest.mark.parametrize("kind", KINDS)
def test_every_structure_is_where_the_specification_wants_it(kind: str, tmp_path: Path) -> None:
    data = make(some_disk(5 * MIB, (2 * MIB, MIB)), tmp_path / "made.vhdx", kind)
    assert data[:8] == b"vhdxfile"
    assert len(data) % MIB == 0
    sequences = []
    for place in (64 * KIB, 128 * KIB):
        head = data[place : place + 4096]
        assert (head[:4], struct.unpack_from("<I", head, 4)[0]) == (b"head", crc32c(head, 4))
        sequences.append(struct.unpack_from("<Q", head, 8)[0])
        assert head[48:64] == bytes(16), "no log to replay"
        assert struct.unpack_from("<HHIQ", head, 64) == (0, 1, MIB, MIB)
    assert sequences[0] != sequences[1]
    tables = [data[place : place + 64 * KIB] for place in (192 * KIB, 256 * KIB)]
    assert tables[0] == tables[1]
    assert struct.unpack_from("<I", tables[0], 4)[0] == crc32c(tables[0], 4)
    assert not any(data[MIB : 2 * MIB])
    file_id, write_id = data[64 * KIB + 16 : 64 * KIB + 32], data[64 * KIB + 32 : 64 * KIB + 48]
    assert len({file_id, write_id, bytes(16)}) == 3
    entries = struct.unpack_from("<5Q", data, 3 * MIB)
    states = [entry & 7 for entry in entries]
    assert states == ([0, 0, 6, 0, 0] if kind == "dynamic" else [6] * 5)
    assert all(entry == 0 for entry, state in zip(entries, states, strict=True) if state == 0), "as Hyper-V wants it"


def test_another_disk_has_other_ids(tmp_path: Path) -> None:
    one, other = (make(some_disk(2 * MIB, (place, 512)), tmp_path / "made.vhdx", "dynamic") for place in (0, 512))
    assert one[64 * KIB + 16 : 64 * KIB + 48] != other[64 * KIB + 16 : 64 * KIB + 48]


@pytest.mark.parametrize("size", [9 * GIB, 5 * TIB, 64 * TIB])
def test_a_huge_disk_costs_what_it_holds(size: int, tmp_path: Path) -> None:
    """Past 4 GiB the table has an entry for a bitmap after each chunk; past 4 TiB blocks are larger."""
    path = tmp_path / "huge.vhdx"
    writer = FORMAT.create(create_file(path, sync=False), size, [], WriteOptions("dynamic"))
    places = [0, size // 2 // MIB * MIB, size - MIB]
    for number, place in enumerate(places, 1):
        writer.write(writer.place(writer.encode(place, bytes([number]) * MIB)))
    writer.finish()
    assert path.stat().st_blocks * 512 < 48 * MIB
    disk = open_disk(FileBlob(path))
    assert disk.size == size
    for number, place in enumerate(places, 1):
        assert bytes(disk.read_at(place, MIB)) == bytes([number]) * MIB
        script = f"read -P {number} {place} 1M"
        done = subprocess.run(["qemu-io", "-r", "-f", "vhdx", "-c", script, str(path)], capture_output=True, text=True)
        assert "verification failed" not in done.stdout, done.stdout
        assert "read 1048576/1048576" in done.stdout
    disk.close()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeatureError, match="64 TiB"):
        FORMAT.create(create_file(tmp_path / "x.vhdx"), 65 * TIB, [])
    writer = FORMAT.create(create_file(tmp_path / "y.vhdx"), 2 * MIB, [])
    with pytest.raises(ValueError, match="not whole blocks"):
        writer.encode(512, b"x" * MIB)
    writer.abort()
