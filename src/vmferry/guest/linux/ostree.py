"""Systems that OSTree deploys: the root that they see is a folder deep below the root of their file system.

Source: OSTree's manual, "Deployments" and "Atomic upgrades".
"""

from __future__ import annotations

from collections.abc import Sequence

from vmferry.errors import GuestError
from vmferry.guest.filesystems import FileSystem, Node
from vmferry.guest.linux.bls import read_entries
from vmferry.guest.linux.files import Files
from vmferry.guest.tree import Tree


class _Below:
    """A folder of a file system, as a file system. See ``FileSystem``."""

    def __init__(self, system: FileSystem, folder: str) -> None:
        self._system = system
        self._folder = folder
        self.kind = system.kind

    def node(self, path: str) -> Node | None:
        return self._system.node(self._inside(path))

    def names(self, path: str) -> Sequence[str]:
        return self._system.names(self._inside(path))

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        return self._system.read_at(self._inside(path), offset, length)

    def _inside(self, path: str) -> str:
        return self._folder if path == "/" else self._folder + path


def find_deployment(tree: Tree) -> Tree:
    """The files of ``tree`` as the deployed system that starts sees them; ``tree`` itself where nothing is deployed."""
    try:
        if not tree.is_folder("/ostree/deploy") or tree.is_file("/etc/os-release"):
            return tree
        path = _find_folder(Files(tree))
    except GuestError:
        return tree
    root = tree.mounts["/"]
    if path is None or any(path.startswith(mount + "/") for mount in tree.mounts if mount != "/"):
        return tree
    mounts: dict[str, FileSystem] = {"/boot": _Below(root, "/boot"), "/sysroot": root}
    return Tree({**mounts, **tree.mounts, "/": _Below(root, path)})


def _find_folder(files: Files) -> str | None:
    """The deployment that the first boot entry names: ``ostree=/ostree/boot.1/…`` is a link to it. Else the last."""
    for entry in read_entries(files, "/boot/loader/entries"):
        for word in entry.options.split():
            if word.startswith("ostree=/") and (path := files.find(word.removeprefix("ostree="))):
                return path
    found = [path for path in files.glob("/ostree/deploy/*/deploy/*") if files.is_folder(path)]
    return found[-1] if found else None
