"""qcow2 images that lie: about tables, clusters, snapshots, compression, and about files that are not theirs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import partial

from tests.hostile.evil import HOST_FILE, NEIGHBOUR, Evil, patched

_CLUSTER = 512
_L1, _L2, _L2_TOO, _DATA = 1024, 2048, 2560, 4096
_COPIED, _COMPRESSED = 1 << 63, 1 << 62
_SHIFT = 62 - (9 - 8)
"""Where the length of a compressed cluster stands in its entry."""

_FIELDS = {
    "magic": (0, ">4s"), "version": (4, ">I"), "backing_offset": (8, ">Q"), "backing_size": (16, ">I"),
    "cluster_bits": (20, ">I"), "size": (24, ">Q"), "crypt": (32, ">I"), "l1_size": (36, ">I"),
    "l1_offset": (40, ">Q"), "refcount_offset": (48, ">Q"), "refcount_clusters": (56, ">I"),
    "snapshots": (60, ">I"), "snapshots_offset": (64, ">Q"), "incompatible": (72, ">Q"),
    "compatible": (80, ">Q"), "autoclear": (88, ">Q"), "refcount_order": (96, ">I"),
    "header_length": (100, ">I"), "compression": (104, ">B"),
}  # fmt: skip


def image(*changes: tuple[int, bytes], **fields: int) -> bytes:
    """64 KiB of disk in clusters of 512 bytes: two L2 tables of 64 entries, one cluster with data."""
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQIIB7x", b"QFI\xfb", 3, 0, 0, 9, 65536, 0, 2, _L1, 1536, 1, 0, 0, 0, 0, 0, 4, 112, 0
    )
    data = bytearray(header).ljust(_DATA, b"\0") + b"\xa5" * _CLUSTER
    struct.pack_into(">QQ", data, _L1, _L2 | _COPIED, _L2_TOO | _COPIED)
    struct.pack_into(">Q", data, _L2, _DATA | _COPIED)
    struct.pack_into(">Q", data, 1536, 3072)
    struct.pack_into(">9H", data, 3072, *[1] * 9)
    for name, value in fields.items():
        offset, form = _FIELDS[name]
        struct.pack_into(form, data, offset, value)
    return patched(data, *changes)


def entries(*values: int) -> bytes:
    return struct.pack(f">{len(values)}Q", *values)


def extension(kind: int, content: bytes, length: int | None = None) -> tuple[int, bytes]:
    body = struct.pack(">II", kind, len(content) if length is None else length) + content
    return 112, body.ljust(len(body) + -len(body) % 8, b"\0")


def packed(content: bytes, wbits: int = -12) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(content) + packer.flush()


def compressed(stream: bytes, sectors: int = 0, **fields: int) -> bytes:
    return image(
        (_DATA, stream.ljust(_CLUSTER, b"\0")), (_L2, entries(_COMPRESSED | sectors << _SHIFT | _DATA)), **fields
    )


def _backing(name: str) -> bytes:
    return image(extension(0xE2792ACA, b"raw"), (256, name.encode()), backing_offset=256, backing_size=len(name))


def _data_file(name: str) -> bytes:
    return image(extension(0x44415441, name.encode()), incompatible=4)


def _names() -> Iterator[Evil]:
    names = {
        "absolute": HOST_FILE, "beside": NEIGHBOUR, "above": f"../{NEIGHBOUR}", "url": "http://127.0.0.1:9/disk.raw",
        "json": f'json:{{"driver":"raw","file":{{"driver":"file","filename":"{HOST_FILE}"}}}}', "nbd": "nbd://127.0.0.1:9/x",
        "fat": "fat:rw:/etc", "device": "/dev/zero", "escape": "\x1b[2J\u202e\n", "long": "x" * 250,
    }  # fmt: skip
    for kind, name in names.items():
        yield Evil(f"qcow2-backing-{kind}.qcow2", f"backing file {name[:60]!r}", partial(_backing, name))
        yield Evil(f"qcow2-data-file-{kind}.qcow2", f"data file {name[:60]!r}", partial(_data_file, name))


def _headers() -> Iterator[tuple[str, str, bytes]]:
    for bits in (0, 8, 22, 63, 0xFFFFFFFF):
        yield f"cluster-bits-{bits}", "clusters of an impossible size", image(cluster_bits=bits)
    for size in (2**63, 2**64 - 512, 2**46 + 512, 2**63 - 1):
        yield f"size-{size:x}", "a size past every limit", image(size=size)
    for count in (0, 2**31, 2**32 - 1, 2**22 + 1):
        yield f"l1-size-{count:x}", "an L1 table of impossible length", image(l1_size=count)
    for offset in (0, 1, 2**63, 2**40, 4607):
        yield f"l1-offset-{offset:x}", "an L1 table at an impossible place", image(l1_offset=offset)
    yield "unknown-feature", "an incompatible feature that nobody knows", image(incompatible=1 << 63)
    yield "corrupt-bit", "marked corrupt", image(incompatible=2)
    yield "version-0", "a version that does not exist", image(version=0)
    yield "version-4", "a version that does not exist", image(version=2**31)
    for method in (1, 2, 77):
        yield f"crypt-{method}", "encrypted", image(crypt=method)
    for length in (0, 8, 100, 2**32 - 1):
        yield f"header-length-{length:x}", "a header of impossible length", image(header_length=length)
    yield "backing-name-past-end", "backing name past the end", image(backing_offset=2**40, backing_size=16)
    yield "backing-name-huge", "backing name of 4 GiB", image(backing_offset=256, backing_size=2**32 - 1)
    yield "extension-huge", "header extension of 4 GiB", image(extension(0x12345678, b"", 2**32 - 1))
    yield "compression-without-bit", "compression type without its feature bit", image(compression=1)
    yield "bit-without-compression", "compression feature bit without a type", image(incompatible=8)
    yield "compression-unknown", "a compression type that nobody knows", image(incompatible=8, compression=255)
    yield "refcount-order", "refcounts of 2^63 bits", image(refcount_order=63)
    yield "extended-l2-small", "extended L2 entries in clusters that are too small", image(incompatible=16)
    for length in (4, 8, 71, 100):
        yield f"cut-{length}", "cut inside the header", image()[:length]


def _tables() -> Iterator[tuple[str, str, bytes]]:
    for name, entry in {
        "itself": _L1 | _COPIED, "past-end": 2**40 | _COPIED,
    }.items():  # fmt: skip
        yield f"l1-to-{name}", f"an L1 entry that points to {name}", image((_L1, entries(entry)))
    yield "l1-twice", "two L1 entries with one L2 table", image((_L1, entries(_L2, _L2)))
    for name, entry in {
        "header": 1 << 62, "l1": _L1 | _COPIED, "l2": _L2 | _COPIED, "past-end": 2**40 | _COPIED,
        "2^55": (2**56 - 512) | _COPIED,
    }.items():  # fmt: skip
        yield f"l2-to-{name}", f"an L2 entry that points to {name}", image((_L2, entries(entry)))
    yield "one-cluster-everywhere", "64 entries that share one cluster", image((_L2, entries(*[_DATA | _COPIED] * 64)))
    one = _COMPRESSED | _DATA
    yield "one-packed-cluster-everywhere", "64 entries that share one compressed cluster", image(
        (_DATA, packed(bytes(512)).ljust(512, b"\0")), (_L2, entries(*[one] * 64))
    )  # fmt: skip


def _streams() -> Iterator[tuple[str, str, bytes]]:
    yield "stream-short", "a cluster that inflates to less", compressed(packed(b"x" * 100))
    yield "stream-more", "a cluster that inflates to a thousand times as much", compressed(packed(bytes(256 * 1024)))
    yield "stream-cut", "a cluster whose stream is cut", compressed(packed(bytes(range(256)) * 2)[:40])
    yield "stream-empty", "a cluster with an empty stream", compressed(b"")
    yield "stream-garbage", "a cluster of garbage", compressed(b"\xff" * 512)
    yield "stream-past-end", "a cluster whose stream ends past the end", image(
        (_L2, entries(_COMPRESSED | 1 << _SHIFT | 2**40))
    )  # fmt: skip
    zstd = {"incompatible": 8, "compression": 1}
    yield (
        "zstd-window",
        "a zstd cluster with a window of 2 GiB",
        compressed(b"\x28\xb5\x2f\xfd\x00\xa8" + b"\1\0\0", **zstd),
    )
    skippable = struct.pack("<II", 0x184D2A50, 0xFFFFFFF0)
    yield "zstd-skippable", "a zstd cluster of a skippable frame of 4 GiB", compressed(skippable, **zstd)
    rle = b"\x28\xb5\x2f\xfd\x00\x58" + b"".join((size << 3 | 2).to_bytes(3, "little") + b"x" for size in [131072] * 90)
    yield "zstd-bomb", "a zstd cluster that inflates to 12 MiB", compressed(rle, **zstd)


def _snapshots() -> Iterator[tuple[str, str, bytes]]:
    yield "snapshots-65537", "65,537 snapshots", image(snapshots=65537, snapshots_offset=_DATA)
    yield "snapshots-2^32", "4 billion snapshots", image(snapshots=2**32 - 1, snapshots_offset=_DATA)


def _legal() -> Iterator[tuple[str, str, bytes]]:
    table = {"l1_size": 128, "cluster_bits": 21, "l1_offset": 2**21, "refcount_offset": 2**22, "refcount_clusters": 1}
    empty = image((_L1, bytes(16)), (2**21, bytes(1024)), size=2**46, **table)
    yield "64-tib", "64 TiB, empty", empty
    yield "l1-reserved", "an L1 entry with reserved bits", image((_L1, entries(_L2 | 1 << 60 | 8)))
    yield "l2-reserved", "an L2 entry with reserved bits", image((_L2, entries(_DATA | 1 << 60 | 8)))
    yield "refcount-zero", "refcounts of zero", image((3072, bytes(32)))
    # Internal snapshots count for nothing unless one is asked for: the active layer is sound.
    yield "snapshots-tiny-file", "65,536 snapshots in a tiny file", image(snapshots=65536, snapshots_offset=_DATA)
    yield "snapshots-past-end", "a snapshot table past the end", image(snapshots=1, snapshots_offset=2**50)
    entry = struct.pack(">QIHHIIQII", _L1, 2**32 - 1, 65535, 65535, 0, 0, 0, 0, 2**32 - 1)
    yield (
        "snapshot-huge",
        "a snapshot with names and data of 4 GiB",
        image((_DATA, entry), snapshots=1, snapshots_offset=_DATA),
    )


def items() -> Iterator[Evil]:
    yield from _names()
    for part in (_headers, _tables, _streams, _snapshots):
        for name, about, content in part():
            yield Evil(f"qcow2-{name}.qcow2", about, partial(bytes, content))
    for name, about, content in _legal():
        yield Evil(f"qcow2-{name}.qcow2", about, partial(bytes, content), refused=False)
