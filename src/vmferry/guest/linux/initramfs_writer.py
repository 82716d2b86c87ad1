"""An archive of drivers to append to an initramfs: the kernel unpacks all archives in it, and later files win.

Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst; cpio(5), "New ASCII Format".
"""

from __future__ import annotations

import gzip
import posixpath
from collections.abc import Iterable, Sequence

from vmferry.errors import GuestError
from vmferry.guest.linux.driver_modules import INDEXES, Modules
from vmferry.guest.tree import Tree
from vmferry.limits import MAX_GUEST_FILE
from vmferry.units import MIB, format_size

ALIGNMENT = 4
"""Bytes that an archive in an initramfs starts at a multiple of; zeros fill what is before it."""
_FOLDER, _FILE = 0o040755, 0o100644
_TRAILER = "TRAILER!!!"
_MAX_FILE = 8 * MAX_GUEST_FILE
"""Bytes of a module, at the most."""
_MAX_ARCHIVE = 256 * MIB
"""Bytes of all of them, unpacked."""


def make_archive(tree: Tree, modules: Modules, paths: Sequence[str], prefix: str) -> bytes:
    """A packed archive of the modules at ``paths`` in their folder, with the indexes of all modules of the kernel.

    ``prefix``: where the initramfs has its modules, ``lib/modules`` or ``usr/lib/modules``: that folder, and those
    above it, are not in the archive, which would replace a link. The same tree gives the same bytes. Raises
    ``GuestError`` as ``tree``, and where it would be larger than all the drivers of a kernel.
    """
    root = posixpath.join(prefix, modules.version)
    names = [*paths, *(name for name in INDEXES if tree.is_file(posixpath.join(modules.folder, name)))]
    folders = sorted({root} | {posixpath.join(root, above) for name in names for above in _above(name)})
    out = bytearray()
    for number, folder in enumerate(folders, 1):
        _add(out, folder, _FOLDER, b"", number)
    for number, name in enumerate(names, len(folders) + 1):
        content = tree.read(posixpath.join(modules.folder, name), _MAX_FILE)
        _add(out, posixpath.join(root, name), _FILE, content or b"", number)
        if len(out) > _MAX_ARCHIVE:
            raise GuestError(f"The drivers, and all they need, come to more than {format_size(_MAX_ARCHIVE)}.")
    _add(out, _TRAILER, 0, b"", 0)
    return gzip.compress(bytes(out), 6, mtime=0)


def find_prefix(names: Iterable[str], version: str) -> str:
    """Where an initramfs that holds ``names`` has, or would look for, the modules of a kernel."""
    listed = set(names)
    for prefix in ("usr/lib/modules", "lib/modules"):
        if any(name.startswith(f"{prefix}/{version}/") for name in listed):
            return prefix
    return "lib/modules" if any(name.startswith("lib/") for name in listed) else "usr/lib/modules"


def _above(path: str) -> list[str]:
    """The folders that ``path`` lies in."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _add(out: bytearray, name: str, mode: int, content: bytes, number: int) -> None:
    path = name.encode("utf-8", "surrogateescape") + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    out += b"070701" + b"".join(b"%08X" % field for field in fields) + path
    out += bytes(-len(out) % ALIGNMENT)
    out += content
    out += bytes(-len(out) % ALIGNMENT)
