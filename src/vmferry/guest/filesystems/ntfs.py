"""NTFS, by libfsntfs. Source of reparse points: Microsoft, MS-FSCC, section 2.1.2."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyfsntfs

from vmferry.guest.filesystems import Node, NodeKind
from vmferry.guest.filesystems._libyal import LibyalFileSystem
from vmferry.guest.window import Area, Window
from vmferry.limits import MAX_GUEST_PATH

_REPARSE_POINT = 0x400
_EPOCH = 11_644_473_600
"""1601-01-01 to 1970-01-01 in seconds."""
_TICK = 10_000_000
_PREFIX = re.compile(r"^(?:\\\?\?\\|\\\\\?\\)?(?:[A-Za-z]:)?")

_OWN = frozenset(
    (
        "$AttrDef",
        "$BadClus",
        "$Bitmap",
        "$Boot",
        "$Extend",
        "$LogFile",
        "$MFT",
        "$MFTMirr",
        "$Secure",
        "$UpCase",
        "$Volume",
    )
)
"""NTFS's own files in the root, which no guest shows."""


class NtfsFileSystem(LibyalFileSystem):
    """See ``FileSystem``. A symbolic link leaves its drive out, so one to another drive leads to the same path on this
    one; junctions, which libfsntfs does not tell from folders, are empty ones."""

    ignores_case = True

    def __init__(self, area: Area, kind: str) -> None:
        super().__init__(kind, Window(area), pyfsntfs.volume())

    def _list(self, entry: Any) -> Mapping[str, Callable[[], Any]]:
        found = super()._list(entry)
        return {name: child for name, child in found.items() if name not in _OWN} if entry is self._root else found

    def _child(self, path: str, folder: Any, name: str) -> Callable[[], Any] | None:
        """By the index, which a folder of many thousand names needs."""
        if "\\" in name:
            return None
        return partial(self._volume.get_file_entry_by_path, "\\".join([*path.rstrip("/").split("/"), name]))

    def _describe(self, entry: Any) -> Node:
        changed = max(entry.get_modification_time_as_integer() // _TICK - _EPOCH, 0)
        if (entry.file_attribute_flags or 0) & _REPARSE_POINT:
            target = entry.get_symbolic_link_target()
            if target and len(target) <= MAX_GUEST_PATH:
                return Node(NodeKind.LINK, len(target), _unix(target), changed)
        if entry.has_directory_entries_index():
            return Node(NodeKind.FOLDER, changed=changed)
        if entry.has_default_data_stream():
            return Node(NodeKind.FILE, entry.get_size(), changed=changed)
        return Node(NodeKind.OTHER, changed=changed)


def _unix(target: str) -> str:
    r"""``\??\C:\Users`` → ``/Users``."""
    return _PREFIX.sub("", target).replace("\\", "/")


FILE_SYSTEM = NtfsFileSystem
