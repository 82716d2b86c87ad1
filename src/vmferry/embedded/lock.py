"""One server for one data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from vmferry.errors import ConfigError, quote

LOCK_FILE = "lock"


class DataDirectoryLock:
    """Holds ``data_dir`` for this process, through ``flock`` on ``data_dir/lock``, in which its pid stands.

    The kernel lets go of it when the process ends, however it ends; children do not inherit it. Not for network file
    systems without locks.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock, making the directory (mode 0700) if need be. Raises ``ConfigError`` naming who holds it."""
        path = self._data_dir / LOCK_FILE
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"The data directory {quote(self._data_dir)} cannot be used: {error.strerror}. "
                "Name another with --data-dir."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise ConfigError(
                f"Another vmferry server, process {quote(holder)}, uses the data directory {quote(self._data_dir)}. "
                "Stop it, or name another directory with --data-dir."
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Let go. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)  # the file stays: removing it would let two processes lock two files of one name
            self._fd = -1

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
