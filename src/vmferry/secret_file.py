"""Files that hold a key: made once, for their owner's eyes only."""

from __future__ import annotations

import os
from pathlib import Path


def make_secret_file(path: Path, content: bytes) -> None:
    """``content`` at ``path``, whole or not at all, and durable; where several make it the first wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink()
