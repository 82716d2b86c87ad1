"""NTFS: the boot sector, and of its own files $Volume (label, dirty flag) and $Bitmap (free clusters).

Source: linux-ntfs, "NTFS Documentation".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vmferry.guest.superblocks.contents import Contents, Head, text
from vmferry.limits import MAX_NTFS_BITMAP
from vmferry.units import KIB, SECTOR

_VOLUME, _BITMAP = 3, 6
_NAME, _INFORMATION, _DATA = 0x60, 0x70, 0x80
_END = 0xFFFFFFFF
_DIRTY = 1
_MAX_RUNS = 4096


def read_ntfs(head: Head) -> Contents | None:
    boot = head.read(0, SECTOR)
    if not boot.startswith(b"NTFS    ", 3):
        return None
    sector, cluster = struct.unpack_from("<HB", boot, 11)
    total, table = struct.unpack_from("<QQ", boot, 40)
    serial = struct.unpack_from("<Q", boot, 72)[0]
    cluster_size = sector * (cluster if cluster <= 0x80 else 1 << (256 - cluster))
    record_size = _record_size(boot[64], cluster_size)
    if not SECTOR <= cluster_size <= 2048 * KIB or not SECTOR <= record_size <= 64 * KIB:
        return Contents("ntfs", problem="The NTFS boot sector is damaged: its cluster size is none.")
    attributes = dict(_attributes(head.read(table * cluster_size + _VOLUME * record_size, record_size)))
    name, information = attributes.get(_NAME, b""), attributes.get(_INFORMATION, b"")
    flags = struct.unpack_from("<H", information, 10)[0] if len(information) >= 12 else 0
    bitmap = head.read(table * cluster_size + _BITMAP * record_size, record_size)
    return Contents(
        "ntfs",
        label=text(name, "utf-16-le"),
        uuid=f"{serial:016X}",
        free=_free(head, bitmap, cluster_size, total // max(cluster_size // sector, 1)),
        dirty=bool(flags & _DIRTY),
        problem=None if attributes else "The NTFS volume is damaged: $Volume has no record.",
    )


def _record_size(value: int, cluster_size: int) -> int:
    return 1 << (256 - value) if value > 0x80 else value * cluster_size


def _attributes(record: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of the attributes of a file record that are kept in it."""
    for kind, attribute in _raw_attributes(record):
        if not attribute[8] and len(attribute) >= 24:
            length, start = struct.unpack_from("<IH", attribute, 16)
            if start + length <= len(attribute):
                yield kind, attribute[start : start + length]


def _raw_attributes(record: bytes) -> Iterator[tuple[int, bytes]]:
    record = _mended(record)
    at = struct.unpack_from("<H", record, 20)[0] if record else len(record)
    while at + 16 <= len(record):
        kind, length = struct.unpack_from("<II", record, at)
        if kind == _END or length < 16 or at + length > len(record):
            return
        yield kind, record[at : at + length]
        at += length


def _mended(record: bytes) -> bytes:
    """``record`` with the last words of its sectors put back; empty where it is none."""
    place, count = struct.unpack_from("<HH", record, 4)
    if not record.startswith(b"FILE") or place + 2 * count > len(record) or (count - 1) * SECTOR > len(record):
        return b""
    mended = bytearray(record)
    for index in range(1, count):
        mended[index * SECTOR - 2 : index * SECTOR] = record[place + 2 * index : place + 2 * index + 2]
    return bytes(mended)


def _free(head: Head, record: bytes, cluster_size: int, clusters: int) -> int | None:
    """Bytes of the clusters that $Bitmap has as free; ``None`` where it is too long to look through, or damaged."""
    length = -(-clusters // 8)
    attribute = next((raw for kind, raw in _raw_attributes(record) if kind == _DATA and raw[8]), b"")
    if not 0 < length <= MAX_NTFS_BITMAP or len(attribute) < 64:
        return None
    bits = bytearray()
    for cluster, count in _runs(attribute[struct.unpack_from("<H", attribute, 32)[0] :]):
        bits += head.read(cluster * cluster_size, min(count * cluster_size, length - len(bits)))
        if len(bits) >= length:
            used = int.from_bytes(bits, "little") & ((1 << clusters) - 1)
            return (clusters - used.bit_count()) * cluster_size
    return None


def _runs(data: bytes) -> Iterator[tuple[int, int]]:
    """The runs of an attribute kept outside its record: first cluster, clusters."""
    at = cluster = 0
    for _ in range(_MAX_RUNS):
        if at >= len(data) or not data[at]:
            return
        sizes, at = data[at], at + 1
        low, high = sizes & 0xF, sizes >> 4
        if at + low + high > len(data) or not low:
            return
        count = int.from_bytes(data[at : at + low], "little")
        cluster += int.from_bytes(data[at + low : at + low + high], "little", signed=True)
        at += low + high
        if cluster < 0 or count < 1 or not high:
            return
        yield cluster, count
