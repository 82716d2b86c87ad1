"""Directories, whose names are made durable: a file that was fsynced is lost all the same while its name is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable. Raises ``OSError``."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network and FUSE file systems do that by themselves, or never
            raise


def sync_directories(directory: Path, top: Path) -> None:
    """Make the names in ``directory`` durable, and its own, up to those in ``top``. Raises ``OSError``."""
    while True:
        sync_directory(directory)
        if directory in (top, directory.parent):
            return
        directory = directory.parent
