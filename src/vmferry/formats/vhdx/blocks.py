"""The block allocation table of a VHDX: loaded in parts as they are asked for. [MS-VHDX], section 2.5."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vmferry.blob import Blob, Buffer
from vmferry.errors import CorruptDiskError, UnsafeDiskError, quote
from vmferry.extent import Extent, ExtentKind, check_inside, clip, cut_range, equal_runs, merge
from vmferry.formats.vhdx.metadata import Metadata, Region
from vmferry.formats.vhdx.structures import UNIT, chunk_ratio
from vmferry.limits import MAX_DISK_SIZE
from vmferry.ranges import StoredRange, StoredRanges, join_ranges
from vmferry.units import MIB, format_size

_PART = 32 * 1024
"""Blocks whose entries are loaded together, or one chunk's where it has more."""
_CACHE = 32 * MIB
_ENTRY_BYTES = 9
"""That a block takes in the cache: its place and its kind."""

HOLE, ZERO, DATA, PARTIAL = range(4)
_INVALID = 4
_KINDS = np.array([HOLE, ZERO, ZERO, ZERO, _INVALID, ZERO, DATA, PARTIAL], np.uint8)
"""By state: not present, undefined, zero, unmapped, —, unmapped (version 0.95), fully present, partially present."""
_EXTENT_KINDS = {HOLE: ExtentKind.HOLE, ZERO: ExtentKind.ZERO, DATA: ExtentKind.DATA, PARTIAL: ExtentKind.DATA}


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Entries of neighbouring blocks: what each is, and the MiB of the file where it begins."""

    kinds: NDArray[np.uint8]
    places: NDArray[np.int64]
    bitmaps: NDArray[np.int64]
    """One a chunk: the MiB of its sector bitmap, 0 where there is none."""


class BlockMap:
    """Where every block lies. Holds 32 MiB of entries and a byte for each MiB of the file. Safe from any thread.

    Every entry is checked when its part is loaded: inside the file, clear of tables and log, no two at one place.
    """

    def __init__(self, blob: Blob, region: Region, metadata: Metadata, reserved: list[Region]) -> None:
        """``reserved`` are the parts of the file where no block may lie.

        Raises ``CorruptDiskError``, and ``UnsafeDiskError`` for a file of more than 128 TiB.
        """
        if blob.size > 2 * MAX_DISK_SIZE:
            raise UnsafeDiskError(
                f"vhdx: {quote(blob.name)} has {format_size(blob.size)}, far more than any disk needs; at most "
                f"{format_size(2 * MAX_DISK_SIZE)} are read. Copy the disk into a new VHDX where it was made."
            )
        self._blob = blob
        self._region = region
        self._metadata = metadata
        self.block_size = metadata.block_size
        self.count = -(-metadata.size // metadata.block_size)
        self.ratio = chunk_ratio(metadata.block_size, metadata.sector_size)
        self._entries = self.count + (self.count - 1) // self.ratio
        if metadata.parent is not None:
            self._entries = -(-self.count // self.ratio) * (self.ratio + 1)
        if self._entries * 8 > region.length:
            raise CorruptDiskError(
                f"vhdx: the block allocation table of {quote(blob.name)} has room for {region.length // 8:,} entries; "
                f"{self._entries:,} are needed. The file is damaged: export it again."
            )
        self._part_chunks = max(_PART // self.ratio, 1)
        self.part_blocks = self._part_chunks * self.ratio
        self._part = lru_cache(max(_CACHE // (min(self.part_blocks, self.count) * _ENTRY_BYTES), 2))(self._load)
        self._taken = np.zeros(-(-blob.size // UNIT) + 1, np.bool_)
        for other in reserved:
            self._taken[other.offset // UNIT : -(-other.end // UNIT)] = True
        self._claimed: set[int] = set()
        self._lock = threading.Lock()

    def runs(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """``(first block, block behind the last, kind)`` of blocks ``[first, last)``; neighbours may be alike."""
        for number in range(first // self.part_blocks, -(-last // self.part_blocks)):
            base = number * self.part_blocks
            low, high = max(first - base, 0), min(last - base, self.part_blocks)
            kinds = self._part(number).kinds[low:high]
            for begin, end in equal_runs(kinds):
                yield base + low + begin, base + low + end, int(kinds[begin])

    def entry(self, block: int) -> tuple[int, int]:
        """Kind and host offset of ``block``."""
        number, index = divmod(block, self.part_blocks)
        part = self._part(number)
        return int(part.kinds[index]), int(part.places[index]) * UNIT

    def bitmap(self, block: int) -> int:
        """Host offset of the sector bitmap of ``block``'s chunk; 0 where there is none."""
        number, index = divmod(block, self.part_blocks)
        return int(self._part(number).bitmaps[index // self.ratio]) * UNIT

    def stored_size(self) -> int:
        """Guest bytes of the blocks that are in the file. Loads the whole table."""
        total = sum((last - first) * self.block_size for first, last, kind in self.runs(0, self.count) if kind >= DATA)
        overhang = self.count * self.block_size - self._metadata.size
        return total - (overhang if self.entry(self.count - 1)[0] >= DATA else 0)

    def _load(self, number: int) -> _Part:
        chunk = number * self._part_chunks
        start = chunk * (self.ratio + 1)
        count = min(self._part_chunks * (self.ratio + 1), self._entries - start)
        raw = np.frombuffer(self._blob.read_at(self._region.offset + start * 8, count * 8), "<u8")
        rows = -(-count // (self.ratio + 1))
        table = np.zeros((rows, self.ratio + 1), np.uint64)
        table.reshape(-1)[:count] = raw
        blocks = min(self.part_blocks, self.count - number * self.part_blocks)
        entries = np.ascontiguousarray(table[:, : self.ratio]).reshape(-1)[:blocks]
        kinds = _KINDS[(entries & np.uint64(7)).astype(np.intp)]
        places = (entries >> np.uint64(20)).astype(np.int64)
        bitmaps = self._check_bitmaps(table[:, self.ratio])
        self._check(number, kinds, places)
        self._claim(number, places[kinds >= DATA], bitmaps[bitmaps > 0])
        return _Part(kinds, places, bitmaps)

    def _check_bitmaps(self, entries: NDArray[np.uint64]) -> NDArray[np.int64]:
        present = (entries & np.uint64(7)) == 6
        if self._metadata.parent is None:
            return np.zeros(len(entries), np.int64)
        places = np.where(present, entries >> np.uint64(20), 0).astype(np.int64)
        if (places >= self._blob.size // UNIT).any():
            raise self._corrupt("a sector bitmap is said to lie past the end of the file; it may be cut short")
        return places

    def _check(self, number: int, kinds: NDArray[np.uint8], places: NDArray[np.int64]) -> None:
        """Raise unless every state is one, and every stored block lies inside the file."""
        most = DATA if self._metadata.parent is None else PARTIAL
        strange = (kinds == _INVALID) | ((kinds == PARTIAL) & (most == DATA))
        if strange.any():
            block = number * self.part_blocks + int(np.argmax(strange))
            raise self._corrupt(f"block {block:,} has a state that no such disk has")
        # In MiB: an entry has 44 bits for them, and what is that many MiB does not fit into 64 bits as bytes.
        outside = (kinds >= DATA) & ((places < 1) | (places > (self._blob.size - self.block_size) // UNIT))
        if number * self.part_blocks + len(places) == self.count:
            # The disk's last block may be stored only as far as the disk goes.
            needed = self._metadata.size - (self.count - 1) * self.block_size
            outside[-1] = kinds[-1] >= DATA and not 1 <= places[-1] <= (self._blob.size - needed) // UNIT
        if outside.any():
            index = int(np.argmax(outside))
            raise self._corrupt(
                f"block {number * self.part_blocks + index:,} is said to lie at host offset "
                f"0x{int(places[index]) * UNIT:x}, past the end of the file ({self._blob.size:,} bytes); it may be cut "
                "short"
            )

    def _claim(self, number: int, blocks: NDArray[np.int64], bitmaps: NDArray[np.int64]) -> None:
        """Take the places of a part's blocks, once. Raises ``UnsafeDiskError`` where one is taken already."""
        length = self.block_size // UNIT
        with self._lock:
            if number in self._claimed:
                return
            for starts, units in ((blocks, length), (bitmaps, 1)):
                ordered = np.sort(starts)
                crowded = bool((np.diff(ordered) < units).any())
                for step in range(units):
                    places = np.minimum(ordered + step, len(self._taken) - 1)
                    crowded = crowded or bool(self._taken[places].any())
                if crowded:
                    raise UnsafeDiskError(
                        f"vhdx: two blocks of {quote(self._blob.name)} lie at one place of the file, or on its tables. "
                        "The file is damaged or made to do harm: export it again."
                    )
                for step in range(units):
                    self._taken[np.minimum(ordered + step, len(self._taken) - 1)] = True
            self._claimed.add(number)

    def _corrupt(self, what: str) -> CorruptDiskError:
        return CorruptDiskError(f"vhdx: {quote(self._blob.name)}: {what}. Export or upload it again.")


class BlockLayer:
    """The guest's bytes that are in this file. Partially present blocks count as whole. Does not own ``blob``."""

    def __init__(self, blob: Blob, blocks: BlockMap, size: int) -> None:
        self._blob = blob
        self._blocks = blocks
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``."""
        start, end = cut_range(self._size, start, end)
        block = self._blocks.block_size
        runs = self._blocks.runs(start // block, -(-end // block))
        pieces = (Extent(low * block, (high - low) * block, _EXTENT_KINDS[kind]) for low, high, kind in runs)
        return clip(merge(pieces), start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``."""
        return self.ranges(offset, length).read(length)

    def ranges(self, offset: int, length: int) -> StoredRanges:
        """As ``SupportsRanges``."""
        check_inside(self._size, offset, length)
        return StoredRanges(self._blob, join_ranges(self._stored(offset, offset + length)))

    def stored_size(self) -> int:
        """Guest bytes of the blocks that are in the file. Loads the whole table."""
        return self._blocks.stored_size()

    def _stored(self, start: int, end: int) -> Iterator[StoredRange]:
        """Each block's part of ``[start, end)`` that is in the file."""
        size = self._blocks.block_size
        for number in range(start // size, -(-end // size)):
            kind, host = self._blocks.entry(number)
            if kind >= DATA:
                low, high = max(start, number * size), min(end, (number + 1) * size)
                yield StoredRange(low - start, host + low - number * size, high - low)
