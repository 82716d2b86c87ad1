"""The kernel modules of a Linux system: which there are, what they need, and what a set of drivers comes to."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

from vmferry.errors import GuestError, quote
from vmferry.guest.tree import Tree
from vmferry.limits import MAX_GUEST_FILE

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
_MAX_INDEX = 4 * MAX_GUEST_FILE


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
    """The modules of every kernel of the system, the newest first; a folder without ``modules.dep`` is none."""
    folders = {}
    for above in FOLDERS:
        for name in tree.names(above):
            found = tree.find(posixpath.join(above, name))
            if found is not None and tree.is_file(posixpath.join(found, "modules.dep")):
                folders[name] = found
    versions = sorted(folders, key=_version_key, reverse=True)
    return [_read(tree, version, folders[version]) for version in versions]


def _read(tree: Tree, version: str, folder: str) -> Modules:
    needs = {}
    for line in (tree.read_text(posixpath.join(folder, "modules.dep"), _MAX_INDEX) or "").splitlines():
        path, colon, rest = line.partition(":")
        if colon and not path.startswith("/") and ".." not in path.split("/"):
            needs[path] = tuple(rest.split())
    built_in = (tree.read_text(posixpath.join(folder, "modules.builtin"), _MAX_INDEX) or "").splitlines()
    return Modules(version, folder, needs, frozenset(map(module_name, built_in)))


def _version_key(version: str) -> list[tuple[int, int | str]]:
    """By which versions sort: numbers as numbers."""
    return [(1, int(part)) if part.isdigit() else (0, part) for part in re.findall(r"\d+|\D+", version)]
