"""What GRUB's core image goes on to, on a disk that a BIOS starts: the only thing that tells of two systems which one.

Sources: GRUB, grub-core/boot/i386/pc (boot.S, diskboot.S, startup_raw.S) and include/grub/offsets.h.
"""

from __future__ import annotations

import lzma
import re
import struct
from dataclasses import dataclass

from vmferry.errors import FormatError
from vmferry.guest.window import Area
from vmferry.limits import MAX_GRUB_CORE, MAX_GRUB_CORE_UNPACKED
from vmferry.units import SECTOR

_KERNEL_SECTOR = 0x5C
"""In boot code: where the core image begins."""
_SIZES = SECTOR + 8
"""In the core image: bytes of what is behind its first sector, packed and unpacked."""
_STARTS = range(0xA00, 0x1400)
"""Where the packed part may begin, behind the program that unpacks it; no field tells."""
_FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
_FS_UUID = re.compile(
    rb"fs[_-]uuid [^\n\0]{0,200}?\b([0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{16})"
)
_PREFIX = re.compile(rb"\((?:(?:hd\d+)?,(?:msdos|gpt)(\d{1,3})|lvm/([\w.+-]{1,250}))\)/[\w/@.-]{0,200}grub")


@dataclass(frozen=True, slots=True)
class GrubCore:
    """Where a core image looks for the rest of GRUB."""

    uuids: frozenset[str] = frozenset()
    """Of file systems, lower case."""
    partitions: frozenset[int] = frozenset()
    """Numbers of partitions on its own disk."""
    logical_volumes: frozenset[str] = frozenset()
    """As the device mapper has them: ``vg0-root``."""


def read_grub_core(disk: Area) -> GrubCore:
    """What the core image on ``disk`` says; nothing where there is none, or it cannot be read. Reads at most 1 MiB.

    Raises as ``disk``, but for ``FormatError``.
    """
    try:
        unpacked = _unpack(disk)
    except FormatError:
        return GrubCore()
    prefixes = _PREFIX.findall(unpacked)
    return GrubCore(
        frozenset(uuid.decode().lower() for uuid in _FS_UUID.findall(unpacked)),
        frozenset(int(partition) for partition, _ in prefixes if partition),
        frozenset(volume.decode() for _, volume in prefixes if volume),
    )


def _unpack(disk: Area) -> bytes:
    """The core image, unpacked; empty where there is none."""
    boot = bytes(disk.read_at(0, min(SECTOR, disk.size)))
    if b"GRUB" not in boot:
        return b""
    start = struct.unpack_from("<Q", boot, _KERNEL_SECTOR)[0] * SECTOR
    head = _read(disk, start, 2 * SECTOR)
    if not start or not head:
        return b""
    packed, unpacked = struct.unpack_from("<II", head, _SIZES)
    if not 0 < packed <= MAX_GRUB_CORE or not 0 < unpacked <= MAX_GRUB_CORE_UNPACKED:
        return b""
    core = _read(disk, start, SECTOR + _STARTS.stop + packed).ljust(SECTOR + _STARTS.stop, b"\xff")
    for place in _STARTS:
        if core[SECTOR + place] == 0:  # so every LZMA stream begins
            found = _try(core[SECTOR + place : SECTOR + place + packed], unpacked)
            if found:
                return found
    return b""


def _read(disk: Area, offset: int, length: int) -> bytes:
    """``length`` bytes, or as many as there are."""
    count = min(length, disk.size - offset)
    return bytes(disk.read_at(offset, count)) if count >= 2 * SECTOR else b""


def _try(packed: bytes, size: int) -> bytes:
    """``packed`` as it unpacks to ``size`` bytes; empty where it does not."""
    try:
        found = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS).decompress(packed, size)
    except lzma.LZMAError:
        return b""
    return found if len(found) == size else b""
