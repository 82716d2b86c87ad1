"""The kernel modules of a Linux system: which there are, what they need, and what a set of drivers comes to."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

from vmferry.errors import GuestError, quote
from vmferry.guest.linux.menu import version_key
from vmferry.guest.tree import Tree
from vmferry.limits import MAX_GUEST_KERNELS, MAX_GUEST_LINES

DRIVERS = {
    "virtio": ("virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", "sd_mod"),
    "nvme": ("nvme",),
    "ahci": ("ahci", "sd_mod"),
}
"""What can be asked for → the modules that it means."""
FOLDERS = ("/lib/modules", "/usr/lib/modules")
INDEXES = tuple(
    f"modules.{name}"
    for name in (
        "dep", "dep.bin", "alias", "alias.bin", "symbols", "symbols.bin", "softdep", "devname", "order",
        "builtin", "builtin.bin", "builtin.alias.bin", "builtin.modinfo",
    )
)  # fmt: skip
"""The files beside the modules by which modprobe and udev find them."""

_SUFFIX = re.compile(r"\.ko(\.(gz|xz|zst))?$")


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules of one kernel."""

    version: str
    """The name of their folder."""
    folder: str
    """Its path."""
    needs: dict[str, tuple[str, ...]]
    """Path inside the folder → paths of what it needs, as ``modules.dep`` has them."""
    built_in: frozenset[str]
    """Names of what is in the kernel itself."""

    def has(self, names: Iterable[str]) -> bool:
        """Whether every driver of ``names`` is built in or there as a module."""
        return set(names) <= self.built_in | {module_name(path) for path in self.needs}

    def find(self, names: Iterable[str]) -> list[str]:
        """Paths inside the folder of the modules called ``names`` and of all they need, sorted.

        Those that are built in take none. Raises ``GuestError`` for one that the kernel does not have.
        """
        paths = {module_name(path): path for path in self.needs}
        found: set[str] = set()
        for name in names:
            if name in self.built_in:
                continue
            if name not in paths:
                raise GuestError(
                    f"Linux {quote(self.version)} has no driver {name} in {quote(self.folder)}: install the package "
                    "that brings it on the guest, or let the guest start on SATA.",
                    driver=name,
                )
            found |= self._closure(paths[name])
        return sorted(found)

    def _closure(self, path: str) -> set[str]:
        found, left = set(), [path]
        while left:
            here = left.pop()
            if here not in found:
                found.add(here)
                left += self.needs.get(here, ())
        return found


def module_name(path: str) -> str:
    """``kernel/drivers/nvme/host/nvme-core.ko.xz`` → ``nvme_core``, as the kernel calls it."""
    return _SUFFIX.sub("", posixpath.basename(path)).replace("-", "_")


def read_modules(tree: Tree) -> list[Modules]:
    """The modules of the system's kernels, ``MAX_GUEST_KERNELS`` at the most, the newest first; a folder without
    ``modules.dep`` is none.

    Raises ``GuestError`` as ``tree``, and for lists that are longer than those of any kernel.
    """
    folders = {}
    for above in FOLDERS:
        for name in tree.names(above):
            found = tree.find(posixpath.join(above, name))
            if found is not None and tree.is_file(posixpath.join(found, "modules.dep")):
                folders[name] = found
    versions = sorted(folders, key=version_key, reverse=True)[:MAX_GUEST_KERNELS]
    return [_read(tree, version, folders[version]) for version in versions]


def _read(tree: Tree, version: str, folder: str) -> Modules:
    needs = {}
    for line in _lines(tree, posixpath.join(folder, "modules.dep")):
        path, colon, rest = line.partition(":")
        if colon and not path.startswith("/") and ".." not in path.split("/"):
            needs[path] = tuple(rest.split())
    built_in = frozenset(map(module_name, _lines(tree, posixpath.join(folder, "modules.builtin"))))
    return Modules(version, folder, needs, built_in)


def _lines(tree: Tree, path: str) -> list[str]:
    """The lines of the list at ``path``; none where there is no file."""
    lines = (tree.read_text(path) or "").splitlines()
    if len(lines) > MAX_GUEST_LINES:
        raise GuestError(f"{quote(path)} in the guest has more than {MAX_GUEST_LINES:,} lines.")
    return lines
