"""NOUN Blob: immutable bytes of known size, readable at any offset by any number of threads."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vmferry.errors import (
    AccessDeniedError,
    BlobNotFoundError,
    CorruptDiskError,
    OutOfSpaceError,
    StoreError,
    quote,
)
from vmferry.units import KIB, format_size

ByteRange = tuple[int, int]
"""``(start, end)`` in bytes, ``end`` not included."""

Buffer = bytes | bytearray | memoryview

Part = bytes | bytearray
"""Bytes of a disk that have memory of their own."""

PART_SIZE = 64 * KIB
"""Bytes of a part: what the common formats store at once, and a leaf of the guest digest."""


@runtime_checkable
class Blob(Protocol):
    """Immutable bytes of known size.

    Every method may be called from any number of threads at once; nothing is called after ``close``.
    """

    @property
    def size(self) -> int:
        """Length in bytes; it never changes while the blob is open."""

    @property
    def name(self) -> str:
        """What to call it in messages: a path, ``s3://bucket/key``, or ``appliance.ova:disk1.vmdk``."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; never fewer.

        Raises ``CorruptDiskError`` when the range goes past the end (the caller followed a pointer out of the file),
        ``BlobChangedError`` when the bytes are no longer those that were opened, and other ``StoreError`` when the
        store fails. Retries belong to the implementation, not to callers.
        """

    def close(self) -> None:
        """Release what is held. May be called twice."""


@runtime_checkable
class SupportsDataRanges(Protocol):
    """A blob that knows, without reading, where it may hold something else than zeros (a sparse local file)."""

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        """Ascending ranges inside ``[start, end)``; everything between them reads as zeros."""


ReadInto = Callable[[int, memoryview], None]
"""``(offset, out)``: as ``Blob.read_at``, of as many bytes as ``out`` has, which are put there."""


@runtime_checkable
class SupportsReadInto(Protocol):
    """A blob whose bytes can be put where the caller has room for them: fresh memory costs as much as the reading."""

    def reader_into(self) -> ReadInto | None:
        """What reads into memory, from any thread; ``None`` where ``read_at`` is as good (a blob of a network)."""


def find_reader_into(blob: Blob) -> ReadInto | None:
    """What reads bytes of ``blob`` into memory, where it has such a thing and that is better than ``read_at``.

    Asked for every read, so by name: a check against a protocol takes longer than the read of a small range.
    """
    reader_into: Callable[[], ReadInto | None] | None = getattr(blob, "reader_into", None)
    return None if reader_into is None else reader_into()


def read_view(blob: Blob, offset: int, length: int) -> memoryview:
    """As ``blob.read_at``, for many bytes that are soon let go of: not copied where ``blob`` can show what it holds.

    Such a blob has a ``view_at`` that answers a read-only view. That may be of a part of a larger block, which stays in
    memory as long as the view does. Asked for by name, as ``find_reader_into``.
    """
    view_at: Callable[[int, int], memoryview] | None = getattr(blob, "view_at", None)
    return memoryview(blob.read_at(offset, length)) if view_at is None else view_at(offset, length)


@runtime_checkable
class SupportsReadOrder(Protocol):
    """A blob that knows how it is best read (what lies packed in a file is decoded from front to back)."""

    @property
    def in_order(self) -> bool:
        """Whether a read that goes back may cost as much as all reads before it: then do not jump about."""


class BlobWriter(Protocol):
    """A blob being made: it appears under its name, whole, at ``finish``, or never.

    ``write_at`` may be called by any number of threads for ranges that do not overlap.
    """

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write all of ``data`` at ``offset``. Gaps read as zeros. Raises ``OutOfSpaceError``, ``StoreError``."""

    def set_size(self, size: int) -> None:
        """Say how long the blob is: ``size`` bytes, no fewer than were written. Gaps read as zeros."""

    def finish(self) -> None:
        """Make what was written durable and let it appear. Nothing is called after it."""

    def abort(self) -> None:
        """Remove what was written. Harmless after ``finish`` and when called twice."""


def write_parts(target: BlobWriter, offset: int, parts: Sequence[Part]) -> None:
    """As ``target.write_at`` of ``parts`` joined: without joining them where ``target`` can gather them (a file).

    Such a writer has a ``write_parts`` of its own, asked for by name, as ``find_reader_into``.
    """
    gather: Callable[[int, Sequence[Part]], None] | None = getattr(target, "write_parts", None)
    if gather is None:
        target.write_at(offset, b"".join(parts))
    else:
        gather(offset, parts)


class KeptBlobWriter(BlobWriter, Protocol):
    """A ``BlobWriter`` of which something is left when its process dies, and another goes on with."""

    reached: int
    """The guest offset before which all lies that was placed, where places are given in order."""

    @property
    def survives_power_cut(self) -> bool:
        """Whether what was flushed is there when the machine was started again."""

    def begin(self) -> None:
        """Begin anew: nothing that was written before is left. Raises ``StoreError``."""

    def note(self, complete: int) -> Mapping[str, Any]:
        """What there is, all before guest offset ``complete`` being written; of JSON's types."""

    def saved(self) -> None:
        """What ``note`` answered last is written down."""

    def is_there(self, note: Mapping[str, Any]) -> bool:
        """Whether what ``note`` tells of is there still. Raises ``StoreError``, ``ValueError`` and ``KeyError``."""

    def restore(self, note: Mapping[str, Any]) -> None:
        """Go on from ``note``, which ``is_there``. Raises ``StoreError``."""

    def flush(self) -> None:
        """Make what was written so far durable, where it ``survives_power_cut``."""

    def detach(self) -> None:
        """Let go of what was written, which stays."""


class Clone(Protocol):
    """Lets a place of a blob that is being made show bytes of another file, instead of holding them twice."""

    def __call__(self, blob: Blob, source: int, offset: int, length: int) -> int:
        """Let ``offset`` show what ``blob`` holds from ``source`` on: of ``length`` bytes so many as it answers, none
        where that cannot be. The rest is to be written. Raises nothing."""


def find_clone(target: BlobWriter) -> Clone | None:
    """What clones into ``target``, where that is a file. Asked for by name for every write, as ``find_reader_into``."""
    clone: Clone | None = getattr(target, "clone", None)
    return clone


@runtime_checkable
class SupportsReserve(Protocol):
    """A ``BlobWriter`` whose bytes leave for good (to S3) when nothing more seems to come to a place.

    Gaps take as much room there as data: a format that can pack what it holds does.
    """

    def reserve(self, start: int, end: int) -> None:
        """``[start, end)`` will be written late, perhaps last of all."""


def check_range(blob: Blob, offset: int, length: int) -> None:
    """Raise ``CorruptDiskError`` unless ``[offset, offset + length)`` lies inside ``blob``."""
    if offset < 0 or length < 0 or offset + length > blob.size:
        raise CorruptDiskError(
            f"{quote(blob.name)}: {length:,} bytes are needed at offset {offset:,}, but the file ends at "
            f"{blob.size:,} ({format_size(blob.size)}). It is cut short or damaged: export or upload it again."
        )


class MemoryBlob:
    """A blob over bytes in memory: the smallest member of the family, and the one that fast tests use."""

    def __init__(self, data: bytes, name: str = "memory") -> None:
        self._data = data
        self._name = name

    @property
    def size(self) -> int:
        return len(self._data)

    @property
    def name(self) -> str:
        return self._name

    def read_at(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        return self._data[offset : offset + length]

    def close(self) -> None:
        pass


class WrappedBlob:
    """What stands before another blob: it has that one's size and name, and closes it. Say how it reads."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob

    @property
    def size(self) -> int:
        return self._blob.size

    @property
    def name(self) -> str:
        return self._blob.name

    def close(self) -> None:
        self._blob.close()


class SliceBlob:
    """``length`` bytes of another blob from ``offset``: a member of a tar, read where it lies.

    Closing it leaves the other blob open: that one's owner closes it.
    """

    def __init__(self, blob: Blob, offset: int, length: int, name: str) -> None:
        check_range(blob, offset, length)
        self._blob = blob
        self._offset = offset
        self._length = length
        self._name = name

    @property
    def size(self) -> int:
        return self._length

    @property
    def name(self) -> str:
        return self._name

    def read_at(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        return self._blob.read_at(self._offset + offset, length)

    def view_at(self, offset: int, length: int) -> memoryview:
        """As ``read_view``."""
        check_range(self, offset, length)
        return read_view(self._blob, self._offset + offset, length)

    def reader_into(self) -> ReadInto | None:
        into = find_reader_into(self._blob)
        if into is None:
            return None
        reader = into

        def read_into(offset: int, out: memoryview) -> None:
            check_range(self, offset, len(out))
            reader(self._offset + offset, out)

        return read_into

    def origin(self, offset: int) -> tuple[Blob, int]:
        """The other blob, and where in it the byte at ``offset`` lies."""
        return self._blob, self._offset + offset

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        if not isinstance(self._blob, SupportsDataRanges):
            yield start, end
            return
        for low, high in self._blob.data_ranges(self._offset + start, self._offset + end):
            yield low - self._offset, high - self._offset

    def close(self) -> None:
        pass


class FileBlob:
    """A regular local file. The descriptor stays open, so a rename or an unlink meanwhile does no harm."""

    def __init__(self, path: Path | str, fd: int | None = None) -> None:
        """Open ``path``; or take ``fd``, which was opened already and is owned by the blob, with ``path`` as its name.

        Raises ``StoreError`` for what is no regular file; ``fd`` is closed then.
        """
        self._name = str(path)
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK) if fd is None else fd
        except OSError as error:
            raise foreign_error(error, self._name) from error
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise StoreError(f"{quote(self._name)} is not a regular file; name a disk image or an appliance.")
        self._size = status.st_size
        self._modified_at = status.st_mtime_ns

    @property
    def size(self) -> int:
        return self._size

    @property
    def is_unchanged(self) -> bool:
        """Whether nobody has written to the file since it was opened, as far as its size and time of change tell.

        A file that was closed is left out of account. What is replaced, or removed, is read to its end nevertheless.
        """
        if self._fd < 0:
            return True
        status = os.fstat(self._fd)
        return (status.st_mtime_ns, status.st_size) == (self._modified_at, self._size)

    @property
    def name(self) -> str:
        return self._name

    def read_at(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        try:
            data = os.pread(self._fd, length, offset)
        except OSError as error:
            raise foreign_error(error, self._name) from error
        if len(data) < length:  # one pread gives at most 2 GiB, and less when a signal comes in between
            whole = bytearray(length)
            whole[: len(data)] = data
            self._fill(offset + len(data), memoryview(whole)[len(data) :])
            return bytes(whole)
        return data

    def reader_into(self) -> ReadInto | None:
        return self.read_into

    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill ``out`` from ``offset``; raises as ``read_at``."""
        check_range(self, offset, len(out))
        self._fill(offset, out)

    def _fill(self, offset: int, out: memoryview) -> None:
        try:
            while out:
                count = os.preadv(self._fd, [out], offset)
                if not count:
                    raise CorruptDiskError(
                        f"{quote(self._name)} became shorter while it was read. Try again when it is whole."
                    )
                out, offset = out[count:], offset + count
        except OSError as error:
            raise foreign_error(error, self._name) from error

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        return file_data_ranges(self._fd, start, end)

    def fileno(self) -> int:
        """The descriptor, for what the kernel can do with it alone."""
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def find_file(blob: Blob, offset: int) -> tuple[FileBlob, int] | None:
    """The local file that ``blob`` is, or is a slice of, and where in it the byte at ``offset`` lies."""
    while isinstance(blob, SliceBlob):
        blob, offset = blob.origin(offset)
    return (blob, offset) if isinstance(blob, FileBlob) else None


def file_data_ranges(fd: int, start: int, end: int) -> Iterator[ByteRange]:
    """``SupportsDataRanges`` of an open file; its file system's blocks are the unit, so a range may begin early."""
    position = start
    while position < end:
        try:
            low = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end of the file
                return
            yield position, end  # a file system without SEEK_DATA: all of it may be data
            return
        if low >= end:
            return
        try:
            high = min(os.lseek(fd, low, os.SEEK_HOLE), end)
        except OSError:  # it was cut short meanwhile: who reads there is told
            high = end
        yield low, high
        position = high


def foreign_error(error: OSError, name: str) -> StoreError:
    """An ``OSError`` about the file ``name`` as one of ours."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return BlobNotFoundError(f"{quote(name)} does not exist. Check the path.")
        case errno.EACCES | errno.EPERM:
            return AccessDeniedError(f"{quote(name)} may not be opened: permission denied. Check its owner and mode.")
        case errno.ENOSPC | errno.EDQUOT:
            return OutOfSpaceError(
                f"No room left while writing {quote(name)}: free some space on its file system and try again."
            )
        case errno.EFBIG:
            return StoreError(
                f"{quote(name)} would become larger than its file system lets a file be: write it to another one, or "
                "in a format that leaves empty space out (qcow2, vhdx).",
                too_large=True,
            )
        case _:
            return StoreError(f"{quote(name)}: {error.strerror or error}.")
