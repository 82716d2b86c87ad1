"""Partition tables made by hand, sound and damaged."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence

from vmferry.blob import MemoryBlob
from vmferry.disk import Disk
from vmferry.formats import FORMATS, open_disk

ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
SIZE = 4 << 20


def make_mbr(entries: Sequence[tuple[int, int, int, int]], code: bytes = b"") -> bytearray:
    """A first sector: entries are flag, type, first sector, sectors."""
    sector = bytearray(512)
    sector[: len(code)] = code
    for number, (flag, kind, start, count) in enumerate(entries):
        struct.pack_into("<B3sB3sII", sector, 446 + 16 * number, flag, b"", kind, b"", start, count)
    sector[510:] = b"\x55\xaa"
    return sector


def make_gpt(
    partitions: Sequence[tuple[str, int, int]],
    *,
    code: bytes = b"",
    count: int = 128,
    entry_size: int = 128,
    table_lba: int = 2,
    sector: int = 512,
    **fields: int,
) -> bytes:
    """A disk of ``SIZE`` with a protective MBR, a header and entries of ``(type, first, last sector)``.

    ``fields`` put wrong things into the finished header: ``header_crc`` and ``entries_crc``.
    """
    disk = bytearray(SIZE)
    disk[:512] = make_mbr([(0, 0xEE, 1, SIZE // 512 - 1)], code)
    room = min(count * entry_size, 1 << 20)
    table = bytearray(room)
    for number, (kind, first, last) in enumerate(partitions):
        struct.pack_into("<16s16sQQQ72s", table, number * entry_size, uuid.UUID(kind).bytes_le, bytes(15) + b"\1",
                         first, last, 0, f"part {number}".encode("utf-16-le"))  # fmt: skip
    crc = fields.get("entries_crc", zlib.crc32(table))
    header = bytearray(struct.pack("<8sIII4xQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 1, SIZE // 512 - 1, 34,
                                   SIZE // 512 - 34, bytes(16), table_lba, count, entry_size, crc))  # fmt: skip
    struct.pack_into("<I", header, 16, fields.get("header_crc", zlib.crc32(header)))
    disk[sector : sector + 92] = header
    start = min(table_lba * sector, SIZE)
    disk[start : start + room] = table[: SIZE - start]
    return bytes(disk[:SIZE])


def raw_disk(content: bytes | bytearray) -> Disk:
    """A raw disk of at least ``SIZE`` that begins with ``content``."""
    return open_disk(MemoryBlob(bytes(content).ljust(SIZE, b"\0"), "disk.raw"), FORMATS["raw"])
