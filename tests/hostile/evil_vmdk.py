"""VMDK files that lie: descriptors that name files of the host, and grains and tables that lead astray."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import partial

from tests.hostile.evil import HOST_FILE, NEIGHBOUR, Evil, patched

_SECTOR = 512
_CAPACITY, _GRAIN = 1024, 16
_GD, _GT, _DATA = 21, 22, 26
_AT_END = 2**64 - 1
_FIELDS = {
    "magic": (0, "<4s"), "version": (4, "<I"), "flags": (8, "<I"), "capacity": (12, "<Q"), "grain": (20, "<Q"),
    "descriptor_offset": (28, "<Q"), "descriptor_size": (36, "<Q"), "table_entries": (44, "<I"), "rgd": (48, "<Q"),
    "gd": (56, "<Q"), "overhead": (64, "<Q"), "method": (77, "<H"),
}  # fmt: skip


def descriptor(kind: str, *extents: str, parent: str = "ffffffff", more: str = "") -> bytes:
    lines = ["# Disk DescriptorFile", "version=1", "CID=0badf00d", f"parentCID={parent}", f'createType="{kind}"', more]
    return "\n".join([*lines, "# Extent description", *extents, "# The Disk Data Base", "#DDB", ""]).encode()


def sparse(*changes: tuple[int, bytes], text: bytes | None = None, compressed: bool = False, **fields: int) -> bytes:
    """512 KiB in grains of 8 KiB: one table, the first grain stored (or deflated) in sector 26."""
    kind = "streamOptimized" if compressed else "monolithicSparse"
    text = descriptor(kind, f'RW {_CAPACITY} SPARSE "x.vmdk"') if text is None else text
    flags, method = (0x30001, 1) if compressed else (1, 0)
    header = struct.pack("<4sIIQQQQIQQQB4sH", b"KDMV", 3 if compressed else 1, flags, _CAPACITY, _GRAIN, 1, 20, 512, 0,
                         _GD, _DATA, 0, b"\n \r\n", method)  # fmt: skip
    data = bytearray(header.ljust(_SECTOR, b"\0") + text.ljust(20 * _SECTOR, b"\0"))
    data = data.ljust(_DATA * _SECTOR, b"\0")
    struct.pack_into("<I", data, _GD * _SECTOR, _GT)
    struct.pack_into("<I", data, _GT * _SECTOR, _DATA)
    data += grain(zlib.compress(bytes(range(256)) * 32)) if compressed else bytes(range(256)) * 32
    if compressed:
        data += bytes(_SECTOR)  # end of stream
    for name, value in fields.items():
        offset, form = _FIELDS[name]
        struct.pack_into(form, data, offset, value)
    return patched(data, *changes)


def grain(stream: bytes, sector: int = 0, size: int | None = None) -> bytes:
    marked = struct.pack("<QI", sector, len(stream) if size is None else size) + stream
    return marked.ljust(len(marked) + -len(marked) % _SECTOR, b"\0")


def stream(marked: bytes) -> bytes:
    return sparse((_DATA * _SECTOR, marked.ljust(20 * _SECTOR, b"\0")), compressed=True)


def table(*values: int) -> tuple[int, bytes]:
    return _GT * _SECTOR, struct.pack(f"<{len(values)}I", *values)


def _descriptors() -> Iterator[tuple[str, str, bytes]]:
    names = {
        "absolute": HOST_FILE, "beside": NEIGHBOUR, "above": f"../{NEIGHBOUR}", "url": "http://127.0.0.1:9/x",
        "json": 'json:{"driver":"file","filename":"/etc/passwd"}', "drive": "C:\\windows\\win.ini",
        "unc": "\\\\127.0.0.1\\x",
        "device": "/dev/zero", "stream": "disk.vmdk:hidden", "empty": "", "dot": ".",
    }  # fmt: skip
    for kind, name in names.items():
        yield f"flat-{kind}", f"its data in {name!r}", descriptor("monolithicFlat", f'RW 8 FLAT "{name}" 0')
        yield (
            f"split-{kind}",
            f"a sparse extent in {name!r}",
            descriptor("twoGbMaxExtentSparse", f'RW 8 SPARSE "{name}"'),
        )
    for kind in (
        "vmfs",
        "vmfsSparse",
        "seSparse",
        "fullDevice",
        "partitionedDevice",
        "vmfsRDM",
        "vmfsRaw",
        "custom",
        "x" * 5000,
    ):
        line = {"vmfsSparse": "VMFSSPARSE", "seSparse": "SESPARSE"}.get(kind, "FLAT")
        yield f"type-{kind[:20]}", f"createType {kind[:20]}", descriptor(kind, f'RW 8 {line} "{HOST_FILE}"')
    hint = f'parentFileNameHint="{HOST_FILE}"'
    yield (
        "parent",
        "a parent on the host",
        descriptor("monolithicSparse", 'RW 8 SPARSE "x"', parent="12345678", more=hint),
    )
    for kind, line in {
        "zero-length": 'RW 0 FLAT "x-flat.vmdk" 0', "negative": 'RW -8 FLAT "x-flat.vmdk" 0',
        "2^63": f'RW {2**63} ZERO',
        "2^200": f"RW {2**200} ZERO", "offset": f'RW 8 FLAT "x-flat.vmdk" {2**63}',
        "offset-negative": 'RW 8 FLAT "x-flat.vmdk" -1',
        "digits": f"RW {'9' * 5000} ZERO", "unicode": "RW ٨ ZERO", "no-name": "RW 8 FLAT", "quote": 'RW 8 FLAT "x',
    }.items():  # fmt: skip
        yield f"extent-{kind}", "an extent line of nonsense", descriptor("monolithicFlat", line)
    yield "no-extents", "no extents", descriptor("monolithicFlat")
    yield "many-extents", "2,000 extents", descriptor("twoGbMaxExtentSparse", *['RW 1 SPARSE "x"'] * 2000)
    yield "many-zeros", "2,000 extents of 2^44 sectors of zeros", descriptor("custom", *[f"RW {2**44} ZERO"] * 2000)


def _headers() -> Iterator[tuple[str, str, bytes]]:
    for value in (0, 1, 3, 2**63, 2**32):
        yield f"grain-{value:x}", "grains of an impossible size", sparse(grain=value)
    for value in (2**63, 2**64 - 1, 2**55):
        yield f"capacity-{value:x}", "a capacity past every limit", sparse(capacity=value)
    for value in (0, 1, 2**31, 2**32 - 1):
        yield f"table-entries-{value:x}", "tables of an impossible length", sparse(table_entries=value)
    for value in (0, 2**40, 2**63, 2**55 - 1, 10**6):
        yield f"gd-{value:x}", "a grain directory at an impossible place", sparse(gd=value)
    yield "descriptor-huge", "an embedded descriptor of 2^63 sectors", sparse(descriptor_size=2**63)
    yield "descriptor-far", "an embedded descriptor past the end", sparse(descriptor_offset=2**50)
    yield "version-99", "a version that does not exist", sparse(version=99)
    yield "method-7", "a compression method that nobody knows", sparse(compressed=True, method=7)
    yield "no-footer", "its directory in a footer that is not there", sparse(compressed=True, gd=_AT_END)
    footer = struct.pack("<QII", 1, 0, 3).ljust(512, b"\0") + sparse(compressed=True, gd=_AT_END)[:512] + bytes(512)
    yield "footer-of-footer", "a footer that points to a footer", sparse(compressed=True, gd=_AT_END) + footer
    for name in (HOST_FILE, f"../{NEIGHBOUR}", NEIGHBOUR):
        text = descriptor("monolithicFlat", f'RW 8 FLAT "{name}" 0')
        yield f"embedded-{name.replace('/', '_')}", f"an embedded descriptor with its data in {name}", sparse(text=text)
    text = descriptor(
        "monolithicSparse", 'RW 8 SPARSE "x"', parent="12345678", more=f'parentFileNameHint="{HOST_FILE}"'
    )
    yield "embedded-parent", "an embedded descriptor with a parent on the host", sparse(text=text)
    yield "cut", "cut inside its table", sparse()[: _GT * _SECTOR + 100]


def _tables() -> Iterator[tuple[str, str, bytes]]:
    for name, value in {"header": 1, "itself": _GD, "far": 10**6, "max": 2**32 - 1}.items():
        yield f"gde-{name}", f"a table at {name}", sparse((_GD * _SECTOR, struct.pack("<I", value)), flags=1)
        yield f"gte-{name}", f"a grain at {name}", sparse(table(value), flags=1)
    yield "one-grain-everywhere", "64 entries that share one grain", sparse(table(*[_DATA] * 64))
    one = [_DATA] * 64
    yield (
        "one-packed-grain-everywhere",
        "64 entries that share one deflated grain",
        sparse(table(*one), compressed=True),
    )
    yield "one-table-everywhere", "two directory entries with one table", sparse(
        (_GD * _SECTOR, struct.pack("<II", _GT, _GT)), capacity=16384
    )  # fmt: skip


def _grains() -> Iterator[tuple[str, str, bytes]]:
    content = bytes(8192)
    yield "grain-size-0", "a grain marker of no bytes", stream(grain(zlib.compress(content), size=0))
    yield "grain-size-1", "a grain marker of one byte", stream(grain(zlib.compress(content), size=1))
    yield "grain-size-2^32", "a grain marker of 4 GiB", stream(grain(zlib.compress(content), size=2**32 - 1))
    yield "grain-elsewhere", "a grain that says it is another", stream(grain(zlib.compress(content), sector=512))
    yield "grain-far", "a grain of sector 2^63", stream(grain(zlib.compress(content), sector=2**63))
    yield "grain-less", "a grain that inflates to less", stream(grain(zlib.compress(content[:100])))
    yield (
        "grain-bomb",
        "a grain that inflates to 16 MiB",
        stream(grain(zlib.compress(bytes(16 << 20), 9)[:10000], size=10000)),
    )
    yield "grain-more", "a grain that inflates to twice as much", stream(grain(zlib.compress(content * 2)))
    yield "grain-garbage", "a grain of garbage", stream(grain(b"\x78\x9c" + b"\xff" * 300))
    cut = zlib.compress(bytes(range(256)) * 32)[:-20]
    yield "grain-cut", "a grain whose stream is cut", stream(grain(cut))


def _esx() -> Iterator[tuple[str, str, bytes]]:
    cowd = struct.pack("<4s7I", b"COWD", 1, 3, 4096, 1, 4, 1, 40).ljust(2048, b"\0") + bytes(512 + 16384)
    yield "cowd-alone", "an ESX delta without its descriptor", cowd
    yield (
        "cowd-huge",
        "an ESX delta of 2 TiB with a directory of 2^32 entries",
        patched(cowd, (12, b"\xff" * 4), (24, b"\xff" * 4)),
    )
    yield "cowd-grain-0", "an ESX delta with grains of no sectors", patched(cowd, (16, bytes(4)))
    se = struct.pack("<26Q", 0xCAFEBABE, 0x200000001, 2**62, 8, 64, *[0] * 5, 1, 1, *[2**60] * 14).ljust(4096, b"\0")
    yield "sesparse-huge", "a seSparse delta with everything past the end", se
    yield "sesparse-grain-0", "a seSparse delta with grains of no sectors", patched(se, (24, bytes(8)))


def _legal() -> Iterator[tuple[str, str, bytes]]:
    directory = (27 * _SECTOR, bytes(512 << 10))
    yield "64-tib", "64 TiB, empty", sparse(directory, grain=2048, capacity=2**37, gd=27, overhead=2048)
    # What is no text, or longer than any descriptor, is a raw disk on which somebody wrote a descriptor.
    yield "raw-escape", "a descriptor with control characters", descriptor("vmfs", 'RW 8 FLAT "\x1b[2J" 0')
    yield "raw-huge", "a descriptor of 200 KiB", descriptor("vmfs", f'RW 8 FLAT "{HOST_FILE}" 0', more="#" * 200_000)


def items() -> Iterator[Evil]:
    for part in (_descriptors, _headers, _tables, _grains, _esx):
        for name, about, content in part():
            yield Evil(f"vmdk-{name}.vmdk", about, partial(bytes, content))
    for name, about, content in _legal():
        yield Evil(f"vmdk-{name}.vmdk", about, partial(bytes, content), refused=False)
