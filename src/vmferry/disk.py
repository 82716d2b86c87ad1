"""NOUN Disk: what the guest sees, whatever lies beneath; and DiskWriter, a disk image being made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from vmferry.blob import Buffer
from vmferry.extent import Extent


@runtime_checkable
class Disk(Protocol):
    """A virtual disk, read only. Readers map, they never copy.

    Every method may be called from any number of threads at once. Sizes and offsets are guest bytes.
    """

    @property
    def size(self) -> int:
        """The virtual size in bytes; a multiple of 512."""

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """The map of ``[start, end)`` (to the disk's end when ``end`` is ``None``), from metadata alone.

        Ascending, without gaps, clipped to the range; neighbours differ in kind. Memory is bounded whatever the size:
        consume it as it comes. Raises ``FormatError`` and ``UnsafeDiskError`` when the tables are not sound.
        """

    def read_at(self, offset: int, length: int) -> Buffer:
        """Exactly ``length`` guest bytes from ``offset``; holes and zeros read as zeros.

        The range lies inside the disk (``ValueError`` otherwise). Raises ``CorruptDiskError`` when what is stored there
        does not decode, and ``StoreError`` as the blob beneath. Costs least for whole MiB in ascending order.
        """

    def close(self) -> None:
        """Release what is held, the blob beneath included. May be called twice."""


@runtime_checkable
class SupportsStoredSize(Protocol):
    """A disk that can tell, from metadata, how many bytes of the file its guest data takes."""

    def stored_size(self) -> int:
        """Bytes of the file that hold guest data, compressed or not; metadata not counted."""


@runtime_checkable
class SupportsSubformat(Protocol):
    """A disk of a format that has several kinds of files."""

    @property
    def subformat(self) -> str:
        """The format's own word for the kind: ``streamOptimized``."""


class DiskWriter(Protocol):
    """A disk image being made; it appears whole at ``finish``, or not at all.

    ``write_at`` and ``zero`` may be called from any number of threads, for ranges that do not overlap and that start
    and end at multiples of ``granularity`` (the disk's end excepted). What is never written reads as zeros.
    """

    @property
    def granularity(self) -> int:
        """Guest bytes that must be written in one call: a cluster, a grain. 512 or more."""

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write ``data`` at guest ``offset``. The same bytes again at the same place change nothing.

        Raises ``OutOfSpaceError`` or another ``StoreError``.
        """

    def finish(self) -> None:
        """Write what is still missing (tables), make all of it durable, let the image appear under its name."""

    def abort(self) -> None:
        """Remove what was made. Harmless after ``finish`` and when called twice."""
