"""XFS, versions 4 and 5, by libfsxfs."""

from __future__ import annotations

import struct

import pyfsxfs

from vmferry.guest.filesystems._libyal import LibyalFileSystem
from vmferry.guest.window import Area, Window, check_range

_MAGIC = b"XFSB"
_BLOCK_SIZE, _GROUP_BLOCKS = 4, 84
_INCOMPATIBLE = 219
"""Where in a superblock the lowest byte of its incompatible features is (``sb_features_incompat``, big-endian)."""
_META_UUID = 4
"""The UUID was changed, and blocks of metadata keep the first one. Source: Linux, fs/xfs/libxfs/xfs_format.h."""


class XfsFileSystem(LibyalFileSystem):
    """See ``FileSystem``. Names that are not UTF-8 are left out: libfsxfs cannot tell them."""

    def __init__(self, area: Area, kind: str) -> None:
        super().__init__(kind, Window(_OwnUuid(area)), pyfsxfs.volume())


class _OwnUuid:
    """``area`` as if its UUID had never been changed: libfsxfs compares no UUIDs, and refuses what says that it was.

    Each allocation group begins with a copy of the superblock.
    """

    def __init__(self, area: Area) -> None:
        self._area = area
        self.size = area.size
        head = bytes(area.read_at(0, min(512, area.size))).ljust(512, b"\0")
        blocks, block_size = (struct.unpack_from(">I", head, at)[0] for at in (_GROUP_BLOCKS, _BLOCK_SIZE))
        is_other = head.startswith(_MAGIC) and head[_INCOMPATIBLE] & _META_UUID
        self._group = max(blocks * block_size, 512) if is_other else 0
        """Bytes of an allocation group; 0 where there is nothing to hide."""

    def read_at(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        data = self._area.read_at(offset, length)
        if not self._group:
            return bytes(data)
        out = bytearray(data)
        before = max(offset - _INCOMPATIBLE, 0)
        first = -(-before // self._group) * self._group + _INCOMPATIBLE
        for at in range(first, offset + length, self._group):
            if self._area.read_at(at - _INCOMPATIBLE, len(_MAGIC)) == _MAGIC:
                out[at - offset] &= ~_META_UUID
        return bytes(out)


FILE_SYSTEM = XfsFileSystem
