"""Files of a file system that a session has mounted are replaced, and added."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path

from vmferry.errors import GuestError, OutOfSpaceError, quote
from vmferry.guest.filesystems import NodeKind
from vmferry.guest.guestfish.filesystem import MountedFileSystem, read_numbers
from vmferry.units import MIB, format_size

_MARGIN = MIB
"""Bytes beside a file's own that are to be free: for what names it, and where it lies."""
_NEW = ".vmferry-new"
"""What the name of a file ends in until it is whole."""


class GuestfishWriter:
    """A ``FileWriter`` to ``files``. What is written is kept once the session is finished."""

    def __init__(self, files: MountedFileSystem, now: int) -> None:
        """``now``: seconds since 1970, for what is changed."""
        self._files = files
        self._call = files.session.call
        self._now = now

    def replace_file(self, path: str, size: int, content: Iterable[bytes], keep_as: str) -> None:
        """As ``FileWriter.replace_file``."""
        facts = self._files.facts(path)
        if facts is None or (node := self._files.node(path)) is None or node.kind is not NodeKind.FILE:
            raise GuestError(f"{quote(path)} in the guest is no file.")
        if facts["st_nlink"] != 1:
            raise GuestError(
                f"{quote(path)} in the guest has {facts['st_nlink']} names; only files with one are replaced."
            )
        kept = posixpath.join(posixpath.dirname(path), keep_as)
        new = kept + _NEW
        for taken in (kept, new):
            self._check_absent(taken)
        self._write(new, size, content, like=path)
        self._call("mv", self._files.place(path), self._files.place(kept))
        self._call("mv", self._files.place(new), self._files.place(path))
        self._files.forget()

    def create_file(
        self, path: str, size: int, content: Iterable[bytes], mode: int = 0o644, like: str | None = None
    ) -> None:
        """As ``FileWriter.create_file``."""
        self._check_absent(path)
        model = None if like is None else self._files.node(like)
        is_file = model is not None and model.kind is NodeKind.FILE
        self._write(path, size, content, mode, like if is_file else None)
        self._files.forget()

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """As ``FileWriter.make_folder``."""
        self._check_absent(path)
        self._call("mkdir-mode", self._files.place(path), mode)
        self._call("chmod", mode, self._files.place(path))  # whatever the machine's own mask is
        self._files.forget()

    def commit(self) -> None:
        """As ``FileWriter.commit``."""
        self._call("sync")

    def _check_absent(self, path: str) -> None:
        if self._files.facts(path) is not None:
            raise GuestError(f"{quote(path)} is there already, in the guest.")

    def _write(
        self, path: str, size: int, content: Iterable[bytes], mode: int = 0o644, like: str | None = None
    ) -> None:
        """Make the file at ``path``, of which nothing is left where that fails."""
        self._check_room(path, size)
        source = self._files.session.work / "new"
        _fill(source, size, content)
        place = self._files.place(path)
        try:
            self._call("upload", source, place)
            if like is None:
                self._call("chown", 0, 0, place)
                self._call("chmod", mode, place)
            else:
                self._call("copy-attributes", self._files.place(like), place, "all:true")
            self._call("utimens", place, self._now, 0, self._now, 0)
        except GuestError:
            self._call("rm-f", place)
            raise
        finally:
            source.unlink()

    def _check_room(self, path: str, size: int) -> None:
        found = read_numbers(self._call("statvfs", self._files.place(posixpath.dirname(path))))
        free, needed = found["bavail"] * found["frsize"], size + _MARGIN
        if needed > free:
            raise GuestError(
                f"{quote(path.removesuffix(_NEW))} does not fit: The file system has {format_size(free)} free, "
                f"{format_size(needed)} are needed: make room on the guest."
            )


def _fill(file: Path, size: int, content: Iterable[bytes]) -> None:
    """Let ``file`` hold ``content``; ``ValueError`` where it has not ``size`` bytes."""
    try:
        with file.open("wb") as out:
            for piece in content:
                out.write(piece)
            if out.tell() != size:
                raise ValueError(f"the content has {out.tell()} bytes, not {size}")
    except OSError as error:
        raise OutOfSpaceError(
            f"A file for the guest does not fit into {quote(file.parent)}: {quote(error.strerror)}. Make room, or set "
            "TMPDIR."
        ) from error
