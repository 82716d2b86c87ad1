"""Btrfs on one device, its metadata checked, read here: there is no library for it.

Source: btrfs-dev-docs, "On-disk format". Data over several devices, and encrypted, is refused by name.
"""

from __future__ import annotations

import stat
import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import google_crc32c

from vmferry.errors import quote
from vmferry.guest.filesystems import Node, NodeKind
from vmferry.guest.filesystems._btrfs_extents import read_extent, read_piece
from vmferry.guest.filesystems._btrfs_tree import LAST, BtrfsTrees, TreeRoot, damaged
from vmferry.guest.window import Area
from vmferry.limits import MAX_GUEST_NAMES, MAX_GUEST_PATH

_INODE, _DIR_ITEM, _DIR_INDEX, _EXTENT_DATA, _ROOT_ITEM = 1, 84, 96, 108, 132
_TOP_LEVEL = 5
_ROOT_SIZE = 239
_ENTRY = struct.Struct("<QBQQHHB")
_KEPT = 512


@dataclass(frozen=True, slots=True)
class _Place:
    """An inode of a subvolume."""

    tree: TreeRoot
    inode: int


@dataclass(frozen=True, slots=True)
class _Inode:
    node: Node
    size: int


class BtrfsFileSystem:
    """See ``FileSystem``. The root is that of the default subvolume; subvolumes are folders where they stand."""

    def __init__(self, area: Area, kind: str = "btrfs", *, trees: BtrfsTrees | None = None) -> None:
        """``trees``: those of a file system that is open, whose top level this becomes."""
        self.kind = kind
        self._trees = trees or BtrfsTrees(area)
        self._area = area
        self._root = self._subvolume(_TOP_LEVEL if trees else self._default())
        self._places: OrderedDict[str, _Place | None] = OrderedDict()

    @property
    def top_level(self) -> BtrfsFileSystem:
        """The file system as seen from the top, where mount options name subvolumes from."""
        return BtrfsFileSystem(self._area, self.kind, trees=self._trees)

    def node(self, path: str) -> Node | None:
        place = self._find(path)
        if place is None:
            return None
        inode = self._inode(place)
        if inode.node.kind is not NodeKind.LINK:
            return inode.node
        data = self._read(place, 0, inode.size) if inode.size <= MAX_GUEST_PATH else b""
        return Node(NodeKind.LINK, inode.size, data.decode("utf-8", "surrogateescape"), inode.node.changed)

    def names(self, path: str) -> Sequence[str]:
        place = self._find(path)
        if place is None or self._inode(place).node.kind is not NodeKind.FOLDER:
            return []
        found: dict[str, None] = {}
        first, last = (place.inode, _DIR_INDEX, 0), (place.inode, _DIR_INDEX, LAST)
        for _, item in self._trees.items(place.tree, first, last):
            for name, _, _ in _entries(item):
                found[name.decode("utf-8", "surrogateescape")] = None
            if len(found) >= MAX_GUEST_NAMES:
                break
        return [name for name in found if "/" not in name and "\0" not in name and name not in ("", ".", "..")]

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        place = self._find(path)
        if place is None:
            return b""
        inode = self._inode(place)
        if inode.node.kind is not NodeKind.FILE:
            return b""
        return self._read(place, offset, max(min(length, inode.size - offset), 0))

    def _read(self, place: _Place, offset: int, length: int) -> bytes:
        """``length`` bytes of a file, which are inside it; what no extent covers is zeros."""
        out = bytearray(length)
        if not length:
            return b""
        first = (place.inode, _EXTENT_DATA, max(self._extent_at(place, offset), 0))
        last = (place.inode, _EXTENT_DATA, offset + length - 1)
        for key, item in self._trees.items(place.tree, first, last):
            extent = read_extent(key[2], item)
            low, high = max(extent.start, offset), min(extent.start + extent.length, offset + length)
            if low < high:
                piece = read_piece(self._trees, extent, low - extent.start, high - low)
                out[low - offset : low - offset + len(piece)] = piece
        return bytes(out)

    def _extent_at(self, place: _Place, offset: int) -> int:
        """Where the extent begins that covers ``offset``, or one before it."""
        found = self._trees.last_before(place.tree, (place.inode, _EXTENT_DATA, offset))
        return found[2] if found is not None and found[:2] == (place.inode, _EXTENT_DATA) else offset

    def _find(self, path: str) -> _Place | None:
        if path == "/":
            return self._root
        if path not in self._places:
            folder, _, name = path.rpartition("/")
            parent = self._find(folder or "/")
            found = None
            if parent is not None and self._inode(parent).node.kind is NodeKind.FOLDER:
                found = self._child(parent, name.encode("utf-8", "surrogateescape"))
            self._places[path] = found
            if len(self._places) > _KEPT:
                self._places.popitem(last=False)
        return self._places[path]

    def _child(self, folder: _Place, name: bytes) -> _Place | None:
        key = (folder.inode, _DIR_ITEM, _name_hash(name))
        for _, item in self._trees.items(folder.tree, key, key):
            for found, kind, target in _entries(item):
                if found == name:
                    return self._subvolume(target) if kind == _ROOT_ITEM else _Place(folder.tree, target)
        return None

    def _inode(self, place: _Place) -> _Inode:
        key = (place.inode, _INODE, 0)
        item = next((item for _, item in self._trees.items(place.tree, key, key)), b"")
        if len(item) < 160:
            raise damaged(f"it has no inode {place.inode:,}")
        size = struct.unpack_from("<Q", item, 16)[0]
        mode = struct.unpack_from("<I", item, 52)[0]
        changed = max(struct.unpack_from("<q", item, 136)[0], 0)
        if stat.S_ISREG(mode):
            return _Inode(Node(NodeKind.FILE, size, changed=changed), size)
        kinds = {stat.S_IFDIR: NodeKind.FOLDER, stat.S_IFLNK: NodeKind.LINK}
        return _Inode(Node(kinds.get(stat.S_IFMT(mode), NodeKind.OTHER), changed=changed), size)

    def _default(self) -> int:
        """The number of the subvolume that is mounted where nothing is said."""
        key = (self._trees.root_folder, _DIR_ITEM, _name_hash(b"default"))
        for _, item in self._trees.items(self._trees.root, key, key):
            for name, _, target in _entries(item):
                if name == b"default":
                    return target
        return _TOP_LEVEL

    def _subvolume(self, number: int) -> _Place:
        first, last = (number, _ROOT_ITEM, 0), (number, _ROOT_ITEM, LAST)
        item = next((item for _, item in self._trees.items(self._trees.root, first, last)), b"")
        if len(item) < _ROOT_SIZE:
            raise damaged(f"it has no subvolume {quote(number)}")
        folder, address = struct.unpack_from("<QQ", item, 168)
        return _Place(TreeRoot(address, item[238]), folder)


def _entries(item: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The names in an item of a folder, each with the type of what it leads to, and its number."""
    at = 0
    while at + _ENTRY.size <= len(item):
        target, kind, _, _, extra, length, _ = _ENTRY.unpack_from(item, at)
        at += _ENTRY.size
        name = item[at : at + length]
        if len(name) < length:
            raise damaged("a name is cut short")
        yield name, kind, target
        at += length + extra


def _name_hash(name: bytes) -> int:
    """CRC-32C that begins with all ones but the last, and ends as it is."""
    return int(google_crc32c.extend(1, name)) ^ 0xFFFFFFFF


FILE_SYSTEM = BtrfsFileSystem
