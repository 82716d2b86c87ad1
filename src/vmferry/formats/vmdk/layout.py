"""What both kinds of VMDK that are written share: grains of 64 KiB, and how far 32 bits of a sector number reach."""

from __future__ import annotations

from vmferry.errors import UnsupportedFeatureError
from vmferry.formats.vmdk.header import TABLE_ENTRIES
from vmferry.limits import MAX_DISK_SIZE
from vmferry.units import KIB, MIB, SECTOR, format_size, round_up

GRAIN_SIZE = 64 * KIB
GRAIN_SECTORS = GRAIN_SIZE // SECTOR
TABLE_SPAN = TABLE_ENTRIES * GRAIN_SIZE
"""Guest bytes that one grain table maps: 32 MiB."""
TABLE_SECTORS = TABLE_ENTRIES * 4 // SECTOR
MAX_SECTORS = 1 << 32
"""Sectors of a file that the entries of directories and tables reach."""


def image_size(size: int) -> int:
    """The size of the image for a disk of ``size`` bytes: whole MiB, as vSphere wants it.

    Raises ``UnsupportedFeatureError`` for more than is read back.
    """
    if size > MAX_DISK_SIZE:
        raise UnsupportedFeatureError(
            f"vmdk: a disk of {format_size(size)} is too large for a VMDK, of which vmferry writes "
            f"{format_size(MAX_DISK_SIZE)} at the most: write it to several disks, or shrink it first."
        )
    return round_up(max(size, 1), MIB)


def check_grains(offset: int, length: int, size: int) -> None:
    """``ValueError`` unless ``length`` bytes from ``offset`` are whole grains of a disk of ``size``, its end
    excepted."""
    end = offset + length
    if offset % GRAIN_SIZE or (end % GRAIN_SIZE and end != size) or not 0 <= offset <= end <= size:
        raise ValueError(f"{offset} to {end} are not whole grains of a disk of {size} bytes")


def check_end(sectors: int, kind: str) -> None:
    """Raise ``UnsupportedFeatureError`` when a file of ``kind`` that ends at ``sectors`` is longer than tables
    reach."""
    if sectors > MAX_SECTORS:
        raise UnsupportedFeatureError(
            f"vmdk: the file would pass {format_size(MAX_SECTORS * SECTOR)}, the most that a {kind} VMDK can hold: "
            "write a VHDX or a qcow2 instead."
        )
