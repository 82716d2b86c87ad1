"""A VDI being made, dynamic or fixed, laid out as VirtualBox does it: map at 1 MiB, data at a multiple of 1 MiB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vmferry.blob import BlobWriter, Buffer
from vmferry.disk import Placed
from vmferry.errors import UnsupportedFeatureError
from vmferry.formats._block_table import UNALLOCATED
from vmferry.formats._block_writer import BlockWriter
from vmferry.formats._encoded_blocks import ContentDigest, EncodedBlock, encode_blocks
from vmferry.formats.vdi.header import BLOCK_SIZE, FIXED, new_header
from vmferry.limits import MAX_BLOCK_TABLE
from vmferry.units import MIB, format_size, round_up

_MAP_OFFSET = MIB
_MAX_SIZE = MAX_BLOCK_TABLE // 4 * BLOCK_SIZE


class VdiWriter(BlockWriter):
    """The OrderedDiskWriter of VDIs. ``encode`` and ``write`` may be called by any number of threads.

    The ids follow from the size and the guest's bytes. Until ``finish`` there is no header, so an unfinished file is no
    VDI for anybody.
    """

    granularity = BLOCK_SIZE

    def __init__(self, target: BlobWriter, size: int, image_type: int) -> None:
        """A disk of ``size`` bytes; ``image_type`` is ``DYNAMIC`` or ``FIXED``. Raises ``UnsupportedFeatureError``."""
        if size > _MAX_SIZE:
            raise UnsupportedFeatureError(
                f"vdi: a disk of {format_size(size)} is too large for a VDI, of which vmferry writes "
                f"{format_size(_MAX_SIZE)} at the most: write a VHDX or a qcow2 instead."
            )
        self.size = size
        """Guest bytes of the disk that is made."""
        self._type = image_type
        blocks = -(-size // BLOCK_SIZE)
        self._data_offset = round_up(_MAP_OFFSET + blocks * 4, MIB)
        fixed = image_type == FIXED
        self._map = np.arange(blocks, dtype=np.uint32) if fixed else np.full(blocks, UNALLOCATED, np.uint32)
        super().__init__(target, self._data_offset + (blocks * BLOCK_SIZE if fixed else 0), is_fixed=fixed)
        self._digest = ContentDigest(f"vdi {image_type}", size)

    def encode(self, offset: int, data: Buffer) -> Sequence[EncodedBlock]:
        """As ``OrderedDiskWriter``. ``ValueError`` for what is not whole blocks."""
        return list(encode_blocks(offset, data, self.size, BLOCK_SIZE))

    def _place(self, encoded: Sequence[EncodedBlock]) -> list[Placed]:
        placed: list[Placed] = []
        for block in encoded:
            self._digest.add(block)
            if not self._is_fixed:
                self._map[block.number] = self._allocated()
                self._end += BLOCK_SIZE
            host = self._data_offset + int(self._map[block.number]) * BLOCK_SIZE
            placed.extend((host + start, run) for start, run in block.runs)
        return placed

    def finish(self) -> None:
        ids = (_as_stored(self._digest.uuid("image")), _as_stored(self._digest.uuid("modification")))
        header = new_header(self._type, self.size, self._data_offset, self._allocated(), ids)
        self._target.write_at(_MAP_OFFSET, self._map.astype("<u4").tobytes())
        self._target.write_at(0, header.pack())
        self._target.set_size(self._end)
        self._target.finish()

    def _allocated(self) -> int:
        """Blocks that are in the file."""
        return (self._end - self._data_offset) // BLOCK_SIZE


def _as_stored(uuid: bytes) -> bytes:
    """A big-endian UUID with its first three fields turned round, as VirtualBox keeps them."""
    return uuid[3::-1] + uuid[5:3:-1] + uuid[7:5:-1] + uuid[8:]
