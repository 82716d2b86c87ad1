"""Folders for what lasts no longer than one boot check, or one run of another program.

A process that is killed leaves its folder. Whoever uses one holds a lock in it, which ends with the process, however
that ends: so ``remove_abandoned`` knows which of them nobody uses any more, in whatever process it runs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "vmferry-scratch-"
_LOCK = "lock"
_ELSEWHERE = Path("/tmp")
_LONGEST_FOLDER = 64
"""Characters of a folder that sockets can be made in: unix(7) ends their paths at 107."""
_BEGINNING = 60.0
"""Seconds that a folder may be without a lock: it is being made."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new, empty folder with a short path, in the hands of this process; gone at the end of the context.

    The file ``lock`` in it is not to be touched. Raises ``OSError`` where none can be made.
    """
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_parent(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / "new").open("x") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "new").rename(folder / _LOCK)  # whoever finds it finds it locked
            yield folder


def remove_abandoned() -> list[Path]:
    """Remove the scratch folders of this user that no process uses any more; those that were removed.

    May run in several processes at once.
    """
    parents = {_parent(), _ELSEWHERE}
    found = (folder for parent in parents for folder in parent.glob(f"{_PREFIX}*"))
    return [folder for folder in found if _is_ours(folder) and _remove(folder)]


def _parent() -> Path:
    folder = Path(tempfile.gettempdir())
    return folder if len(str(folder)) < _LONGEST_FOLDER else _ELSEWHERE


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder of this user's, and no link: anybody may make names in a folder for temporary files."""
    try:
        facts = folder.lstat()
    except FileNotFoundError:  # another process removed it
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()


def _remove(folder: Path) -> bool:
    """Remove ``folder`` if nobody uses it; whether it was."""
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        if not _is_ours(folder) or time.time() - folder.lstat().st_mtime < _BEGINNING:
            return False
        shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
