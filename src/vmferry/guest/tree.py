"""The files of one guest system: its file systems where it mounts them, links followed inside it only."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from vmferry.errors import GuestError, quote
from vmferry.guest.filesystems import FileSystem, Node, NodeKind
from vmferry.limits import MAX_GUEST_FILE, MAX_GUEST_LINKS, MAX_GUEST_PATH
from vmferry.units import format_size


class Tree:
    """Read only, for one thread. Paths are absolute; ``..`` at the root stays there, and links lead nowhere outside.

    What is damaged raises ``GuestError``; what is not there is ``None`` or empty.
    """

    def __init__(self, mounts: Mapping[str, FileSystem]) -> None:
        """``mounts``: where → what; ``/`` is among them."""
        self.mounts = dict(mounts)

    def find(self, path: str) -> str | None:
        """The path that ``path`` leads to once every link is followed, or ``None`` where nothing is there."""
        found = self._resolve(path)
        return found if self._node(found) is not None else None

    def node(self, path: str) -> Node | None:
        """What is at ``path``, links followed; ``None`` where nothing is there. Never a link."""
        return self._node(self._resolve(path))

    def link(self, path: str) -> str | None:
        """Where the link at ``path`` leads, in its own words; ``None`` where there is no link. Folders are followed."""
        folder, name = posixpath.split(path)
        node = self._node(posixpath.join(self._resolve(folder), name))
        return node.target if node is not None and node.kind is NodeKind.LINK else None

    def is_file(self, path: str) -> bool:
        """Whether a regular file is at ``path``, links followed."""
        node = self.node(path)
        return node is not None and node.kind is NodeKind.FILE

    def is_folder(self, path: str) -> bool:
        """Whether a folder is at ``path``, links followed."""
        node = self.node(path)
        return node is not None and node.kind is NodeKind.FOLDER

    def size(self, path: str) -> int | None:
        """Bytes of the file at ``path``, links followed; ``None`` where there is none."""
        node = self.node(path)
        return node.size if node is not None and node.kind is NodeKind.FILE else None

    def names(self, path: str) -> list[str]:
        """The names in the folder at ``path``, sorted, links followed; none where there is no folder."""
        system, inside = self._place(self._resolve(path))
        return sorted(system.names(inside))

    def glob(self, pattern: str) -> Iterator[str]:
        """The paths that ``pattern`` matches, sorted; ``*`` and ``?`` stand for parts of one name: ``/etc/*.conf``."""
        found = ["/"]
        for part in pattern.strip("/").split("/"):
            if "*" in part or "?" in part or "[" in part:
                found = [
                    posixpath.join(folder, name)
                    for folder in found
                    for name in self.names(folder)
                    if fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))
                ]
            else:
                found = [posixpath.join(folder, part) for folder in found]
        return (path for path in found if self.node(path) is not None)

    def read(self, path: str, limit: int = MAX_GUEST_FILE) -> bytes | None:
        """The whole file at ``path``, links followed; ``None`` where there is none.

        Raises ``GuestError`` when it has more than ``limit`` bytes.
        """
        size = self.size(path)
        if size is None:
            return None
        if size > limit:
            raise GuestError(
                f"{quote(path)} in the guest has {format_size(size)}; at most {format_size(limit)} are looked at.",
                path=path,
            )
        return self.read_at(path, 0, size)

    def read_text(self, path: str, limit: int = MAX_GUEST_FILE) -> str | None:
        """As ``read``, as UTF-8; what is none becomes replacement characters. Control characters are left in."""
        data = self.read(path, limit)
        return None if data is None else data.decode("utf-8", "replace")

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of the file at ``path`` from ``offset``, links followed; fewer only at its end."""
        system, inside = self._place(self._resolve(path))
        return system.read_at(inside, offset, length)

    def _node(self, path: str) -> Node | None:
        system, inside = self._place(path)
        return system.node(inside)

    def _place(self, path: str) -> tuple[FileSystem, str]:
        """The file system that holds ``path``, and the path inside it."""
        mount = max(
            (mount for mount in self.mounts if mount == "/" or path == mount or path.startswith(mount + "/")), key=len
        )
        return self.mounts[mount], path if mount == "/" else path[len(mount) :] or "/"

    def _resolve(self, path: str) -> str:
        """``path`` without links, dots and double slashes, as far as it exists."""
        left = _parts(path)
        done = "/"
        links = 0
        while left:
            name = left.pop()
            if name == "..":
                done = posixpath.dirname(done)
                continue
            here = posixpath.join(done, name)
            node = self._node(here)
            if node is None or node.kind is not NodeKind.LINK:
                done = here
                continue
            links += 1
            if links > MAX_GUEST_LINKS or len(node.target) > MAX_GUEST_PATH:
                raise GuestError(
                    f"{quote(path)} in the guest leads through more than {MAX_GUEST_LINKS} links.", path=path
                )
            left += _parts(node.target)
            done = "/" if node.target.startswith("/") else done
        return done


def _parts(path: str) -> list[str]:
    """The names of ``path``, the last first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
