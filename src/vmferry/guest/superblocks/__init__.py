"""What stands in an area, by its signature; what its superblock says of it. Read here, byte by byte, with no library.

``recognise`` tries what hides a file system (encryption, volume managers) before the file systems themselves: an old
superblock may still lie below a newer layer.
"""

from __future__ import annotations

from collections.abc import Callable

from vmferry.errors import FormatError
from vmferry.guest.superblocks import containers, fat, linux, ntfs, others, raid
from vmferry.guest.superblocks.contents import Contents, Head
from vmferry.guest.window import Area

__all__ = ["Contents", "recognise"]

_READERS: tuple[Callable[[Head], Contents | None], ...] = (
    containers.read_luks,
    containers.read_bitlocker,
    containers.read_storage_spaces,
    containers.read_ldm,
    raid.read_raid,
    containers.read_lvm,
    ntfs.read_ntfs,
    others.read_refs,
    fat.read_exfat,
    linux.read_ext,
    linux.read_xfs,
    linux.read_btrfs,
    linux.read_swap,
    others.read_f2fs,
    others.read_jfs,
    others.read_reiserfs,
    others.read_ufs,
    others.read_iso9660,
    others.read_squashfs,
    fat.read_fat,
    others.read_vmfs,
    others.read_zfs,
)


def recognise(area: Area) -> Contents | None:
    """What stands in ``area``, or ``None`` where it is nothing that is known. Reads at most some MiB.

    What is damaged gives a ``problem``. Raises ``GuestError``, ``StoreError`` and ``UnsafeDiskError`` as ``area``.
    """
    head = Head(area)
    try:
        return next((found for read in _READERS if (found := read(head)) is not None), None)
    except FormatError as error:
        return Contents(None, problem=str(error))
