"""The files of one file system, as a guest wrote them. NOUN FileSystem; ``FILE_SYSTEMS`` says which kinds are read.

Nothing here trusts what it reads, and yet the parsers beneath are C: all but ``memory`` run in a child process only,
without privileges, network or files (see ``look``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from vmferry.errors import GuestError, quote
from vmferry.guest.window import Area
from vmferry.registry import Registry


class NodeKind(Enum):
    """What a name in a folder stands for."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"
    """A device, a socket, a pipe: named, never opened."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a file system says of one path."""

    kind: NodeKind
    size: int = 0
    """Bytes of a file."""
    target: str = ""
    """Where a link leads, in its own words: the guest's, not to be trusted."""
    changed: int = 0
    """Seconds since 1970 of the last change of its content; 0 where it is not known."""


class FileSystem(Protocol):
    """One file system, read only. For one thread.

    A path is absolute, of plain names between single slashes, ``/`` the root: ``/etc/os-release``. Names that are not
    UTF-8 come and go with surrogate escapes. No component of a path is followed where it is a link: ``Tree`` does that.
    Everything may raise ``GuestError`` where the file system is damaged there.
    """

    @property
    def kind(self) -> str:
        """``ext4``, ``xfs``, ``ntfs``, ``fat32``, ``btrfs``."""

    def node(self, path: str) -> Node | None:
        """What is at ``path``, or ``None``. On a system that ignores case (``ntfs``, ``fat``), case is ignored."""

    def names(self, path: str) -> Sequence[str]:
        """The names in the folder at ``path``, at most ``MAX_GUEST_NAMES``, in no order;
        none where it is no folder."""

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of the file at ``path`` from ``offset``; fewer only at its end."""


@runtime_checkable
class SupportsSubvolumes(Protocol):
    """A file system that is opened at one of its subvolumes."""

    @property
    def top_level(self) -> FileSystem:
        """The same, seen from the top, where mount options name subvolumes from."""


@runtime_checkable
class SupportsBeneath(Protocol):
    """A file system that has a view of its own of what is in one of its folders."""

    def beneath(self, folder: str) -> FileSystem:
        """The same as it is seen from its ``folder``."""


FileSystemOpener = Callable[[Area, str], FileSystem]
"""What a module of this room exports as ``FILE_SYSTEM``: the file system of a kind in an area, which is read as it is
needed. Raises ``GuestError`` as all else."""

FILE_SYSTEMS: Registry[FileSystemOpener] = Registry(__name__, "FILE_SYSTEM", ["ext", "xfs", "fat", "ntfs", "btrfs"])
READERS = {
    "ext2": "ext",
    "ext3": "ext",
    "ext4": "ext",
    "xfs": "xfs",
    "fat12": "fat",
    "fat16": "fat",
    "fat32": "fat",
    "exfat": "fat",
    "ntfs": "ntfs",
    "btrfs": "btrfs",
}
"""Which of them reads which kind."""
_INSTALL = "pip install 'vmferry[guest]'"


def open_file_system(area: Area, kind: str) -> FileSystem | None:
    """The file system of ``kind`` in ``area``, or ``None`` where that kind is not read.

    Raises ``GuestError`` when it is damaged, or what reads it is not installed.
    """
    if kind not in READERS:
        return None
    try:
        opener = FILE_SYSTEMS[READERS[kind]]
    except ImportError as error:
        raise GuestError(f"{kind} is read by {quote(error.name)}, which is not installed: {_INSTALL}") from error
    return opener(area, kind)
