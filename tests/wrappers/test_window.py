"""How much is decoded and held: forwards everything once; what cannot be reached is refused, not decoded anew."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import time
import tracemalloc
import zlib
from itertools import pairwise

import pytest
import zstandard

from tests.wrappers.packers import run
from vmferry import wrappers
from vmferry.blob import Blob, MemoryBlob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError
from vmferry.units import GIB, MIB
from vmferry.wrappers import _deflate, _unpacked, xz

pytestmark = pytest.mark.slow


class CountingBlob(MemoryBlob):
    """Counts what is read of it."""

    count = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.count += length
        return super().read_at(offset, length)


def read_all(packed: bytes, name: str) -> bytes:
    unpacked, _ = wrappers.unwrap(MemoryBlob(packed, name))
    return unpacked.read_at(0, unpacked.size)


def zeros(size: int) -> list[bytes]:
    return [bytes(MIB)] * (size // MIB)


def packed_zeros(kind: str, size: int) -> bytes:
    """``size`` zeros without holding them: whole MiB."""
    if kind == "zstd":
        frame = zstandard.ZstdCompressor().compressobj(size)
        return b"".join([*map(frame.compress, zeros(size)), frame.flush()])
    packer = lzma.LZMACompressor(preset=0) if kind == "xz" else bz2.BZ2Compressor()
    return b"".join([*map(packer.compress, zeros(size)), packer.flush()])


def jump_about(blob: Blob) -> None:
    for number in range(100):
        assert not any(blob.read_at(number * 31 * MIB % blob.size, 10))


def test_reading_backwards_in_gzip_begins_at_checkpoints() -> None:
    content = bytes(range(251)) * (40 * MIB // 251)
    blob = CountingBlob(gzip.compress(content, 1))
    unpacked, _ = wrappers.unwrap(blob)
    blob.count = 0
    for number in range(unpacked.size // MIB - 1, -1, -1):
        assert unpacked.read_at(number * MIB, MIB) == content[number * MIB : (number + 1) * MIB]
    assert blob.count < 45 * MIB


def test_checkpoints_stay_few_whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deflate, "_FIRST_STEP", 64 * 1024)
    monkeypatch.setattr(_deflate, "_MEASURED", 64 * 1024)
    monkeypatch.setattr(_deflate, "MAX_UNPACK_CHECKPOINTS", 8)
    content = bytes(range(251)) * (20 * MIB // 251)
    unpacked, _ = wrappers.unwrap(MemoryBlob(gzip.compress(content, 1)))
    assert isinstance(unpacked, _unpacked.UnpackedBlob)
    starts = unpacked._packing.starts
    assert 4 <= len(starts) <= 8
    assert max(high - low for low, high in pairwise(starts)) < 6 * MIB
    for offset in (19 * MIB, 3 * MIB, 11 * MIB):
        assert unpacked.read_at(offset, 1000) == content[offset : offset + 1000]


@pytest.mark.parametrize("kind", ["xz", "zstd"])
def test_reading_one_long_block_forwards_is_a_stream(kind: str) -> None:
    blob = CountingBlob(packed_zeros(kind, 96 * MIB))
    unpacked, _ = wrappers.unwrap(blob)
    blob.count = 0
    for offset in range(0, unpacked.size, MIB):
        unpacked.read_at(offset, MIB)
    assert blob.count <= blob.size + MIB


@pytest.mark.parametrize(("kind", "program"), [("xz", "unxz"), ("zstd", "unzstd"), ("bzip2", "bunzip2")])
def test_jumping_about_in_one_long_block_is_refused(kind: str, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unpacked, "_FREE", 0)
    monkeypatch.setattr(_unpacked, "_NEAR", 8 * MIB)
    unpacked, _ = wrappers.unwrap(MemoryBlob(packed_zeros(kind, 48 * MIB), "disk.packed"))
    with pytest.raises(UnsupportedFeatureError, match=rf"disk.packed is packed by {kind} in one .*middle.*{program}"):
        jump_about(unpacked)


def test_many_blocks_can_be_read_in_any_order_as_often_as_one_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unpacked, "_FREE", 0)
    monkeypatch.setattr(_unpacked, "_NEAR", 8 * MIB)
    packed = run("xz", "-0", "-T2", "--block-size=2MiB", "-c")(bytes(48 * MIB))
    unpacked, _ = wrappers.unwrap(MemoryBlob(packed))
    jump_about(unpacked)


def test_memory_stays_small_whatever_the_size() -> None:
    unpacked, _ = wrappers.unwrap(MemoryBlob(packed_zeros("zstd", 256 * MIB)))
    tracemalloc.start()
    try:
        for offset in range(0, unpacked.size, 4 * MIB):
            unpacked.read_at(offset, 4 * MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * MIB


def test_a_dictionary_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 192 * MIB}]
    with pytest.raises(UnsupportedFeatureError, match="dictionary of more than 128 MiB: unpack it first"):
        wrappers.unwrap(MemoryBlob(lzma.compress(b"content", filters=filters)))
    monkeypatch.setattr(xz, "MAX_UNPACK_WINDOW", 64 * MIB)
    unpacked, _ = wrappers.unwrap(MemoryBlob(lzma.compress(b"content", preset=9)))
    assert unpacked.read_at(0, unpacked.size) == b"content"


def zstd_frame(size: int, window: int, blocks: bytes) -> bytes:
    """A frame that claims ``size`` and a window of ``1 << window`` bytes."""
    return b"\x28\xb5\x2f\xfd\xc0" + bytes([window - 10 << 3]) + struct.pack("<Q", size) + blocks


def rle(size: int, last: bool) -> bytes:
    return (int(last) | 1 << 1 | size << 3).to_bytes(3, "little") + b"\0"


@pytest.mark.parametrize(
    ("size", "window", "blocks", "error"),
    [
        (1000, 31, rle(1000, last=True), UnsupportedFeatureError),
        (1001, 20, rle(1000, last=True), CorruptDiskError),
        (2**63, 20, rle(1000, last=True), CorruptDiskError),
        (999, 20, rle(1000, last=True), CorruptDiskError),
        (1000, 20, rle(1000, last=False), CorruptDiskError),
        (1 << 20, 20, rle(1 << 20, last=True), CorruptDiskError),
    ],
)
def test_a_zstd_frame_that_lies_is_refused(size: int, window: int, blocks: bytes, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"disk.zst"):
        read_all(zstd_frame(size, window, blocks), "disk.zst")


def test_a_bomb_that_must_be_decoded_to_be_measured_is_refused() -> None:
    packed = packed_zeros("bzip2", 300 * MIB)
    assert len(packed) < 1000
    with pytest.raises(UnsafeDiskError, match="decompression bomb"):
        wrappers.unwrap(MemoryBlob(packed))


@pytest.mark.parametrize(
    "pattern",
    [b"\0\0\0", b"\1\0\0", gzip.compress(b"", mtime=0), bz2.compress(b""), lzma.compress(b"")],
    ids=["zeros", "ones", "gzip", "bzip2", "xz"],
)
def test_half_a_mib_of_nothing_is_looked_through_in_no_time(pattern: bytes) -> None:
    head = b"\x28\xb5\x2f\xfd\x00\x58" if len(pattern) == 3 else b""
    blob: Blob = MemoryBlob(head + pattern * (MIB // 2 // len(pattern)))
    begin = time.process_time()
    try:
        unpacked, _ = wrappers.unwrap(blob)
        assert unpacked.size == 0
    except (CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError):
        pass
    assert time.process_time() - begin < 2


def test_an_xz_index_that_lies_about_a_block_is_found_out_when_it_is_read() -> None:
    packed = bytearray(lzma.compress(bytes(1000)))
    index = packed[-28:-12] if packed[-28] == 0 else packed[-24:-12]
    place = len(packed) - 12 - len(index)
    assert index[:2] == b"\0\1"
    body = bytes(index[:3]) + bytes([0xE9]) + bytes(index[4:-4])  # 1001 for 1000
    packed[place : place + len(index)] = body + struct.pack("<I", zlib.crc32(body))
    unpacked = xz.WRAPPER.open(MemoryBlob(bytes(packed), "disk.xz"))
    assert unpacked.size == 1001
    with pytest.raises(CorruptDiskError, match=r"disk.xz.*(cut short|damaged)"):
        unpacked.read_at(0, 1001)


def test_a_gzip_of_nothing_but_zeros_is_a_disk_like_any_other() -> None:
    packer = zlib.compressobj(1, 8, 31)
    packed = b"".join([*map(packer.compress, zeros(GIB // 4)), packer.flush()])
    unpacked, _ = wrappers.unwrap(MemoryBlob(packed))
    assert unpacked.size == GIB // 4
