"""ext2, ext3 and ext4, by libfsext. Source of the layout of folders: Linux, Documentation/filesystems/ext4."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pyfsext

from vmferry.errors import GuestError
from vmferry.guest.filesystems._libyal import LibyalFileSystem
from vmferry.guest.window import Area, Window
from vmferry.limits import MAX_GUEST_FOLDER, MAX_GUEST_NAMES
from vmferry.units import KIB

_ENTRY = struct.Struct("<IHBB")
_SMALLEST = 12
_ROOT = 2
"""The inode of the root folder."""


class ExtFileSystem(LibyalFileSystem):
    """Folders are read here, out of the blocks that libfsext names: it knows no names but those in UTF-8, and opens
    every entry of a folder to find one."""

    def __init__(self, area: Area, kind: str) -> None:
        self._area = area
        super().__init__(kind, Window(area), pyfsext.volume())
        self._guard("/", self._check_root)

    def _check_root(self) -> None:
        """Raise ``GuestError`` where the root folder does not name itself first, as every folder does: what is read as
        empty then is damaged."""
        if not self._root.get_number_of_extents() and self._root.get_size():
            return  # kept in the inode itself, without itself
        offset, size, _ = self._root.get_extent(0) if self._root.get_number_of_extents() else (0, 0, 0)
        head = bytes(self._area.read_at(offset, min(size, _SMALLEST))).ljust(_SMALLEST, b"\0")
        inode, _, length, _ = _ENTRY.unpack_from(head)
        if (inode, head[_ENTRY.size : _ENTRY.size + length]) != (_ROOT, b"."):
            raise GuestError(f"The {self.kind} file system is damaged: its root folder does not begin as one does.")

    def _list(self, entry: Any) -> Mapping[str, Callable[[], Any]]:
        if not entry.get_number_of_extents():
            return super()._list(entry)  # kept in the inode itself
        found: dict[str, Callable[[], Any]] = {}
        for name, inode in self._names(entry):
            if len(found) >= MAX_GUEST_NAMES:
                break
            found.setdefault(name.decode("utf-8", "surrogateescape"), partial(self._by_inode, inode))
        return found

    def _names(self, entry: Any) -> Iterator[tuple[bytes, int]]:
        left = MAX_GUEST_FOLDER
        for index in range(min(entry.get_number_of_extents(), MAX_GUEST_NAMES)):
            offset, size, flags = entry.get_extent(index)
            size = min(size, left, self._area.size - offset)
            left -= max(size, 0)
            if flags == 0 and size > 0:
                yield from read_folder(bytes(self._area.read_at(offset, size)))

    def _by_inode(self, inode: int) -> Any:
        return self._volume.get_file_entry_by_inode(inode)


def read_folder(blocks: bytes) -> Iterator[tuple[bytes, int]]:
    """The names in blocks of a folder, each with its inode; ``.``, ``..`` and what an index hides left out.

    Entries never cross a block, and no block is smaller than 1 KiB: a damaged one is given up, the next is read on.
    """
    at = 0
    while at + _SMALLEST <= len(blocks):
        inode, length, count, _ = _ENTRY.unpack_from(blocks, at)
        if length < _SMALLEST or length % 4 or _ENTRY.size + count > length or at + length > len(blocks):
            at = (at // KIB + 1) * KIB
            continue
        name = blocks[at + _ENTRY.size : at + _ENTRY.size + count]
        if inode and name not in (b"", b".", b".."):
            yield name, inode
        at += length


FILE_SYSTEM = ExtFileSystem
