"""File trees of Linux systems, after the documented layout of each distribution."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from vmferry.guest.facts import VolumeFacts
from vmferry.guest.filesystems.memory import MemoryFileSystem
from vmferry.guest.linux.facts import LinuxFacts
from vmferry.guest.linux.system import find_linux
from vmferry.guest.tree import Tree

Contents = Mapping[str, bytes | str | None]

ROOT = VolumeFacts("disk 1, partition 2", 1, 2, kind="ext4", uuid="0a1b2c3d-1111-2222-3333-444455556666", label="root")
BOOT = VolumeFacts("disk 1, partition 1", 1, 1, kind="ext4", uuid="b0070000-1111-2222-3333-444455556666")
ESP = VolumeFacts("disk 1, partition 3", 1, 3, kind="fat32", uuid="1A2B-3C4D", partition_uuid="e5b0-01")
LOGICAL = VolumeFacts("my-vg/root", 1, kind="xfs", uuid="10000000-1111-2222-3333-444455556666")
SECOND = VolumeFacts("disk 2, partition 1", 2, 1, kind="xfs", label="my data")
VOLUMES = (BOOT, ROOT, ESP, LOGICAL, SECOND)


UNITS: Contents = {"/usr/lib/systemd/systemd": b"", "/etc/machine-id": b"0123456789abcdef0123456789abcdef\n"}
"""A system with systemd that was started before."""


def elf(machine: int, width: int = 2) -> bytes:
    """The header of a program for ``machine``, in 64 bits or with ``width`` 1 in 32."""
    return b"\x7fELF" + bytes([width, 1, 1]) + bytes(9) + struct.pack("<HH", 2, machine) + bytes(44)


X86_64, I386, AARCH64 = elf(62), elf(3, 1), elf(183)


def look(files: Contents, **mounts: Contents) -> LinuxFacts | None:
    """What is found in a root of ``files``, with other file systems at ``boot=`` and ``efi=`` (``/boot/efi``)."""
    places = {"boot": "/boot", "efi": "/boot/efi", "esp": "/efi", "usr": "/usr"}
    systems = {"/": MemoryFileSystem(files)}
    for name, contents in mounts.items():
        fat = name in ("efi", "esp")
        systems[places[name]] = MemoryFileSystem(contents, kind="fat32" if fat else "ext4", ignores_case=fat)
    return find_linux(Tree(systems), VOLUMES)


def see(files: Contents, **mounts: Contents) -> LinuxFacts:
    """``look``, where a Linux system is."""
    facts = look({"/bin/sh": X86_64, "/etc/os-release": b'ID=debian\nVERSION_ID="12"\n', **files}, **mounts)
    assert facts is not None
    return facts
