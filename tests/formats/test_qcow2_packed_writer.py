"""The compressed qcow2 writer: ``qemu-img`` finds no fault, strict readers read it, and threads change nothing."""

from __future__ import annotations

import io
import random
import tracemalloc
import zlib
from pathlib import Path

import pyqcow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.test_qcow2_read import guest_bytes, qemu_img
from tests.formats.test_qcow2_writer import Discard, check, same
from vmferry.blob import FileBlob, MemoryBlob
from vmferry.convert import copy
from vmferry.disk import DiskFacts, OrderedDiskWriter, SupportsFacts
from vmferry.errors import UnsupportedFeatureError
from vmferry.extent import ExtentKind
from vmferry.formats import FORMATS, Compression, WriteOptions, open_disk
from vmferry.formats.qcow2 import FORMAT
from vmferry.formats.qcow2.header import COMPRESSED, ZLIB
from vmferry.formats.qcow2.layout import CLUSTER_SIZE
from vmferry.formats.qcow2.packed_writer import PackedQcow2Writer
from vmferry.stores.local import create_file
from vmferry.units import GIB, KIB, MIB, TIB

_SUBFORMATS = ("zlib", "zstd")
_SEED = random.Random(4).randbytes(CLUSTER_SIZE)


def content(text: str, short: int = 0) -> bytes:
    """A letter per cluster: ``0`` zeros, ``n`` noise, ``h`` half noise, any other a cluster of that letter."""
    clusters = []
    for number, letter in enumerate(text):
        noise = _SEED[number:] + _SEED[:number]
        match letter:
            case "0":
                clusters.append(bytes(CLUSTER_SIZE))
            case "n":
                clusters.append(noise)
            case "h":
                clusters.append(noise[: CLUSTER_SIZE // 2] + bytes(CLUSTER_SIZE // 2))
            case _:
                clusters.append(letter.encode() * CLUSTER_SIZE)
    return b"".join(clusters)[: len(text) * CLUSTER_SIZE - short]


def options(subformat: str, compression: Compression = Compression.BALANCED) -> WriteOptions:
    return WriteOptions(subformat, compression)


def write(path: Path, data: bytes, chosen: WriteOptions, pieces: tuple[int, ...] = (4,)) -> Path:
    """``data`` written in pieces of so many clusters, by this thread alone."""
    writer = FORMAT.create(create_file(path, sync=False), len(data), [], chosen)
    assert isinstance(writer, OrderedDiskWriter)
    position = number = 0
    while position < len(data):
        length = min(pieces[number % len(pieces)] * CLUSTER_SIZE, len(data) - position)
        writer.write(writer.place(writer.encode(position, data[position : position + length])))
        position, number = position + length, number + 1
    writer.finish()
    return path


def judge(path: Path, data: bytes) -> None:
    """Whether ``qemu-img`` and we find ``data`` in a sound image at ``path``."""
    check(path)
    raw = path.with_suffix(".raw")
    raw.write_bytes(data)
    same(path, raw)
    disk = open_disk(FileBlob(path))
    assert disk.read_at(0, disk.size) == data
    for extent in disk.extents():
        holds_data = extent.kind is ExtentKind.DATA
        starts = range(extent.start, extent.end, CLUSTER_SIZE)
        assert all(any(data[start : start + CLUSTER_SIZE]) == holds_data for start in starts)
    disk.close()


@settings(deadline=None, max_examples=25)
@given(
    text=st.text(alphabet="0nhAB", min_size=1, max_size=40),
    short=st.integers(0, 127).map(lambda sectors: sectors * 512),
    subformat=st.sampled_from(_SUBFORMATS),
    pieces=st.lists(st.integers(1, 12), min_size=1, max_size=5).map(tuple),
)
def test_any_disk_in_any_pieces_gives_one_sound_image(
    tmp_path_factory: pytest.TempPathFactory, text: str, short: int, subformat: str, pieces: tuple[int, ...]
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    data = content(text, short)
    path = write(folder / "disk.qcow2", data, options(subformat), pieces)
    judge(path, data)
    again = write(folder / "again.qcow2", data, options(subformat), (1,))
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("subformat", _SUBFORMATS)
def test_every_level_is_read_by_others_and_no_larger_than_it_may_be(
    tmp_path: Path, subformat: str, compression: Compression
) -> None:
    data = guest_bytes(5 * MIB + 1024)
    path = write(tmp_path / "disk.qcow2", data, options(subformat, compression))
    judge(path, data)
    peer = tmp_path / "peer.qcow2"
    chosen = f"compression_type={subformat}"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", chosen, path.with_suffix(".raw"), peer)
    if compression is Compression.BEST:
        assert path.stat().st_size <= peer.stat().st_size
    else:
        assert path.stat().st_size <= 1.15 * peer.stat().st_size + CLUSTER_SIZE
    disk = open_disk(FileBlob(path))
    assert isinstance(disk, SupportsFacts)
    assert disk.facts == DiskFacts(f"v3 {subformat}")
    disk.close()


@pytest.mark.parametrize("compression", Compression)
def test_libqcow_reads_what_is_written(tmp_path: Path, compression: Compression) -> None:
    """It takes bit 0 of a compressed cluster's offset for the zero flag, and so loses half of what QEMU writes."""
    data = guest_bytes(3 * MIB)
    path = write(tmp_path / "disk.qcow2", data, options("zlib", compression))
    image = pyqcow.file()
    image.open_file_object(io.BytesIO(path.read_bytes()))
    assert image.get_media_size() == len(data)
    assert b"".join(image.read_buffer_at_offset(256 * KIB, start) for start in range(0, len(data), 256 * KIB)) == data
    image.close()


@pytest.mark.parametrize("compression", Compression)
def test_no_stream_needs_more_than_four_kilobytes_of_history(compression: Compression) -> None:
    data = guest_bytes(4 * MIB)
    encoded = PackedQcow2Writer(Discard(), len(data), ZLIB, compression).encode(0, data)
    packed = [(guest, bytes(stored)) for guest, is_packed, stored in encoded if is_packed]
    assert len(packed) > 10
    for guest, stored in packed:
        unpacker = zlib.decompressobj(-12)
        assert unpacker.decompress(stored) == data[guest * CLUSTER_SIZE : (guest + 1) * CLUSTER_SIZE]
        assert unpacker.eof


@pytest.mark.parametrize("subformat", _SUBFORMATS)
def test_threads_change_nothing_about_the_file(tmp_path: Path, subformat: str) -> None:
    data = guest_bytes(40 * MIB)
    images = []
    for workers in (1, 4):
        path = tmp_path / f"{workers}.qcow2"
        disk = open_disk(MemoryBlob(data), FORMATS["raw"])
        writer = FORMAT.create(create_file(path, sync=False), disk.size, disk.extents(), options(subformat))
        copy(disk, writer, workers=workers)
        writer.finish()
        images.append(path.read_bytes())
    assert images[0] == images[1]
    assert images[0] == write(tmp_path / "3.qcow2", data, options(subformat), (3, 64)).read_bytes()
    check(path)


def test_clusters_that_do_not_shrink_lie_plain_and_the_others_close_up(tmp_path: Path) -> None:
    data = content("nAnAnAnA")
    path = write(tmp_path / "disk.qcow2", data, options("zlib"))
    judge(path, data)
    # header, L1, four of noise, one that all the letters share, L2, refcount table and block
    assert path.stat().st_size == 10 * CLUSTER_SIZE


@pytest.mark.parametrize("size", [0, 512, CLUSTER_SIZE, 2 * TIB + 512, 64 * TIB])
@pytest.mark.parametrize("subformat", _SUBFORMATS)
def test_an_empty_disk_is_one_hole(tmp_path: Path, size: int, subformat: str) -> None:
    path = tmp_path / "disk.qcow2"
    FORMAT.create(create_file(path, sync=False), size, [], options(subformat)).finish()
    check(path)
    disk = open_disk(FileBlob(path))
    assert disk.size == size
    assert [extent.kind for extent in disk.extents()] == ([ExtentKind.HOLE] if size else [])
    disk.close()


@pytest.mark.parametrize("subformat", _SUBFORMATS)
def test_first_and_last_sector_of_a_large_disk(tmp_path: Path, subformat: str) -> None:
    size = 3 * TIB + 512
    path = tmp_path / "disk.qcow2"
    writer = FORMAT.create(create_file(path, sync=False), size, [], options(subformat))
    assert isinstance(writer, OrderedDiskWriter)
    pieces = [(0, b"A" * CLUSTER_SIZE), (TIB, b"B" * CLUSTER_SIZE), (size - 512, b"C" * 512)]
    for offset, data in pieces:
        writer.write(writer.place(writer.encode(offset, data)))
    writer.finish()
    check(path)
    assert path.stat().st_size < 2 * MIB
    disk = open_disk(FileBlob(path))
    assert [extent.start for extent in disk.extents() if extent.kind is ExtentKind.DATA] == [at for at, _ in pieces]
    assert all(disk.read_at(offset, len(data)) == data for offset, data in pieces)
    disk.close()


def test_an_unfinished_image_is_no_qcow2(tmp_path: Path) -> None:
    target = Discard()
    writer = FORMAT.create(target, MIB, [], options("zlib"))
    assert isinstance(writer, OrderedDiskWriter)
    writer.write(writer.place(writer.encode(0, b"A" * MIB)))
    assert target.written
    assert not target.header
    writer.abort()


def test_what_is_not_whole_clusters_is_a_mistake_of_the_caller() -> None:
    writer = FORMAT.create(Discard(), 4 * CLUSTER_SIZE + 512, [], options("zlib"))
    assert isinstance(writer, OrderedDiskWriter)
    for offset, length in ((512, CLUSTER_SIZE), (0, 512), (-CLUSTER_SIZE, CLUSTER_SIZE), (0, 6 * CLUSTER_SIZE)):
        with pytest.raises(ValueError, match="are not whole clusters"):
            writer.encode(offset, bytes(length))
    with pytest.raises(ValueError, match="no subformat"):
        FORMAT.create(Discard(), MIB, [], WriteOptions("thin"))


def test_memory_does_not_grow_with_the_disk() -> None:
    """What is held is the L1 table, one L2 table and two bytes for each 64 KiB of the file."""
    writer = PackedQcow2Writer(Discard(), 4 * GIB, ZLIB, Compression.FAST)
    tracemalloc.start()
    try:
        for guest in range(0, 4 * GIB // CLUSTER_SIZE, 64):
            writer.place([(guest + number, True, _SEED[:20_000]) for number in range(64)])
        writer.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB


def test_a_file_beyond_what_a_descriptor_reaches_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmferry.formats.qcow2.packed_writer._MAX_FILE", 8 * CLUSTER_SIZE)
    writer = FORMAT.create(Discard(), GIB, [], options("zstd"))
    assert isinstance(writer, OrderedDiskWriter)
    with pytest.raises(UnsupportedFeatureError, match="write subformat plain"):
        writer.place(writer.encode(0, content("n" * 16)))


def test_descriptors_say_what_is_read(tmp_path: Path) -> None:
    """The vector of the reference: 64 KiB clusters, host offset 0x50000, 700 bytes: one sector more."""
    writer = PackedQcow2Writer(Discard(), MIB, ZLIB, Compression.FAST)
    placed = writer.place([(0, False, _SEED), (1, False, _SEED), (2, False, _SEED), (3, True, b"x" * 700)])
    assert [host for host, _ in placed] == [0x20000, 0x30000, 0x40000, 0x50000]
    assert int(writer._table.entries[3]) == 0x4040000000050000
    assert int(writer._table.entries[3]) & COMPRESSED
