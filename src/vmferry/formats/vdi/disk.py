"""The disk in a VDI."""

from __future__ import annotations

from uuid import UUID

from vmferry.blob import Blob
from vmferry.disk import DiskFacts
from vmferry.errors import UnknownFormatError, quote
from vmferry.folder import Companions
from vmferry.formats._block_table import BlockTable
from vmferry.formats._image import ImageDisk, need_parent
from vmferry.formats.vdi.header import DIFFERENCING, DYNAMIC, FIXED, VdiHeader, read_header, read_map

_SUBFORMATS = {DYNAMIC: "dynamic", FIXED: "fixed", DIFFERENCING: "differencing"}


def open_image(blob: Blob, companions: Companions) -> ImageDisk:
    """The disk in ``blob``; reads the header and the block map. Its identity is its header.

    Raises ``FormatError``, ``UnsafeDiskError``.
    """
    header = read_header(blob)
    # What VirtualBox keeps beside a block, which it never does in the files in the field, stands in front of it.
    base, unit = header.data_offset + header.extra_size, header.block_size + header.extra_size
    entries = read_map(blob, header)
    table = BlockTable(blob, entries, header.size, header.block_size, base=base, unit=unit, zeros=True)
    parent = _open_parent(blob, header, companions) if header.image_type == DIFFERENCING else None
    warnings = () if parent is None else _remarks(header, parent.identity)
    facts = DiskFacts(_SUBFORMATS[header.image_type], header.written_by, parent=parent, warnings=warnings)
    return ImageDisk(table, facts, [blob], identity=header)


def _open_parent(blob: Blob, header: VdiHeader, companions: Companions) -> ImageDisk:
    """The parent that was supplied, if it is the one with the id that the header of ``blob`` names."""
    wanted = f"the image with the UUID {UUID(bytes_le=header.parent_id)}"
    parent = need_parent(blob, companions, "vdi", wanted)
    assert isinstance(parent.identity, VdiHeader)
    if parent.identity.image_id != header.parent_id:
        raise UnknownFormatError(
            f"vdi: {quote(companions.parents[0].name)} has the UUID {UUID(bytes_le=parent.identity.image_id)}; the "
            f"parent of {quote(blob.name)} is {wanted}. Give that one with --parent."
        )
    return parent


def _remarks(child: VdiHeader, parent: object) -> tuple[str, ...]:
    """Whether the parent is still as it was when the child was made."""
    assert isinstance(parent, VdiHeader)
    if child.parent_modification_id in (bytes(16), parent.modification_id):
        return ()
    remark = "The parent was written to after the snapshot was made, as its modification UUID shows: "
    return (f"{remark}look whether the machine's file systems are whole.",)
