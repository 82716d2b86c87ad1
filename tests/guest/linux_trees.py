"""File trees of Linux systems, after the documented layout of each distribution."""

from __future__ import annotations

import gzip
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


def gzipped(data: bytes) -> bytes:
    """By gzip, the same at any time."""
    return gzip.compress(data, 1, mtime=0)


def cpio(files: Mapping[str, bytes]) -> bytes:
    """A cpio archive in the format newc, as ``find | cpio -o -H newc`` writes it."""
    out = bytearray()
    for number, (name, content) in enumerate([*files.items(), ("TRAILER!!!", b"")]):
        raw = name.encode("utf-8", "surrogateescape") + b"\0"
        values = (number, 0o100644, 0, 0, 1, 0, len(content), 8, 1, 0, 0, len(raw), 0)
        out += b"070701" + b"".join(b"%08x" % value for value in values) + raw
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out) + bytes(-len(out) % 512)


def initramfs(version: str, *drivers: str, suffix: str = ".ko", prefix: str = "usr/lib/modules") -> bytes:
    """The archive of an initramfs with ``drivers`` for ``version``."""
    folder = f"{prefix}/{version}/kernel/drivers"
    return cpio({"init": b"#!/bin/sh\n", **{f"{folder}/{driver}{suffix}": b"\x7fELF" * 40 for driver in drivers}})


def early() -> bytes:
    """The segment with microcode that stands before an initramfs, with the zeros behind it."""
    return cpio({"kernel": b"", "kernel/x86/microcode/GenuineIntel.bin": bytes(range(256)) * 8}) + bytes(1024)


def bzimage(version: str, *, protocol: int = 0x20F, wide: bool = True) -> bytes:
    """The start of an x86 kernel that says it is ``version``."""
    head = bytearray(0x400)
    head[:2], head[0x1FE:0x200], head[0x202:0x206] = b"MZ", b"\x55\xaa", b"HdrS"
    struct.pack_into("<H", head, 0x206, protocol)
    struct.pack_into("<H", head, 0x20E, 0x300 - 0x200)
    struct.pack_into("<H", head, 0x236, int(wide))
    text = f"{version} (builder@host) #1 SMP".encode() + b"\0"
    head[0x300 : 0x300 + len(text)] = text
    return bytes(head) + bytes(512)


def unified(version: str, command_line: str, packed: bytes) -> bytes:
    """A unified kernel image: systemd's stub with the sections that it starts."""
    sections = {
        b".osrel": b"ID=test\n",
        b".cmdline": command_line.encode() + b"\0",
        b".uname": version.encode(),
        b".linux": bzimage(version),
        b".initrd": packed,
    }
    head = bytearray(b"MZ" + bytes(58) + struct.pack("<I", 64))
    head += b"PE\0\0" + struct.pack("<HH12xHH", 0x8664, len(sections), 0, 0)
    at, body = 1024, b""
    for name, content in sections.items():
        stored = len(content) + -len(content) % 512
        head += struct.pack("<8sIIII16x", name, len(content), 0x10000 + at, stored, at)
        body += content.ljust(stored, b"\0")
        at += stored
    return bytes(head).ljust(1024, b"\0") + body


def kernel(
    version: str,
    packed: bytes | None = None,
    *,
    name: str = "initrd.img-{}",
    boot: str = "/boot",
    built_in: tuple[str, ...] = (),
    modules: tuple[str, ...] = ("virtio_blk", "virtio_pci", "nvme"),
) -> dict[str, bytes | str | None]:
    """The files of one kernel: image, modules' lists and, where ``packed`` is given, its initramfs."""
    folder = f"/usr/lib/modules/{version}"
    files: dict[str, bytes | str | None] = {
        f"{boot}/vmlinuz-{version}": bzimage(version),
        f"{folder}/modules.dep": b"".join(b"kernel/drivers/%b.ko.xz: a.ko b.ko\n" % one.encode() for one in modules),
        f"{folder}/modules.builtin": b"".join(b"kernel/drivers/%b.ko\n" % one.encode() for one in built_in),
        "/lib": "usr/lib",
    }
    if packed is not None:
        files[f"{boot}/{name.format(version)}"] = packed
    return files
