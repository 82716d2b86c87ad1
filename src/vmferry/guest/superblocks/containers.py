"""What hides file systems: encryption and volume managers.

Sources: LUKS1 and LUKS2 on-disk format specifications; LVM2, lib/format_text; libbde's and linux-ntfs' documentation
of BitLocker and LDM.
"""

from __future__ import annotations

from vmferry.guest.superblocks.contents import Contents, Head, text
from vmferry.units import KIB, SECTOR


def read_luks(head: Head) -> Contents | None:
    if not head.has(0, b"LUKS\xba\xbe"):
        return None
    version = int.from_bytes(head.read(6, 2), "big")
    label = text(head.read(24, 48)) if version == 2 else None
    return Contents("luks1" if version == 1 else "luks2", label=label, uuid=text(head.read(168, 40)))


def read_bitlocker(head: Head) -> Contents | None:
    return Contents("bitlocker") if head.has(3, b"-FVE-FS-") else None


def read_storage_spaces(head: Head) -> Contents | None:
    return Contents("storage-spaces") if head.has(4 * KIB, b"SPACEDB ") else None


def read_ldm(head: Head) -> Contents | None:
    return Contents("ldm") if head.has(6 * SECTOR, b"PRIVHEAD") else None


def read_lvm(head: Head) -> Contents | None:
    for sector in range(4):
        if head.has(sector * SECTOR, b"LABELONE") and head.has(sector * SECTOR + 24, b"LVM2 001"):
            return Contents("lvm", uuid=_lvm_uuid(head.read(sector * SECTOR + 32, 32)))
    return None


def _lvm_uuid(data: bytes) -> str:
    """32 characters in LVM's groups: ``AbCdEf-gHiJ-…``."""
    letters = data.decode("ascii", "replace")
    groups = (6, 4, 4, 4, 4, 4, 6)
    ends = [sum(groups[: index + 1]) for index in range(len(groups))]
    return "-".join(letters[end - size : end] for end, size in zip(ends, groups, strict=True))
