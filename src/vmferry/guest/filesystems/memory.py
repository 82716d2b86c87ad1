"""A file system of what a mapping says: the family's plainest member, which the facts of guests are tried on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vmferry.guest.filesystems import Node, NodeKind


class MemoryFileSystem:
    """``MemoryFileSystem({"/etc/hostname": b"web\\n", "/bin": "usr/bin"})``: bytes are a file, a string is a link.

    ``None`` is an empty folder; folders above a name need not be given. See ``FileSystem``.
    """

    def __init__(
        self, files: Mapping[str, bytes | str | None], *, kind: str = "ext4", ignores_case: bool = False
    ) -> None:
        self.kind = kind
        self._fold = str.lower if ignores_case else str
        self._files: dict[str, bytes | str | None] = {}
        self._shown: dict[str, dict[str, None]] = {"/": {}}
        for path, content in files.items():
            self._files[self._fold(path)] = content
            self._add_to_folder(path)
            if content is None:
                self._shown.setdefault(self._fold(path), {})

    def _add_to_folder(self, path: str) -> None:
        while path != "/":
            folder, _, name = path.rpartition("/")
            folder = folder or "/"
            self._shown.setdefault(self._fold(folder), {})[name] = None
            path = folder

    def node(self, path: str) -> Node | None:
        path = self._fold(path)
        if path in self._shown:
            return Node(NodeKind.FOLDER)
        content = self._files.get(path)
        if content is None:
            return None
        if isinstance(content, str):
            return Node(NodeKind.LINK, len(content), content)
        return Node(NodeKind.FILE, len(content))

    def names(self, path: str) -> Sequence[str]:
        return list(self._shown.get(self._fold(path), ()))

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        content = self._files.get(self._fold(path))
        return content[offset : offset + length] if isinstance(content, bytes) else b""
