"""What adds and replaces the files of one file system of a guest. NOUN FileWriter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class FileWriter(Protocol):
    """Writes to one file system, for one thread. Paths are absolute, and lead through no links: see ``Tree.find``.

    What raised an error was not done, whatever else is committed. Raises ``GuestError`` where the file system cannot
    be written to, and why; also where a path is taken or missing, or there is no room.
    """

    def replace_file(self, path: str, size: int, content: Iterable[bytes], keep_as: str) -> None:
        """Let the file at ``path`` hold ``content``, ``size`` bytes in all; the old one stays, under the name
        ``keep_as`` beside it. Owner, rights and extended attributes are the old file's."""

    def create_file(
        self, path: str, size: int, content: Iterable[bytes], mode: int = 0o644, like: str | None = None
    ) -> None:
        """Make a file with ``content``, ``size`` bytes in all, owned by root; with owner, rights and extended
        attributes of the file at ``like`` where one is named and there."""

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """Make an empty folder, owned by root."""

    def commit(self) -> None:
        """Write everything that was done."""
