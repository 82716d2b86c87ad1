"""The boot sectors of FAT and exFAT. Sources: Microsoft, "FAT: General Overview of On-Disk Format" 1.03; "exFAT file
system specification"."""

from __future__ import annotations

import struct

from vmferry.guest.superblocks.contents import Contents, Head, text
from vmferry.units import SECTOR


def read_fat(head: Head) -> Contents | None:
    boot = head.read(0, SECTOR)
    sector, cluster, reserved, copies, root_entries, total16, media, size16 = struct.unpack_from("<HBHBHHBH", boot, 11)
    total32, size32 = struct.unpack_from("<I", boot, 32)[0], struct.unpack_from("<I", boot, 36)[0]
    sound = (
        boot[510:] == b"\x55\xaa"
        and boot[0] in (0xEB, 0xE9)
        and sector in (512, 1024, 2048, 4096)
        and cluster.bit_count() == 1
        and reserved
        and copies in (1, 2)
        and media >= 0xF0
        and (size16 or size32)
        and (total16 or total32)
    )
    if not sound:
        return None
    size = size16 or size32
    data = (total16 or total32) - reserved - copies * size - -(-root_entries * 32 // sector)
    clusters = data // cluster
    if clusters < 1:
        return None
    kind = "fat12" if clusters < 4085 else "fat16" if clusters < 65525 else "fat32"
    extended = 64 if kind == "fat32" else 36
    if boot[extended + 2] not in (0x28, 0x29):  # no extended boot record, as DOS 3 wrote none
        return Contents(kind)
    serial = struct.unpack_from("<I", boot, extended + 3)[0]
    label = text(boot[extended + 7 : extended + 18], "cp437")
    return Contents(
        kind,
        label=None if label == "NO NAME" else label,
        uuid=f"{serial >> 16:04X}-{serial & 0xFFFF:04X}",
        free=_free(head, boot, sector, clusters) if kind == "fat32" else None,
        dirty=bool(boot[extended + 1] & 1),
    )


def _free(head: Head, boot: bytes, sector: int, clusters: int) -> int | None:
    """Bytes free as the FSInfo sector has it; it may not know."""
    place = struct.unpack_from("<H", boot, 48)[0]
    info = head.read(place * sector, SECTOR)
    free = struct.unpack_from("<I", info, 488)[0]
    known = info.startswith(b"RRaA") and info[484:488] == b"rrAa" and free <= clusters
    return free * sector * boot[13] if known else None


def read_exfat(head: Head) -> Contents | None:
    boot = head.read(0, SECTOR)
    if not boot.startswith(b"EXFAT   ", 3):
        return None
    serial, _, flags = struct.unpack_from("<IHH", boot, 100)
    return Contents("exfat", uuid=f"{serial >> 16:04X}-{serial & 0xFFFF:04X}", dirty=bool(flags & 2))
