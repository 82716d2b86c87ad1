"""NOUN SnapshotBlocks: the image of a snapshot that is put together block by block, in any order and by anybody.

Three files stand for it in the store of images. The unfinished qcow2, in which a block's place follows from its index
alone. Beside it, as ``….blocks``, the SHA-256 of each block that was put, 32 bytes at 32 times its index; what is zeros
there was never put. And the parent's image under a name of its own, ``….parent``: the parent may be deleted meanwhile.

A block is entered in the second file before its bytes are written to the first. So what the second does not name holds
nothing of value, whatever process died and whatever power was cut, and what it names is checked before it is believed.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vmferry.blob import Buffer, ByteRange, FileBlob
from vmferry.catalog.snapshot_uploads import SnapshotUpload
from vmferry.convert import cut, find_granules
from vmferry.disk import Disk, SupportsRanges
from vmferry.errors import ConflictError, StoreError
from vmferry.extent import Extent, ExtentKind, is_zero, nonzero_runs
from vmferry.formats import FORMATS, open_disk
from vmferry.formats.qcow2.layout import CLUSTER_BITS, CLUSTER_SIZE, Layout
from vmferry.formats.qcow2.writer import Qcow2Writer
from vmferry.stores import copy_blob
from vmferry.stores.local import LocalStore, SharedFileWriter
from vmferry.units import KIB, MIB

EBS_BLOCK_SIZE = 512 * KIB
_CLUSTERS = EBS_BLOCK_SIZE // CLUSTER_SIZE
_DIGEST = hashlib.sha256().digest_size
_NEVER = bytes(_DIGEST)
"""What the record has for a block that was never put: no bytes are known whose SHA-256 this is."""
_RECORD_STEP = MIB
"""Bytes of the record that are read at once."""
_LOCKS = tuple(threading.Lock() for _ in range(64))
"""One process takes blocks; two threads of it never write the same one at once."""

Go = Callable[[], None]
"""Called between pieces of work; raises to end it."""


def begin_blocks(images: LocalStore, upload: SnapshotUpload, parent: tuple[str, str] | None) -> None:
    """Make the files of ``upload``, as long as they may become, so that a block always has a place. ``parent`` is the
    place of its parent's image. Twice is the same as once.

    Raises ``StoreError``; ``remove_blocks`` then removes what was made.
    """
    if parent is not None:
        images.delete(upload.bucket, _parent_key(upload))
        copy_blob(images, *parent, upload.bucket, _parent_key(upload))
    layout = _layout(upload.size)
    lengths = {
        upload.key: (layout.data_start + layout.data_clusters) << CLUSTER_BITS,
        _record_key(upload): upload.size // EBS_BLOCK_SIZE * _DIGEST,
    }
    for key, length in lengths.items():
        writer = images.resume(upload.bucket, key)
        try:
            writer.set_size(length)
        finally:
            writer.detach()


def remove_blocks(images: LocalStore, upload: SnapshotUpload, *, image: bool) -> None:
    """Remove what was needed to put the image together, and with ``image`` that too, finished or not."""
    images.resume(upload.bucket, _record_key(upload)).abort()
    images.delete(upload.bucket, _parent_key(upload))
    if image:
        images.resume(upload.bucket, upload.key).abort()
        images.delete(upload.bucket, upload.key)


def file_keys(upload: SnapshotUpload) -> tuple[str, str, str]:
    """The keys of all that stands for ``upload``: its image first, the link to its parent's last."""
    return upload.key, _record_key(upload), _parent_key(upload)


def is_parent_key(key: str) -> bool:
    """Whether ``key`` is that of a link to a parent's image."""
    return key.endswith(".qcow2.parent")


@contextmanager
def open_blocks(images: LocalStore, upload: SnapshotUpload) -> Iterator[SnapshotBlocks]:
    """The files of ``upload``, open until the block ends; made where they are not there."""
    with SnapshotBlocks(images, upload) as opened:
        yield opened


class SnapshotBlocks:
    """The open files. ``put`` may be called by any number of threads, each with files of its own."""

    def __init__(self, images: LocalStore, upload: SnapshotUpload) -> None:
        """Raises ``StoreError``."""
        self._images = images
        self._upload = upload
        self._layout = _layout(upload.size)
        self._count = upload.size // EBS_BLOCK_SIZE
        self._record = _shared(images, upload.bucket, _record_key(upload))
        try:
            self._image = images.resume(upload.bucket, upload.key)
        except BaseException:
            self._record.close()
            raise
        for writer in (self._record, self._image):
            if isinstance(writer, SharedFileWriter):
                writer.has_durable_name = True  # begin_blocks saw to that: no put waits for it again

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._record.close()
        self._image.close()

    @property
    def is_finished(self) -> bool:
        """Whether the image is whole already."""
        return not isinstance(self._image, SharedFileWriter)

    @property
    def put_at(self) -> datetime:
        """When a block was put last, or the files were made."""
        return self._record.changed_at

    def lock(self, *, shared: bool, wait: bool = True) -> bool:
        """See ``SharedFileWriter.lock``: who puts holds the files together with others, who ends that alone."""
        return self._record.lock(shared=shared, wait=wait)

    def put(self, index: int, data: Buffer, digest: bytes) -> None:
        """Let block ``index`` be ``data``, durably; ``digest`` is its SHA-256. Raises ``StoreError``."""
        with _LOCKS[(hash(self._upload.id) + index) % len(_LOCKS)]:
            fresh = self._record.read_back(index * _DIGEST, _DIGEST) == _NEVER
            self._record.write_at(index * _DIGEST, digest)
            place, view = self._place(index), memoryview(data)
            # What was put before, or half put, must go; where nothing was, zeros need no room.
            for low, high in nonzero_runs(data, CLUSTER_SIZE) if fresh else [(0, len(data))]:
                self._writer.write_at(place + low, view[low:high])
        self._writer.flush()
        self._record.flush()

    def digests(self) -> Iterator[tuple[int, bytes]]:
        """The index and the SHA-256 of each block that was put, ascending."""
        for start, end in cut(self._record.data_ranges(0, self._count * _DIGEST), _RECORD_STEP):
            first, entries = start // _DIGEST, self._record.read_back(start, end - start)
            used = np.frombuffer(entries, np.uint8).reshape(-1, _DIGEST).any(axis=1)
            for number in np.flatnonzero(used).tolist():
                yield first + number, entries[number * _DIGEST : (number + 1) * _DIGEST]

    def check(self, go: Go) -> None:
        """Read every block that was put. Raises ``ConflictError`` for one that is not what its record says."""
        for index, digest in self.digests():
            go()
            data = self._writer.read_back(self._place(index), EBS_BLOCK_SIZE)
            if hashlib.sha256(data).digest() != digest:
                raise ConflictError(
                    f"Block {index} of {self._upload.id} was not wholly written: its put was never answered. "
                    "Start a new snapshot, and repeat a put until it is answered."
                )

    def inherit(self, go: Go) -> None:
        """Fill the blocks that were never put from the parent, or with nothing."""
        put = np.zeros(self._count, np.bool_)
        for index, _ in self.digests():
            put[index] = True
        self._clear(put, go)
        if self._upload.parent_id is not None:
            blob = self._images.open(self._upload.bucket, _parent_key(self._upload))
            disk = open_disk(blob, FORMATS["qcow2"])
            try:
                self._copy(disk, put, go)
            finally:
                disk.close()

    def finish(self) -> None:
        """Write the tables: the image appears, whole and durable."""
        Qcow2Writer(self._writer, self._layout).finish()

    def abort(self) -> None:
        """Remove the files, but those of an image that is whole."""
        self._record.abort()
        self._image.abort()

    @property
    def _writer(self) -> SharedFileWriter:
        if not isinstance(self._image, SharedFileWriter):
            raise StoreError(f"The image of {self._upload.id} is whole already.")
        return self._image

    def _place(self, index: int) -> int:
        """The host offset of a block."""
        cluster = self._layout.host_cluster(index * _CLUSTERS, _CLUSTERS)
        assert cluster is not None, "the layout has a place for every cluster"
        return cluster << CLUSTER_BITS

    def _clear(self, put: NDArray[np.bool_], go: Go) -> None:
        """Overwrite what lies where no block was put: a power cut left it behind, or an earlier run."""
        base = self._place(0)
        ranges = self._writer.data_ranges(base, base + self._upload.size)
        for start, end in _unput(((low - base, high - base) for low, high in ranges), put):
            go()
            if not is_zero(self._writer.read_back(base + start, end - start)):
                self._writer.write_at(base + start, bytes(end - start))

    def _copy(self, parent: Disk, put: NDArray[np.bool_], go: Go) -> None:
        """Copy what ``parent`` holds in blocks that were not put; clusters lie at the same places within a block."""
        limit = min(parent.size, self._upload.size)
        base = self._place(0)
        for start, end in _unput(find_granules(parent.extents(0, limit), CLUSTER_SIZE, limit), put):
            go()
            found = parent.ranges(start, end - start) if isinstance(parent, SupportsRanges) else None
            if found is None or not isinstance(found.blob, FileBlob):
                self._writer.write_at(base + start, parent.read_at(start, end - start))
                continue
            for stored in found.ranges:
                self._writer.copy_from(found.blob, stored.source, base + start + stored.position, stored.length)


def _unput(ranges: Iterator[ByteRange], put: NDArray[np.bool_]) -> Iterator[ByteRange]:
    """The pieces of ``ranges`` that lie in blocks which were not put; each lies in one block."""
    for start, end in cut(ranges, EBS_BLOCK_SIZE):
        if not put[start // EBS_BLOCK_SIZE]:
            yield start, end


@lru_cache(maxsize=16)
def _layout(size: int) -> Layout:
    """A place for every cluster: what is never written stays a hole, and unallocated."""
    return Layout(size, [Extent(0, size, ExtentKind.DATA)])


def _shared(images: LocalStore, bucket: str, key: str) -> SharedFileWriter:
    writer = images.resume(bucket, key)
    assert isinstance(writer, SharedFileWriter), "nobody finishes a record"
    return writer


def _record_key(upload: SnapshotUpload) -> str:
    return f"{upload.key}.blocks"


def _parent_key(upload: SnapshotUpload) -> str:
    return f"{upload.key}.parent"
