"""ELF headers: the architecture of a program. Source: the System V ABI, "ELF Header"."""

from __future__ import annotations

import struct

from vmferry.guest.files import Files

HEADER = 20
"""Bytes at the start of a program that tell its architecture."""
_MACHINES = {
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
_PROGRAMS = (
    "/bin/sh",
    "/usr/lib/systemd/systemd",
    "/lib/systemd/systemd",
    "/sbin/init",
    "/bin/bash",
    "/bin/busybox",
    "/usr/bin/bash",
    "/bin/coreutils",
)
_LOADERS = ("/lib64/ld-linux-x86-64.so.*", "/lib/ld-*.so.*", "/usr/lib64/ld-linux*.so.*", "/usr/lib/ld-*.so.*")


def read_architecture(header: bytes) -> str | None:
    """The architecture that a program's first ``HEADER`` bytes tell; ``None`` for what is no ELF file, or one of a
    machine that we have no name for."""
    if len(header) < HEADER or header[:4] != b"\x7fELF":
        return None
    (machine,) = struct.unpack_from("<H" if header[5] != 2 else ">H", header, 18)
    return _MACHINES.get(machine)


def find_architecture(files: Files) -> str | None:
    """The architecture of a system's programs: of its shell, its init, or its dynamic loader."""
    for path in (*_PROGRAMS, *files.glob(*_LOADERS)):
        if files.is_file(path) and (architecture := read_architecture(files.read_at(path, 0, HEADER))):
            return architecture
    return None
