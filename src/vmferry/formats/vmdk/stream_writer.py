"""A streamOptimized VMDK being made: the stream that ESXi and ovftool export, from front to back.

The order in the file is header | descriptor | grains of 32 MiB of the disk, each behind its marker | their table | … |
grain directory | footer | end of stream. Nothing is rewritten, so that a digest may be taken on the way. Sources:
VMware, *Virtual Disk Format 5.0*; streams by VMware's own programs where those differ from it (streams are RFC 1950).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from deflate import crc32, zlib_compress

from vmferry.blob import BlobWriter, Buffer
from vmferry.disk import PackedSlice, Placed
from vmferry.extent import nonzero_runs
from vmferry.formats import Compression
from vmferry.formats._deflate import LEVELS, deflate
from vmferry.formats.vmdk.descriptor_text import (
    DESCRIPTOR_OFFSET,
    DESCRIPTOR_SECTORS,
    check_name,
    content_id,
    render_descriptor,
)
from vmferry.formats.vmdk.header import (
    FLAG_COMPRESSED,
    FLAG_LINE_ENDS,
    FLAG_MARKERS,
    TABLE_ENTRIES,
    pack_header,
)
from vmferry.formats.vmdk.layout import (
    GRAIN_SECTORS,
    GRAIN_SIZE,
    TABLE_SECTORS,
    TABLE_SPAN,
    check_end,
    check_grains,
    image_size,
)
from vmferry.units import SECTOR, round_up

_VERSION = 3
"""ESXi refuses streams of version 1."""
_FLAGS = FLAG_LINE_ENDS | FLAG_COMPRESSED | FLAG_MARKERS
_TABLE_SIZE = TABLE_SECTORS * SECTOR
_AT_END = (1 << 64) - 1
_OVERHEAD_SECTORS = 128
_GRAIN_MARKER = struct.Struct("<QI")
_MARKER = struct.Struct("<QII")
_NOTE = struct.Struct("<IIII")
_CHECKSUM = struct.Struct("<I")
_TABLE, _DIRECTORY, _FOOTER = 1, 2, 3
_ZLIB_HEADER = b"\x78\x01"
"""What VMware writes, whatever the level, which it only hints at."""

_MAX_STREAM = GRAIN_SIZE + SECTOR - _GRAIN_MARKER.size
"""Bytes of a grain's stream: VMware's open-vmdk refuses a longer one, and VirtualBox's buffer ends there, unchecked.
"""
_BEST_LEVEL = 6
"""Of libdeflate: the lowest that gives no more bytes than zlib's level 6, which is QEMU's."""


@dataclass(slots=True)
class _Table:
    """The grain table that is being filled; ``index`` -1: none."""

    index: int
    entries: np.ndarray[tuple[int], np.dtype[np.uint32]]


@dataclass(frozen=True, slots=True)
class _Grains:
    """Grains of one table, packed as they will stand in the file."""

    table: int
    slots: list[int]
    sectors: list[int]
    """Where the marker of each begins, counted from the first one's."""
    content: bytes
    first_checksum: int
    """Of the first grain's bytes."""


class StreamOptimizedWriter:
    """The OrderedDiskWriter of streamOptimized VMDKs, with 64 KiB grains. ``encode`` and ``write`` in any thread.

    What is held is one grain table and the directory: 4 bytes for each 32 MiB of the disk.
    """

    granularity = GRAIN_SIZE
    slice_unit = TABLE_SPAN
    front = _OVERHEAD_SECTORS * SECTOR

    def __init__(
        self,
        target: BlobWriter,
        size: int,
        compression: Compression,
        *,
        name: str = "disk.vmdk",
    ) -> None:
        """A disk of ``size`` bytes, rounded up to whole MiB as vSphere wants it; ``name`` is the file's own.

        The descriptor comes first in the file, so the content id follows from the size and from the first grain, where
        a disk has its partition table and its id. Raises ``UnsupportedFeatureError`` over 64 TiB; ``ValueError`` for a
        ``name`` that is not plain.
        """
        self.size = image_size(size)
        """Guest bytes of the disk that is made."""
        self._name = check_name(name)
        self._guest_size = size
        self._target = target
        self._compress = _compressor(compression)
        tables = -(-self.size // TABLE_SPAN)
        self._directory = np.zeros(round_up(tables * 4, SECTOR) // 4, np.uint32)
        self._table = _no_table()
        self._end = 0
        """Sectors placed so far."""
        self._first_checksum = 0
        """Of the disk's first grain that is not all zeros."""
        self._head: list[Placed] = []
        """Header and descriptor of an image that is joined."""

    def encode(self, offset: int, data: Buffer) -> Sequence[_Grains]:
        """As ``OrderedDiskWriter``. ``ValueError`` for what is not whole grains."""
        check_grains(offset, len(data), self._guest_size)
        view = memoryview(data)
        encoded = []
        start = 0
        while start < len(data):  # in practice once: what is copied at once lies within one table
            stop = min(len(data), start + TABLE_SPAN - (offset + start) % TABLE_SPAN)
            if (grains := self._pack(offset + start, view[start:stop])) is not None:
                encoded.append(grains)
            start = stop
        return encoded

    def place(self, encoded: Sequence[_Grains]) -> Sequence[Placed]:
        placed: list[Placed] = []
        for grains in encoded:
            if not self._end:
                placed.append(self._begin(grains.first_checksum))
            if grains.table != self._table.index:
                placed += self._close_table()
                self._table = _Table(grains.table, np.zeros(TABLE_ENTRIES, np.uint32))
            self._table.entries[grains.slots] = self._end + np.array(grains.sectors, np.int64)
            placed.append(self._append(grains.content))
        return placed

    def note(self, encoded: Sequence[_Grains]) -> bytes:
        """As ``SupportsReplay``: of each part its table, length in sectors and checksum, then slots and places."""
        parts = []
        for grains in encoded:
            count, sectors = len(grains.slots), len(grains.content) // SECTOR
            parts.append(_NOTE.pack(grains.table, count, sectors, grains.first_checksum))
            parts.append(np.array([grains.slots, grains.sectors], "<u4").tobytes())
        return b"".join(parts)

    def replay(self, note: bytes) -> None:
        """As ``SupportsReplay``."""
        position = 0
        while position < len(note):
            table, count, sectors, checksum = _unpack_note(note, position)
            position += _NOTE.size
            slots, places = np.frombuffer(note, "<u4", 2 * count, position).reshape(2, count).tolist()
            position += 8 * count
            self.place([_Grains(table, slots, places, bytes(sectors * SECTOR), checksum)])

    def write(self, placed: Sequence[Placed]) -> None:
        for host, data in placed:
            self._target.write_at(host, data)

    def begin_slice(self) -> None:
        """As ``SupportsSlices``."""

    def end_slice(self) -> PackedSlice:
        """As ``SupportsSlices``; the map is the first grain's checksum, then numbers of tables, then where they lie,
        counted from the file's begin as if this slice were the first."""
        if not self._end:
            return PackedSlice(0, b"")
        self.write(self._close_table())
        tables = np.flatnonzero(self._directory)
        content = np.array([tables, self._directory[tables]], "<u4").tobytes()
        return PackedSlice(self._end * SECTOR - self.front, _CHECKSUM.pack(self._first_checksum) + content)

    def join(self, piece: PackedSlice) -> None:
        """As ``SupportsSlices``."""
        if not piece.length:
            return
        (checksum,) = _CHECKSUM.unpack_from(piece.map)
        if not self._end:
            self._head.append(self._begin(checksum))
        tables, places = _unpack_map(piece.map)
        moved = self._end - _OVERHEAD_SECTORS
        self._end += piece.length // SECTOR
        check_end(self._end, "streamOptimized")
        self._directory[tables] = places + np.uint32(moved)

    def move(self, piece: PackedSlice, offset: int, data: Buffer, start: int) -> Buffer:
        """As ``SupportsSlices``: the entries of tables are sectors of the file."""
        check_end((start + piece.length) // SECTOR, "streamOptimized")
        moved = (start - self.front) // SECTOR
        _, places = _unpack_map(piece.map)
        begins = (places.astype(np.int64) - _OVERHEAD_SECTORS) * SECTOR - offset
        held = begins[(begins > -_TABLE_SIZE) & (begins < len(data))]
        if not moved or not len(held):
            return data
        result = bytearray(data)
        for begin in held.tolist():
            low, high = max(begin, 0), min(begin + _TABLE_SIZE, len(result))
            entries = np.frombuffer(result, "<u4", (high - low) // 4, low)
            entries += np.where(entries > 0, np.uint32(moved), np.uint32(0))
        return result

    def finish(self) -> None:
        placed = self._head if self._end else [self._begin(0)]
        placed += self._close_table()
        directory = self._directory.astype("<u4").tobytes()
        placed.append(self._append(_marker(len(directory) // SECTOR, _DIRECTORY)))
        footer = self._header(self._end)
        placed.append(self._append(directory + _marker(1, _FOOTER) + footer + bytes(SECTOR)))
        self.write(placed)
        self._target.set_size(self._end * SECTOR)
        self._target.finish()

    def abort(self) -> None:
        self._target.abort()

    def _pack(self, offset: int, data: memoryview) -> _Grains | None:
        """``data`` from guest ``offset``, all of one table; ``None`` where there is nothing but zeros."""
        parts: list[Buffer] = []
        slots, sectors = [], []
        total = checksum = 0
        first = offset // GRAIN_SIZE
        for low, high in nonzero_runs(data, GRAIN_SIZE):
            for start in range(low, high, GRAIN_SIZE):
                grain: Buffer = data[start : start + GRAIN_SIZE]
                if len(grain) < GRAIN_SIZE:  # the disk's end; VMware stores whole grains
                    grain = bytes(grain).ljust(GRAIN_SIZE, b"\0")
                checksum = checksum if parts else crc32(grain)
                stream = self._compress(grain)
                number = first + start // GRAIN_SIZE
                padding = -(_GRAIN_MARKER.size + len(stream)) % SECTOR
                parts += (_GRAIN_MARKER.pack(number * GRAIN_SECTORS, len(stream)), _ZLIB_HEADER, stream[2:])
                parts.append(bytes(padding))
                slots.append(number % TABLE_ENTRIES)
                sectors.append(total)
                total += (_GRAIN_MARKER.size + len(stream) + padding) // SECTOR
        if not parts:
            return None
        return _Grains(first // TABLE_ENTRIES, slots, sectors, b"".join(parts), checksum)

    def _begin(self, checksum: int) -> Placed:
        """Header and descriptor, with zeros up to the first grain, which has ``checksum``."""
        self._first_checksum = checksum
        ids = content_id("streamOptimized", self.size, checksum)
        front = self._header(_AT_END) + render_descriptor("streamOptimized", self.size // SECTOR, self._name, ids)
        return self._append(front.ljust(_OVERHEAD_SECTORS * SECTOR, b"\0"))

    def _header(self, directory: int) -> bytes:
        return pack_header(
            version=_VERSION,
            flags=_FLAGS,
            capacity_sectors=self.size // SECTOR,
            grain_sectors=GRAIN_SECTORS,
            descriptor=(DESCRIPTOR_OFFSET, DESCRIPTOR_SECTORS),
            directories=(0, directory),
            overhead_sectors=_OVERHEAD_SECTORS,
        )

    def _close_table(self) -> list[Placed]:
        """The grain table that is complete, behind its grains; nothing where there is none yet."""
        if self._table.index < 0:
            return []
        self._directory[self._table.index] = self._end + 1
        content = _marker(TABLE_SECTORS, _TABLE) + self._table.entries.astype("<u4").tobytes()
        self._table = _no_table()
        return [self._append(content)]

    def _append(self, content: bytes) -> Placed:
        """``content``, whole sectors, behind everything. Raises ``UnsupportedFeatureError`` past 2 TiB."""
        start = self._end
        self._end += len(content) // SECTOR
        check_end(self._end, "streamOptimized")
        return start * SECTOR, content


def _unpack_note(note: bytes, position: int) -> tuple[int, int, int, int]:
    """Table, grains, sectors and checksum of a part. ``ValueError`` where there is none."""
    if len(note) - position < _NOTE.size:
        raise ValueError(f"{len(note) - position} bytes are no note of grains")
    table, count, sectors, checksum = _NOTE.unpack_from(note, position)
    return table, count, sectors, checksum


def _unpack_map(content: bytes) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    """Numbers of the tables in the map of a slice, and where they lie; ``ValueError`` for what is no such map."""
    return np.frombuffer(content, "<u4", offset=_CHECKSUM.size if content else 0).reshape(2, -1)


def _no_table() -> _Table:
    return _Table(-1, np.zeros(0, np.uint32))


def _marker(value: int, kind: int) -> bytes:
    """A metadata marker: ``value`` is the length in sectors of what follows it."""
    return _MARKER.pack(value, 0, kind).ljust(SECTOR, b"\0")


def _compressor(compression: Compression) -> Callable[[Buffer], bytes]:
    """What makes a zlib stream of a grain; releases the GIL, safe from any number of threads."""
    if compression is Compression.BEST:
        return lambda grain: bytes(zlib_compress(grain, _BEST_LEVEL))
    level = LEVELS[compression]

    def compress(grain: Buffer) -> bytes:
        stream = deflate(grain, level)
        return stream if len(stream) <= _MAX_STREAM else zlib.compress(grain, 0)

    return compress
