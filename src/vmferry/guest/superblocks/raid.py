"""Linux software RAID: which array an area is a member of. Source: Linux, include/uapi/linux/raid/md_p.h."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vmferry.guest.superblocks.contents import Contents, Head, text, uuid_text
from vmferry.guest.window import Area
from vmferry.units import KIB, SECTOR

_MAGIC = 0xA92B4EFC
_LEVELS = {-1: "linear", 0: "raid0", 1: "raid1", 4: "raid4", 5: "raid5", 6: "raid6", 10: "raid10"}


@dataclass(frozen=True, slots=True)
class RaidMember:
    """What the superblock of one member says of its array."""

    version: str
    """``0.90``, ``1.0``, ``1.1``, ``1.2``: the last two stand before the data, the others behind it."""
    level: str
    uuid: str | None
    name: str
    """As in /dev: ``md0``, ``md/data``."""
    disks: int
    start: int
    """Where the data begins in the member, bytes."""
    size: int
    """Bytes of data in the member."""

    @property
    def is_mirror_in_the_open(self) -> bool:
        """Whether each member holds, from its first byte on, all that the array does."""
        return self.level == "raid1" and self.start == 0


def read_raid(head: Head) -> Contents | None:
    member = find_member(head.area, head)
    if member is None:
        return None
    return Contents("raid", label=member.name, uuid=member.uuid, features=(member.level, member.version))


def find_member(area: Area, head: Head | None = None) -> RaidMember | None:
    """The array that ``area`` is a member of, if it is."""
    head = head or Head(area)
    behind = (area.size // SECTOR - 16) // 8 * 8 * SECTOR
    for place, version in ((4 * KIB, "1.2"), (0, "1.1"), (behind, "1.0")):
        member = _read_version_1(head, place, version)
        if member is not None:
            return member
    return _read_version_0(head, area.size // (64 * KIB) * (64 * KIB) - 64 * KIB)


def _read_version_1(head: Head, place: int, version: str) -> RaidMember | None:
    if place < 0:
        return None
    block = head.read(place, 256)
    magic, major = struct.unpack_from("<II", block)
    start, size, here = struct.unpack_from("<QQQ", block, 128)
    if magic != _MAGIC or major != 1 or here * SECTOR != place:
        return None
    level, disks = struct.unpack_from("<i", block, 72)[0], struct.unpack_from("<I", block, 92)[0]
    name = (text(block[32:64]) or "").rpartition(":")[2]
    return RaidMember(
        version,
        _LEVELS.get(level, f"level {level}"),
        uuid_text(block[16:32]),
        f"md{name}" if name.isdecimal() else f"md/{name}",
        disks,
        start * SECTOR,
        size * SECTOR,
    )


def _read_version_0(head: Head, place: int) -> RaidMember | None:
    if place < 0:
        return None
    block = head.read(place, 64)
    magic, major, minor = struct.unpack_from("<III", block)
    if (magic, major, minor) != (_MAGIC, 0, 90):
        return None
    level, size, _, disks, number = struct.unpack_from("<iIIII", block, 28)
    uuid = uuid_text(struct.pack(">4I", *struct.unpack_from("<I", block, 20), *struct.unpack_from("<3I", block, 52)))
    return RaidMember("0.90", _LEVELS.get(level, f"level {level}"), uuid, f"md{number}", disks, 0, size * KIB)
