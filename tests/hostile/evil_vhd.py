"""VHD and VDI files that lie: footers with right checksums, tables that lead astray, parents on the host."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial

from tests.hostile.evil import HOST_FILE, NEIGHBOUR, Evil, patched

_NONE = 2**64 - 1
_ABSENT = 0xFFFFFFFF
_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4
_BLOCK = 2 << 20
_BAT = 1536
_FIRST = 4096 // 512 - 1
"""Sector of the first block's bitmap; its data begins on the next."""
_VDI = struct.Struct("<64sIIIII256sIIIIIIIQIIII16s16s16s16s")
_VDI_MAP, _VDI_DATA, _VDI_BLOCK = 512, 4096, 1 << 20


def _summed(data: bytes, place: int) -> bytes:
    zeroed = data[:place] + bytes(4) + data[place + 4 :]
    return zeroed[:place] + struct.pack(">I", ~sum(zeroed) & 0xFFFFFFFF) + zeroed[place + 4 :]


def footer(size: int = 1 << 20, kind: int = _FIXED, offset: int = _NONE, **changes: int) -> bytes:
    data = struct.pack(">8sIIQI4sI4sQQHBBII16sB", b"conectix", 2, 0x10000, offset, 0, b"win ", 0xA0000, b"Wi2k", size,
                       size, 30, 4, 17, kind, 0, b"\1" * 16, 0).ljust(512, b"\0")  # fmt: skip
    return _summed(data, 64) if "checksum" not in changes else data


def dynamic(
    size: int = 4 << 20, entries: tuple[int, ...] = (_FIRST,), count: int | None = None, block: int = _BLOCK,
    table: int = _BAT, kind: int = _DYNAMIC, offset: int = 512, parent: bytes = b"", locator: bytes = b"",
    body: bytes = bytes(_BLOCK // 8),
) -> bytes:  # fmt: skip
    """A dynamic disk; its one block is a short file's, so that what is there at all is small."""
    blocks = -(-size // _BLOCK) if count is None else count
    header = struct.pack(
        ">8sQQIIII16sII512s", b"cxsparse", _NONE, table, 0x10000, blocks, block, 0, bytes(16), 0, 0, parent
    )
    header = _summed(header.ljust(576, b"\0") + locator.ljust(192, b"\0") + bytes(256), 36)
    bat = struct.pack(f">{len(entries)}I", *entries).ljust(512, b"\xff")
    front = footer(size, kind, offset) + header + bat
    return front.ljust(_FIRST * 512, b"\0") + b"\xff" * 512 + body + footer(size, kind, offset)


def _vhd() -> Iterator[tuple[str, str, bytes]]:
    data = bytes(1 << 16)
    for size in (2**63, 2**64 - 512, 1 << 40, (1 << 16) + 512, 0):
        yield f"fixed-{size:x}", f"a fixed disk of {size:,} bytes that has 64 KiB", data + footer(size)
    yield "only-footer", "a footer and nothing else", footer(1 << 40)
    yield "checksum", "a footer with a wrong checksum", data + footer(1 << 16, checksum=0)
    for kind in (0, 1, 5, 6, 2**32 - 1):
        yield f"type-{kind:x}", f"a disk of type {kind}", data + footer(1 << 16, kind)
    for offset in (0, 1, 2**63, 2**40, _NONE):
        yield f"header-{offset:x}", "a header at an impossible place", dynamic(offset=offset)
    for block in (0, 1, 511, 513, 3 << 20, 2**31, 2**32 - 1):
        yield f"block-{block:x}", "blocks of an impossible size", dynamic(block=block)
    for count in (0, 1, 2**31, 2**32 - 1, 0x40000001):
        yield f"count-{count:x}", "a table of impossible length", dynamic(count=count)
    for table in (0, 512, 2**63, 2**40):
        yield f"table-{table:x}", "a table at an impossible place", dynamic(table=table)
    for size in (2**63, 2**50):
        yield f"size-{size:x}", "a size past every limit", dynamic(size=size, count=2)
    for name, entry in {"header": 0, "table": 3, "far": 10**6, "max": _ABSENT - 1}.items():
        yield f"block-at-{name}", f"a block at {name}", dynamic(entries=(entry,))
    yield "block-twice", "two entries that share one block", dynamic(entries=(_FIRST, _FIRST), body=bytes(_BLOCK))
    yield "cut", "cut inside its only block", dynamic(body=b"x")[:-512]
    for name, path in {
        "absolute": HOST_FILE,
        "beside": NEIGHBOUR,
        "above": f"../{NEIGHBOUR}",
        "url": "\\\\127.0.0.1\\x",
    }.items():
        locator = struct.pack(">4sIIIQ", b"W2ru", 512, len(path) * 2, 0, 8192)
        evil = dynamic(kind=_DIFFERENCING, parent=path.encode("utf-16-be"), locator=locator)
        yield f"parent-{name}", f"the parent {path!r}", patched(evil, (8192, path.encode("utf-16-le")))
    huge = struct.pack(">4sIIIQ", b"MacX", 2**32 - 1, 2**32 - 1, 0, 2**63)
    yield "locator-huge", "a parent locator of 4 GiB", dynamic(kind=_DIFFERENCING, locator=huge * 8)


def vdi(entries: tuple[int, ...] = (0,), body: bytes = bytes(_VDI_BLOCK), **fields: int | bytes) -> bytes:
    """4 MiB of disk in blocks of 1 MiB, of which one is there."""
    values: dict[str, int | bytes] = {
        "text": b"<<< Oracle VM VirtualBox Disk Image >>>\n", "signature": 0xBEDA107F, "version": 0x10001,
        "header": 400, "kind": 1, "flags": 0, "comment": b"", "map": _VDI_MAP, "data": _VDI_DATA, "cylinders": 0,
        "heads": 0,
        "sectors": 0, "sector": 512, "unused": 0, "size": 4 << 20, "block": _VDI_BLOCK, "extra": 0, "blocks": 4,
        "allocated": 1, "uuid": b"\1" * 16, "snapshot": bytes(16), "parent": bytes(16), "modified": bytes(16),
    }  # fmt: skip
    head = _VDI.pack(*(values | fields).values()).ljust(_VDI_MAP, b"\0")
    table = struct.pack(f"<{len(entries)}I", *entries).ljust(16, b"\xff")
    return (head + table).ljust(_VDI_DATA, b"\0") + body


def _vdi() -> Iterator[tuple[str, str, bytes]]:
    for kind in (0, 3, 5, 2**32 - 1):
        yield f"type-{kind:x}", f"a disk of type {kind}", vdi(kind=kind)
    yield "parent", "a parent somewhere", vdi(kind=4, parent=b"\2" * 16)
    for block in (0, 3, 511, 2**31, 2**32 - 1):
        yield f"block-{block:x}", "blocks of an impossible size", vdi(block=block)
    for blocks in (0, 1, 2**31, 2**32 - 1):
        yield f"blocks-{blocks:x}", "an impossible number of blocks", vdi(blocks=blocks)
    for size in (2**63, 2**64 - 1, 2**50):
        yield f"size-{size:x}", "a size past every limit", vdi(size=size)
    for place in (2**31, 2**32 - 1):
        yield f"map-{place:x}", "a map at an impossible place", vdi(map=place)
        yield f"data-{place:x}", "data at an impossible place", vdi(data=place)
    yield "extra-2^32", "blocks with 4 GiB of extra bytes", vdi(extra=2**32 - 1)
    yield "sector-0", "sectors of no bytes", vdi(sector=0)
    yield "sector-4096", "sectors of 4096 bytes", vdi(sector=4096)
    yield "header-2^32", "a header of 4 GiB", vdi(header=2**32 - 1)
    yield "version-99", "a version that does not exist", vdi(version=99 << 16)
    yield "entry-far", "a block past the end", vdi((10**6,))
    yield "entry-twice", "four entries that share one block", vdi((0, 0, 0, 0))
    yield "cut", "cut inside its only block", vdi(body=b"x" * 1000)
    yield "head-only", "nothing but its first 100 bytes", vdi()[:100]


def items() -> Iterator[Evil]:
    for name, about, content in _vhd():
        yield Evil(f"vhd-{name}.vhd", about, partial(bytes, content))
    for name, about, content in _vdi():
        yield Evil(f"vdi-{name}.vdi", about, partial(bytes, content))
    yield Evil(
        "vhd-64-gib.vhd", "64 GiB, empty", partial(dynamic, 1 << 36, (_ABSENT,) * 32768, body=b""), refused=False
    )
