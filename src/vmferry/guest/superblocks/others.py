"""File systems that are recognised, and not read. Sources: their specifications; util-linux, libblkid, for the places
of signatures."""

from __future__ import annotations

import struct

from vmferry.guest.superblocks.contents import Contents, Head, text, uuid_text
from vmferry.units import KIB, MIB

_UFS_MAGIC = 1372
_UFS2 = (0x19540119).to_bytes(4, "little")
_UFS1 = (0x00011954).to_bytes(4, "little")
_ZFS_UBERBLOCK = 0x00BAB10C


def read_refs(head: Head) -> Contents | None:
    return Contents("refs") if head.has(3, b"ReFS\0\0\0\0") else None


def read_f2fs(head: Head) -> Contents | None:
    if not head.has(KIB, b"\x10\x20\xf5\xf2"):
        return None
    return Contents(
        "f2fs", uuid=uuid_text(head.read(KIB + 108, 16)), label=text(head.read(KIB + 124, 512), "utf-16-le")
    )


def read_jfs(head: Head) -> Contents | None:
    if not head.has(32 * KIB, b"JFS1"):
        return None
    state = struct.unpack("<I", head.read(32 * KIB + 40, 4))[0]
    return Contents(
        "jfs",
        uuid=uuid_text(head.read(32 * KIB + 136, 16)),
        label=text(head.read(32 * KIB + 152, 16)),
        dirty=state != 0,
    )


def read_reiserfs(head: Head) -> Contents | None:
    for place in (64 * KIB, 8 * KIB):
        if head.read(place + 52, 9).rstrip(b"\0") in (b"ReIsErFs", b"ReIsEr2Fs", b"ReIsEr3Fs"):
            return Contents(
                "reiserfs", uuid=uuid_text(head.read(place + 84, 16)), label=text(head.read(place + 100, 16))
            )
    return None


def read_ufs(head: Head) -> Contents | None:
    for place, magic in ((64 * KIB, _UFS2), (8 * KIB, _UFS1), (0, _UFS1), (256 * KIB, _UFS2)):
        if head.has(place + _UFS_MAGIC, magic):
            return Contents("ufs", label=text(head.read(place + 680, 32)), dirty=head.read(place + 209, 1) == b"\0")
    return None


def read_iso9660(head: Head) -> Contents | None:
    return Contents("iso9660", label=text(head.read(32 * KIB + 40, 32))) if head.has(32 * KIB + 1, b"CD001") else None


def read_squashfs(head: Head) -> Contents | None:
    return Contents("squashfs") if head.has(0, b"hsqs") else None


def read_vmfs(head: Head) -> Contents | None:
    return Contents("vmfs") if head.has(MIB, b"\x0d\xd0\x01\xc0") else None


def read_zfs(head: Head) -> Contents | None:
    """A label of 256 KiB, its second half an array of uberblocks; the first written one tells."""
    if head.area.size < 64 * MIB:
        return None
    ring = head.read(128 * KIB, 128 * KIB)
    magics = (_ZFS_UBERBLOCK.to_bytes(8, "little"), _ZFS_UBERBLOCK.to_bytes(8, "big"))
    return Contents("zfs") if any(ring[at : at + 8] in magics for at in range(0, len(ring), KIB)) else None
