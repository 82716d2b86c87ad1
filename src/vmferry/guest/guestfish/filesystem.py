"""A file system that a session has mounted, read."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from vmferry.errors import GuestError, quote
from vmferry.guest.filesystems import Node, NodeKind
from vmferry.guest.guestfish.session import Session
from vmferry.limits import MAX_GUEST_NAMES, MAX_GUEST_PATH
from vmferry.units import MIB

_PIECE = 2 * MIB
"""Bytes of a file that are fetched at once, and kept until others are wanted; libguestfs sends no 4 MiB."""
_MOST_KEPT = 20_000
"""Paths of which it is remembered what is there."""
_KINDS = {stat.S_IFREG: NodeKind.FILE, stat.S_IFDIR: NodeKind.FOLDER, stat.S_IFLNK: NodeKind.LINK}


class MountedFileSystem:
    """A ``FileSystem`` of ``kind`` that is mounted at ``mount`` in the machine of ``session``, for one thread.

    Folders of a path must be no links: the machine's kernel would follow them. Raises as ``session``.
    """

    def __init__(self, session: Session, mount: str, kind: str, top_level: MountedFileSystem | None = None) -> None:
        """``top_level``: of Btrfs, where the same is mounted from its top."""
        self.session = session
        self.kind = kind
        self._mount = mount
        self._top_level = top_level
        self._nodes: dict[str, Node | None] = {}
        self._piece: tuple[str, int, bytes] = ("", 0, b"")

    @property
    def top_level(self) -> MountedFileSystem:
        """As ``SupportsSubvolumes``; itself where there are none."""
        return self._top_level or self

    def beneath(self, folder: str) -> MountedFileSystem:
        """The same as it is seen from its ``folder``."""
        return MountedFileSystem(self.session, self.place(folder), self.kind, self.top_level)

    def place(self, path: str) -> str:
        """Where ``path`` is in the machine. Raises ``GuestError`` where it is too long for any."""
        if len(path) > MAX_GUEST_PATH:
            raise GuestError(f"{quote(path)} in the guest is longer than a path can be.")
        return self._mount if path == "/" else self._mount + path

    def node(self, path: str) -> Node | None:
        """As ``FileSystem.node``."""
        if path not in self._nodes:
            if len(self._nodes) >= _MOST_KEPT:
                self._nodes.clear()
            self._nodes[path] = self._look(path)
        return self._nodes[path]

    def _look(self, path: str) -> Node | None:
        facts = self.facts(path)
        if facts is None:
            return None
        kind = _KINDS.get(stat.S_IFMT(facts["st_mode"]), NodeKind.OTHER)
        size = facts["st_size"] if kind in (NodeKind.FILE, NodeKind.LINK) else 0
        target = ""
        if kind is NodeKind.LINK and size <= MAX_GUEST_PATH:
            target = (
                self.session.call("readlink", self.place(path)).removesuffix(b"\n").decode(errors="surrogateescape")
            )
        return Node(kind, size, target, max(facts["st_mtime_sec"], 0))

    def facts(self, path: str) -> dict[str, int] | None:
        """What lstat(2) says of ``path``, by the names of its fields; ``None`` where nothing is there."""
        printed = self.session.find("lstatns", self.place(path))
        return None if printed is None else read_numbers(printed)

    def names(self, path: str) -> Sequence[str]:
        """As ``FileSystem.names``."""
        node = self.node(path)
        if node is None or node.kind is not NodeKind.FOLDER:
            return []
        listed = self.session.work / "names"
        self.session.call("ls0", self.place(path), listed)
        with listed.open("rb") as file:
            found = file.read(MAX_GUEST_NAMES * 256).split(b"\0")[:-1]
        listed.unlink()
        return [name.decode(errors="surrogateescape") for name in found[:MAX_GUEST_NAMES]]

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        """As ``FileSystem.read_at``."""
        node = self.node(path)
        if node is None or node.kind is not NodeKind.FILE:
            return b""
        end = min(offset + length, node.size)
        parts = []
        while offset < end:
            start = offset - offset % _PIECE
            piece = self._fetch(path, start, min(_PIECE, node.size - start))
            part = piece[offset - start : end - start]
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _fetch(self, path: str, start: int, length: int) -> bytes:
        """The ``length`` bytes of the file at ``path`` from ``start`` on, which are there."""
        if self._piece[:2] != (path, start):
            data = self.session.call("pread", self.place(path), length, start)
            if len(data) != length:
                raise GuestError(f"{quote(path)} in the guest ends before its end.")
            self._piece = (path, start, data)
        return self._piece[2]

    def forget(self) -> None:
        """Look anew: something was changed."""
        self._nodes.clear()
        self._piece = ("", 0, b"")


def read_numbers(printed: bytes) -> dict[str, int]:
    """A structure as guestfish prints it, ``name: number`` in each line."""
    try:
        lines = (line.split(": ") for line in printed.decode("ascii").splitlines())
        return {name: int(number) for name, number in lines}
    except ValueError as error:
        raise GuestError(f"guestfish printed what is no structure: {quote(printed[:80])}.") from error
