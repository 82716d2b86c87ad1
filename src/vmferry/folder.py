"""NOUN Folder: files that lie beside each other, by name; and Companions, what one disk image needs beside itself.

No name that stands inside a file is ever opened for its own sake. It is compared with what the caller supplied: with
the names of a folder, or with blobs that were given one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vmferry.blob import Blob, MemoryBlob
from vmferry.errors import BlobNotFoundError, quote


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
