"""The disks in VHDs: fixed, and those in blocks."""

from __future__ import annotations

from uuid import UUID

from vmferry.blob import Blob, SliceBlob
from vmferry.disk import DiskFacts
from vmferry.errors import CorruptDiskError, UnknownFormatError, quote
from vmferry.folder import Companions
from vmferry.formats._block_table import BlockTable
from vmferry.formats._image import ImageDisk, need_parent
from vmferry.formats.raw import RawDisk
from vmferry.formats.vhd.footer import DIFFERENCING, FIXED, FoundFooter, read_footer
from vmferry.formats.vhd.header import BLOCK_SIZE, DynamicHeader, read_bat, read_header
from vmferry.formats.vhd.sectors import SectorLayer
from vmferry.units import SECTOR


def open_image(blob: Blob, companions: Companions) -> ImageDisk:
    """The disk in ``blob``; reads the footer and, where there is one, the table. Its identity is its unique id.

    Raises ``FormatError``, ``UnsafeDiskError``.
    """
    found = read_footer(blob)
    return _open_fixed(blob, found) if found.footer.disk_type == FIXED else _open_sparse(blob, found, companions)


def _open_fixed(blob: Blob, found: FoundFooter) -> ImageDisk:
    """A disk that lies in front of its footer; raises unless the file holds the whole of it, and not much more."""
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
    facts = DiskFacts("fixed", found.footer.written_by, warnings=warnings)
    return ImageDisk(RawDisk(SliceBlob(blob, 0, size, blob.name)), facts, [blob], identity=found.footer.unique_id)


def _open_sparse(blob: Blob, found: FoundFooter, companions: Companions) -> ImageDisk:
    """A disk in blocks, dynamic or differencing.

    A block of a dynamic disk is read whole, whatever its sector bitmap says: there are writers that leave bitmaps
    empty, and the others fill a new block with zeros. In a differencing disk the bitmap decides.
    """
    footer, header = found.footer, read_header(blob, found)
    entries = read_bat(blob, found, header)
    table = BlockTable(blob, entries, footer.disk_size, header.block_size, base=header.bitmap_size, unit=SECTOR)
    parent = _open_parent(blob, header, companions) if footer.disk_type == DIFFERENCING else None
    layer = table if parent is None else SectorLayer(blob, table, header)
    subformat = "dynamic" if parent is None else "differencing"
    facts = DiskFacts(subformat, footer.written_by, parent=parent, warnings=found.warnings)
    return ImageDisk(layer, facts, [blob], identity=footer.unique_id)


def _open_parent(blob: Blob, header: DynamicHeader, companions: Companions) -> ImageDisk:
    """The parent that was supplied, if it is the one with the id that the header of ``blob`` names."""
    wanted = f"{quote(header.parent_name) or 'without a name'} (unique id {UUID(bytes=header.parent_id)})"
    parent = need_parent(blob, companions, "vhd", wanted)
    assert isinstance(parent.identity, bytes)
    if parent.identity != header.parent_id:
        raise UnknownFormatError(
            f"vhd: {quote(companions.parents[0].name)} (unique id {UUID(bytes=parent.identity)}) is not the parent of "
            f"{quote(blob.name)}, which is {wanted}. Give that one with --parent."
        )
    return parent
