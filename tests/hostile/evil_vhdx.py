"""VHDX files that lie: headers, regions, metadata, tables, logs that write where they must not, parents on the host."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from functools import partial

import google_crc32c

from tests.hostile.evil import HOST_FILE, NEIGHBOUR, Evil, patched

_MIB = 1 << 20
_KIB64 = 64 << 10
_LOG, _METADATA, _BAT, _DATA = _MIB, 2 * _MIB, 3 * _MIB, 4 * _MIB
_BAT_REGION = uuid.UUID("2DC27766-F623-4200-9D64-115E9BFD4A08").bytes_le
_METADATA_REGION = uuid.UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E").bytes_le
_UNKNOWN = uuid.UUID("71CC85F0-1B69-4E28-9558-C3BF83AE75D3").bytes_le
_LOG_ID = b"\7" * 16
_PARAMETERS, _SIZE, _LOGICAL, _PHYSICAL, _PAGE_83, _LOCATOR = (
    uuid.UUID(text).bytes_le
    for text in (
        "CAA16737-FA36-4D43-B3B6-33F0AA44E76B", "2FA54224-CD1B-4876-B211-5DBED83BF4B8",
        "8141BF1D-A96F-4709-BA47-F233A8FAAB5F", "CDA348C7-445D-4471-9CC9-E9885251C556",
        "BECA12AB-B2E6-4523-93EF-C309E000C746", "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C",
    )
)  # fmt: skip
_LOCATOR_TYPE = uuid.UUID("B04AEFB7-D19E-4A81-B789-25B8E9445913").bytes_le

Item = tuple[bytes, bytes, int]
"""Its id, its content, its flags."""


def _summed(data: bytes) -> bytes:
    zeroed = data[:4] + bytes(4) + data[8:]
    return zeroed[:4] + struct.pack("<I", google_crc32c.value(zeroed)) + zeroed[8:]


def header(
    sequence: int, log_id: bytes = bytes(16), log_length: int = _MIB, log_offset: int = _LOG, version: int = 1
) -> bytes:
    data = struct.pack("<4sIQ16s16s16sHHIQ", b"head", 0, sequence, b"\1" * 16, b"\2" * 16, log_id, 0, version,
                       log_length, log_offset)  # fmt: skip
    return _summed(data.ljust(4096, b"\0"))


def regions(*entries: tuple[bytes, int, int, int], count: int | None = None) -> bytes:
    entries = entries or ((_BAT_REGION, _BAT, _MIB, 1), (_METADATA_REGION, _METADATA, _MIB, 1))
    data = struct.pack("<4sIII", b"regi", 0, len(entries) if count is None else count, 0)
    data += b"".join(struct.pack("<16sQII", *entry) for entry in entries)
    return _summed(data.ljust(_KIB64, b"\0"))


def metadata(*items: Item, count: int | None = None) -> bytes:
    table = struct.pack("<8sHH20x", b"metadata", 0, len(items) if count is None else count)
    body = b""
    for kind, content, flags in items:
        table += struct.pack("<16sIII4x", kind, _KIB64 + len(body), len(content), flags)
        body += content
    return table.ljust(_KIB64, b"\0") + body


def usual(
    size: int = 4 * _MIB, block: int = _MIB, bits: int = 0, logical: int = 512, physical: int = 4096
) -> tuple[Item, ...]:
    return (
        (_PARAMETERS, struct.pack("<II", block, bits), 4), (_SIZE, struct.pack("<Q", size), 6),
        (_LOGICAL, struct.pack("<I", logical), 6), (_PHYSICAL, struct.pack("<I", physical), 6),
        (_PAGE_83, b"\3" * 16, 6),
    )  # fmt: skip


def image(
    *changes: tuple[int, bytes], items: tuple[Item, ...] = (), table: tuple[int, ...] = (4 << 20 | 6,),
    heads: tuple[bytes, bytes] | None = None, region: bytes | None = None,
) -> bytes:  # fmt: skip
    """4 MiB of disk in blocks of 1 MiB, of which one is there."""
    first, second = heads or (header(1), header(2))
    region = region or regions()
    return patched(
        bytes(5 * _MIB), (0, b"vhdxfile"), (_KIB64, first), (2 * _KIB64, second), (3 * _KIB64, region),
        (4 * _KIB64, region), (_METADATA, metadata(*(items or usual()))),
        (_BAT, struct.pack(f"<{len(table)}Q", *table)), *changes,
    )  # fmt: skip


def _headers() -> Iterator[tuple[str, partial[bytes]]]:
    yield "headers-both-bad", partial(image, (_KIB64 + 4, b"bad!"), (2 * _KIB64 + 4, b"bad!"))
    yield "headers-equal", partial(image, heads=(header(1), header(1, log_length=2 * _MIB)))
    for name, bad in {
        "version": header(3, version=99), "log-offset": header(3, log_offset=2**63),
        "log-in-header": header(3, log_offset=0),
        "log-odd": header(3, log_offset=_MIB + 512), "log-length": header(3, log_length=2**32 - 1),
        "log-dirty-empty": header(3, _LOG_ID), "log-dirty-none": header(3, _LOG_ID, 0),
    }.items():  # fmt: skip
        yield f"header-{name}", partial(image, heads=(bad, bad))
    yield "cut-header", partial(lambda data, end: data[:end], image(), 100_000)
    yield "magic-only", partial(bytes, b"vhdxfile")
    yield "cut-block", partial(lambda data, end: data[:end], image(), _BAT + 1000)


def _regions() -> Iterator[tuple[str, partial[bytes]]]:
    bat, meta = (_BAT_REGION, _BAT, _MIB, 1), (_METADATA_REGION, _METADATA, _MIB, 1)
    for name, entries in {
        "twice": (bat, bat, meta), "unknown": (bat, meta, (_UNKNOWN, _DATA, _MIB, 1)),
        "no-bat": (meta,), "no-metadata": (bat,),
        "overlap": (bat, (_METADATA_REGION, _BAT, _MIB, 1)), "in-header": (bat, (_METADATA_REGION, 0, _MIB, 1)),
        "in-log": (bat, (_METADATA_REGION, _LOG, _MIB, 1)), "far": (bat, (_METADATA_REGION, 2**63, _MIB, 1)),
        "past-end": ((_BAT_REGION, 100 * _MIB, _MIB, 1), meta), "odd": ((_BAT_REGION, _BAT + 512, _MIB, 1), meta),
        "length-0": ((_BAT_REGION, _BAT, 0, 1), meta), "length-max": ((_BAT_REGION, _BAT, 2**32 - 1, 1), meta),
    }.items():  # fmt: skip
        yield f"region-{name}", partial(image, region=regions(*entries))
    for count in (2048, 2**32 - 1):
        yield f"region-count-{count}", partial(image, region=regions(count=count))
    yield "regions-both-bad", partial(image, (3 * _KIB64 + 4, b"bad!"), (4 * _KIB64 + 4, b"bad!"))


def _items() -> Iterator[tuple[str, partial[bytes]]]:
    for block in (0, 1, 3 * _MIB, 512 << 10, 2**31, 2**32 - 1):
        yield f"block-{block:x}", partial(image, items=usual(block=block))
    for size in (0, 513, 2**63, 2**64 - 512, 2**46 + 512):
        yield f"size-{size:x}", partial(image, items=usual(size=size))
    for logical in (0, 1, 1024, 2**32 - 1):
        yield f"sector-{logical:x}", partial(image, items=usual(logical=logical))
    yield "unknown-item", partial(image, items=(*usual(), (_UNKNOWN, b"1234", 4)))
    yield "item-twice", partial(image, items=(*usual(), usual()[1]))
    yield "no-size", partial(image, items=(usual()[0], *usual()[2:]))
    for count in (2048, 65535):
        yield f"item-count-{count}", partial(image, (_METADATA, metadata(*usual(), count=count)))
    for name, offset, length in (
        ("far", 2**32 - 8, 8),
        ("long", _KIB64, 2**32 - 1),
        ("in-table", 32, 8),
        ("past", _MIB - 4, 8),
    ):
        yield f"item-{name}", partial(image, (_METADATA + 32 + 32 + 16, struct.pack("<II", offset, length)))
    yield "metadata-magic", partial(image, (_METADATA, b"METADATA"))


def _tables() -> Iterator[tuple[str, partial[bytes]]]:
    for name, entry in {
        "header": 6, "metadata": 2 << 20 | 6, "bat": 3 << 20 | 6, "log": 1 << 20 | 6, "past-end": 999 << 20 | 6,
        "2^63": 2**64 - 2**20 | 6, "state-4": 4 << 20 | 4, "partial": 4 << 20 | 7,
    }.items():  # fmt: skip
        yield f"bat-{name}", partial(image, table=(entry,))
    yield "bat-twice", partial(image, table=(4 << 20 | 6, 4 << 20 | 6))
    yield "bat-short", partial(image, items=usual(size=2**45))


def _entry(*descriptors: bytes, sectors: bytes = b"", **changes: int) -> bytes:
    """A log entry whose checksum is right."""
    values = {
        "length": 4096 + len(sectors),
        "tail": 0,
        "sequence": 1,
        "count": len(descriptors),
        "flushed": 0,
        "last": 0,
    }
    values |= changes
    data = struct.pack("<4sIIIQII16sQQ", b"loge", 0, values["length"], values["tail"], values["sequence"],
                       values["count"], 0, _LOG_ID, values["flushed"], values["last"])  # fmt: skip
    return _summed((data + b"".join(descriptors)).ljust(4096, b"\0") + sectors)


def _write(offset: int, sequence: int = 1) -> tuple[bytes, bytes]:
    descriptor = struct.pack("<4s4s8sQQ", b"desc", bytes(4), bytes(8), offset, sequence)
    high, low = sequence >> 32, sequence & 0xFFFFFFFF
    return descriptor, b"data" + struct.pack("<I", high) + bytes(4084) + struct.pack("<I", low)


def _zero(offset: int, length: int) -> bytes:
    return struct.pack("<4sIQQQ", b"zero", 0, length, offset, 1)


def _logs() -> Iterator[tuple[str, partial[bytes]]]:
    dirty = (header(3, _LOG_ID), header(2, _LOG_ID))
    entries: dict[str, bytes] = {"empty-length": _entry(length=0), "long": _entry(length=2**32 - 4096)}
    entries |= {"odd-length": _entry(length=4097), "count": _entry(count=2**32 - 1), "sequence-0": _entry(sequence=0)}
    entries |= {
        "tail-out": _entry(tail=2**32 - 4096),
        "tail-odd": _entry(tail=512),
        "sequence-max": _entry(sequence=2**64 - 1, count=1),
    }
    entries |= {"truncated": _entry(_zero(_BAT, 4096), flushed=2**62), "grows": _entry(_zero(_BAT, 4096), last=2**63)}
    for name, offset in {"header": _KIB64, "identifier": 0, "log": _LOG, "odd": _BAT + 512, "far": 2**63}.items():
        descriptor, sector = _write(offset)
        entries[f"to-{name}"] = _entry(descriptor, sectors=sector)
        entries[f"zero-to-{name}"] = _entry(_zero(offset, 4096))
    entries["zero-long"] = _entry(_zero(_BAT, 2**64 - 4096))
    for name, entry in entries.items():
        yield f"log-{name}", partial(image, (_LOG, entry), heads=dirty)


def locator(*pairs: tuple[str, str], count: int | None = None) -> Item:
    head = struct.pack("<16sHH", _LOCATOR_TYPE, 0, len(pairs) if count is None else count)
    place = len(head) + 12 * len(pairs)
    texts = b""
    for key, value in pairs:
        raw_key, raw_value = key.encode("utf-16-le"), value.encode("utf-16-le")
        head += struct.pack("<IIHH", place, place + len(raw_key), len(raw_key), len(raw_value))
        texts += raw_key + raw_value
        place += len(raw_key) + len(raw_value)
    return _LOCATOR, head + texts, 4


def _parents() -> Iterator[tuple[str, partial[bytes]]]:
    linkage = ("parent_linkage", "{" + str(uuid.UUID(bytes_le=b"\2" * 16)) + "}")
    for name, path in {
        "absolute": HOST_FILE, "beside": NEIGHBOUR, "above": f"..\\{NEIGHBOUR}", "unc": "\\\\127.0.0.1\\share\\x.vhdx",
        "escape": "\x1b[2J\u202e", "device": "\\\\.\\PhysicalDrive0",
    }.items():  # fmt: skip
        paths = [(key, path) for key in ("relative_path", "volume_path", "absolute_win32_path")]
        yield f"parent-{name}", partial(image, items=(*usual(bits=2), locator(linkage, *paths)))
    yield "parent-count", partial(image, items=(*usual(bits=2), locator(linkage, count=65535)))
    yield "parent-missing", partial(image, items=usual(bits=2))


def items() -> Iterator[Evil]:
    for part in (_headers, _regions, _items, _tables, _logs, _parents):
        for name, build in part():
            yield Evil(f"vhdx-{name}.vhdx", f"VHDX: {name}", build)
    yield Evil(
        "vhdx-undefined.vhdx", "blocks whose content is undefined", partial(image, table=(1, 3, 5, 2)), refused=False
    )
    yield Evil("vhdx-sound.vhdx", "nothing", image, refused=False)
