"""What the libyal readers have in common: entries found by path, names, bytes; their errors become ``GuestError``.

They raise ``OSError`` with a trace of calls as its text, which says nothing to a user: it is left in the chain.
"""

from __future__ import annotations

import stat
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from vmferry.errors import FormatError, GuestError, quote
from vmferry.guest.filesystems import Node, NodeKind
from vmferry.guest.window import Window
from vmferry.limits import MAX_GUEST_NAMES, MAX_GUEST_PATH

T = TypeVar("T")

_FAULTS = (OSError, MemoryError, RuntimeError, ValueError, OverflowError, UnicodeError)
_KEPT = 256
"""Folders and entries that are kept: paths are looked up again and again."""


class LibyalFileSystem:
    """A file system whose entries a libyal package reads. See ``FileSystem``.

    Subclasses say how the names of a folder are found (``_list``), and what an entry is (``_describe``).
    """

    ignores_case = False

    def __init__(self, kind: str, window: Window, volume: Any) -> None:
        """``volume``: libyal's, not yet opened. Raises ``GuestError`` where it cannot be."""
        self.kind = kind
        self._window = window
        self._volume = volume
        self._entries: OrderedDict[str, Any] = OrderedDict()
        self._folders: OrderedDict[str, Mapping[str, Callable[[], Any]]] = OrderedDict()
        self._root = self._guard("/", self._open)

    def _open(self) -> Any:
        self._volume.open_file_object(self._window)
        return self._volume.get_root_directory()

    def node(self, path: str) -> Node | None:
        entry = self._entry(path)
        return None if entry is None else self._guard(path, lambda: self._describe(entry))

    def names(self, path: str) -> Sequence[str]:
        entry = self._entry(path)
        if entry is None or self._guard(path, lambda: self._describe(entry)).kind is not NodeKind.FOLDER:
            return []
        return list(self._children(path, entry))

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        entry = self._entry(path)
        if entry is None:
            return b""
        node = self._guard(path, lambda: self._describe(entry))
        if node.kind is not NodeKind.FILE:
            return b""
        count = min(length, node.size - offset)
        return self._guard(path, lambda: self._read(entry, offset, count)) if count > 0 else b""

    def _list(self, entry: Any) -> Mapping[str, Callable[[], Any]]:
        """The names in the folder that ``entry`` is, each with what opens its entry; not more than
        ``MAX_GUEST_NAMES``."""
        found = {}
        for index in range(min(entry.get_number_of_sub_file_entries(), MAX_GUEST_NAMES)):
            child = entry.get_sub_file_entry(index)
            with suppress(OSError):  # a name that is no Unicode: libyal has no way to tell it
                found[str(child.get_name())] = lambda index=index: entry.get_sub_file_entry(index)
        return found

    def _describe(self, entry: Any) -> Node:
        """What ``entry`` is, by its Unix mode."""
        mode = entry.get_file_mode()
        changed = max(entry.get_modification_time_as_integer(), 0) // 10**9
        if stat.S_ISREG(mode):
            return Node(NodeKind.FILE, entry.get_size(), changed=changed)
        if stat.S_ISDIR(mode):
            return Node(NodeKind.FOLDER, changed=changed)
        if stat.S_ISLNK(mode):
            size = entry.get_size()
            target = self._target(entry) if size <= MAX_GUEST_PATH else ""
            return Node(NodeKind.LINK, size, target, changed)
        return Node(NodeKind.OTHER, changed=changed)

    def _target(self, entry: Any) -> str:
        return str(entry.get_symbolic_link_target() or "")

    def _read(self, entry: Any, offset: int, count: int) -> bytes:
        parts = []
        while count > 0:
            part = entry.read_buffer_at_offset(min(count, 1 << 20), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return b"".join(parts)

    def _entry(self, path: str) -> Any | None:
        """The entry at ``path``, found name by name from the nearest folder that is known."""
        if path == "/":
            return self._root
        if path in self._entries:
            self._entries.move_to_end(path)
            return self._entries[path]
        folder, _, name = path.rpartition("/")
        parent = self._entry(folder or "/")
        if parent is None or self._guard(path, lambda: self._describe(parent)).kind is not NodeKind.FOLDER:
            return None
        open_child = self._child(folder or "/", parent, name)
        entry = None if open_child is None else self._guard(path, open_child)
        if entry is not None:
            self._keep(self._entries, path, entry)
        return entry

    def _child(self, path: str, folder: Any, name: str) -> Callable[[], Any] | None:
        """What opens the entry ``name`` of ``folder``, which is at ``path``; case is ignored where that is so."""
        children = self._children(path, folder)
        if name in children or not self.ignores_case:
            return children.get(name)
        folded = name.casefold()
        return next((child for other, child in children.items() if other.casefold() == folded), None)

    def _children(self, path: str, entry: Any) -> Mapping[str, Callable[[], Any]]:
        if path not in self._folders:
            found = self._guard(path, lambda: self._list(entry))
            self._keep(self._folders, path, {name: child for name, child in found.items() if is_plain(name)})
        return self._folders[path]

    def _keep(self, cache: OrderedDict[str, T], path: str, value: T) -> None:
        cache[path] = value
        while len(cache) > _KEPT:
            cache.popitem(last=False)

    def _guard(self, path: str, read: Callable[[], T]) -> T:
        """What ``read`` answers; ``GuestError`` where libyal gives up, or the bytes beneath cannot be read."""
        self._window.failure = None
        try:
            return read()
        except FormatError as error:
            raise GuestError(str(error)) from error
        except _FAULTS as error:
            if self._window.failure is not None:
                raise GuestError(str(self._window.failure)) from error
            raise GuestError(f"{quote(path)} cannot be read: the {self.kind} file system is damaged there.") from error


def is_plain(name: str) -> bool:
    """Whether ``name`` can be a part of a path: a hostile folder may hold others."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name
