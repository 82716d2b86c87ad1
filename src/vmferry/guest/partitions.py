"""Partition tables: MBR and GPT, from a few sectors of a disk. Nothing here trusts what it reads, or raises for it.

Sources: UEFI specification 2.10, section 5 (GPT, protective MBR); the classic MBR layout.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass, replace

from vmferry.disk import Disk
from vmferry.errors import FormatError
from vmferry.units import KIB, SECTOR

ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
"""EFI system partition."""
BIOS_BOOT_TYPE = "21686148-6449-6e6f-744e-656564454649"
"""GRUB's core image on a GPT disk that a BIOS starts."""

_BOOT_CODE = 440
_SIGNATURE = b"\x55\xaa"
_GPT_MAGIC = b"EFI PART"
_GPT_HEADER = struct.Struct("<8sIII4xQQQQ16sQIII")
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
_MAX_GPT_TABLE = 128 * KIB
_PROTECTIVE = 0xEE
_EXTENDED = frozenset({0x05, 0x0F, 0x85})


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition. ``kind`` is the type: two hexadecimal digits in an MBR, a GUID in a GPT."""

    number: int
    start: int
    """Bytes."""
    size: int
    """Bytes."""
    kind: str
    active: bool = False
    """The MBR's active flag, or the GPT's legacy-BIOS-bootable attribute."""
    name: str = ""


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """What stands at the beginning of a disk."""

    scheme: str | None
    """``mbr``, ``gpt``, or ``None`` where there is no table."""
    partitions: tuple[Partition, ...] = ()
    boot_code: bool = False
    """Whether the first sector holds code for a BIOS to start. Many tools write some to every disk they partition."""
    grub: bool = False
    """Whether that code is GRUB's, which needs no active partition."""
    faults: tuple[str, ...] = ()
    """What is wrong with the table, a sentence each."""


def read_partition_table(disk: Disk) -> PartitionTable:
    """The partition table of ``disk``. Reads at most 200 KiB; damaged tables give faults.

    Raises ``StoreError``, and ``UnsafeDiskError`` when the disk image itself is an attack.
    """
    if disk.size < SECTOR:
        return PartitionTable(None)
    try:
        first = bytes(disk.read_at(0, min(disk.size, 34 * SECTOR)))
    except FormatError as error:
        return PartitionTable(None, faults=(str(error),))
    if first[510:512] != _SIGNATURE:
        return PartitionTable(None)
    code = first[:_BOOT_CODE]
    entries = [first[446 + 16 * i : 462 + 16 * i] for i in range(4)]
    is_gpt = any(entry[4] == _PROTECTIVE for entry in entries)
    table = _read_gpt(disk, first) if is_gpt else _read_mbr(disk, entries)
    return replace(table, boot_code=any(code), grub=b"GRUB" in code)


def _read_mbr(disk: Disk, entries: list[bytes]) -> PartitionTable:
    partitions, faults = [], []
    for number, entry in enumerate(entries, 1):
        flag, kind = entry[0], entry[4]
        start, count = struct.unpack_from("<II", entry, 8)
        if kind == 0 or count == 0:
            continue
        if flag not in (0x00, 0x80):
            return PartitionTable(None)  # a file system's boot sector ends in 55 AA, too
        partition = Partition(number, start * SECTOR, count * SECTOR, f"{kind:02x}", flag == 0x80)
        if partition.start + partition.size > disk.size and kind not in _EXTENDED:
            end = partition.start + partition.size
            faults.append(f"partition {number} ends at byte {end:,}, behind the disk's end")
        partitions.append(partition)
    if not partitions:
        return PartitionTable(None)
    return PartitionTable("mbr", tuple(partitions), faults=tuple(faults))


def _outside(partition: Partition, disk: Disk) -> list[str]:
    """What is wrong with the place of ``partition``, if anything."""
    end = partition.start + partition.size
    if end <= disk.size:
        return []
    return [f"partition {partition.number} ends at byte {end:,}, behind the disk's end at {disk.size:,}"]


def _read_gpt(disk: Disk, first: bytes) -> PartitionTable:
    try:
        partitions = _gpt_partitions(disk, first)
        faults = [fault for partition in partitions for fault in _outside(partition, disk)]
        return PartitionTable("gpt", partitions, faults=tuple(faults))
    except (FormatError, _GptFaultError) as error:
        return PartitionTable("gpt", faults=(str(error),))


class _GptFaultError(Exception):
    """A GPT that is not sound."""


def _gpt_partitions(disk: Disk, first: bytes) -> tuple[Partition, ...]:
    if len(first) < 2 * SECTOR:
        raise _GptFaultError("the disk ends before the GPT header")
    header = first[SECTOR : 2 * SECTOR]
    (magic, _, length, checksum, _, _, _, _, _, table_lba, count, entry_size, table_checksum) = _GPT_HEADER.unpack_from(
        header
    )
    if magic != _GPT_MAGIC:
        if first.startswith(_GPT_MAGIC, 4 * KIB):
            raise _GptFaultError(
                "the GPT is that of a disk with sectors of 4,096 bytes, as no virtual machine here has"
            )
        raise _GptFaultError("the protective MBR announces a GPT, but sector 1 (of 512 bytes) has no header")
    if not 92 <= length <= SECTOR or zlib.crc32(header[:16] + bytes(4) + header[20:length]) != checksum:
        raise _GptFaultError("the GPT header's checksum is wrong")
    if entry_size < _GPT_ENTRY.size or entry_size % 8 or count * entry_size > _MAX_GPT_TABLE:
        raise _GptFaultError(f"the GPT claims {count:,} entries of {entry_size:,} bytes")
    start = table_lba * SECTOR
    if start + count * entry_size > disk.size:
        raise _GptFaultError("the GPT's entries lie behind the disk's end")
    table = bytes(disk.read_at(start, count * entry_size)) if count else b""
    if zlib.crc32(table) != table_checksum:
        raise _GptFaultError("the GPT entries' checksum is wrong")
    found = (_gpt_partition(number, table, (number - 1) * entry_size) for number in range(1, count + 1))
    return tuple(partition for partition in found if partition is not None)


def _gpt_partition(number: int, table: bytes, offset: int) -> Partition | None:
    kind, _, low, high, attributes, name = _GPT_ENTRY.unpack_from(table, offset)
    if not any(kind):
        return None
    return Partition(
        number=number,
        start=low * SECTOR,
        size=max(high - low + 1, 0) * SECTOR,
        kind=str(uuid.UUID(bytes_le=kind)),
        active=bool(attributes & 4),
        name=name.decode("utf-16-le", "replace").partition("\0")[0],
    )
