"""PE files as far as unified kernel images need them: the machine, and where the sections lie.

Sources: Microsoft's "PE Format"; the UAPI Group's "Unified Kernel Image" specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vmferry.guest.linux.compression import ReadAt

_MACHINES = {0x8664: "x86_64", 0x14C: "i386", 0xAA64: "aarch64", 0x1C2: "arm", 0x5064: "riscv64"}
_HEADER = 24
_SECTION = struct.Struct("<8sIIII16x")
_MAX_SECTIONS = 96
"""Windows' own bound."""


@dataclass(frozen=True, slots=True)
class PortableExecutable:
    """Where what lies."""

    architecture: str | None
    sections: dict[str, tuple[int, int]]
    """Name → offset in the file, bytes."""


def read_pe(read_at: ReadAt) -> PortableExecutable | None:
    """The headers of a PE file; ``None`` for what is none."""
    head = read_at(0, 64)
    if len(head) < 64 or head[:2] != b"MZ":
        return None
    (start,) = struct.unpack_from("<I", head, 60)
    header = read_at(start, _HEADER)
    if len(header) < _HEADER or header[:4] != b"PE\0\0":
        return None
    machine, count, optional = struct.unpack_from("<HH12xH", header, 4)
    count = min(count, _MAX_SECTIONS)
    table = read_at(start + _HEADER + optional, count * _SECTION.size)
    sections = {}
    for at in range(0, len(table) // _SECTION.size * _SECTION.size, _SECTION.size):
        name, size, _, stored, offset = _SECTION.unpack_from(table, at)
        sections[name.rstrip(b"\0").decode("latin-1")] = (offset, min(size, stored) or stored)
    return PortableExecutable(_MACHINES.get(machine), sections)
