"""XFS, versions 4 and 5, by libfsxfs."""

from __future__ import annotations

import pyfsxfs

from vmferry.guest.filesystems._libyal import LibyalFileSystem
from vmferry.guest.window import Area, Window


class XfsFileSystem(LibyalFileSystem):
    """See ``FileSystem``. Names that are not UTF-8 are left out: libfsxfs cannot tell them."""

    def __init__(self, area: Area, kind: str) -> None:
        super().__init__(kind, Window(area), pyfsxfs.volume())


FILE_SYSTEM = XfsFileSystem
