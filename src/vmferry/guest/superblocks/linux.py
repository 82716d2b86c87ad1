"""The superblocks of ext2/3/4, XFS and Btrfs, and the header of swap space.

Sources: Linux, Documentation/filesystems/ext4; XFS Algorithms & Data Structures, 3rd edition; btrfs-dev-docs,
"On-disk format"; mkswap(8).
"""

from __future__ import annotations

import struct

from vmferry.guest.superblocks.contents import Contents, Head, feature_names, text, uuid_text
from vmferry.guest.superblocks.xfs_log import is_log_dirty
from vmferry.units import KIB

_COMPAT = {0x4: "has_journal", 0x8: "ext_attr", 0x10: "resize_inode", 0x20: "dir_index", 0x200: "sparse_super2",
           0x400: "fast_commit", 0x800: "stable_inodes", 0x1000: "orphan_file"}  # fmt: skip
_INCOMPAT = {0x1: "compression", 0x2: "filetype", 0x4: "needs_recovery", 0x8: "journal_dev", 0x10: "meta_bg",
             0x40: "extent", 0x80: "64bit", 0x100: "mmp", 0x200: "flex_bg", 0x400: "ea_inode", 0x1000: "dirdata",
             0x2000: "metadata_csum_seed", 0x4000: "large_dir", 0x8000: "inline_data", 0x10000: "encrypt",
             0x20000: "casefold"}  # fmt: skip
_RO_COMPAT = {0x1: "sparse_super", 0x2: "large_file", 0x8: "huge_file", 0x10: "uninit_bg", 0x20: "dir_nlink",
              0x40: "extra_isize", 0x100: "quota", 0x200: "bigalloc", 0x400: "metadata_csum", 0x1000: "read-only",
              0x2000: "project", 0x8000: "verity", 0x10000: "orphan_present"}  # fmt: skip
_EXT3 = (0x4, 0x1 | 0x2 | 0x4 | 0x10, 0x1 | 0x2)
"""What ext3 knows: the journal; and of the features that who mounts, or writes, must know."""
_EXT_REVISIONS = (0, 1)
_RECOVER = 0x4
_JOURNAL_DEVICE = 0x8
_CLEAN, _ERRORS = 1, 2

_XFS_FEATURES2 = {0x2: "lazy-count", 0x8: "attr2", 0x80: "projid32", 0x100: "crc", 0x200: "ftype"}
_XFS_RO = {0x1: "finobt", 0x2: "rmapbt", 0x4: "reflink", 0x8: "inobtcount"}
_XFS_INCOMPAT = {0x1: "ftype", 0x2: "sparse", 0x4: "meta-uuid", 0x8: "bigtime", 0x10: "needs-repair", 0x20: "nrext64",
                 0x40: "exchange", 0x80: "parent", 0x100: "metadir"}  # fmt: skip
_XFS_NEEDS_REPAIR = 0x10

_BTRFS = 64 * KIB
_BTRFS_INCOMPAT = {0x1: "mixed-backref", 0x2: "default-subvol", 0x4: "mixed-groups", 0x8: "compress-lzo",
                   0x10: "compress-zstd", 0x20: "big-metadata", 0x40: "extended-iref", 0x80: "raid56",
                   0x100: "skinny-metadata", 0x200: "no-holes", 0x400: "metadata-uuid", 0x800: "raid1c34",
                   0x1000: "zoned", 0x2000: "extent-tree-v2", 0x4000: "raid-stripe-tree"}  # fmt: skip
SWAP_PAGES = (4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB)
"""Bytes of a page, at whose end the swap's magic is, by architecture."""
HIBERNATED = (b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001")
"""The magic where the memory of a system that is to wake up lies there."""
HIBERNATION = "hibernated"
"""The feature that says so."""


def read_ext(head: Head) -> Contents | None:
    block = head.read(KIB, KIB)
    inodes, blocks, _, free_blocks, free_inodes, _, log_size = struct.unpack_from("<7I", block)
    mounted, written, _, _, magic, state = struct.unpack_from("<IIHHHH", block, 44)
    revision = struct.unpack_from("<I", block, 76)[0]
    if magic != 0xEF53:
        return None
    if not inodes or not blocks or log_size > 6:
        # Two bytes stand there by chance, too; the revision beside them does not.
        damaged = Contents("ext4", problem="The superblock is damaged: it tells no inodes, or no blocks of a size.")
        return damaged if revision in _EXT_REVISIONS else None
    compat, incompat, ro_compat = struct.unpack_from("<III", block, 92)
    if incompat & _JOURNAL_DEVICE:
        return Contents("jbd", uuid=uuid_text(block[104:120]))
    kind = "ext3" if compat & _EXT3[0] else "ext2"
    if incompat & ~_EXT3[1] or ro_compat & ~_EXT3[2]:
        kind = "ext4"
    if incompat & 0x80:
        free_blocks |= struct.unpack_from("<I", block, 0x158)[0] << 32
    return Contents(
        kind,
        label=text(block[120:136]),
        uuid=uuid_text(block[104:120]),
        free=min(free_blocks * (KIB << log_size), head.area.size),
        free_inodes=free_inodes,
        dirty=bool(incompat & _RECOVER) or not state & _CLEAN or bool(state & _ERRORS),
        features=feature_names(compat, _COMPAT, "compat")
        + feature_names(incompat, _INCOMPAT, "incompat")
        + feature_names(ro_compat, _RO_COMPAT, "ro_compat"),
        last_used=max(mounted, written),
    )


def read_xfs(head: Head) -> Contents | None:
    if not head.has(0, b"XFSB"):
        return None
    block = head.read(0, 512)
    block_size = struct.unpack_from(">I", block, 4)[0]
    version, sector = struct.unpack_from(">HH", block, 100)
    if not 512 <= block_size <= 64 * KIB or sector not in (512, 1024, 2048, 4096, 8192, 16384, 32768):
        return Contents("xfs", problem="The XFS superblock is damaged: its block size is none.")
    free_blocks = struct.unpack_from(">Q", block, 144)[0]
    features2 = struct.unpack_from(">I", block, 200)[0]
    ro_compat, incompat = struct.unpack_from(">II", block, 212)
    number = version & 0xF
    features: tuple[str, ...] = (f"v{number}", *feature_names(features2 & ~0x100, _XFS_FEATURES2, "features2"))
    if number == 5:
        features = ("v5", "crc", *feature_names(ro_compat, _XFS_RO, "ro_compat"))
        features += feature_names(incompat, _XFS_INCOMPAT, "incompat")
    return Contents(
        "xfs",
        label=text(block[108:120]),
        uuid=uuid_text(block[32:48]),
        free=min(free_blocks * block_size, head.area.size),
        dirty=(number == 5 and bool(incompat & _XFS_NEEDS_REPAIR)) or is_log_dirty(head, block),
        features=features,
    )


def read_btrfs(head: Head) -> Contents | None:
    if not head.has(_BTRFS + 64, b"_BHRfS_M"):
        return None
    block = head.read(_BTRFS, 0x32B)
    total, used = struct.unpack_from("<QQ", block, 0x70)
    devices = struct.unpack_from("<Q", block, 0x88)[0]
    log_root = struct.unpack_from("<Q", block, 0x60)[0]
    incompat = struct.unpack_from("<Q", block, 0xBC)[0]
    problem = None
    if devices > 1:
        problem = f"Btrfs over {devices} devices: only those on one device are read."
    return Contents(
        "btrfs",
        label=text(block[0x12B:0x22B]),
        uuid=uuid_text(block[0x20:0x30]),
        free=max(min(total - used, head.area.size), 0),
        dirty=log_root != 0,
        features=feature_names(incompat, _BTRFS_INCOMPAT, "incompat"),
        problem=problem,
    )


def read_swap(head: Head) -> Contents | None:
    for page in SWAP_PAGES:
        magic = head.read(page - 10, 10)
        if magic in (b"SWAPSPACE2", b"SWAP-SPACE"):
            return Contents("swap", label=text(head.read(1052, 16)), uuid=uuid_text(head.read(1036, 16)))
        if magic in HIBERNATED:
            return Contents("swap", uuid=uuid_text(head.read(1036, 16)), dirty=True, features=(HIBERNATION,))
    return None
