"""Where blobs live: named bytes in buckets. ``STORES`` says what there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vmferry.blob import Blob, BlobWriter, Buffer, SupportsDataRanges
from vmferry.registry import Registry
from vmferry.stores._nearby import NearbyBlob
from vmferry.stores._read_ahead import ReadAheadBlob
from vmferry.units import MIB

__all__ = [
    "STORES",
    "NearbyBlob",
    "PartStream",
    "Pin",
    "PinnedBlob",
    "ReadAheadBlob",
    "ResumableBlobWriter",
    "Store",
    "StoreKind",
    "SupportsBuckets",
    "SupportsCopy",
    "SupportsLink",
    "SupportsResume",
    "SupportsUpload",
    "UploadInParts",
    "copy_blob",
]


_COPY_STEP = 4 * MIB


@dataclass(frozen=True, slots=True)
class Pin:
    """Which bytes a key stood for when it was first opened, so that every later read, in any process, gets the same."""

    size: int
    etag: str | None = None
    version: str | None = None


class PinnedBlob(Blob, Protocol):
    """A blob out of a store."""

    @property
    def pin(self) -> Pin:
        """What to hand to ``Store.open`` to get these very bytes again."""


class Store(Protocol):
    """Named blobs in buckets. Thread-safe. One retry policy, with a budget, lives in each store and nowhere above.

    Raises ``BlobNotFoundError`` (naming what is missing: the bucket or the key), ``AccessDeniedError``,
    ``StoreUnavailableError`` (after the retry budget), ``StoreError``.
    """

    def open(self, bucket: str, key: str, pin: Pin | None = None) -> PinnedBlob:
        """The blob at ``key``. With ``pin`` only those very bytes: else ``BlobChangedError``."""

    def create(self, bucket: str, key: str) -> BlobWriter:
        """A new blob at ``key``; readers of an old one there keep it until ``finish``."""

    def delete(self, bucket: str, key: str) -> None:
        """Remove ``key``; nothing happens when it is not there."""

    def keys(self, bucket: str, prefix: str = "") -> Iterator[str]:
        """The keys that start with ``prefix``, in order."""


class ResumableBlobWriter(BlobWriter, Protocol):
    """A blob that several processes may make together."""

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Ascending ranges of ``[start, end)`` that anybody has written to so far; the rest is still a hole."""

    def flush(self) -> None:
        """Make what was written so far durable."""

    def detach(self) -> None:
        """Make what this writer wrote durable and let go of the unfinished blob; ``resume`` goes on with it."""


@runtime_checkable
class SupportsResume(Protocol):
    """A store whose unfinished blobs can be written from several processes, in any order."""

    def resume(self, bucket: str, key: str) -> ResumableBlobWriter:
        """Go on with the unfinished blob at ``key``, or begin it.

        When ``key`` is there already the work was done: what is written then changes nothing, and ``data_ranges`` are
        those of the finished blob, so that a step that is run again after its ``finish`` ends as it did.
        """

    def locate(self, bucket: str, key: str) -> str:
        """The path of the blob at ``key``, for other tools. Raises ``BlobNotFoundError``."""


@runtime_checkable
class SupportsLink(Protocol):
    """A store where the same bytes can stand under several keys."""

    def link(self, bucket: str, key: str, to_bucket: str, to_key: str, *, further: bool = False) -> bool:
        """Let the blob at ``key`` stand at ``to_key``, too; ``False`` where the two places cannot share bytes.

        With ``further`` only where it shares them with another one already: then nobody writes it in place. Each lives
        and dies by itself. Raises ``BlobNotFoundError``, ``StoreError`` for a ``to_key`` that is taken.
        """


@runtime_checkable
class SupportsCopy(Protocol):
    """A store that copies without anybody reading the bytes."""

    def copy(self, bucket: str, key: str, to_bucket: str, to_key: str) -> None:
        """Make a blob of its own at ``to_key`` that holds what ``key`` does. Raises ``StoreError``."""


@runtime_checkable
class SupportsBuckets(Protocol):
    """A store whose buckets are made before they are used."""

    def ensure_bucket(self, bucket: str) -> None:
        """Make ``bucket`` unless it is there. Raises ``StoreError``."""


class PartStream(Protocol):
    """The bytes of a part that is too large for memory. They are read twice, and again where the store must be asked
    again: every time they are the same."""

    def __len__(self) -> int: ...
    def read(self, size: int = -1) -> bytes: ...
    def seek(self, offset: int, whence: int = 0) -> int: ...
    def tell(self) -> int: ...


class UploadInParts(Protocol):
    """An object that any number of processes send in parts, numbered from 1, in any order. Thread-safe.

    A part that is sent again takes the place of the one before. All raise ``StoreError``, with the fact ``code`` being
    ``NoSuchUpload`` where the upload is none any more.
    """

    def begin(self) -> str:
        """A new upload's id."""

    def send(self, upload: str, number: int, data: Buffer | PartStream) -> str:
        """Send part ``number``; what the store calls these bytes. What a stream raises is raised if it is no
        ``Exception``."""

    def complete(self, upload: str, etags: Sequence[str]) -> None:
        """Let the object appear: its parts are those with ``etags``, from part 1 on."""

    def abort(self, upload: str) -> None:
        """Remove what was sent; nothing happens where there is no such upload."""


@runtime_checkable
class SupportsUpload(Protocol):
    """A store of objects, into which a large one is uploaded in parts that stay when the process dies."""

    def upload(self, bucket: str, key: str, budget: int, expected: int = 0) -> BlobWriter:
        """As ``create``, with up to ``budget`` bytes held in memory; with more where that is too little to send an
        object of ``expected`` bytes."""

    def upload_in_parts(self, bucket: str, key: str) -> UploadInParts:
        """What sends the object at ``key`` in parts. Asks nothing of the store."""

    def check_upload(self, bucket: str, key: str) -> None:
        """Raise what ``upload`` would raise: ``BlobNotFoundError``, ``AccessDeniedError``. Nothing is left behind."""

    def check_acl(self, bucket: str) -> None:
        """Raise ``AccessDeniedError`` where the access control list of ``bucket`` may not be read. A service that has
        none raises ``StoreError``."""

    def abort_uploads(self, bucket: str, key: str) -> None:
        """Remove what any process has sent of unfinished uploads of ``key``; nothing happens where there are none."""


class StoreKind(Protocol):
    """A kind of store, and how one is reached."""

    @property
    def name(self) -> str:
        """Our name, which is the module's: ``s3``."""

    def connect(self, options: Mapping[str, str]) -> Store:
        """The store that ``options`` describe; each module says which it takes. Raises ``ConfigError``."""


STORES: Registry[StoreKind] = Registry("vmferry.stores", "STORE", ["local", "s3", "memory"])


def copy_blob(store: Store, bucket: str, key: str, to_bucket: str, to_key: str, *, further: bool = False) -> None:
    """Let the blob at ``key`` stand at ``to_key`` of ``to_bucket``, too: each then lives and dies by itself.

    Where the store can it is the same bytes, which cost nothing; else they are copied, holes left out. ``further`` is
    for a blob that may be written in place: see ``SupportsLink``. Raises ``StoreError``; then nothing stands at
    ``to_key``.
    """
    if isinstance(store, SupportsLink) and store.link(bucket, key, to_bucket, to_key, further=further):
        return
    if isinstance(store, SupportsCopy):
        store.copy(bucket, key, to_bucket, to_key)
        return
    source = store.open(bucket, key)
    try:
        target = store.create(to_bucket, to_key)
        try:
            for start, end in _ranges(source):
                for offset in range(start, end, _COPY_STEP):
                    target.write_at(offset, source.read_at(offset, min(_COPY_STEP, end - offset)))
            target.set_size(source.size)
            target.finish()
        finally:
            target.abort()  # harmless once it is whole
    finally:
        source.close()


def _ranges(source: Blob) -> list[tuple[int, int]]:
    if isinstance(source, SupportsDataRanges):
        return list(source.data_ranges(0, source.size))
    return [(0, source.size)]
