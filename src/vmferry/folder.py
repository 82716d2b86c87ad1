"""NOUN Folder: files that lie beside each other, by name; and Companions, what one disk image needs beside itself.

No name that stands inside a file is ever opened for its own sake. It is compared with what the caller supplied: with
the names of a folder, or with blobs that were given one by one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vmferry.blob import Blob, FileBlob, MemoryBlob, foreign_error
from vmferry.errors import BlobNotFoundError, StoreError, UnsafeDiskError, quote
from vmferry.limits import MAX_FOLDER_DEPTH, MAX_FOLDER_FILES


class Folder(Protocol):
    """Files by name. Any number of threads may ask at once.

    Names are relative to the folder, with ``/`` between the parts where it looks into folders of its own; they hold no
    ``..``, no empty part and no NUL. What is no regular file (a link, a device) is not in it.
    """

    @property
    def name(self) -> str:
        """What to call it in messages: a path, ``appliance.ova``."""

    def names(self) -> Sequence[str]:
        """Every file's name, sorted. Raises ``UnsafeDiskError`` over the limits, ``StoreError``."""

    def open(self, name: str) -> Blob:
        """The file of this name, which is one of ``names()``. Raises ``BlobNotFoundError`` for any other."""


class MemoryFolder:
    """A folder in memory: the smallest member of the family, and the one that fast tests use."""

    def __init__(self, files: Mapping[str, bytes], name: str = "memory") -> None:
        self._files = dict(files)
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def names(self) -> Sequence[str]:
        return sorted(self._files)

    def open(self, name: str) -> Blob:
        if name not in self._files:
            raise BlobNotFoundError(f"{quote(self._name)} holds no file {quote(name)}.")
        return MemoryBlob(self._files[name], f"{self._name}/{name}")


_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class LocalFolder:
    """A local directory that the caller named. Thread-safe: nothing is kept open but the blobs that it gives.

    Below ``path`` no symbolic link is followed, be it a file's or a folder's, and none is in ``names()``; nor is
    anything but regular files, nor what lies more than ``MAX_FOLDER_DEPTH`` folders deep.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)

    @property
    def name(self) -> str:
        return str(self._path)

    def names(self) -> Sequence[str]:
        """As of now. Names that are not UTF-8 are left out: nothing can refer to them."""
        found: list[str] = []
        try:
            root = os.open(self._path, _OPEN_FOLDER)
        except OSError as error:
            raise foreign_error(error, self.name) from error
        for number, name in enumerate(self._walk(root, "", 0)):
            if number >= MAX_FOLDER_FILES:
                raise UnsafeDiskError(
                    f"{quote(self.name)} holds more than {MAX_FOLDER_FILES:,} files and folders: "
                    "put the machine's own files into a folder of their own."
                )
            found.append(name)
        return sorted(name for name in found if not name.endswith("/"))

    def open(self, name: str) -> Blob:
        parts = name.split("/")
        if len(parts) > MAX_FOLDER_DEPTH + 1 or any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise BlobNotFoundError(f"{quote(self.name)} holds no file {quote(name)}.")
        shown = f"{self.name}/{name}"
        with ExitStack() as folders:
            try:
                inside = os.open(self._path, _OPEN_FOLDER)
                folders.callback(os.close, inside)
                for part in parts[:-1]:
                    inside = os.open(part, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=inside)
                    folders.callback(os.close, inside)
                fd = os.open(parts[-1], os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=inside)
            except (OSError, ValueError) as error:  # ValueError: a lone surrogate, which no file's name holds
                raise self._not_opened(error, shown) from error
        return FileBlob(shown, fd)

    def _walk(self, folder: int, prefix: str, depth: int) -> Iterator[str]:
        """Regular files, and folders with a ``/``, below the open ``folder``, which is closed at the end."""
        try:
            with os.scandir(folder) as entries:
                listed = [
                    (entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False))
                    for _, entry in zip(range(MAX_FOLDER_FILES + 1), entries, strict=False)
                ]
            for name, is_folder, is_file in listed:
                if not _is_utf_8(name):
                    continue
                if is_file:
                    yield prefix + name
                elif is_folder and depth < MAX_FOLDER_DEPTH:
                    yield f"{prefix}{name}/"
                    try:
                        below = os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                    except OSError:  # it went away, became a link meanwhile, or is not ours to read
                        continue
                    yield from self._walk(below, f"{prefix}{name}/", depth + 1)
        except OSError as error:
            raise foreign_error(error, f"{self.name}/{prefix}") from error
        finally:
            os.close(folder)

    def _not_opened(self, error: OSError | ValueError, shown: str) -> StoreError:
        if isinstance(error, ValueError):
            return BlobNotFoundError(f"{quote(self.name)} holds no file {quote(shown)}.")
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return BlobNotFoundError(
                f"{quote(shown)} is a symbolic link, or lies behind one: only files of the folder itself are opened."
            )
        return foreign_error(error, shown)


def _is_utf_8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Companions:
    """What a caller supplies beside a disk image. A reader that takes a blob of these closes it with the disk."""

    parents: tuple[Blob, ...] = ()
    """The chain of a snapshot: its parent first, the base last."""
    extent_files: Mapping[str, Blob] = field(default_factory=dict)
    """Files that hold a disk's data, or part of it, by their plain names (the last component of a path)."""
    beside: Folder | None = None
    """Where the image lies. A reader takes from it only what its format's own rule allows."""
    snapshot: str | None = None
    """The internal snapshot to read instead of the disk's present state."""


ALONE = Companions()
"""Nothing beside the image."""
