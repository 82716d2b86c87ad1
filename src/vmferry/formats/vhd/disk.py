"""The disks in VHDs: fixed, and those in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from vmferry.blob import Blob, Buffer, SliceBlob
from vmferry.disk import Disk, DiskFacts
from vmferry.errors import CorruptDiskError, UnknownFormatError, UnsupportedFeatureError, quote
from vmferry.extent import Extent
from vmferry.folder import Companions
from vmferry.formats import open_parent
from vmferry.formats._block_table import BlockTable
from vmferry.formats._overlay import Layer, Overlay
from vmferry.formats.raw import RawDisk
from vmferry.formats.vhd.footer import DIFFERENCING, FoundFooter
from vmferry.formats.vhd.header import BLOCK_SIZE, DynamicHeader, read_bat, read_header
from vmferry.formats.vhd.sectors import SectorLayer
from vmferry.units import SECTOR


class FixedVhdDisk:
    """A ``Disk`` (and ``SupportsStoredSize``, ``SupportsFacts``) that lies in front of its footer; owns its blob.

    Any number of threads may read at once.
    """

    def __init__(self, blob: Blob, found: FoundFooter) -> None:
        """Raises ``CorruptDiskError`` where the file does not hold the whole disk, or much more."""
        size = found.footer.current_size
        surplus = found.data_end - size
        if surplus < 0 or surplus > BLOCK_SIZE:
            raise CorruptDiskError(
                f"vhd: {quote(blob.name)} holds {found.data_end:,} bytes in front of its footer, but the footer gives "
                f"the disk {size:,}. The file is damaged or cut short: export or upload it again."
            )
        warnings = found.warnings
        if surplus:
            warnings += (f"{surplus:,} bytes between the end of the disk and its footer belong to nothing.",)
        self._blob = blob
        self._data = RawDisk(SliceBlob(blob, 0, size, blob.name))
        self.unique_id = found.footer.unique_id
        self.facts = DiskFacts("fixed", found.footer.written_by, warnings=warnings)

    @property
    def size(self) -> int:
        return self._data.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        return self._data.extents(start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        return self._data.read_at(offset, length)

    def stored_size(self) -> int:
        return self._data.stored_size()

    def close(self) -> None:
        self._blob.close()


class SparseVhdDisk:
    """A ``Disk`` (and ``SupportsStoredSize``, ``SupportsFacts``) in blocks, dynamic or differencing; owns its blob and
    its parent. Any number of threads may read at once.

    A block of a dynamic disk is read whole, whatever its sector bitmap says: there are writers that leave bitmaps
    empty, and the others fill a new block with zeros. In a differencing disk the bitmap decides.
    """

    def __init__(self, blob: Blob, found: FoundFooter, companions: Companions) -> None:
        """Reads the dynamic header and the block allocation table. Raises ``FormatError``, ``UnsafeDiskError``."""
        footer, header = found.footer, read_header(blob, found)
        entries = read_bat(blob, found, header)
        table = BlockTable(blob, entries, footer.disk_size, header.block_size, base=header.bitmap_size, unit=SECTOR)
        parent = _open_parent(blob, header, companions) if footer.disk_type == DIFFERENCING else None
        self._blob = blob
        self._table = table
        self._view: Layer = table if parent is None else Overlay(SectorLayer(blob, table, header), parent)
        self._parent = parent
        self.unique_id = footer.unique_id
        subformat = "dynamic" if parent is None else "differencing"
        self.facts = DiskFacts(subformat, footer.written_by, parent=parent, warnings=found.warnings)

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


def _open_parent(blob: Blob, header: DynamicHeader, companions: Companions) -> Disk:
    """The parent that was supplied, if it is the one with the id that the header of ``blob`` names."""
    parent = open_parent(companions, "vhd")
    wanted = f"{quote(header.parent_name) or 'without a name'} (unique id {UUID(bytes=header.parent_id)})"
    if parent is None:
        raise UnsupportedFeatureError(
            f"vhd: {quote(blob.name)} holds only what changed since a snapshot; the rest is in its parent, {wanted}: "
            "give it with --parent, or merge the snapshot and export the disk again."
        )
    assert isinstance(parent, FixedVhdDisk | SparseVhdDisk)
    if parent.unique_id != header.parent_id:
        raise UnknownFormatError(
            f"vhd: {quote(companions.parents[0].name)} (unique id {UUID(bytes=parent.unique_id)}) is not the parent of "
            f"{quote(blob.name)}, which is {wanted}. Give that one with --parent."
        )
    return parent
