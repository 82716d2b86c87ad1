"""What the boot sector of a FAT file system says: where its tables, its root and its clusters are."""

from __future__ import annotations

from dataclasses import dataclass

from vmferry.errors import GuestError
from vmferry.guest.overlay_volume import OverlayVolume
from vmferry.units import MIB, SECTOR

_MAX_TABLE = 16 * MIB
"""Bytes of one table: four million clusters, 16 GiB of 4 KiB."""
_FAT12, _FAT16 = 4085, 65525
"""Clusters from which on a table's entries have 16, and 32 bits; FAT32 is known by its boot sector."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets and sizes in bytes."""

    bits: int
    """Of an entry of the table: 12, 16, 32."""
    cluster_size: int
    cluster_count: int
    tables: tuple[int, ...]
    """Where the copies of the table are."""
    table_size: int
    root: int
    """FAT32: the root's first cluster; else where it is."""
    root_size: int
    """0 for FAT32, whose root is a folder as any other."""
    data: int
    """Where cluster 2 is."""
    summary: int
    """Where FAT32 counts its free clusters, or 0."""

    def place(self, cluster: int) -> int:
        """Where a cluster is. Raises ``GuestError`` where there is none of that number."""
        if not 2 <= cluster < self.cluster_count + 2:
            raise GuestError(f"The FAT file system refers to cluster {cluster:,}, which it does not have.")
        return self.data + (cluster - 2) * self.cluster_size


def read_layout(volume: OverlayVolume) -> Layout:
    """The layout of the file system in ``volume``. Raises ``GuestError`` where there is none."""
    raw = volume.read_at(0, min(SECTOR, volume.size)).ljust(SECTOR, b"\0")

    def number(at: int, width: int) -> int:
        return int.from_bytes(raw[at : at + width], "little")

    sector, per_cluster, reserved, copies = number(0xB, 2), raw[0xD], number(0xE, 2), raw[0x10]
    entries, wide = number(0x11, 2), number(0x16, 2) == 0
    table = (number(0x24, 4) if wide else number(0x16, 2)) * sector
    total = (number(0x13, 2) or number(0x20, 4)) * sector
    if sector not in (512, 1024, 2048, 4096) or per_cluster not in (1, 2, 4, 8, 16, 32, 64, 128):
        raise GuestError("There is no FAT file system in this volume.")
    root = reserved * sector + copies * table
    root_size = 0 if wide else -(-entries * 32 // sector) * sector
    data, size = root + root_size, per_cluster * sector
    count = (total - data) // size
    bits = 32 if wide else 12 if count < _FAT12 else 16
    sane = raw[510:512] == b"\x55\xaa" and 1 <= copies <= 2 and reserved and 0 < table <= _MAX_TABLE
    if (
        not sane
        or total > volume.size
        or count < 1
        or (count + 2) * bits > table * 8
        or (bits == 16 and count >= _FAT16)
    ):
        raise GuestError("The FAT boot sector describes an impossible file system: run fsck.vfat on the guest.")
    return Layout(
        bits=bits,
        cluster_size=size,
        cluster_count=count,
        tables=tuple(reserved * sector + copy * table for copy in range(copies)),
        table_size=table,
        root=number(0x2C, 4) if wide else root,
        root_size=root_size,
        data=data,
        summary=number(0x30, 2) * sector if wide and 0 < number(0x30, 2) < reserved else 0,
    )
