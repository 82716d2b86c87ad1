"""FAT12, FAT16, FAT32 and exFAT, by libfsfat."""

from __future__ import annotations

from typing import Any

import pyfsfat

from vmferry.guest.filesystems import Node, NodeKind
from vmferry.guest.filesystems._libyal import LibyalFileSystem
from vmferry.guest.window import Area, Window

_FOLDER = 0x10


class FatFileSystem(LibyalFileSystem):
    """See ``FileSystem``. Times are not told: libfsfat is wrong by a month."""

    ignores_case = True

    def __init__(self, area: Area, kind: str) -> None:
        super().__init__(kind, Window(area), pyfsfat.volume())

    def _describe(self, entry: Any) -> Node:
        flags = entry.file_attribute_flags
        if flags is None or flags & _FOLDER:  # the root has no entry, and so no flags
            return Node(NodeKind.FOLDER)
        return Node(NodeKind.FILE, entry.get_size())


FILE_SYSTEM = FatFileSystem
