"""The disk in a VMDK: its pieces, and its parent showing through their holes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vmferry.blob import Blob, Buffer
from vmferry.disk import Disk, DiskFacts
from vmferry.extent import Extent
from vmferry.formats._overlay import Layer, Overlay
from vmferry.formats.vmdk.composite import Piece


class VmdkDisk:
    """A ``Disk`` (and ``SupportsStoredSize``, ``SupportsFacts``); owns its blobs, and ``facts.parent`` if there is one.

    Any number of threads may read at once.
    """

    def __init__(
        self, layer: Piece, blobs: Sequence[Blob], facts: DiskFacts, content_id: str | None, opened: Sequence[Blob] = ()
    ) -> None:
        """``blobs`` were supplied by the caller; ``opened`` was found beside the descriptor by name."""
        self._layer = layer
        self._blobs = tuple(blobs)
        self._opened = tuple(opened)
        self._view: Layer = layer if facts.parent is None else Overlay(layer, facts.parent)
        self.facts = facts
        self.content_id = content_id
        """The CID, which a child repeats: in lower case, as the descriptor has it; ``None`` where it has none."""

    @property
    def size(self) -> int:
        return self._layer.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        return self._view.extents(start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        return self._view.read_at(offset, length)

    def stored_size(self) -> int:
        """Bytes of guest data in this disk's own files; the parent's are not counted."""
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
        if isinstance(parent, VmdkDisk):
            parent.abandon()
