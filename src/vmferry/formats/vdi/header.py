"""The header and the block map of a VDI. Everything is little endian.

Source: VirtualBox, ``include/VBox/vd.h`` and its description of the format, version 1.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.formats._block_table import ZERO_BLOCK, Entries, ascending
from vmferry.formats.vdi import SIGNATURE, SIGNATURE_OFFSET
from vmferry.limits import MAX_BLOCK_SIZE, MAX_BLOCK_TABLE, MAX_DISK_SIZE
from vmferry.units import KIB, MIB, SECTOR, format_size, round_up

LENGTH = 472
"""Of the header of version 1.1, with all that stands in front of it."""
BLOCK_SIZE = MIB
"""Of nearly all files, and of those made here."""
DYNAMIC, FIXED, UNDO, DIFFERENCING = 1, 2, 3, 4

_FORM = struct.Struct("<64s4sIIII256sIIIIIIIQIIII16s16s16s16s")
_PREFIX = 72
"""Text, signature and version: the header's own size does not count them."""
_HEADER_SIZE = 400
_MIN_HEADER_SIZE = _FORM.size - _PREFIX
_VERSION = 0x0001_0001
_MIN_BLOCK_SIZE = 4 * KIB


@dataclass(frozen=True, slots=True)
class VdiHeader:
    """What the header says; sizes and offsets in bytes, ids as they stand in the file."""

    text: bytes
    header_size: int
    image_type: int
    map_offset: int
    data_offset: int
    sector_size: int
    disk_size: int
    block_size: int
    extra_size: int
    """In front of the data of each block; nobody uses it."""
    blocks: int
    allocated: int
    image_id: bytes
    modification_id: bytes
    """Changes whenever the disk is written to."""
    parent_id: bytes
    parent_modification_id: bytes

    @property
    def size(self) -> int:
        """The disk's size in whole sectors."""
        return round_up(self.disk_size, SECTOR)

    @property
    def written_by(self) -> str:
        """The text at the start of the file: ``Oracle VM VirtualBox Disk Image``."""
        return self.text.split(b"\0", 1)[0].decode("latin-1").strip("<> \n")

    def pack(self) -> bytes:
        """All that stands in front of the block map, as version 1.1 has it."""
        fields = (self.text, SIGNATURE, _VERSION, self.header_size, self.image_type, 0, b"")
        places = (self.map_offset, self.data_offset, 0, 0, 0, self.sector_size, 0)
        sizes = (self.disk_size, self.block_size, self.extra_size, self.blocks, self.allocated)
        ids = (self.image_id, self.modification_id, self.parent_id, self.parent_modification_id)
        return _FORM.pack(*fields, *places, *sizes, *ids) + struct.pack("<IIII", 0, 0, 0, SECTOR)


def new_header(image_type: int, size: int, data_offset: int, allocated: int, ids: tuple[bytes, bytes]) -> VdiHeader:
    """The header of a new image without a parent; ``ids`` are the image's and the modification's."""
    return VdiHeader(
        text=b"<<< vmferry Virtual Disk Image >>>\n",
        header_size=_HEADER_SIZE,
        image_type=image_type,
        map_offset=MIB,
        data_offset=data_offset,
        sector_size=SECTOR,
        disk_size=size,
        block_size=BLOCK_SIZE,
        extra_size=0,
        blocks=-(-size // BLOCK_SIZE),
        allocated=allocated,
        image_id=ids[0],
        modification_id=ids[1],
        parent_id=bytes(16),
        parent_modification_id=bytes(16),
    )


def read_header(blob: Blob) -> VdiHeader:
    """The header, checked. Raises ``FormatError``, ``UnsafeDiskError``."""
    data = blob.read_at(0, min(_FORM.size, blob.size))
    if len(data) < _FORM.size or data[SIGNATURE_OFFSET : SIGNATURE_OFFSET + 4] != SIGNATURE:
        raise corrupt(blob, "it has no VDI header")
    text, _, version, header_size, image_type, _, _, map_offset, data_offset, *rest = _FORM.unpack(data)
    _, _, _, sector_size, _, *rest = rest
    if version >> 16 != _VERSION >> 16:
        raise _unsupported(blob, f"version {version >> 16}.{version & 0xFFFF}")
    header = VdiHeader(text, header_size, image_type, map_offset, data_offset, sector_size, *rest)
    _check_kind(blob, header)
    _check_sizes(blob, header)
    return header


def read_map(blob: Blob, header: VdiHeader) -> Entries:
    """The entries of the disk's blocks: their places in the file, each taken once, all inside the file."""
    count = -(-header.size // header.block_size)
    entries = np.frombuffer(blob.read_at(header.map_offset, count * 4), "<u4").astype(np.uint32)
    places = ascending(entries[entries < ZERO_BLOCK])
    if not places.size:
        return entries
    if bool((places[1:] == places[:-1]).any()):
        raise UnsafeDiskError(
            f"vdi: in {quote(blob.name)} one block of the file is used for several blocks of the disk, as no program "
            "writes it. The file is corrupt or an attack: export it again."
        )
    highest = int(places[-1])
    if highest >= header.allocated:
        raise corrupt(blob, f"its map names block {highest:,}, but it says that it holds {header.allocated:,}")
    unit = header.block_size + header.extra_size
    end = header.data_offset + (highest + 1) * unit
    if highest == int(entries[-1]):  # only so much of the disk's last block must be there as the disk needs
        end -= count * header.block_size - header.size
    if end > blob.size:
        raise corrupt(blob, f"its last block ends at {end:,}, but the file at {blob.size:,}: the file was cut short")
    return entries


def corrupt(blob: Blob, what: str) -> CorruptDiskError:
    """The error that says ``what`` is wrong with ``blob``."""
    return CorruptDiskError(f"vdi: {quote(blob.name)} is damaged: {what}. Export or upload it again.")


def _unsupported(blob: Blob, what: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(
        f"vdi: {quote(blob.name)} has {what}, which is not read. Convert it where it was made: "
        "VBoxManage clonemedium disk OLD NEW."
    )


def _check_kind(blob: Blob, header: VdiHeader) -> None:
    if header.image_type not in (DYNAMIC, FIXED, DIFFERENCING):
        name = "an undo image's type" if header.image_type == UNDO else f"the unknown image type {header.image_type}"
        raise _unsupported(blob, name)
    if header.sector_size != SECTOR:
        raise _unsupported(blob, f"sectors of {header.sector_size:,} bytes")
    if header.header_size < _MIN_HEADER_SIZE:
        raise corrupt(blob, f"its header says that it has {header.header_size:,} bytes")


def _check_sizes(blob: Blob, header: VdiHeader) -> None:
    size, block_size = header.disk_size, header.block_size
    if size == 0:
        raise corrupt(blob, "it says that its disk has 0 bytes")
    if size > MAX_DISK_SIZE:
        raise UnsafeDiskError(
            f"vdi: {quote(blob.name)} claims a disk of {size:,} bytes; at most {format_size(MAX_DISK_SIZE)} are "
            "accepted. The file is corrupt: export it again."
        )
    if block_size & (block_size - 1) or not _MIN_BLOCK_SIZE <= block_size <= MAX_BLOCK_SIZE:
        raise corrupt(
            blob,
            f"its block size is {block_size:,} bytes, not a power of two from 4 KiB to {format_size(MAX_BLOCK_SIZE)}",
        )
    needed = -(-header.size // block_size)
    if header.blocks < needed:
        raise corrupt(blob, f"its map has {header.blocks:,} blocks, but {format_size(size)} need {needed:,}")
    if needed * 4 > MAX_BLOCK_TABLE:
        raise UnsafeDiskError(
            f"vdi: {quote(blob.name)} needs a block map of {format_size(needed * 4)}; at most "
            f"{format_size(MAX_BLOCK_TABLE)} are read. Convert it to raw where it was made."
        )
    if header.map_offset < _PREFIX + header.header_size:
        raise corrupt(blob, f"its block map at host offset {header.map_offset:#x} lies upon its header")
    map_end = header.map_offset + header.blocks * 4
    if map_end > min(header.data_offset, blob.size):
        raise corrupt(
            blob,
            f"its block map, {header.blocks:,} blocks at host offset {header.map_offset:#x}, goes past the start of "
            f"the data at {header.data_offset:#x} or the end of the file at {blob.size:,}",
        )
