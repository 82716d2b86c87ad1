"""Small files of ours, keys among them: whole or not at all, durable, and for their owner's eyes only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vmferry.directory import sync_directory


def make_private_file(path: Path, content: bytes) -> None:
    """Let ``path`` hold ``content``, once for all: where several make it the first wins. Raises ``OSError``."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _written_beside(path, content) as written, suppress(FileExistsError):
        os.link(written, path)
    sync_directory(path.parent)  # by whoever lost the race, too, who is about to use what the first has made


def replace_private_file(path: Path, content: bytes) -> None:
    """Let ``path`` hold ``content``, whatever was there. Raises ``OSError``."""
    with _written_beside(path, content) as written:
        written.replace(path)
    sync_directory(path.parent)


@contextmanager
def _written_beside(path: Path, content: bytes) -> Iterator[Path]:
    """``content`` in a file beside ``path``, which is gone in the end."""
    written = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield written
    finally:
        written.unlink(missing_ok=True)
