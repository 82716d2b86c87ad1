"""What a kernel's file tells of it: its format, architecture and version.

Sources: the Linux kernel's Documentation/arch/x86/boot.rst and Documentation/arch/arm64/booting.rst.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vmferry.errors import GuestError
from vmferry.guest.linux.compression import PackedInput, ReadAt, find_compression, unpack
from vmferry.guest.linux.elf import read_architecture
from vmferry.guest.linux.pe import read_pe

_HEAD = 0x268
_MAGIC, _MAGIC_AT = b"HdrS", 0x202
_WITH_FLAGS = 0x20C
"""Version of the boot protocol from which a flag says whether the kernel has 64 bits."""
_MAX_VERSION = 256
_ARM64_AT = 56
_PLAIN_SECTION = (0, 0)


@dataclass(frozen=True, slots=True)
class KernelImage:
    """A kernel."""

    format: str
    """``bzimage``, ``elf``, ``arm64``, ``pe`` (a packed kernel of its own), ``uki``."""
    architecture: str | None = None
    version: str | None = None
    """The first word of its own version text: ``6.1.0-28-amd64``."""
    initramfs: tuple[int, int] | None = None
    """Where a unified kernel image has it: offset and bytes."""
    command_line: str = ""
    """What a unified kernel image is started with."""


def read_kernel_image(read_at: ReadAt) -> KernelImage | None:
    """What stands in a kernel's headers; ``None`` for what is no kernel. Reads some KiB."""
    head = read_at(0, _HEAD)
    if head[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC and len(head) == _HEAD:
        return _read_bzimage(head, read_at)
    if head[_ARM64_AT : _ARM64_AT + 4] == b"ARM\x64":
        return KernelImage("arm64", "aarch64")
    if head[:2] == b"MZ":
        return _read_pe_kernel(read_at)
    if head[:4] == b"\x7fELF":
        return KernelImage("elf", read_architecture(head))
    return _read_packed(head, read_at)


def _read_bzimage(head: bytes, read_at: ReadAt) -> KernelImage:
    (protocol,) = struct.unpack_from("<H", head, 0x206)
    (place,) = struct.unpack_from("<H", head, 0x20E)
    (flags,) = struct.unpack_from("<H", head, 0x236)
    text = read_at(place + 0x200, _MAX_VERSION) if place else b""
    words = text.split(b"\0", 1)[0].decode("ascii", "replace").split()
    architecture = ("x86_64" if flags & 1 else "i386") if protocol >= _WITH_FLAGS else None
    return KernelImage("bzimage", architecture, words[0] if words else None)


def _read_pe_kernel(read_at: ReadAt) -> KernelImage | None:
    executable = read_pe(read_at)
    if executable is None:
        return None
    if ".linux" not in executable.sections:
        packed = read_at(4, 4) == b"zimg"
        return KernelImage("pe", executable.architecture) if packed else None
    start, _ = executable.sections[".linux"]
    inner = read_kernel_image(lambda offset, length: read_at(start + offset, length)) if start else None
    return KernelImage(
        "uki",
        executable.architecture,
        _text(read_at, executable.sections.get(".uname", _PLAIN_SECTION)) or (inner.version if inner else None),
        executable.sections.get(".initrd"),
        _text(read_at, executable.sections.get(".cmdline", _PLAIN_SECTION)),
    )


def _text(read_at: ReadAt, section: tuple[int, int]) -> str:
    return read_at(section[0], min(section[1], 4096)).split(b"\0", 1)[0].decode("utf-8", "replace").strip()


def _read_packed(head: bytes, read_at: ReadAt) -> KernelImage | None:
    """A kernel that is packed as a whole: those of paravirtual Xen, and of arm64."""
    compression = find_compression(head)
    if compression is None:
        return None
    try:
        inside = next(iter(unpack(compression, PackedInput(read_at))), b"")
    except GuestError:
        return None
    if inside[:4] == b"\x7fELF":
        return KernelImage("elf", read_architecture(inside))
    return KernelImage("arm64", "aarch64") if inside[_ARM64_AT : _ARM64_AT + 4] == b"ARM\x64" else None
