"""What the structures of a VHDX share: places, GUIDs, the checksum. Source: [MS-VHDX], sections 2.1 and 2.2."""

from __future__ import annotations

from uuid import UUID

import google_crc32c

from vmferry.blob import Buffer
from vmferry.units import KIB, MIB

CREATOR = (8, 512)
"""Where the creator's name stands, and its bytes: UTF-16."""
HEADERS = (64 * KIB, 128 * KIB)
HEADER_SIZE = 4 * KIB
REGION_TABLES = (192 * KIB, 256 * KIB)
REGION_TABLE_SIZE = 64 * KIB
UNIT = MIB
"""Regions, the log and blocks begin at whole MiB; the first one is the file's own."""

NO_ID = bytes(16)
BAT_REGION = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08").bytes_le
METADATA_REGION = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le

FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le
DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8").bytes_le
LOGICAL_SECTOR = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f").bytes_le
PHYSICAL_SECTOR = UUID("cda348c7-445d-4471-9cc9-e9885251c556").bytes_le
DISK_ID = UUID("beca12ab-b2e6-4523-93ef-c309e000c746").bytes_le
PARENT_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c").bytes_le
VHDX_PARENT = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913").bytes_le

CHUNK_SECTORS = 1 << 23
"""Sectors that one bitmap of 1 MiB is for."""


def crc32c(data: Buffer, place: int) -> int:
    """CRC-32C of ``data``, its own four bytes at ``place`` taken as zeros."""
    value: int = google_crc32c.value(bytes(data[:place]) + bytes(4) + bytes(data[place + 4 :]))
    return value


def has_checksum(data: Buffer, place: int = 4) -> bool:
    """Whether the four bytes at ``place`` are the CRC-32C of ``data``."""
    return crc32c(data, place) == int.from_bytes(data[place : place + 4], "little")


def chunk_ratio(block_size: int, sector_size: int) -> int:
    """Blocks for which there is one entry of a sector bitmap in the block allocation table."""
    return CHUNK_SECTORS * sector_size // block_size
