"""ESX's snapshot deltas, whichever way their tables are written: small grains behind tables of 4096 entries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vmferry.blob import Blob, Buffer
from vmferry.errors import CorruptDiskError, quote
from vmferry.extent import Extent, ExtentKind, check_inside, cut_range, equal_runs, merge
from vmferry.formats.vmdk.claims import GrainClaims
from vmferry.formats.vmdk.grains import copy_grains
from vmferry.units import KIB, MIB, SECTOR

TABLE_ENTRIES = 4096
HOLE, ZERO = 0, 1
"""Sectors that stand for something else: no grain has its place in the header."""

Sectors = npt.NDArray[np.int64]
Words = npt.NDArray[np.unsignedinteger[Any]]

_GROUP = 32
"""Tables that are read together: 64 MiB of a COWD, 512 MiB of a seSparse, 1 MiB of memory."""
_GROUP_GRAINS = _GROUP * TABLE_ENTRIES
_MAX_GROUPS = 16
_MAX_GAP = 64 * KIB
_MAX_SPAN = 2 * MIB
_NOTHING: Sectors = np.zeros(_GROUP_GRAINS, np.int64)
_KINDS = (ExtentKind.HOLE, ExtentKind.ZERO, ExtentKind.DATA)


@dataclass(frozen=True, slots=True, eq=False)
class DeltaMap:
    """What the header and the directory of a delta say, checked. Places are sectors of the file."""

    size: int
    """Guest bytes, a multiple of 512."""
    grain_sectors: int
    directory: Sectors
    """The first sector of each table, 0 where there is none; those inside the file, and none overlaps another."""
    entry: np.dtype[np.unsignedinteger[Any]]
    decode: Callable[[Words], Sectors]
    """A table's entries as sectors, ``HOLE`` or ``ZERO``; -1 for what is neither, and for what is past all bounds."""
    reserved: tuple[tuple[int, int], ...]
    """What no grain may touch: headers and the directory; the tables are added."""

    @property
    def grain_count(self) -> int:
        """Grains in the disk; the last one may be short."""
        return -(-self.size // (self.grain_sectors * SECTOR))

    @property
    def table_sectors(self) -> int:
        """Sectors that a table takes."""
        return TABLE_ENTRIES * self.entry.itemsize // SECTOR


def count_tables(size: int, grain_sectors: int) -> int:
    """Tables of a disk of ``size`` bytes."""
    return -(-size // (grain_sectors * SECTOR * TABLE_ENTRIES))


class DeltaExtent:
    """The ``Piece`` of a disk in a delta; does not own its blob. Any number of threads may read.

    Tables are read 32 at a time; at most 16 MiB of them are kept. Each is checked when it is loaded: every grain inside
    the file, clear of headers and tables, and none in the place of another.
    """

    def __init__(self, blob: Blob, delta_map: DeltaMap) -> None:
        """Raises ``CorruptDiskError`` when the directory is not sound."""
        self._blob = blob
        self._map = delta_map
        self._grain = delta_map.grain_sectors * SECTOR
        self._tables = _check_directory(blob, delta_map)
        ends = [high for _, high in delta_map.reserved] + (self._tables[-1:] + delta_map.table_sectors).tolist()
        self._metadata_end = max(ends)
        self._claims = GrainClaims(blob, delta_map.grain_sectors, delta_map.directory.size)
        self._used_groups = np.unique(np.flatnonzero(delta_map.directory) // _GROUP)
        self._groups: dict[int, Sectors] = {}
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return self._map.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """As ``Disk.extents``; HOLE is what the parent shows."""
        start, end = cut_range(self.size, start, end)
        return merge(self._runs(start, end)) if start < end else iter(())

    def read_at(self, offset: int, length: int) -> Buffer:
        """As ``Disk.read_at``; holes read as zeros."""
        check_inside(self.size, offset, length)
        if not length:
            return b""
        first, last = offset // self._grain, -(-(offset + length) // self._grain)
        sectors = self._sectors(first, last)
        stored = np.flatnonzero(sectors > ZERO)
        if not stored.size:
            return bytes(length)
        out = (np.empty if stored.size == sectors.size else np.zeros)(length, np.uint8).data
        copy_grains(self._blob, self._grain, stored + first, sectors[stored] * SECTOR, out, offset)
        return out

    def stored_size(self) -> int:
        """What is left of the file without headers, directory and tables; room that was set aside is counted in."""
        metadata = sum(high - low for low, high in self._map.reserved) + self._tables.size * self._map.table_sectors
        return max(0, self._blob.size - metadata * SECTOR)

    def forget(self) -> None:
        """Let go of the tables that are kept in memory."""
        with self._lock:
            self._groups.clear()

    def _runs(self, start: int, end: int) -> Iterator[Extent]:
        first, last = start // self._grain, -(-end // self._grain)
        position = first
        used = self._used_groups
        within = slice(*np.searchsorted(used, [first // _GROUP_GRAINS, -(-last // _GROUP_GRAINS)]).tolist())
        for group in used[within].tolist():
            low, high = max(first, group * _GROUP_GRAINS), min(last, (group + 1) * _GROUP_GRAINS)
            if low > position:  # groups without a table cost nothing
                yield self._extent(start, end, position, low, HOLE)
            kinds = np.minimum(self._sectors(low, high), len(_KINDS) - 1)
            for begin, stop in equal_runs(kinds):
                yield self._extent(start, end, low + begin, low + stop, int(kinds[begin]))
            position = high
        if position < last:
            yield self._extent(start, end, position, last, HOLE)

    def _extent(self, start: int, end: int, first: int, last: int, kind: int) -> Extent:
        """Grains ``[first, last)`` as an extent, clipped to ``[start, end)``."""
        low, high = max(start, first * self._grain), min(end, last * self._grain)
        return Extent(low, high - low, _KINDS[kind])

    def _sectors(self, first: int, last: int) -> Sectors:
        """The sectors of grains ``[first, last)``. The array may be shared: do not write to it."""
        parts: list[Sectors] = []
        while first < last:
            number, low = divmod(first, _GROUP_GRAINS)
            high = min(low + last - first, _GROUP_GRAINS)
            parts.append(self._group(number)[low:high])
            first += high - low
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _group(self, number: int) -> Sectors:
        with self._lock:
            group = self._groups.pop(number, None)
            if group is not None:
                self._groups[number] = group  # the last used stands last
                return group
        if not self._map.directory[number * _GROUP : (number + 1) * _GROUP].any():
            return _NOTHING
        group = self._load(number)
        with self._lock:
            self._groups[number] = group
            if len(self._groups) > _MAX_GROUPS:
                del self._groups[next(iter(self._groups))]
        return group

    def _load(self, number: int) -> Sectors:
        """Read the tables of a group, those that lie near each other in one go; check them."""
        base = number * _GROUP
        places = self._map.directory[base : base + _GROUP]
        group = np.zeros((_GROUP, TABLE_ENTRIES), np.int64)
        used = np.flatnonzero(places)
        order = used[np.argsort(places[used], kind="stable")]
        low = 0
        while low < order.size:
            high = low + 1
            while high < order.size and self._is_near(places[order[low]], places[order[high - 1]], places[order[high]]):
                high += 1
            self._read(group, order[low:high], places[order[low:high]], base)
            low = high
        return group.reshape(-1)

    def _is_near(self, first: int, before: int, place: int) -> bool:
        gap = int(place - before - self._map.table_sectors) * SECTOR
        return gap <= _MAX_GAP and int(place - first + self._map.table_sectors) * SECTOR <= _MAX_SPAN

    def _read(self, group: Sectors, rows: npt.NDArray[np.intp], places: Sectors, base: int) -> None:
        start, size = int(places[0]), TABLE_ENTRIES * self._map.entry.itemsize
        data = self._blob.read_at(start * SECTOR, (int(places[-1]) - start) * SECTOR + size)
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            words: Words = np.frombuffer(data, self._map.entry, TABLE_ENTRIES, (place - start) * SECTOR)
            count = min(TABLE_ENTRIES, self._map.grain_count - (base + row) * TABLE_ENTRIES)
            if words[:count].any():  # the last table is longer than the disk
                group[row, :count] = self._map.decode(words[:count])
                self._check(group[row], (base + row) * TABLE_ENTRIES)
        self._claims.add(group[rows], rows + base, ZERO + 1)

    def _check(self, sectors: Sectors, first: int) -> None:
        """Raise unless all grains of a table, whose first grain is ``first``, lie where grains may lie."""
        length = self._map.grain_sectors
        ends = (sectors + length) * SECTOR
        if first + TABLE_ENTRIES >= self._map.grain_count:  # the last grain may be stored as far as the disk goes
            ends[self._map.grain_count - 1 - first] -= self._map.grain_count * self._grain - self.size
        stored = sectors > ZERO
        bad = (sectors < HOLE) | (stored & (ends > self._blob.size))
        if bad.any():
            self._refuse(bad, first, "an entry of no meaning, or one past the end of the file; it may be cut short")
        if sectors[stored].min(initial=self._metadata_end) >= self._metadata_end:
            return  # the usual seSparse: all grains lie behind all tables
        inside = np.zeros(sectors.size, np.bool_)
        for low, high in self._map.reserved:
            inside |= (sectors < high) & (sectors + length > low)
        if self._tables.size:
            before = np.searchsorted(self._tables, sectors + length) - 1
            inside |= (before >= 0) & (self._tables[before] + self._map.table_sectors > sectors)
        inside &= stored
        if inside.any():
            self._refuse(inside, first, "a place inside the file's own headers or tables")

    def _refuse(self, bad: npt.NDArray[np.bool_], first: int, what: str) -> None:
        guest = (first + int(np.argmax(bad))) * self._grain
        raise CorruptDiskError(
            f"vmdk: {quote(self._blob.name)}: the grain at guest offset 0x{guest:x} has {what}. Export the disk again."
        )


def _check_directory(blob: Blob, delta_map: DeltaMap) -> Sectors:
    """The tables' first sectors, ascending. Raises unless they lie inside the file, apart, and clear of the rest."""
    length = delta_map.table_sectors
    tables: Sectors = delta_map.directory[delta_map.directory != 0]
    tables.sort()
    what = None
    if tables.size and (int(tables[0]) < 0 or (int(tables[-1]) + length) * SECTOR > blob.size):
        what = "one of its grain tables goes past the end of the file"
    elif (np.diff(tables) < length).any():
        what = "two entries of its grain directory share a table"
    elif any(
        np.searchsorted(tables, high) > np.searchsorted(tables, low - length, "right")
        for low, high in delta_map.reserved
    ):
        what = "one of its grain tables lies on its header or its directory"
    if what is not None:
        raise CorruptDiskError(f"vmdk: {quote(blob.name)}: {what}. The file is damaged or cut short: export it again.")
    return tables
