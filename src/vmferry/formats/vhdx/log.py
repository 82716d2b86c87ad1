"""The log of a VHDX, replayed in memory: the file is never changed. [MS-VHDX], section 2.3.

What was written to the log last may not have reached the file: without it a disk may read as zeros.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import google_crc32c

from vmferry.blob import Blob, check_range
from vmferry.errors import CorruptDiskError, quote
from vmferry.formats.vhdx.header import VhdxHeader
from vmferry.formats.vhdx.structures import REGION_TABLES
from vmferry.limits import MAX_DISK_SIZE, MAX_VHDX_LOG_ZEROS
from vmferry.units import KIB, round_up

_SECTOR = 4 * KIB
_ENTRY = struct.Struct("<4sIIIQII16sQQ")
_DESCRIPTOR = struct.Struct("<4sIQQQ")
_HEADER = 64
_DESCRIPTOR_SIZE = 32
_CHECKED = 16
"""How many times the log's length may be run through the checksum: entries that overlap cost no more than this."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry whose checksum is right."""

    offset: int
    length: int
    tail: int
    sequence: int
    descriptors: int
    flushed: int
    last: int


@dataclass(slots=True)
class _Changes:
    """What the log puts over the file: pages, and below them ranges of zeros."""

    pages: dict[int, bytes] = field(default_factory=dict)
    zeros: list[tuple[int, int]] = field(default_factory=list)

    def clear(self, start: int, end: int) -> None:
        """Put zeros over ``[start, end)``."""
        for place in [place for place in self.pages if start <= place < end]:
            del self.pages[place]
        self.zeros.append((start, end))

    @property
    def is_full(self) -> bool:
        """Whether there are as many ranges of zeros as there may be: each is looked at by every read."""
        return len(self.zeros) >= MAX_VHDX_LOG_ZEROS


class ReplayedBlob:
    """A blob with the log's changes over it. Any number of threads may read; closing it closes the file."""

    def __init__(self, blob: Blob, changes: _Changes, size: int) -> None:
        self._blob = blob
        self._pages = changes.pages
        self._places = sorted(changes.pages)
        self._zeros = changes.zeros
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    @property
    def name(self) -> str:
        return self._blob.name

    def read_at(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        end = offset + length
        there = min(max(self._blob.size - offset, 0), length)
        below = self._blob.read_at(offset, there) if there else b""
        first, last = bisect_right(self._places, offset - _SECTOR), bisect_left(self._places, end)
        zeros = [(max(low, offset), min(high, end)) for low, high in self._zeros if low < end and high > offset]
        if first == last and not zeros and there == length:
            return below
        data = bytearray(below.ljust(length, b"\0"))
        for low, high in zeros:
            data[low - offset : high - offset] = bytes(high - low)
        for place in self._places[first:last]:
            low, high = max(place, offset), min(place + _SECTOR, end)
            data[low - offset : high - offset] = self._pages[place][low - place : high - place]
        return bytes(data)

    def close(self) -> None:
        self._blob.close()


def replay(blob: Blob, header: VhdxHeader) -> Blob:
    """``blob`` as it is once its log is written back; itself where there is nothing in the log.

    Raises ``CorruptDiskError`` when the log holds no sequence that is whole, or changes what it must not.
    """
    if not header.has_log:
        return blob
    log = _Log(blob, header)
    chain = log.active()
    changes = _Changes()
    for entry in chain:
        log.apply(entry, changes)
    head = chain[-1]
    if blob.size < head.flushed:
        raise CorruptDiskError(
            f"vhdx: {quote(blob.name)} has {blob.size:,} bytes, but had {head.flushed:,} when its log was written. It "
            "is cut short: export or upload it again."
        )
    if head.last > 2 * MAX_DISK_SIZE:
        raise log.damaged("makes the file longer than any disk")
    size = max(blob.size, round_up(head.last, _SECTOR))
    if not changes.pages and not changes.zeros and size == blob.size:
        return blob
    return ReplayedBlob(blob, changes, size)


class _Log:
    """The ring of entries."""

    def __init__(self, blob: Blob, header: VhdxHeader) -> None:
        self._name = blob.name
        self._header = header
        self._length = header.log_length
        ring = blob.read_at(header.log_offset, header.log_length)
        self._ring = memoryview(ring)
        self._entries: dict[int, _Entry | None] = {}
        self._budget = _CHECKED * self._length

    def active(self) -> list[_Entry]:
        """The entries to replay, in order: of the chains that are whole, the one with the highest numbers."""
        best: list[_Entry] = []
        seen: set[int] = set()
        for start in range(0, self._length, _SECTOR):
            if start in seen:
                continue
            chain = list(self._chain(start))
            seen.update(entry.offset for entry in chain)
            places = [entry.offset for entry in chain]
            if not chain or chain[-1].tail not in places:
                continue
            if not best or chain[-1].sequence > best[-1].sequence:
                best = chain[places.index(chain[-1].tail) :]
        if not best:
            raise self.damaged("holds no whole sequence of entries")
        return best

    def apply(self, entry: _Entry, changes: _Changes) -> None:
        """Put the changes of ``entry`` into ``changes``."""
        data = self._bytes(entry.offset, entry.length)
        sector = round_up(_HEADER + entry.descriptors * _DESCRIPTOR_SIZE, _SECTOR)
        for index in range(entry.descriptors):
            place = _HEADER + index * _DESCRIPTOR_SIZE
            kind, trailing, leading, target, sequence = _DESCRIPTOR.unpack_from(data, place)
            if sequence != entry.sequence or kind not in (b"desc", b"zero"):
                raise self.damaged(f"has an entry (number {entry.sequence:,}) whose descriptors are not its own")
            length = _SECTOR if kind == b"desc" else leading
            self._check_target(target, length)
            if kind == b"zero":
                if changes.is_full:
                    raise self.damaged(f"writes zeros in over {MAX_VHDX_LOG_ZEROS:,} places")
                changes.clear(target, target + length)
                continue
            page = data[sector : sector + _SECTOR]
            numbers = page[4:8] + page[-4:]
            high, low = entry.sequence >> 32, entry.sequence & 0xFFFF_FFFF
            if page[:4] != b"data" or numbers != struct.pack("<II", high, low):
                raise self.damaged(f"has an entry (number {entry.sequence:,}) whose data is not its own")
            changes.pages[target] = struct.pack("<Q", leading) + page[8:-4] + struct.pack("<I", trailing)
            sector += _SECTOR

    def damaged(self, what: str) -> CorruptDiskError:
        return CorruptDiskError(
            f"vhdx: the log of {quote(self._name)} {what}. Attach the disk once where it was made, which replays its "
            "log, and export it again."
        )

    def _chain(self, start: int) -> Iterator[_Entry]:
        """Entries one behind another from ``start``, each with the number after the one before; once round at most."""
        total, before, place = 0, None, start
        while (entry := self._entry(place)) is not None:
            total += entry.length
            if total > self._length or (before is not None and entry.sequence != before.sequence + 1):
                return
            yield entry
            before, place = entry, (place + entry.length) % self._length

    def _entry(self, offset: int) -> _Entry | None:
        if offset not in self._entries:
            self._entries[offset] = self._read_entry(offset)
        return self._entries[offset]

    def _read_entry(self, offset: int) -> _Entry | None:
        """The entry at ``offset``, if there is a whole one of this log."""
        head = bytes(self._ring[offset : offset + _HEADER])
        if head[:4] != b"loge":
            return None
        _, checksum, length, tail, sequence, count, _, log_id, flushed, last = _ENTRY.unpack(head)
        fits = _SECTOR <= length <= self._length and length % _SECTOR == 0 and tail % _SECTOR == 0
        most = (length - _HEADER) // _DESCRIPTOR_SIZE
        if not fits or not sequence or log_id != self._header.log_id or count > most:
            return None
        self._budget -= length
        if self._budget < 0:
            raise self.damaged("has entries that overlap without end")
        data = self._bytes(offset, length)
        if google_crc32c.value(data[:4] + bytes(4) + data[8:]) != checksum:
            return None
        sectors = round_up(_HEADER + count * _DESCRIPTOR_SIZE, _SECTOR)
        pages = sum(data[_HEADER + i * 32 : _HEADER + i * 32 + 4] == b"desc" for i in range(count))
        if sectors + pages * _SECTOR > length:
            return None
        return _Entry(offset, length, tail, sequence, count, flushed, last)

    def _bytes(self, offset: int, length: int) -> bytes:
        """``length`` bytes of the ring from ``offset`` on."""
        first = bytes(self._ring[offset : offset + length])
        return first + bytes(self._ring[: length - len(first)])

    def _check_target(self, start: int, length: int) -> None:
        end, header = start + length, self._header
        inside = start < header.log_offset + header.log_length and end > header.log_offset
        if start % _SECTOR or length % _SECTOR or start < REGION_TABLES[0] or inside or end > 2 * MAX_DISK_SIZE:
            raise self.damaged(f"changes {length:,} bytes at host offset 0x{start:x}, where it must not")
