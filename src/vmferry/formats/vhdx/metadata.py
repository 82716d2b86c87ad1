"""Regions and metadata of a VHDX: what the disk is, and where its tables lie. [MS-VHDX], sections 2.2.3 and 2.6."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.formats.vhdx.header import VhdxHeader
from vmferry.formats.vhdx.structures import (
    BAT_REGION,
    DISK_ID,
    DISK_SIZE,
    FILE_PARAMETERS,
    LOGICAL_SECTOR,
    METADATA_REGION,
    PARENT_LOCATOR,
    PHYSICAL_SECTOR,
    REGION_TABLE_SIZE,
    REGION_TABLES,
    UNIT,
    VHDX_PARENT,
    has_checksum,
)
from vmferry.limits import MAX_DISK_SIZE
from vmferry.units import KIB, MIB, format_size

_REGION = struct.Struct("<16sQII")
_ITEM = struct.Struct("<16sIIII")
_MAX_ENTRIES = 2047
_TABLE = 64 * KIB
_MAX_ITEM = MIB
_MAX_LOCATORS = 256
_REQUIRED_REGION, _REQUIRED_ITEM = 1, 4
_KNOWN = (FILE_PARAMETERS, DISK_SIZE, LOGICAL_SECTOR, PHYSICAL_SECTOR, DISK_ID, PARENT_LOCATOR)
_SECTORS = (512, 4096)


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the file, in bytes; whole MiB."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The host offset behind its last byte."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the disk is."""

    size: int
    block_size: int
    sector_size: int
    is_fixed: bool
    parent: Mapping[str, str] | None
    """The parent locator's entries, where the disk has a parent: names to compare, never paths to open."""


def read_regions(blob: Blob, header: VhdxHeader) -> tuple[Region, Region, str | None]:
    """The block allocation table's region, the metadata's, and what is odd about the region tables.

    Raises ``FormatError``.
    """
    copies = [blob.read_at(place, REGION_TABLE_SIZE) for place in REGION_TABLES]
    sound = [copy for copy in copies if copy.startswith(b"regi") and has_checksum(copy)]
    if not sound:
        raise CorruptDiskError(f"vhdx: both region tables of {quote(blob.name)} are damaged. Export it again.")
    (count,) = struct.unpack_from("<I", sound[0], 8)
    if count > _MAX_ENTRIES:
        raise _corrupt(blob, f"its region table is said to have {count:,} entries; at most {_MAX_ENTRIES:,} can be")
    regions: dict[bytes, Region] = {}
    taken = [Region(0, UNIT), Region(header.log_offset, header.log_length)]
    for index in range(count):
        kind, offset, length, flags = _REGION.unpack_from(sound[0], 16 + index * _REGION.size)
        if kind not in (BAT_REGION, METADATA_REGION):
            if flags & _REQUIRED_REGION:
                raise _unsupported(blob, f"a region of an unknown kind, {UUID(bytes_le=kind)}")
            continue
        region = Region(offset, length)
        _check_region(blob, region, [*taken, *regions.values()])
        if kind in regions:
            raise _corrupt(blob, "two of its regions are of one kind")
        regions[kind] = region
    if len(regions) < 2:
        raise _corrupt(blob, "its region table names no metadata, or no block allocation table")
    warning = None if len(sound) == 2 else "One of the two region tables is damaged; the other one counts."
    return regions[BAT_REGION], regions[METADATA_REGION], warning


def read_metadata(blob: Blob, region: Region) -> Metadata:
    """The metadata in ``region``, checked. Raises ``FormatError``, ``UnsafeDiskError``."""
    items = _read_items(blob, region)
    block_size, bits = _numbers(blob, items, FILE_PARAMETERS, "<II")
    (size,) = _numbers(blob, items, DISK_SIZE, "<Q")
    (sector,) = _numbers(blob, items, LOGICAL_SECTOR, "<I")
    if block_size & (block_size - 1) or not MIB <= block_size <= 256 * MIB:
        raise _corrupt(blob, f"a block is said to have {block_size:,} bytes; a power of two from 1 to 256 MiB can be")
    if sector not in _SECTORS:
        raise _corrupt(blob, f"a logical sector is said to have {sector:,} bytes; 512 or 4,096 can be")
    if size > MAX_DISK_SIZE:
        raise UnsafeDiskError(
            f"vhdx: {quote(blob.name)} claims a disk of {size:,} bytes; at most {format_size(MAX_DISK_SIZE)} are "
            "accepted. The file is damaged or made to do harm: export it again."
        )
    if size == 0 or size % sector:
        raise _corrupt(blob, f"its disk is said to have {size:,} bytes, which are not whole sectors of {sector:,}")
    parent = None
    if bits & 2:
        if PARENT_LOCATOR not in items:
            raise _corrupt(blob, "it is said to have a parent, but does not say which")
        parent = _read_locator(blob, items[PARENT_LOCATOR])
    return Metadata(size, block_size, sector, bool(bits & 1), parent)


def _check_region(blob: Blob, region: Region, others: list[Region]) -> None:
    if region.offset % UNIT or region.length % UNIT or not region.length or region.end > blob.size:
        raise _corrupt(
            blob,
            f"a region of {region.length:,} bytes at host offset 0x{region.offset:x} does not lie inside the file "
            f"({blob.size:,} bytes) at whole MiB",
        )
    for other in others:
        if region.offset < other.end and other.offset < region.end:
            raise _corrupt(blob, f"the region at host offset 0x{region.offset:x} lies on what is at 0x{other.offset:x}")


def _read_items(blob: Blob, region: Region) -> dict[bytes, bytes]:
    """The known items of the metadata, each bounded and inside its region."""
    table = blob.read_at(region.offset, _TABLE)
    (count,) = struct.unpack_from("<H", table, 10)
    if not table.startswith(b"metadata") or count > _MAX_ENTRIES:
        raise _corrupt(blob, f"its metadata table is none ({count:,} entries)")
    items: dict[bytes, bytes] = {}
    for index in range(count):
        kind, offset, length, flags, _ = _ITEM.unpack_from(table, 32 + index * _ITEM.size)
        if kind not in _KNOWN:
            if flags & _REQUIRED_ITEM:
                raise _unsupported(blob, f"metadata of an unknown kind, {UUID(bytes_le=kind)}")
            continue
        if kind in items or length > _MAX_ITEM or offset < _TABLE or offset + length > region.length:
            raise _corrupt(blob, f"an item of its metadata ({length:,} bytes at {offset:,}) cannot lie there")
        items[kind] = blob.read_at(region.offset + offset, length)
    return items


def _numbers(blob: Blob, items: Mapping[bytes, bytes], kind: bytes, layout: str) -> tuple[int, ...]:
    item = items.get(kind, b"")
    if len(item) < struct.calcsize(layout):
        raise _corrupt(blob, f"its metadata lacks the item {UUID(bytes_le=kind)}")
    return struct.unpack_from(layout, item)


def _read_locator(blob: Blob, item: bytes) -> dict[str, str]:
    """The parent locator's keys and values."""
    if len(item) < 20 or item[:16] != VHDX_PARENT:
        raise _unsupported(blob, "a parent of an unknown kind")
    (count,) = struct.unpack_from("<H", item, 18)
    if count > _MAX_LOCATORS or 20 + count * 12 > len(item):
        raise _corrupt(blob, f"its parent locator is said to have {count:,} entries")
    found: dict[str, str] = {}
    for index in range(count):
        key, value, key_length, value_length = struct.unpack_from("<IIHH", item, 20 + index * 12)
        if key + key_length > len(item) or value + value_length > len(item):
            raise _corrupt(blob, "an entry of its parent locator goes past its end")
        name = item[key : key + key_length].decode("utf-16-le", "replace")
        if name in found:
            raise _corrupt(blob, f"its parent locator has the key {quote(name)} twice")
        found[name] = item[value : value + value_length].decode("utf-16-le", "replace")
    return found


def _corrupt(blob: Blob, what: str) -> CorruptDiskError:
    return CorruptDiskError(f"vhdx: {quote(blob.name)}: {what}. The file is damaged: export or upload it again.")


def _unsupported(blob: Blob, what: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(
        f"vhdx: {quote(blob.name)} has {what}, without which it must not be read: copy the disk into a new, dynamic "
        "VHDX where it was made, and export that."
    )
