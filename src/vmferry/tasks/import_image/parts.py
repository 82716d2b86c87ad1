"""The disk image of a classic import: parts in the object store, which an import manifest lists."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from vmferry.appliances import ConcatBlob
from vmferry.blob import Blob
from vmferry.errors import BlobChangedError, BlobNotFoundError, CorruptDiskError, UploadUnfinishedError, quote
from vmferry.import_manifest import MAX_MANIFEST_SIZE, ImportManifest, ManifestPart, parse_manifest
from vmferry.stores import Pin, Store
from vmferry.stores.s3 import parse_location

_THREADS = 8
"""That look for parts: each waits for the store most of the time."""


class PartsBlob(ConcatBlob):
    """The parts of a disk image as one blob, pinned to the bytes that each was opened with."""

    def __init__(self, blobs: list[Blob], name: str, pin: Pin) -> None:
        super().__init__(blobs, name)
        self._pin = pin

    @property
    def pin(self) -> Pin:
        """As ``PinnedBlob``."""
        return self._pin


def open_parts(store: Store, bucket: str, key: str, endpoint: str | None, pin: Pin | None) -> PartsBlob:
    """The disk image whose manifest stands at ``key``.

    Of each URL in it only bucket and key are used: parts are read with the rights of the account that asks, and from
    no host but ``endpoint``. Raises ``UploadUnfinishedError`` while something is not there, ``BlobChangedError`` for
    others than those of ``pin``, ``CorruptDiskError``, ``UnsafeDiskError`` and other ``StoreError``.
    """
    try:
        listed = store.open(bucket, key)
    except BlobNotFoundError as error:
        raise UploadUnfinishedError(f"The manifest is not there yet: {error}") from error
    try:
        content = listed.read_at(0, min(listed.size, MAX_MANIFEST_SIZE + 1))
        manifest, name = parse_manifest(content), listed.name
    finally:
        listed.close()
    blobs = _open_all(store, manifest, endpoint)
    found = PartsBlob([blob for blob, _ in blobs], f"{name} ({len(blobs)} parts)", _pin(content, blobs))
    if pin is not None and found.pin != pin:
        found.close()
        raise BlobChangedError(f"The parts of {quote(name)} are no longer those that the task began with.")
    return found


def _open_all(store: Store, manifest: ImportManifest, endpoint: str | None) -> list[tuple[Blob, Pin]]:
    """Every part, opened; none stays open when one cannot be."""
    places = [parse_location(part.get_url, endpoint) for part in manifest.parts]
    opened: list[tuple[Blob, Pin]] = []
    with ThreadPoolExecutor(_THREADS, "parts") as pool:
        futures = [pool.submit(_open, store, *place, part) for place, part in zip(places, manifest.parts, strict=True)]
        errors = [error for future in futures if (error := future.exception()) is not None]
        opened = [future.result() for future in futures if future.exception() is None]
    if errors:
        for blob, _ in opened:
            blob.close()
        raise errors[0]
    return opened


def _open(store: Store, bucket: str, key: str, part: ManifestPart) -> tuple[Blob, Pin]:
    try:
        blob = store.open(bucket, key)
    except BlobNotFoundError as error:
        raise UploadUnfinishedError(f"A part is not there yet: {error}") from error
    if blob.size != part.length:
        blob.close()
        raise CorruptDiskError(
            f"The part {quote(blob.name)} has {blob.size:,} bytes; its manifest says {part.length:,}. "
            "Upload the disk again."
        )
    return blob, blob.pin


def _pin(content: bytes, blobs: list[tuple[Blob, Pin]]) -> Pin:
    """What tells these parts from any others: their sizes, and a digest of the manifest and of their tags."""
    digest = hashlib.sha256(content)
    for _, pin in blobs:
        digest.update(f"\n{pin.size} {pin.etag} {pin.version}".encode())
    return Pin(sum(blob.size for blob, _ in blobs), f"parts-{digest.hexdigest()}")
