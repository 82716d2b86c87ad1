"""The superblock of ext2, ext3 and ext4: what the file system is made of, and whether we may write to it.

Source: "ext4 Data Structures and Algorithms" in the kernel's documentation, filesystems/ext4.
"""

from __future__ import annotations

import struct

from vmferry.errors import GuestError
from vmferry.guest.ext_writer._checksums import crc32c
from vmferry.guest.overlay_volume import OverlayVolume
from vmferry.units import KIB

_PLACE = KIB
_SIZE = KIB
_MAGIC = 0xEF53
_CHECKSUM = 0x3FC
_CLEAN, _ERRORS = 1, 2
_MAX_GROUPS = 1 << 22
"""32 TiB in blocks of 1 KiB, 512 TiB in blocks of 4."""
_FIRST_INODE = 11
"""Where the superblock is of revision 0 and does not say it."""

EXTENTS, BITS_64, META_BG, RECOVER = 0x40, 0x80, 0x10, 0x4
CHECKSUM_SEED, FILE_TYPE, LARGE_DIRECTORY = 0x2000, 0x2, 0x4000
GDT_CHECKSUM, CLUSTERS, METADATA_CHECKSUM = 0x10, 0x200, 0x400
JOURNAL, SPARSE_SUPER_2 = 0x4, 0x200
SPARSE_SUPER = 0x1

_WRITABLE_INCOMPAT = FILE_TYPE | RECOVER | META_BG | EXTENTS | BITS_64 | 0x200 | CHECKSUM_SEED | LARGE_DIRECTORY
_WRITABLE_INCOMPAT |= 0x8000 | 0x10000 | 0x20000  # inline data, encryption, casefold: asked of each file
_WRITABLE_RO_COMPAT = SPARSE_SUPER | 0x2 | 0x4 | 0x8 | GDT_CHECKSUM | 0x20 | 0x40 | METADATA_CHECKSUM
_WRITABLE_RO_COMPAT |= 0x2000 | 0x8000 | 0x10000  # projects, verity, orphans
_NAMES = {
    ("incompat", 0x1): "compression",
    ("incompat", 0x8): "a journal device",
    ("incompat", 0x100): "mmp",
    ("incompat", 0x400): "ea_inode",
    ("incompat", 0x1000): "dirdata",
    ("ro_compat", 0x80): "snapshots",
    ("ro_compat", 0x100): "quota",
    ("ro_compat", CLUSTERS): "bigalloc",
    ("ro_compat", 0x800): "replica",
    ("ro_compat", 0x1000): "read-only",
    ("ro_compat", 0x4000): "shared_blocks",
}


class Superblock:
    """The superblock of the file system in ``volume``. ``flush`` writes it back.

    Raises ``GuestError`` where there is none, or what it says cannot be.
    """

    def __init__(self, volume: OverlayVolume) -> None:
        if volume.size < _PLACE + _SIZE:
            raise GuestError("The volume is too small for an ext file system.")
        self._volume = volume
        self._raw = bytearray(volume.read_at(_PLACE, _SIZE))
        if self._u16(0x38) != _MAGIC:
            raise GuestError("There is no ext file system in this volume.")
        self._read_features()
        self._read_geometry()
        self._check_geometry()
        self.seed = self._u32(0x270) if self.has(CHECKSUM_SEED) else crc32c(0xFFFFFFFF, self.uuid)
        """What the checksums of metadata begin with."""
        if self.checksums and crc32c(0xFFFFFFFF, self._raw[:_CHECKSUM]) != self._u32(_CHECKSUM):
            raise GuestError("The ext superblock's checksum is wrong: run e2fsck on the guest.")

    def _read_features(self) -> None:
        dynamic = self._u32(0x4C) > 0
        self.compat, self.incompat, self.ro_compat = (self._u32(at) if dynamic else 0 for at in (0x5C, 0x60, 0x64))
        self.uuid = bytes(self._raw[0x68:0x78])
        self.label = bytes(self._raw[0x78:0x88]).rstrip(b"\0").decode("utf-8", "replace")
        self.checksums = bool(self.ro_compat & METADATA_CHECKSUM)
        """Whether all metadata have checksums (``metadata_csum``)."""
        self.group_checksums = self.checksums or bool(self.ro_compat & GDT_CHECKSUM)
        """Whether group descriptors have, and groups may be left uninitialised."""
        self.first_inode = self._u32(0x54) if dynamic else _FIRST_INODE
        self.inode_size = self._u16(0x58) if dynamic else 128
        self.extra_inode_size = self._u16(0x15E)
        """Bytes behind the first 128 that a new inode says it uses."""

    def _read_geometry(self) -> None:
        self.inode_count = self._u32(0)
        wide = self.has(BITS_64)
        self.block_count = self._u32(0x4) | (self._u32(0x150) << 32 if wide else 0)
        self.first_block = self._u32(0x14)
        self.block_size = KIB << min(self._u32(0x18), 20)
        self.blocks_per_group = self._u32(0x20)
        self.inodes_per_group = self._u32(0x28)
        self.descriptor_size = self._u16(0xFE) if wide else 32
        self.reserved_descriptor_blocks = self._u16(0xCE)
        self.first_meta_group = self._u32(0x104) if self.has(META_BG) else None
        self.backup_groups = (self._u32(0x24C), self._u32(0x250)) if self.compat & SPARSE_SUPER_2 else None
        self.journal_inode = self._u32(0xE0) if self.compat & JOURNAL else 0

    def _check_geometry(self) -> None:
        block = self.block_size
        sane = (
            KIB <= block <= 64 * KIB
            and self.first_block == (1 if block == KIB and not self.ro_compat & CLUSTERS else 0)
            and 8 <= (self._u32(0x24) if self.ro_compat & CLUSTERS else self.blocks_per_group) <= 8 * block
            and self.blocks_per_group >= 8
            and 8 <= self.inodes_per_group <= 8 * block
            and 128 <= self.inode_size <= block
            and self.inode_size & (self.inode_size - 1) == 0
            and 32 <= self.descriptor_size <= KIB
            and self.descriptor_size & (self.descriptor_size - 1) == 0
            and (not self.has(BITS_64) or self.descriptor_size >= 64)
            and self.first_block < self.block_count
            and self.inode_count == self.group_count * self.inodes_per_group
            and self.group_count <= _MAX_GROUPS
        )
        if not sane:
            raise GuestError("The ext superblock describes an impossible file system: run e2fsck on the guest.")
        if self.block_count * block > self._volume.size:
            raise GuestError(
                f"The ext file system claims {self.block_count * block:,} bytes, its volume has {self._volume.size:,}."
            )

    @property
    def group_count(self) -> int:
        """Block groups."""
        return -(-(self.block_count - self.first_block) // self.blocks_per_group)

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody uses."""
        return self._u32(0xC) | (self._u32(0x158) << 32 if self.has(BITS_64) else 0)

    @free_blocks.setter
    def free_blocks(self, count: int) -> None:
        struct.pack_into("<I", self._raw, 0xC, count & 0xFFFFFFFF)
        if self.has(BITS_64):
            struct.pack_into("<I", self._raw, 0x158, count >> 32)

    @property
    def free_inodes(self) -> int:
        """Inodes that nobody uses."""
        return self._u32(0x10)

    @free_inodes.setter
    def free_inodes(self, count: int) -> None:
        struct.pack_into("<I", self._raw, 0x10, count)

    def has(self, feature: int) -> bool:
        """Whether an incompatible ``feature`` is on."""
        return bool(self.incompat & feature)

    def has_backup(self, group: int) -> bool:
        """Whether ``group`` begins with a copy of the superblock (group 0: with the superblock itself)."""
        if group == 0:
            return True
        if self.backup_groups is not None:
            return group in self.backup_groups
        if group == 1 or not self.ro_compat & SPARSE_SUPER:
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))

    def check_writable(self) -> None:
        """Raise ``GuestError`` with the reason where this file system cannot be written to by us; with ``feature``
        where that alone is in the way."""
        for kind, found, known in (
            ("incompat", self.incompat, _WRITABLE_INCOMPAT),
            ("ro_compat", self.ro_compat, _WRITABLE_RO_COMPAT),
        ):
            for bit in range(32):
                if found & ~known & 1 << bit:
                    name = _NAMES.get((kind, 1 << bit), f"an unknown feature ({kind} {1 << bit:#x})")
                    raise GuestError(f"The ext file system uses {name}, which is not written to here.", feature=name)
        if self.has(RECOVER):
            raise GuestError(
                "The ext file system was not unmounted: its journal has to be replayed. Shut the guest down, and "
                "export it again."
            )
        state = self._u16(0x3A)
        if state & _ERRORS or not state & _CLEAN:
            what = "has errors" if state & _ERRORS else "was not unmounted"
            raise GuestError(f"The ext file system {what}: run e2fsck on it, shut the guest down, and export it again.")

    def save(self) -> bytes:
        """What ``restore`` takes."""
        return bytes(self._raw)

    def restore(self, saved: bytes) -> None:
        """Let it be what it was when ``save`` was called."""
        self._raw[:] = saved

    def flush(self) -> None:
        """Write it to the volume, with its checksum."""
        struct.pack_into("<I", self._raw, 0x60, self.incompat)
        if self.checksums:
            struct.pack_into("<I", self._raw, _CHECKSUM, crc32c(0xFFFFFFFF, self._raw[:_CHECKSUM]))
        self._volume.write_at(_PLACE, self._raw)

    def _u16(self, at: int) -> int:
        return int.from_bytes(self._raw[at : at + 2], "little")

    def _u32(self, at: int) -> int:
        return int.from_bytes(self._raw[at : at + 4], "little")


def _is_power(value: int, base: int) -> bool:
    while value % base == 0:
        value //= base
    return value == 1
