"""A disk of an XVA as a blob: its guest bytes, put together from chunks, each checked against its digest."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import xxhash

from vmferry.appliances._tar import BLOCK
from vmferry.appliances._xva_chunks import SUFFIXES, DiskChunks, header_says, record_size
from vmferry.blob import Blob, Buffer, ByteRange, check_range
from vmferry.errors import CorruptDiskError, quote
from vmferry.units import MIB, round_up

_BATCH = 8 * MIB
"""Bytes of the tar that are read at once."""
_KEPT = 4
"""Chunks kept for those who read less than a whole one."""


class XvaDiskBlob:
    """The guest bytes of one disk: a raw image of ``size`` bytes. It leaves the tar open: that one's owner closes it.

    Any number of threads may read at once. What is no chunk reads as zeros and costs nothing.
    """

    def __init__(self, tar: Blob, chunks: DiskChunks, size: int) -> None:
        self._tar = tar
        self._chunks = chunks
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    @property
    def size(self) -> int:
        return self._size

    @property
    def name(self) -> str:
        return f"{self._tar.name}:{self._chunks.ref}"

    def read_at(self, offset: int, length: int) -> bytes:
        """Raises ``CorruptDiskError``, too, naming a chunk whose digest is wrong or that is not where it must be."""
        check_range(self, offset, length)
        size, end = self._chunks.chunk_size, offset + length
        first, last = offset // size, -(-end // size)
        found = self._read_chunks(first, last) if length >= size else self._read_kept(first, last)
        pieces: list[Buffer] = []
        position = offset
        for chunk, data in found:
            start = chunk * size
            pieces.append(bytes(max(start - position, 0)))
            pieces.append(memoryview(data)[max(offset - start, 0) : end - start])
            position = min(start + len(data), end)
        pieces.append(bytes(end - position))
        return b"".join(pieces)

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        size = self._chunks.chunk_size
        held: ByteRange | None = None
        for run in self._runs(start // size, -(-end // size)):
            low = max(int(self._chunks.guests[run]) * size, start)
            high = min((int(self._chunks.guests[run]) + int(self._chunks.counts[run])) * size, end, self._size)
            if held is not None and held[1] == low:
                held = held[0], high
                continue
            if held is not None:
                yield held
            held = low, high
        if held is not None and held[0] < held[1]:
            yield held

    def close(self) -> None:
        with self._lock:
            self._kept.clear()

    def _runs(self, first: int, end: int) -> range:
        """The runs that hold chunks of the disk from ``first`` up to ``end``."""
        guests = self._chunks.guests
        low = max(int(np.searchsorted(guests, first, "right")) - 1, 0)
        if low < len(guests) and guests[low] + self._chunks.counts[low] <= first:
            low += 1
        return range(low, int(np.searchsorted(guests, end, "left")))

    def _read_chunks(self, first: int, end: int) -> Iterator[tuple[int, Buffer]]:
        """Chunks of the disk from ``first`` up to ``end``, those that are there, in order, checked."""
        table = self._chunks
        for run in self._runs(first, end):
            guest, kind = int(table.guests[run]), int(table.kinds[run])
            last = min(guest + int(table.counts[run]), end)
            step = max(_BATCH // record_size(table.chunk_size, kind), 1)
            for low in range(max(guest, first), last, step):
                yield from self._read_batch(run, low, min(low + step, last))

    def _read_kept(self, first: int, end: int) -> Iterator[tuple[int, Buffer]]:
        """The same one by one, for small reads: a chunk is read and checked once for many of them."""
        for chunk in range(first, end):
            with self._lock:
                data = self._kept.get(chunk)
            if data is None:
                data = b"".join(piece for _, piece in self._read_chunks(chunk, chunk + 1))
                self._keep(chunk, data)
            if data:
                yield chunk, data

    def _read_batch(self, run: int, low: int, high: int) -> Iterator[tuple[int, memoryview]]:
        """Neighbours of one run by one read."""
        table = self._chunks
        guest, kind = int(table.guests[run]), int(table.kinds[run])
        size = table.last_size if high == table.end and guest == high - 1 else table.chunk_size
        record = record_size(size, kind)
        place = int(table.offsets[run]) + (low - guest) * record
        content = memoryview(self._tar.read_at(place, (high - low) * record))
        for chunk in range(low, high):
            name = table.name_of(int(table.numbers[run]) + chunk - guest)
            one = content[(chunk - low) * record :][:record]
            yield chunk, self._checked(one, name, size, kind)

    def _checked(self, record: memoryview, name: str, size: int, kind: int) -> memoryview:
        """The bytes of the chunk ``name`` out of its record in the tar."""
        data = record[BLOCK : BLOCK + size]
        behind = BLOCK + round_up(size, BLOCK)
        there = header_says(bytes(record[:BLOCK]), name, size) and (
            not kind or header_says(bytes(record[behind : behind + BLOCK]), name + SUFFIXES[kind], None)
        )
        if not there:
            raise CorruptDiskError(
                f"{quote(self._tar.name)}: the chunk {quote(name)} is not where it must be. Export the machine again."
            )
        if kind:
            said = bytes(record[behind + BLOCK :]).partition(b"\0")[0].strip().lower()
            found = _digest(data, kind)
            if said != found:
                raise CorruptDiskError(
                    f"{quote(self._tar.name)}: the chunk {quote(name)} is damaged: its digest is {found.decode()}, "
                    f"but {quote(said.decode('latin-1'))} is written beside it. Export or upload the machine again."
                )
        return data

    def _keep(self, chunk: int, data: bytes) -> None:
        with self._lock:
            self._kept[chunk] = data
            self._kept.move_to_end(chunk)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)


def _digest(data: memoryview, kind: int) -> bytes:
    """Hexadecimal digits, lower case."""
    if SUFFIXES[kind] == ".xxhash":
        return xxhash.xxh64_hexdigest(data).encode()
    return hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()
