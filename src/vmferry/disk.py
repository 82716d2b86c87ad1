"""NOUN Disk: what the guest sees, whatever lies beneath; and DiskWriter, a disk image being made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from vmferry.blob import Buffer, Part
from vmferry.extent import Extent
from vmferry.ranges import StoredRanges
from vmferry.units import SECTOR

Placed = tuple[int, Buffer]
"""``(host offset, bytes)``."""


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
class SupportsRanges(Protocol):
    """A disk that can tell where guest bytes lie unencoded: they can be read straight to where they are needed."""

    def ranges(self, offset: int, length: int) -> StoredRanges | None:
        """Where ``[offset, offset + length)`` lies; what no range covers reads as zeros.

        ``None`` where some of it is encoded, or not in one blob: then ``read_at`` is the way. Raises as ``read_at``.
        """


@runtime_checkable
class SupportsReadParts(Protocol):
    """A disk that decodes guest bytes in parts: to join them copies every byte once more."""

    def read_parts(self, offset: int, length: int) -> Sequence[Part] | None:
        """As ``read_at``, in parts that follow one another: each of ``PART_SIZE`` bytes, the disk's last one excepted.

        ``None`` where they do not lie like that: then ``read_at`` is the way. No bytes have no parts, where any have
        some. Raises as ``read_at``.
        """


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What a disk image says of itself, apart from the guest's bytes."""

    subformat: str | None = None
    """The format's own word for the kind of file: ``streamOptimized``, ``differencing``."""
    creator: str | None = None
    """Who wrote it, as far as the file tells. A stranger's words: quote them."""
    sector_size: int = SECTOR
    """Bytes of a logical sector as the guest saw it: 512 or 4096."""
    parent: Disk | None = None
    """The disk that shows through the holes, where the image is a snapshot's."""
    extent_files: tuple[str, ...] = ()
    """The files supplied beside the image that hold parts of the disk, by the names of their blobs."""
    found_files: tuple[str, ...] = ()
    """The same of files that nobody supplied: they were found beside the image."""
    snapshots: tuple[str, ...] = ()
    """Names of internal snapshots."""
    warnings: tuple[str, ...] = ()
    """What was odd, but does no harm to the bytes read; one sentence each."""


@runtime_checkable
class SupportsFacts(Protocol):
    """A disk whose file tells more than its size and its bytes."""

    @property
    def facts(self) -> DiskFacts:
        """Known once the disk is open; costs nothing."""


class DiskWriter(Protocol):
    """A disk image being made; it appears whole at ``finish``, or not at all.

    ``write_at`` may be called from any number of threads, for ranges that do not overlap and that start and end at
    multiples of ``granularity`` (the disk's end excepted). What is never written reads as zeros.
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


@runtime_checkable
class SupportsSharing(Protocol):
    """A ``DiskWriter`` that stores guest bytes as they are: its file may share them with the one they are read from."""

    def write_stored(self, offset: int, data: Buffer, stored: StoredRanges | None) -> None:
        """As ``write_at``, of ``data`` that lies at ``stored``, by positions from ``offset`` on."""


@runtime_checkable
class SupportsWriteParts(Protocol):
    """A ``DiskWriter`` that takes what it is given in parts."""

    def write_parts(self, offset: int, parts: Sequence[Part]) -> None:
        """As ``write_at`` of ``parts`` joined, which are as ``SupportsReadParts`` gives them."""


@runtime_checkable
class OrderedDiskWriter(Protocol):
    """A disk image being made whose parts lie in the order in which they come: compressed, or packed without gaps.

    For each range with data, ascending and apart, of whole granules (the disk's end excepted): ``encode`` in any
    thread, then ``place`` in guest order, one call at a time, then ``write`` in any thread. So all cores encode and
    write, and yet the same disk gives the same bytes. What never comes reads as zeros.
    """

    @property
    def granularity(self) -> int:
        """Guest bytes that must come in one call: a grain, a cluster, a block. 512 or more."""

    def encode(self, offset: int, data: Buffer) -> Any:
        """``data`` from guest ``offset`` as it will be stored; granules of zeros are left out. Holds on to ``data``."""

    def place(self, encoded: Any) -> Sequence[Placed]:
        """Give what ``encode`` answered its place in the file. Cheap: everybody waits for it. Raises ``StoreError``
        and ``UnsupportedFeatureError`` when the format cannot hold any more."""

    def write(self, placed: Sequence[Placed]) -> None:
        """Write what ``place`` answered. Raises ``OutOfSpaceError`` or another ``StoreError``."""

    def finish(self) -> None:
        """As ``DiskWriter.finish``; every ``write`` has returned."""

    def abort(self) -> None:
        """As ``DiskWriter.abort``."""


@runtime_checkable
class SupportsPlacedSharing(Protocol):
    """An ``OrderedDiskWriter`` that stores guest bytes as they are: as ``SupportsSharing``."""

    def write_placed(self, placed: Sequence[Placed], offset: int, stored: StoredRanges | None) -> None:
        """As ``write``, of what was encoded from guest ``offset`` on and lies at ``stored``, by positions from it."""


@runtime_checkable
class SupportsReplay(Protocol):
    """An ``OrderedDiskWriter`` that can be brought to where another one was, which wrote to the same place before it:
    by notes of what that one placed, without the bytes."""

    def note(self, encoded: Any) -> bytes:
        """What ``place`` looks at in ``encoded``. Cheap; called in the order of placing."""

    def replay(self, note: bytes) -> None:
        """As ``place`` of what ``note`` was made from, all of which is written already.

        ``ValueError`` for what is no note of such a writer.
        """


@dataclass(frozen=True, slots=True)
class PackedSlice:
    """What was packed of a slice of a disk."""

    length: int
    """Bytes of the file."""
    map: bytes
    """Which guest bytes those hold; each writer has its own form of it."""


@runtime_checkable
class SupportsSlices(Protocol):
    """An ``OrderedDiskWriter`` whose image can be made in slices, by several processes.

    Each slice is packed by a new writer, as if nothing had come before it. Another new one joins what they packed, in
    the order of the disk, and ``finish`` then writes what lies before and behind that.
    """

    @property
    def slice_unit(self) -> int:
        """Guest bytes of which no two slices hold parts: slices begin and end at multiples of it, or in what is not
        written."""

    @property
    def front(self) -> int:
        """Bytes of the file before the first slice, which ``finish`` of a writer that joins may write; known from the
        disk's size. What is packed first begins there."""

    def begin_slice(self) -> None:
        """What is placed from now on, of a new writer, is a slice; its writer is never finished."""

    def end_slice(self) -> PackedSlice:
        """All of the slice was placed and written: write what else belongs to it. Raises ``StoreError``."""

    def join(self, piece: PackedSlice) -> None:
        """``piece`` stands in the file behind what was joined before. Raises ``UnsupportedFeatureError`` where the
        format cannot hold any more, ``ValueError`` for what was not packed of such a disk."""

    def move(self, piece: PackedSlice, offset: int, data: Buffer, start: int) -> Buffer:
        """``data``, which begins ``offset`` bytes behind the begin of what was packed, as it stands in a file where
        ``piece`` begins at host offset ``start``. ``offset`` is a multiple of 512 bytes."""


@runtime_checkable
class SupportsRounding(Protocol):
    """A writer of a format that holds whole units only: its image may be larger than what was asked for."""

    @property
    def size(self) -> int:
        """Guest bytes of the image being made; those behind the source's end read as zeros."""
