"""Packed files that lie about what comes out of them, and bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache

from tests.hostile import evil_qcow2, evil_vmdk
from tests.hostile.evil import HOST_FILE, Evil, patched

_BACKING = evil_qcow2.image((256, HOST_FILE.encode()), backing_offset=256, backing_size=len(HOST_FILE))
_FLAT = evil_vmdk.descriptor("monolithicFlat", f'RW 8 FLAT "{HOST_FILE}" 0')
_RLE_FRAME = b"\x28\xb5\x2f\xfd"


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def _xz_index(unpacked: int) -> bytes:
    """A file whose index claims one block of ``unpacked`` bytes."""
    number = b""
    while unpacked > 127:
        number, unpacked = number + bytes([unpacked & 127 | 128]), unpacked >> 7
    packed = lzma.compress(bytes(1000))
    index_size = (int.from_bytes(packed[-8:-4], "little") + 1) * 4
    old = packed[-12 - index_size : -12]
    index = (old[:3] + number + bytes([unpacked])).ljust(64, b"\0")
    index = index[: 3 + len(number) + 1 + -(3 + len(number) + 1) % 4]
    index += struct.pack("<I", zlib.crc32(index))
    footer = struct.pack("<I", len(index) // 4 - 1) + packed[-4:-2]
    return packed[: -12 - index_size] + index + struct.pack("<I", zlib.crc32(footer)) + footer + b"YZ"


@cache
def _bzip2_bomb() -> bytes:
    packer = bz2.BZ2Compressor()
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(320)), packer.flush()])


def _items() -> Iterator[tuple[str, str, bytes]]:
    for pack, suffix in ((gzip.compress, "gz"), (bz2.compress, "bz2"), (lzma.compress, "xz")):
        yield f"backing.qcow2.{suffix}", "a packed image with a backing file", pack(_BACKING)
        yield f"flat.vmdk.{suffix}", "a packed descriptor that names a file of the host", pack(_FLAT)
        yield f"nested.{suffix}", "packed twice", pack(pack(bytes(1 << 20)))
        yield f"cut.{suffix}", "cut in the middle", pack(bytes(range(256)) * 99)[:60]
        yield f"damaged.{suffix}", "a wrong checksum", patched(pack(bytes(100)), (len(pack(bytes(100))) - 6, b"\xee"))
    yield "length.gz", "a wrong length", gzip.compress(bytes(1000))[:-4] + b"\1\0\0\0"
    yield "members-many.gz", "20,000 empty members", gzip.compress(b"") * 20_000 + gzip.compress(bytes(4096))
    yield "name.gz", "a name without end", b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * 100_000
    for size in (2**40 * 65, 2**62):
        yield f"index-{size:x}.xz", "an index that claims more than there can be", _xz_index(size)
    yield "index.xz", "an index that claims more than there is", _xz_index(1 << 20)
    yield "dictionary.xz", "a dictionary of 1.5 GiB", lzma.compress(
        b"x" * 1000, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 3 << 29}]
    )  # fmt: skip
    yield "window.zst", "a window of 2 TiB", _RLE_FRAME + b"\0\xf8" + b"\1\0\0"
    yield "claim.zst", "a claim of 2^63 bytes", _RLE_FRAME + b"\xc0\x58" + struct.pack("<Q", 2**63) + b"\1\0\0"
    yield (
        "skippable.zst",
        "a skippable frame past the end",
        _RLE_FRAME + b"\0\x58\1\0\0" + struct.pack("<II", 0x184D2A50, 2**32 - 1),
    )
    yield "dictionary.zst", "a dictionary", _RLE_FRAME + b"\3\x58" + b"\1\2\3\4" + b"\1\0\0"
    yield "several.zip", "two files", zipped(("a.raw", bytes(512)), ("b.raw", bytes(512)))
    yield "method.zip", "packed with LZMA", zipped(("a.raw", bytes(512)), method=zipfile.ZIP_LZMA)
    one = zipped(("a.raw", b"\1" * 512), method=zipfile.ZIP_STORED)
    yield "encrypted.zip", "says that it is encrypted", patched(one, (6, b"\1"), (one.rfind(b"PK\1\2") + 8, b"\1"))
    entry = zipped(("a.raw", b"\1" * 512)).rfind(b"PK\1\2")
    for name, place, value in (
        ("size", 24, 2**32 - 2),
        ("packed", 20, 2**31),
        ("header", 42, 2**31),
        ("checksum", 16, 7),
    ):
        yield (
            f"{name}.zip",
            f"a wrong {name}",
            patched(zipped(("a.raw", b"\1" * 512)), (entry + place, struct.pack("<I", value))),
        )
    end = one.rfind(b"PK\5\6")
    yield "directory.zip", "a directory past the end", patched(one, (end + 12, b"\xfe\xff\xff\xff"))
    yield "count.zip", "65,534 entries", patched(one, (end + 8, b"\xfe\xff\xfe\xff"))
    yield "path.qcow2.zip", "a name out of the folder, and a backing file", zipped(("../../etc/cron.d/x", _BACKING))


def _legal() -> Iterator[tuple[str, str, bytes]]:
    yield "path.zip", "a name out of the folder", zipped(("../../etc/cron.d/x", bytes(1 << 20)))
    yield "members.gz", "5,000 empty members", gzip.compress(b"") * 5000 + gzip.compress(bytes(4096))


def _zeros() -> bytes:
    return gzip.compress(bytes(32 << 20))


def items() -> Iterator[Evil]:
    yield Evil("packed-bomb.bz2", "a bomb of 300 MiB in 300 bytes", _bzip2_bomb)
    yield Evil("packed-zeros.gz", "32 MiB of zeros", _zeros, refused=False)
    for name, about, content in _items():
        yield Evil(f"packed-{name}", about, content.__bytes__)
    for name, about, content in _legal():
        yield Evil(f"packed-{name}", about, content.__bytes__, refused=False)
