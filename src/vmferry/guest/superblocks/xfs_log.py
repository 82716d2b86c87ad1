"""Whether an XFS was unmounted: its log ends in an unmount record then. Source: XFS Algorithms & Data Structures, 3rd
edition, "Journaling Log"."""

from __future__ import annotations

import struct

from vmferry.guest.superblocks.contents import Head
from vmferry.units import KIB, SECTOR

_RECORD = b"\xfe\xed\xba\xbe"
_MOST = 256 * KIB
"""Bytes of the largest record and its header."""
_UNMOUNT = 0x20


def is_log_dirty(head: Head, superblock: bytes) -> bool:
    """Whether something is left to replay. ``False`` for logs on a device of their own, and for what makes no sense:
    a file system is not called unclean on a guess."""
    start, sectors = _place(superblock)
    if not start or not 16 <= sectors <= 1 << 32 or start + sectors * SECTOR > head.area.size:
        return False
    end = _find_head(head, start, sectors)
    if end == 0 and not any(head.read(start, SECTOR)):
        return False
    low = max(end - _MOST // SECTOR, 0)
    data = head.read(start + low * SECTOR, (end - low) * SECTOR)
    at = data.rfind(_RECORD)
    while at >= 0 and at % SECTOR:
        at = data.rfind(_RECORD, 0, at)
    if at < 0:
        return False
    header = max(struct.unpack_from(">I", data, at + 320)[0], 32 * KIB) // (32 * KIB) if at + 324 <= len(data) else 1
    version = struct.unpack_from(">I", data, at + 8)[0]
    body = at + SECTOR * (min(header, 8) if version & 2 else 1)
    operations = struct.unpack_from(">I", data, at + 40)[0]
    flags = data[body + 9] if body + 12 <= len(data) else 0
    return not (operations == 1 and flags & _UNMOUNT)


def _place(block: bytes) -> tuple[int, int]:
    """Where the log begins, in bytes, and how many sectors it has."""
    block_size = struct.unpack_from(">I", block, 4)[0]
    log_start = struct.unpack_from(">Q", block, 48)[0]
    group_blocks, _, _, log_blocks = struct.unpack_from(">4I", block, 84)
    group_log = block[124]
    if not log_start or group_log > 32:
        return 0, 0
    group, inside = log_start >> group_log, log_start & ((1 << group_log) - 1)
    return (group * group_blocks + inside) * block_size, log_blocks * (block_size // SECTOR)


def _find_head(head: Head, start: int, sectors: int) -> int:
    """The sector behind the last one written: the first whose cycle is not that of the log's first sector."""

    def cycle(sector: int) -> int:
        data = head.read(start + sector * SECTOR, 8)
        return int.from_bytes(data[4:] if data[:4] == _RECORD else data[:4], "big")

    first = cycle(0)
    if cycle(sectors - 1) == first:
        return sectors
    low, high = 0, sectors - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cycle(middle) == first else (low, middle)
    return high
