"""The files of a FAT file system: found without regard to case, read, and added."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vmferry.errors import GuestError, quote
from vmferry.guest.fat_writer.folders import ARCHIVE, FOLDER, Entry, find_room, make_entry, put_entry, read_entries
from vmferry.guest.fat_writer.layout import read_layout
from vmferry.guest.fat_writer.table import Table
from vmferry.guest.filesystems import Node, NodeKind
from vmferry.guest.overlay_volume import OverlayVolume
from vmferry.units import MIB, format_size

_MAX_FILE = 64 * MIB
_MAX_FOLDER = 2 * MIB
"""What a folder may have: 65,536 entries (Microsoft, FAT specification, section 6)."""


class FatFileSystem:
    """The file system in ``volume``, a ``FileSystem`` for one thread. What is added is held until ``commit``.

    Raises ``GuestError`` where there is none, or it is not sound.
    """

    def __init__(self, volume: OverlayVolume) -> None:
        self._volume = volume
        self._layout = read_layout(volume)
        self._table = Table(volume, self._layout)
        self._changed: dict[int, bytes] = {}
        self.kind = f"fat{self._layout.bits}"

    def node(self, path: str) -> Node | None:
        """As ``FileSystem.node``."""
        if not path.strip("/"):
            return Node(NodeKind.FOLDER)
        entry = self._find(path)
        if entry is None or entry.is_folder:
            return None if entry is None else Node(NodeKind.FOLDER)
        return Node(NodeKind.FILE, entry.size)

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        """As ``FileSystem.read_at``. Raises as ``read``, which it is a part of."""
        return self.read(path)[offset : offset + length]

    def names(self, path: str) -> list[str]:
        """The names in the folder at ``path``; none where there is no folder."""
        content = self._folder(path)
        return [] if content is None else [entry.name for entry in read_entries(content)]

    def size(self, path: str) -> int | None:
        """Bytes of the file at ``path``; ``None`` where there is none."""
        entry = self._find(path)
        return None if entry is None or entry.is_folder else entry.size

    def read(self, path: str) -> bytes:
        """The file at ``path``. Raises ``GuestError`` where there is none, or it is too large."""
        entry = self._find(path)
        if entry is None or entry.is_folder or entry.size > _MAX_FILE:
            raise GuestError(f"{quote(path)} on the EFI system partition is no file that is read here.")
        content = self._clusters(self._table.chain(entry.cluster), _MAX_FILE) if entry.size else b""
        if len(content) < entry.size:
            raise GuestError(f"{quote(path)} on the EFI system partition is cut short: run fsck.vfat on the guest.")
        return content[: entry.size]

    def check_room(self, sizes: Sequence[int]) -> None:
        """Raise ``GuestError`` unless files of ``sizes`` bytes fit, each in a folder that may have to grow."""
        cluster = self._layout.cluster_size
        self._table.check_room(sum(-(-size // cluster) + 2 for size in sizes))

    def make_folder(self, path: str, now: int) -> None:
        """Make an empty folder; it has a short name. Nothing happens where it is there already."""
        if self._folder(path) is not None:
            return
        self._check_absent(path)
        above, _, name = path.rpartition("/")
        stamp, parent = _stamp(now), self._first(above)
        (cluster,) = self._table.take(1)
        content = make_entry(".", FOLDER, cluster, 0, stamp) + make_entry("..", FOLDER, parent, 0, stamp)
        self._write([cluster], content)
        self._add(above, make_entry(name, FOLDER, cluster, 0, stamp))

    def create_file(self, path: str, content: bytes, now: int) -> None:
        """Make a file with ``content``; its name is short, its folder there, and ``check_room`` passed.

        Raises ``GuestError`` where there is something of that name.
        """
        self._check_absent(path)
        above, _, name = path.rpartition("/")
        clusters = self._table.take(-(-len(content) // self._layout.cluster_size))
        self._write(clusters, content)
        first = clusters[0] if clusters else 0
        self._add(above, make_entry(name, ARCHIVE, first, len(content), _stamp(now)))

    def _check_absent(self, path: str) -> None:
        if self._find(path) is not None:
            raise GuestError(f"{quote(path)} on the EFI system partition is something else than it should be.")

    def commit(self) -> None:
        """Write what was added, all of it."""
        for place, content in sorted(self._changed.items()):
            self._volume.write_at(place, content)
        self._changed.clear()
        self._table.flush()

    def _find(self, path: str) -> Entry | None:
        above, _, name = path.rpartition("/")
        content = self._folder(above)
        entries = () if content is None else read_entries(content)
        return next((entry for entry in entries if entry.name.casefold() == name.casefold()), None)

    def _folder(self, path: str) -> bytes | None:
        """What the folder at ``path`` holds; the root's is ``""`` or ``/``."""
        if path.strip("/") == "":
            if self._layout.root_size:
                return self._read(self._layout.root, self._layout.root_size)
            return self._clusters(self._table.chain(self._layout.root), _MAX_FOLDER)
        entry = self._find(path)
        if entry is None or not entry.is_folder:
            return None
        return self._clusters(self._table.chain(entry.cluster), _MAX_FOLDER)

    def _first(self, path: str) -> int:
        """The first cluster of the folder at ``path``, as the one below it names it: 0 for the root.

        Raises ``GuestError`` where there is none.
        """
        if not path.strip("/"):
            return 0
        entry = self._find(path)
        if entry is None or not entry.is_folder:
            raise GuestError(f"{quote(path)} on the EFI system partition is no folder.")
        return entry.cluster

    def _clusters(self, clusters: Sequence[int], most: int) -> bytes:
        size = self._layout.cluster_size
        if len(clusters) * size > most + size:
            raise GuestError(f"A file or folder of the FAT file system has more than {format_size(most)}.")
        return b"".join(self._read(self._layout.place(cluster), size) for cluster in clusters)

    def _read(self, place: int, size: int) -> bytes:
        """A cluster, or the whole root of FAT12 and FAT16: what is written at once."""
        changed = self._changed.get(place)
        return self._volume.read_at(place, size) if changed is None else changed

    def _write(self, clusters: Sequence[int], content: bytes) -> None:
        size = self._layout.cluster_size
        for number, cluster in enumerate(clusters):
            piece = content[number * size : (number + 1) * size]
            self._changed[self._layout.place(cluster)] = piece.ljust(size, b"\0")

    def _add(self, path: str, entry: bytes) -> None:
        """Add ``entry`` to the folder at ``path``, which grows where it is full."""
        content = self._folder(path) or b""
        at = find_room(content)
        if path.strip("/") == "" and self._layout.root_size:
            if at is None:
                raise GuestError("The root folder of the EFI system partition is full: make room on the guest.")
            self._changed[self._layout.root] = put_entry(content, at, entry)
            return
        clusters = self._table.chain(self._first(path) or self._layout.root)
        if at is None:
            at = len(content)
            clusters += self._table.take(1)
            self._table.link(clusters)
        content = content.ljust(len(clusters) * self._layout.cluster_size, b"\0")
        self._write(clusters, put_entry(content, at, entry))


def _stamp(now: int) -> tuple[int, int]:
    """Date and time as FAT has them, UTC."""
    at = time.gmtime(now)
    date = max(at.tm_year - 1980, 0) << 9 | at.tm_mon << 5 | at.tm_mday
    return date, at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2
