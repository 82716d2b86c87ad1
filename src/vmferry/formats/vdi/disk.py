"""The disk in a VDI."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from vmferry.blob import Blob, Buffer
from vmferry.disk import DiskFacts
from vmferry.errors import UnknownFormatError, UnsupportedFeatureError, quote
from vmferry.extent import Extent
from vmferry.folder import Companions
from vmferry.formats import open_parent
from vmferry.formats._block_table import BlockTable
from vmferry.formats._overlay import Layer, Overlay
from vmferry.formats.vdi.header import DIFFERENCING, DYNAMIC, FIXED, VdiHeader, read_header, read_map

_SUBFORMATS = {DYNAMIC: "dynamic", FIXED: "fixed", DIFFERENCING: "differencing"}


class VdiDisk:
    """A ``Disk`` (and ``SupportsStoredSize``, ``SupportsFacts``); owns its blob and its parent.

    Any number of threads may read at once.
    """

    def __init__(self, blob: Blob, companions: Companions) -> None:
        """Reads the header and the block map. Raises ``FormatError``, ``UnsafeDiskError``."""
        header = read_header(blob)
        # What VirtualBox keeps beside a block, which it never does in the files in the field, stands in front of it.
        base, unit = header.data_offset + header.extra_size, header.block_size + header.extra_size
        entries = read_map(blob, header)
        table = BlockTable(blob, entries, header.size, header.block_size, base=base, unit=unit, zeros=True)
        parent = _open_parent(blob, header, companions) if header.image_type == DIFFERENCING else None
        self._blob = blob
        self._table = table
        self._view: Layer = table if parent is None else Overlay(table, parent)
        self._parent = parent
        self.header = header
        warnings = () if parent is None else _remarks(header, parent.header)
        self.facts = DiskFacts(_SUBFORMATS[header.image_type], header.written_by, parent=parent, warnings=warnings)

    @property
    def size(self) -> int:
        return self._table.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        return self._view.extents(start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        return self._view.read_at(offset, length)

    def stored_size(self) -> int:
        """Bytes of the blocks that are in this file; the parent's are not counted."""
        return self._table.stored_size()

    def close(self) -> None:
        self._blob.close()
        if self._parent is not None:
            self._parent.close()


def _open_parent(blob: Blob, header: VdiHeader, companions: Companions) -> VdiDisk:
    """The parent that was supplied, if it is the one with the id that the header of ``blob`` names."""
    parent = open_parent(companions, "vdi")
    wanted = f"the image with the UUID {UUID(bytes_le=header.parent_id)}"
    if parent is None:
        raise UnsupportedFeatureError(
            f"vdi: {quote(blob.name)} holds only what changed since a snapshot; the rest is in its parent, {wanted}: "
            "give it with --parent, or merge the snapshot and export the disk again."
        )
    assert isinstance(parent, VdiDisk)
    if parent.header.image_id != header.parent_id:
        raise UnknownFormatError(
            f"vdi: {quote(companions.parents[0].name)} has the UUID {UUID(bytes_le=parent.header.image_id)}; the "
            f"parent of {quote(blob.name)} is {wanted}. Give that one with --parent."
        )
    return parent


def _remarks(child: VdiHeader, parent: VdiHeader) -> tuple[str, ...]:
    """Whether the parent is still as it was when the child was made."""
    if child.parent_modification_id in (bytes(16), parent.modification_id):
        return ()
    remark = "The parent was written to after the snapshot was made, as its modification UUID shows: "
    return (f"{remark}look whether the machine's file systems are whole.",)
