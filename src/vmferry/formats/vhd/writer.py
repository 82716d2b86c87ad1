"""A VHD being made, dynamic or fixed, as Hyper-V and Azure want it.

Sources: Microsoft, *Virtual Hard Disk Image Format Specification* 1.0; Azure, "Prepare a Windows VHD": the disk is a
whole number of MiB. Blocks are laid out as Windows 8 and later do it, their data at multiples of 4 KiB.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vmferry.blob import BlobWriter, Buffer
from vmferry.disk import Placed
from vmferry.errors import UnsupportedFeatureError
from vmferry.formats._block_table import UNALLOCATED
from vmferry.formats._block_writer import BlockWriter
from vmferry.formats._encoded_blocks import ContentDigest, EncodedBlock, encode_blocks
from vmferry.formats.vhd import FOOTER_LENGTH
from vmferry.formats.vhd.footer import DYNAMIC, FIXED, NOWHERE, Footer, geometry
from vmferry.formats.vhd.header import BLOCK_SIZE, DynamicHeader
from vmferry.ranges import StoredRanges, put_run
from vmferry.units import GIB, KIB, MIB, SECTOR, format_size, round_up

MAX_SIZE = 2040 * GIB
"""Of a disk that every program takes; the table's 32 bits end little above it."""

_CREATOR, _CREATOR_VERSION, _CREATOR_HOST = b"win ", 0x000A_0000, b"Wi2k"
"""The one creator whose disks all programs size by the current size, not by the geometry."""
_ALIGNMENT = 4 * KIB
_HEADER_OFFSET = 512
_BAT_OFFSET = 1536
_BITMAP = b"\xff" * (BLOCK_SIZE // SECTOR // 8)
_STRIDE = BLOCK_SIZE + _ALIGNMENT
"""From block to block: the bitmap takes the end of the 4 KiB in front of its block."""


class VhdWriter(BlockWriter):
    """The OrderedDiskWriter of VHDs. ``encode`` and ``write`` may be called by any number of threads.

    The unique id follows from the size and the guest's bytes. Until ``finish`` the file has no footer, so it is no VHD
    for anybody.
    """

    granularity = BLOCK_SIZE
    slice_unit = BLOCK_SIZE

    def __init__(self, target: BlobWriter, size: int, disk_type: int) -> None:
        """A disk of ``size`` bytes, rounded up to whole MiB; ``disk_type`` is ``DYNAMIC`` or ``FIXED``.

        Raises ``UnsupportedFeatureError`` over 2040 GiB.
        """
        if size > MAX_SIZE:
            raise UnsupportedFeatureError(
                f"vhd: a disk of {format_size(size)} does not fit, for a VHD holds {format_size(MAX_SIZE)} at the "
                "most: write a VHDX instead."
            )
        self.size = round_up(max(size, 1), MIB)
        """Guest bytes of the disk that is made."""
        self._guest_size = size
        self._bat = np.full(-(-self.size // BLOCK_SIZE), UNALLOCATED, np.uint32)
        # The next block's bitmap goes there, and the footer when there is no next block.
        fixed = disk_type == FIXED
        super().__init__(target, self.size if fixed else self._first_block(), is_fixed=fixed)
        self._digest = ContentDigest(f"vhd {disk_type}", self.size)

    def encode(self, offset: int, data: Buffer) -> Sequence[EncodedBlock]:
        """As ``OrderedDiskWriter``. ``ValueError`` for what is not whole blocks."""
        return list(encode_blocks(offset, data, self._guest_size, BLOCK_SIZE))

    def _place(self, encoded: Sequence[EncodedBlock]) -> list[Placed]:
        placed: list[Placed] = []
        for block in encoded:
            self._digest.add(block)
            if self._is_fixed:
                host = block.number * BLOCK_SIZE
            else:
                placed.append((self._end, _BITMAP))
                self._bat[block.number] = self._end // SECTOR
                host = self._end + len(_BITMAP)
                self._end += _STRIDE
            placed.extend((host + start, run) for start, run in block.runs)
        return placed

    def write(self, placed: Sequence[Placed]) -> None:
        self.write_placed(placed, 0, None)

    def write_placed(self, placed: Sequence[Placed], offset: int, stored: StoredRanges | None) -> None:
        """As ``SupportsPlacedSharing``, of a fixed disk; the blocks of a dynamic one lie elsewhere than the guest's."""
        stored = stored if self._is_fixed else None
        for host, data in placed:
            put_run(self._target, host, data, host - offset, stored)

    def finish(self) -> None:
        footer = self._footer().pack()
        if not self._is_fixed:
            self._target.write_at(_BAT_OFFSET, self._table())
            self._target.write_at(_HEADER_OFFSET, DynamicHeader(_BAT_OFFSET, len(self._bat), BLOCK_SIZE).pack())
            self._target.write_at(0, footer)
        self._target.write_at(self._end, footer)
        self._target.set_size(self._end + FOOTER_LENGTH)
        self._target.finish()

    def _first_block(self) -> int:
        """Where a dynamic disk's first bitmap goes."""
        return round_up(_BAT_OFFSET + len(self._table()) + SECTOR, _ALIGNMENT) - SECTOR

    def _table(self) -> bytes:
        """The block allocation table in whole sectors."""
        table = self._bat.astype(">u4").tobytes()
        return table.ljust(round_up(len(table), SECTOR), b"\xff")

    def _footer(self) -> Footer:
        cylinders, heads, sectors_per_track = geometry(self.size)
        return Footer(
            data_offset=NOWHERE if self._is_fixed else _HEADER_OFFSET,
            timestamp=0,
            creator=_CREATOR,
            creator_version=_CREATOR_VERSION,
            creator_host=_CREATOR_HOST,
            original_size=self.size,
            current_size=self.size,
            cylinders=cylinders,
            heads=heads,
            sectors_per_track=sectors_per_track,
            disk_type=FIXED if self._is_fixed else DYNAMIC,
            unique_id=self._digest.uuid("image"),
        )
