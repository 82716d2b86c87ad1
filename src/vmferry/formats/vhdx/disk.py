"""The disk in a VHDX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from vmferry.blob import Blob, Buffer
from vmferry.disk import DiskFacts
from vmferry.errors import CorruptDiskError, UnknownFormatError, quote
from vmferry.extent import Extent, ExtentKind, clip, cut_range, equal_runs, merge
from vmferry.folder import Companions
from vmferry.formats._image import ImageDisk, need_parent
from vmferry.formats.vhdx.blocks import PARTIAL, BlockLayer, BlockMap
from vmferry.formats.vhdx.header import read_creator, read_header
from vmferry.formats.vhdx.log import replay
from vmferry.formats.vhdx.metadata import Metadata, Region, read_metadata, read_regions
from vmferry.formats.vhdx.structures import NO_ID, UNIT
from vmferry.units import MIB, SECTOR

_BITMAP = MIB
"""Bytes of a sector bitmap, which is for all blocks of a chunk and is read whole: 4 GiB of the disk or more at once."""
_BITMAPS = 8
"""Sector bitmaps that are held."""
_KINDS = (ExtentKind.HOLE, ExtentKind.DATA)


class SectorLayer:
    """What a differencing VHDX holds itself: whole blocks, and of partially present ones the sectors whose bit is set.

    The first sector has the least significant bit of the bitmap's first byte. Safe from any number of threads.
    """

    def __init__(self, blob: Blob, blocks: BlockMap, metadata: Metadata) -> None:
        self._blob = blob
        self._blocks = blocks
        self._whole = BlockLayer(blob, blocks, metadata.size)
        self._sector = metadata.sector_size
        self._sectors = blocks.block_size // metadata.sector_size
        self._bitmap = lru_cache(_BITMAPS)(self._read_bitmap)

    @property
    def size(self) -> int:
        return self._whole.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``; reads the bitmaps of partially present blocks."""
        start, end = cut_range(self.size, start, end)
        return clip(merge(self._runs(start, end)), start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        """The bytes of the blocks that are in the file: those of DATA extents count, others may be anything."""
        return self._whole.read_at(offset, length)

    def stored_size(self) -> int:
        """Whole blocks, whatever their bitmaps say."""
        return self._whole.stored_size()

    def _runs(self, start: int, end: int) -> Iterator[Extent]:
        size = self._blocks.block_size
        for first, last, kind in self._blocks.runs(start // size, -(-end // size)):
            if kind != PARTIAL:
                yield from self._whole.extents(first * size, last * size)
                continue
            for block in range(first, last):
                yield from self._block_runs(block)

    def _block_runs(self, block: int) -> Iterator[Extent]:
        base = block * self._blocks.block_size
        bits = self._bits(block)
        for low, high in equal_runs(bits):
            yield Extent(base + low * self._sector, (high - low) * self._sector, _KINDS[bits[low]])

    def _bits(self, block: int) -> NDArray[np.uint8]:
        """1 for each sector of ``block`` that is the disk's own."""
        chunk, index = divmod(block, self._blocks.ratio)
        length = self._sectors // 8
        bitmap = np.frombuffer(self._bitmap(chunk), np.uint8, length, index * length)
        return np.unpackbits(bitmap, bitorder="little")

    def _read_bitmap(self, chunk: int) -> bytes:
        """The bitmap of ``chunk``, some of whose blocks are partially present: only it knows what is whose."""
        first = chunk * self._blocks.ratio
        place = self._blocks.bitmap(first)
        if not place:
            raise CorruptDiskError(
                f"vhdx: {quote(self._blob.name)} holds parts of blocks from number {first:,} on, but no sector bitmap "
                "that tells which. Export or upload it again."
            )
        return self._blob.read_at(place, _BITMAP)


def open_image(blob: Blob, companions: Companions) -> ImageDisk:
    """The disk in ``blob``; reads headers, log and metadata, no block allocation table. Its identity is its data write
    id.

    Raises ``FormatError``, ``UnsafeDiskError``.
    """
    header, oddity = read_header(blob)
    replayed = replay(blob, header)
    bat, place, other_oddity = read_regions(replayed, header)
    metadata = read_metadata(replayed, place)
    reserved = [Region(0, UNIT), Region(header.log_offset, header.log_length), bat, place]
    blocks = BlockMap(replayed, bat, metadata, reserved)
    parent = None if metadata.parent is None else _open_parent(blob, metadata.parent, companions)
    layer = BlockLayer(replayed, blocks, metadata.size) if parent is None else SectorLayer(replayed, blocks, metadata)
    kind = "differencing" if parent is not None else "fixed" if metadata.is_fixed else "dynamic"
    warnings = [text for text in (oddity, other_oddity) if text]
    if replayed is not blob:
        warnings.append("Its log was replayed in memory: the machine was not shut down cleanly, or still runs.")
    if metadata.sector_size != SECTOR:
        warnings.append(
            f"Its sectors have {metadata.sector_size:,} bytes: partition tables made for them are not found on a "
            f"disk with sectors of {SECTOR}."
        )
    facts = DiskFacts(kind, read_creator(blob), metadata.sector_size, parent=parent, warnings=tuple(warnings))
    return ImageDisk(layer, facts, [blob], identity=header.data_write_id)


def _open_parent(blob: Blob, locator: Mapping[str, str], companions: Companions) -> ImageDisk:
    """The parent that was supplied, if its bytes are those that the child was made from."""
    linkage = locator.get("parent_linkage", "")
    names = [locator[key] for key in ("relative_path", "absolute_win32_path", "volume_path") if key in locator]
    wanted = f"{quote(names[0]) if names else 'without a name'} (data write id {quote(linkage)})"
    parent = need_parent(blob, companions, "vhdx", wanted)
    assert isinstance(parent.identity, bytes)
    # There are two ids while a merge is under way; else Windows leaves the second one out, or all zeros.
    ids = {_as_id(linkage), _as_id(locator.get("parent_linkage2", ""))} - {NO_ID}
    if parent.identity not in ids:
        raise UnknownFormatError(
            f"vhdx: {quote(companions.parents[0].name)} (data write id {UUID(bytes_le=parent.identity)}) is not "
            f"the parent of {quote(blob.name)}, which is {wanted}, or was changed since. Give that one with --parent."
        )
    return parent


def _as_id(text: str) -> bytes | None:
    try:
        return UUID(text.strip("{}\0 ")).bytes_le
    except ValueError:
        return None
