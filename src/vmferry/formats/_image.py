"""What the disks of all formats share: an image's own layer, and its parent showing through the holes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from vmferry.blob import Blob, Buffer, Part
from vmferry.disk import Disk, DiskFacts, SupportsRanges, SupportsReadParts
from vmferry.errors import UnsupportedFeatureError, quote
from vmferry.extent import Extent
from vmferry.folder import Companions
from vmferry.formats import open_parent
from vmferry.formats._overlay import Layer, Overlay
from vmferry.ranges import StoredRanges


class StoredLayer(Layer, Protocol):
    """A layer that knows how much of the file it takes."""

    def stored_size(self) -> int:
        """As ``SupportsStoredSize``."""


class ImageDisk:
    """A ``Disk`` (``SupportsStoredSize``, ``SupportsFacts``, ``SupportsRanges``, ``SupportsReadParts``).

    Owns its blobs and its parent. Any number of threads may read at once.
    """

    def __init__(
        self,
        layer: StoredLayer,
        facts: DiskFacts,
        blobs: Sequence[Blob],
        *,
        identity: object = None,
        opened: Sequence[Blob] = (),
    ) -> None:
        """``blobs`` were supplied by the caller; ``opened`` were found by name beside the image."""
        self._layer = layer
        self._blobs = tuple(blobs)
        self._opened = tuple(opened)
        self._view: Layer = layer if facts.parent is None else Overlay(layer, facts.parent)
        self._ranged = self._view if isinstance(self._view, SupportsRanges) else None
        self._parted = self._view if isinstance(self._view, SupportsReadParts) else None
        self.facts = facts
        self.identity = identity
        """What a child remembers of its parent, in the format's own terms."""

    @property
    def size(self) -> int:
        return self._layer.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        return self._view.extents(start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        return self._view.read_at(offset, length)

    def ranges(self, offset: int, length: int) -> StoredRanges | None:
        """As ``SupportsRanges``, as far as the layer does; never where a parent shows through."""
        return None if self._ranged is None else self._ranged.ranges(offset, length)

    def read_parts(self, offset: int, length: int) -> Sequence[Part] | None:
        """As ``SupportsReadParts``, as far as the layer does; never where a parent shows through."""
        return None if self._parted is None else self._parted.read_parts(offset, length)

    def stored_size(self) -> int:
        """Bytes of guest data in this image's own files; the parent's are not counted."""
        return self._layer.stored_size()

    def close(self) -> None:
        self.abandon()
        for blob in self._blobs:
            blob.close()
        if self.facts.parent is not None:
            self.facts.parent.close()

    def abandon(self) -> None:
        """Close what was opened by name, here and in the chain above, and leave open what the caller supplied."""
        for blob in self._opened:
            blob.close()
        parent: Disk | None = self.facts.parent
        if isinstance(parent, ImageDisk):
            parent.abandon()


def need_parent(blob: Blob, companions: Companions, name: str, wanted: str) -> ImageDisk:
    """The parent of ``blob``, an image of our format ``name`` that is a snapshot's, as it was supplied.

    ``wanted`` says which it is. Raises ``UnsupportedFeatureError`` where none was supplied, and as ``open_disk`` does.
    """
    parent = open_parent(companions, name)
    if parent is None:
        raise UnsupportedFeatureError(
            f"{name}: {quote(blob.name)} holds only what changed since a snapshot; the rest is in its parent, "
            f"{wanted}: give it with --parent, or merge the snapshot and export the disk again."
        )
    assert isinstance(parent, ImageDisk)
    return parent
