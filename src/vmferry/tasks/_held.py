"""Folders of what steps note: each part of them is one step's at a time, whichever process runs it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmferry.blob import foreign_error


@contextmanager
def held_notes(folder: Path, what: str) -> Iterator[Path | None]:
    """``folder``, the notes of ``what`` in it held against other steps; ``None`` while one that is taken for dead has
    them. Raises ``StoreError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = (folder / f"{what}.lock").open("w")
    except OSError as error:
        raise foreign_error(error, str(folder)) from error
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield folder
