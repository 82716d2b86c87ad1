"""A VHDX being made, dynamic or fixed. Source: [MS-VHDX], section 2; the order is that of Hyper-V's own files.

first MiB (identifier, headers, region tables) | log, empty | metadata | block allocation table | blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from uuid import UUID

import numpy as np

from vmferry.blob import BlobWriter, Buffer
from vmferry.disk import Placed
from vmferry.errors import UnsupportedFeatureError
from vmferry.formats._block_writer import BlockWriter
from vmferry.formats._encoded_blocks import ContentDigest, EncodedBlock, encode_blocks
from vmferry.formats.vhdx import MAGIC
from vmferry.formats.vhdx.header import VhdxHeader
from vmferry.formats.vhdx.structures import (
    BAT_REGION,
    CREATOR,
    DISK_ID,
    DISK_SIZE,
    FILE_PARAMETERS,
    HEADERS,
    LOGICAL_SECTOR,
    METADATA_REGION,
    NO_ID,
    PHYSICAL_SECTOR,
    REGION_TABLE_SIZE,
    REGION_TABLES,
    UNIT,
    chunk_ratio,
    crc32c,
)
from vmferry.limits import MAX_DISK_SIZE
from vmferry.units import KIB, MIB, SECTOR, TIB, format_size, round_up

GRANULE = MIB
_SMALL_BLOCK, _LARGE_BLOCK = MIB, 32 * MIB
_LARGE_FROM = 4 * TIB
"""Size from which on blocks are large: with small ones the table alone would take more than 32 MiB."""
_LOG, _METADATA, _BAT = UNIT, 2 * UNIT, 3 * UNIT
_PHYSICAL_SECTOR = 4096
_FULLY_PRESENT = 6
_ITEMS_OFFSET = 64 * KIB
_NAME = "vmferry"


class VhdxWriter(BlockWriter):
    """The OrderedDiskWriter of VHDXs. ``encode`` and ``write`` may be called by any number of threads.

    The GUIDs follow from the size and the guest's bytes. Until ``finish`` the file has no identifier, so it is no VHDX
    for anybody.
    """

    granularity = GRANULE

    def __init__(self, target: BlobWriter, size: int, *, is_fixed: bool) -> None:
        """A disk of ``size`` bytes, rounded up to whole sectors. Raises ``UnsupportedFeatureError`` over 64 TiB."""
        if size > MAX_DISK_SIZE:
            raise UnsupportedFeatureError(
                f"vhdx: a disk of {format_size(size)} does not fit; a VHDX holds {format_size(MAX_DISK_SIZE)}."
            )
        self.size = round_up(max(size, 1), SECTOR)
        """Guest bytes of the disk that is made."""
        self._guest_size = size
        self._block_size = _LARGE_BLOCK if size > _LARGE_FROM else _SMALL_BLOCK
        count = -(-self.size // self._block_size)
        self._places = np.zeros(count, np.uint64)
        """Of each block, the MiB of the file where it begins; 0 for none."""
        self._ratio = chunk_ratio(self._block_size, SECTOR)
        self._entries = count + (count - 1) // self._ratio
        self._bat_size = round_up(self._entries * 8, UNIT)
        end = _BAT + self._bat_size
        if is_fixed:
            units = self._block_size // UNIT
            self._places[:] = end // UNIT + np.arange(count, dtype=np.uint64) * np.uint64(units)
            end += count * self._block_size
        super().__init__(target, end, is_fixed=is_fixed)
        self._digest = ContentDigest(f"vhdx {is_fixed}", self.size)
        self.slice_unit = self._block_size

    def encode(self, offset: int, data: Buffer) -> Sequence[EncodedBlock]:
        """As ``OrderedDiskWriter``. ``ValueError`` for what is not whole MiB."""
        return list(encode_blocks(offset, data, self._guest_size, GRANULE))

    def _place(self, encoded: Sequence[EncodedBlock]) -> list[Placed]:
        placed: list[Placed] = []
        for granule in encoded:
            self._digest.add(granule)
            block, inside = divmod(granule.number * GRANULE, self._block_size)
            if not self._places[block]:
                self._places[block] = self._end // UNIT
                self._end += self._block_size
            host = int(self._places[block]) * UNIT + inside
            placed.extend((host + start, run) for start, run in granule.runs)
        return placed

    def finish(self) -> None:
        self._target.set_size(self._end)
        self._target.write_at(_BAT, self._table())
        table, items = self._metadata()
        self._target.write_at(_METADATA, table)
        self._target.write_at(_METADATA + _ITEMS_OFFSET, items)
        regions = self._regions()
        for place in REGION_TABLES:
            self._target.write_at(place, regions)
        ids = [UUID(bytes=self._digest.uuid(purpose)).bytes_le for purpose in ("file write", "data write")]
        for sequence, place in enumerate(HEADERS):
            self._target.write_at(place, VhdxHeader(sequence, ids[0], ids[1], NO_ID, _LOG, UNIT).pack())
        name = _NAME.encode("utf-16-le").ljust(CREATOR[1], b"\0")
        self._target.write_at(0, MAGIC + name)
        self._target.finish()

    def _table(self) -> bytes:
        """The block allocation table: behind the entries of each chunk's blocks one for its bitmap, which is empty."""
        chunks = -(-len(self._places) // self._ratio)
        payload = np.zeros(chunks * self._ratio, np.uint64)
        entries = self._places << np.uint64(20)
        payload[: len(self._places)] = np.where(self._places > 0, entries | np.uint64(_FULLY_PRESENT), entries)
        table = np.zeros((chunks, self._ratio + 1), "<u8")
        table[:, : self._ratio] = payload.reshape(chunks, self._ratio)
        return table.tobytes()[: self._entries * 8]

    def _metadata(self) -> tuple[bytes, bytes]:
        """The table of the metadata's items, and the items."""
        disk_id = UUID(bytes=self._digest.uuid("disk")).bytes_le
        items = (
            (FILE_PARAMETERS, struct.pack("<II", self._block_size, int(self._is_fixed)), 4),
            (DISK_SIZE, struct.pack("<Q", self.size), 6),
            (DISK_ID, disk_id, 6),
            (LOGICAL_SECTOR, struct.pack("<I", SECTOR), 6),
            (PHYSICAL_SECTOR, struct.pack("<I", _PHYSICAL_SECTOR), 6),
        )
        table = bytearray(b"metadata".ljust(10, b"\0") + struct.pack("<H", len(items)).ljust(22, b"\0"))
        content = b""
        for kind, item, flags in items:
            table += struct.pack("<16sIIII", kind, _ITEMS_OFFSET + len(content), len(item), flags, 0)
            content += item
        return bytes(table), content

    def _regions(self) -> bytes:
        """A region table's 64 KiB."""
        data = bytearray(struct.pack("<4sIII", b"regi", 0, 2, 0))
        data += struct.pack("<16sQII", BAT_REGION, _BAT, self._bat_size, 1)
        data += struct.pack("<16sQII", METADATA_REGION, _METADATA, UNIT, 1)
        data = data.ljust(REGION_TABLE_SIZE, b"\0")
        data[4:8] = crc32c(data, 4).to_bytes(4, "little")
        return bytes(data)
