"""An ext2, ext3 or ext4 file system, read: its folders, links and files."""

from __future__ import annotations

from collections.abc import Sequence

from vmferry.errors import GuestError, quote
from vmferry.guest.ext_writer.blocks import Blocks
from vmferry.guest.ext_writer.folders import Folders
from vmferry.guest.ext_writer.groups import Groups
from vmferry.guest.ext_writer.inodes import INLINE, MAP, ROOT, Inode, Inodes
from vmferry.guest.ext_writer.maps import Maps
from vmferry.guest.ext_writer.superblock import EXTENTS, JOURNAL, Superblock
from vmferry.guest.filesystems import Node, NodeKind
from vmferry.guest.overlay_volume import OverlayVolume
from vmferry.limits import MAX_GUEST_PATH

_SHORT_LINK = 60
"""Bytes of the target of a link that lies in its inode, at the most, the zero behind it included."""


class ExtFileSystem:
    """A ``FileSystem`` in ``volume``. In Python throughout, so that it needs no child process.

    Raises ``GuestError`` where there is none, or it is not sound.
    """

    def __init__(self, volume: OverlayVolume) -> None:
        self.superblock = Superblock(volume)
        self.blocks = Blocks(volume, self.superblock)
        self.groups = Groups(self.blocks, self.superblock)
        self.inodes = Inodes(self.blocks, self.groups, self.superblock)
        self.maps = Maps(self.blocks, self.inodes, self.superblock)
        self.folders = Folders(self.blocks, self.inodes, self.maps, self.superblock)

    @property
    def kind(self) -> str:
        """``ext4``, ``ext3``, ``ext2``."""
        if self.superblock.has(EXTENTS):
            return "ext4"
        return "ext3" if self.superblock.compat & JOURNAL else "ext2"

    def find(self, path: str) -> Inode | None:
        """The inode at ``path``; no link is followed."""
        inode = self.inodes.read(ROOT)
        for name in path.strip("/").split("/") if path != "/" else ():
            if not inode.is_folder:
                return None
            inode.check_plain("A folder of the guest")
            number = self.folders.find(inode, name.encode("utf-8", "surrogateescape"))
            if number is None:
                return None
            inode = self.inodes.read(number)
        return inode

    def node(self, path: str) -> Node | None:
        """As ``FileSystem.node``."""
        inode = self.find(path)
        if inode is None:
            return None
        if inode.is_folder:
            return Node(NodeKind.FOLDER, changed=inode.changed)
        if inode.is_link:
            return Node(NodeKind.LINK, inode.size, self._target(inode), inode.changed)
        return Node(NodeKind.FILE if inode.is_file else NodeKind.OTHER, inode.size, changed=inode.changed)

    def names(self, path: str) -> Sequence[str]:
        """As ``FileSystem.names``."""
        inode = self.find(path)
        if inode is None or not inode.is_folder:
            return []
        inode.check_plain(f"{quote(path)} in the guest")
        found = (name for name, _ in self.folders.names(inode) if name not in (b".", b".."))
        return [name.decode("utf-8", "surrogateescape") for name in found]

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        """As ``FileSystem.read_at``."""
        inode = self.find(path)
        if inode is None or not inode.is_file:
            raise GuestError(f"{quote(path)} in the guest is no file.")
        inode.check_plain(f"{quote(path)} in the guest")
        return self.read_inode(inode, offset, length)

    def read_inode(self, inode: Inode, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of the content of ``inode`` from ``offset``; fewer only at its end."""
        end = min(offset + length, inode.size)
        if offset >= end:
            return b""
        size = self.superblock.block_size
        first, last = offset // size, -(-end // size)
        out = bytearray((last - first) * size)
        for run in self.maps.read(inode).runs:
            low, high = max(run.first, first), min(run.first + run.count, last)
            if low < high:
                found = self.blocks.read_many(run.block + low - run.first, high - low)
                out[(low - first) * size : (high - first) * size] = found
        return bytes(out[offset - first * size : end - first * size])

    def _target(self, inode: Inode) -> str:
        if inode.size > MAX_GUEST_PATH:
            raise GuestError(f"A link of the guest (inode {inode.number}) has {inode.size:,} bytes.")
        if inode.size < _SHORT_LINK and not inode.flags & INLINE:
            target = bytes(inode.raw[MAP])[: inode.size]
        else:
            inode.check_plain("A link of the guest")
            target = self.read_inode(inode, 0, inode.size)
        return target.decode("utf-8", "surrogateescape")
