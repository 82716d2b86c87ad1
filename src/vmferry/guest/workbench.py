"""The files of a guest that are changed, each recorded as it is."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from vmferry.errors import quote
from vmferry.guest.file_writer import FileWriter
from vmferry.guest.preparation import Change, Preparation
from vmferry.guest.writable_linux import WritableLinux

KEPT = ".pre-vmferry"
"""What the name of an old file gets behind it."""
_READ_WHOLE = (".d", "/network-scripts", "/sysconfig/network", "/system-connections")
"""Ends of the names of folders all of whose files count, whatever they are called, but hidden ones."""


class Workbench:
    """The files of ``system``, to be changed; ``done`` records it. What raises ``GuestError`` was not done."""

    def __init__(self, system: WritableLinux, now: int) -> None:
        """``now``: seconds since 1970, for what is changed."""
        self.system = system
        self.tree = system.tree
        self.now = now
        self.done = Preparation(quote(system.title))
        self._writers: dict[str, FileWriter] = {}

    def replace(self, path: str, size: int, content: Iterable[bytes], why: str) -> None:
        """Let the file at ``path``, links followed, hold ``content`` of ``size`` bytes; the old one stays beside it."""
        path = self.tree.find(path) or path
        before = self.tree.size(path)
        writer, mount = self._writer(path)
        kept = self._free_name(path)
        writer.replace_file(path[len(mount) :], size, content, kept)
        self.done.changes.append(Change(quote(path), "replaced", before, size, why, quote(kept)))

    def add(self, path: str, content: bytes, why: str) -> None:
        """Make a file that is not there, with the folder that it is in."""
        above = self.tree.find(posixpath.dirname(path))
        if above is None:
            above = posixpath.dirname(path)
            writer, mount = self._writer(above)
            writer.make_folder(above[len(mount) :])
        path = posixpath.join(above, posixpath.basename(path))
        writer, mount = self._writer(path)
        like = None if mount else self.tree.find("/etc/fstab")  # its SELinux label is that of files in /etc
        writer.create_file(path[len(mount) :], len(content), [content], like=like)
        self.done.changes.append(Change(quote(path), "added", None, len(content), why))

    def commit(self) -> None:
        """Write what was done, all of it."""
        for writer in self._writers.values():
            writer.commit()

    def _free_name(self, path: str) -> str:
        """A name beside ``path`` for the old file."""
        folder, old = posixpath.split(path)
        if folder.endswith(_READ_WHOLE):  # what is there is read with all that is there, and may count more
            old = f".{old}"
        name, number = old + KEPT, 1
        there = set(self.tree.names(folder))
        while name in there:
            number += 1
            name = f"{old}{KEPT}-{number}"
        return name

    def _writer(self, path: str) -> tuple[FileWriter, str]:
        """What writes to the file system that holds ``path``, and where that is mounted, without its last slash."""
        mount = self.system.mount_of(path)
        if mount not in self._writers:
            self._writers[mount] = self.system.open_writer(self.system.mounts[mount], self.now)
        return self._writers[mount], mount.rstrip("/")
