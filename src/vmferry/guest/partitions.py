"""Partition tables: MBR and GPT, from a few sectors of a disk. Nothing here trusts what it reads, or raises for it.

Sources: UEFI specification 2.10, section 5 (GPT, protective MBR); the classic MBR layout.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass, replace

from vmferry.errors import FormatError
from vmferry.guest.window import Area
from vmferry.limits import MAX_GUEST_VOLUMES
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
_LARGE_SECTOR = 4 * KIB


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
    uuid: str | None = None
    """As fstab's PARTUUID has it."""


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
    sector_size: int = SECTOR
    """Bytes of the sectors that it counts in; 4096 on a disk that a virtual machine here cannot have."""


def read_partition_table(disk: Area) -> PartitionTable:
    """The partition table of ``disk``, logical partitions of an MBR included. Damaged tables give faults; a damaged GPT
    is replaced by its copy at the disk's end. Reads at most 400 KiB, and a sector for each logical partition.

    Raises as ``disk`` does where its first sectors cannot be read: then the image is damaged, not what a guest wrote.
    """
    if disk.size < SECTOR:
        return PartitionTable(None)
    first = bytes(disk.read_at(0, min(disk.size, 34 * SECTOR)))
    if first[510:512] != _SIGNATURE:
        return PartitionTable(None)
    code = first[:_BOOT_CODE]
    entries = [first[446 + 16 * i : 462 + 16 * i] for i in range(4)]
    is_gpt = any(entry[4] == _PROTECTIVE for entry in entries)
    table = _read_gpt(disk, first) if is_gpt else _read_mbr(disk, entries, first[440:444])
    return replace(table, boot_code=any(code), grub=b"GRUB" in code)


def _read_mbr(disk: Area, entries: list[bytes], signature: bytes) -> PartitionTable:
    partitions: list[Partition] = []
    faults: list[str] = []
    disk_id = f"{int.from_bytes(signature, 'little'):08x}"
    for number, entry in enumerate(entries, 1):
        flag, kind = entry[0], entry[4]
        start, count = struct.unpack_from("<II", entry, 8)
        if kind == 0 or count == 0:
            continue
        if flag not in (0x00, 0x80):
            return PartitionTable(None)  # a file system's boot sector ends in 55 AA, too
        uuid_text = f"{disk_id}-{number:02x}"
        partition = Partition(number, start * SECTOR, count * SECTOR, f"{kind:02x}", flag == 0x80, uuid=uuid_text)
        if kind not in _EXTENDED:
            faults += _outside(partition, disk)
        partitions.append(partition)
    if not partitions:
        return PartitionTable(None)
    for container in [partition for partition in partitions if is_extended(partition)]:
        _add_logical(disk, container, disk_id, partitions, faults)
    return PartitionTable("mbr", tuple(partitions), faults=tuple(faults))


def is_extended(partition: Partition) -> bool:
    """Whether it is an MBR's extended partition, which only holds others."""
    return len(partition.kind) == 2 and int(partition.kind, 16) in _EXTENDED


def _add_logical(
    disk: Area, container: Partition, disk_id: str, partitions: list[Partition], faults: list[str]
) -> None:
    """Add the logical partitions in ``container``: a chain of sectors, each with one partition and the next sector."""
    here, seen = container.start, set[int]()
    while here not in seen:
        if here + SECTOR > disk.size or len(partitions) >= MAX_GUEST_VOLUMES:
            faults.append(f"the chain of logical partitions leads to byte {here:,}, which cannot be followed")
            return
        seen.add(here)
        try:
            sector = bytes(disk.read_at(here, SECTOR))
        except FormatError as error:
            faults.append(str(error))
            return
        if sector[510:512] != _SIGNATURE:
            faults.append(f"the chain of logical partitions leads to byte {here:,}, where none is described")
            return
        kind, (start, count) = sector[450], struct.unpack_from("<II", sector, 454)
        if kind and count:
            number = max(5, *(partition.number + 1 for partition in partitions))
            logical = Partition(
                number, here + start * SECTOR, count * SECTOR, f"{kind:02x}", uuid=f"{disk_id}-{number:02x}"
            )
            partitions.append(logical)
            faults += _outside(logical, disk)
        start, count = struct.unpack_from("<II", sector, 470)
        if not sector[466] or not start:
            return
        here = container.start + start * SECTOR
    faults.append("the chain of logical partitions leads back into itself")


def _outside(partition: Partition, disk: Area) -> list[str]:
    """What is wrong with the place of ``partition``, if anything."""
    end = partition.start + partition.size
    if end <= disk.size:
        return []
    return [f"partition {partition.number} ends at byte {end:,}, behind the disk's end at {disk.size:,}"]


def _read_gpt(disk: Area, first: bytes) -> PartitionTable:
    sector = SECTOR
    faults = []
    if not first.startswith(_GPT_MAGIC, SECTOR) and first.startswith(_GPT_MAGIC, _LARGE_SECTOR):
        sector = _LARGE_SECTOR
        faults.append("the GPT is that of a disk with sectors of 4,096 bytes, as no virtual machine here has")
    try:
        partitions = _gpt_partitions(disk, first[sector : 2 * sector], sector)
    except (FormatError, _GptFaultError) as error:
        faults.append(str(error))
        try:
            last = bytes(disk.read_at(max(disk.size - sector, 0), min(sector, disk.size)))
            partitions = _gpt_partitions(disk, last, sector)
            faults.append("its copy at the disk's end is sound, and was taken instead")
        except (FormatError, _GptFaultError):
            return PartitionTable("gpt", faults=tuple(faults), sector_size=sector)
    faults += [fault for partition in partitions for fault in _outside(partition, disk)]
    return PartitionTable("gpt", partitions, faults=tuple(faults), sector_size=sector)


class _GptFaultError(Exception):
    """A GPT that is not sound."""


def _gpt_partitions(disk: Area, header: bytes, sector: int) -> tuple[Partition, ...]:
    if len(header) < SECTOR:
        raise _GptFaultError("the disk ends before the GPT header")
    (magic, _, length, checksum, _, _, _, _, _, table_lba, count, entry_size, table_checksum) = _GPT_HEADER.unpack_from(
        header
    )
    if magic != _GPT_MAGIC:
        raise _GptFaultError("the protective MBR announces a GPT, but sector 1 (of 512 bytes) has no header")
    if not 92 <= length <= SECTOR or zlib.crc32(header[:16] + bytes(4) + header[20:length]) != checksum:
        raise _GptFaultError("the GPT header's checksum is wrong")
    if entry_size < _GPT_ENTRY.size or entry_size % 8 or count * entry_size > _MAX_GPT_TABLE:
        raise _GptFaultError(f"the GPT claims {count:,} entries of {entry_size:,} bytes")
    start = table_lba * sector
    if start + count * entry_size > disk.size:
        raise _GptFaultError("the GPT's entries lie behind the disk's end")
    table = bytes(disk.read_at(start, count * entry_size)) if count else b""
    if zlib.crc32(table) != table_checksum:
        raise _GptFaultError("the GPT entries' checksum is wrong")
    found = (_gpt_partition(number, table, (number - 1) * entry_size, sector) for number in range(1, count + 1))
    return tuple(partition for partition in found if partition is not None)


def _gpt_partition(number: int, table: bytes, offset: int, sector: int) -> Partition | None:
    kind, own, low, high, attributes, name = _GPT_ENTRY.unpack_from(table, offset)
    if not any(kind):
        return None
    return Partition(
        number=number,
        start=low * sector,
        size=max(high - low + 1, 0) * sector,
        kind=str(uuid.UUID(bytes_le=kind)),
        active=bool(attributes & 4),
        name=name.decode("utf-16-le", "replace").partition("\0")[0],
        uuid=str(uuid.UUID(bytes_le=own)),
    )
