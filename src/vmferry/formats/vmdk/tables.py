"""The grain tables: what every grain of the disk is, loaded as they are asked for and kept as numpy arrays."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, quote
from vmferry.extent import ExtentKind, equal_runs
from vmferry.formats.vmdk.claims import GrainClaims
from vmferry.formats.vmdk.directory import ENTRY, TABLE_SECTORS, TABLE_SIZE, Entries, GrainDirectory
from vmferry.formats.vmdk.header import TABLE_ENTRIES, SparseHeader
from vmferry.units import KIB, MIB, SECTOR

Run = tuple[int, int, ExtentKind]
"""``(first grain, grain behind the last, kind)``."""

_REGION_TABLES = 8192
_REGION_GRAINS = _REGION_TABLES * TABLE_ENTRIES
_MAX_REGIONS = 4
_BATCH_TABLES = 512
_BATCH_GAP = 64 * KIB
_BATCH_SPAN = 2 * MIB
_AHEAD_STRIDE = 4 * KIB
_KINDS = (ExtentKind.HOLE, ExtentKind.ZERO, ExtentKind.DATA)


class _Region:
    """Room for the tables of 4,194,304 grains: 16 MiB of zeros that take memory only where tables were put."""

    __slots__ = ("entries", "loaded")

    def __init__(self, directory: Entries, lowest_pointer: int) -> None:
        self.entries: Entries = np.zeros((directory.size, TABLE_ENTRIES), np.uint32)
        self.loaded: npt.NDArray[np.bool_] = directory < lowest_pointer
        if lowest_pointer > 1:
            self.entries[directory == 1] = 1


class GrainTables:
    """The entries of all grains. At most four regions (64 MiB, 1 TiB of disk with 64 KiB grains) are kept.

    Safe from any number of threads. What is loaded is found without a lock; a load may be done twice by two threads
    at once, and gives the same. Every entry is checked once it is loaded: inside the file, clear of the file's tables,
    and, where grains carry no marker that says whose they are, never two with the same place.
    """

    def __init__(self, blob: Blob, header: SparseHeader, directory: GrainDirectory) -> None:
        self._blob = blob
        self._header = header
        self._directory = directory
        self._regions: dict[int, _Region] = {}
        self._lock = threading.Lock()
        ends = [high for _, high in directory.reserved] + (directory.tables[-1:] + TABLE_SECTORS).tolist()
        self._metadata_end = max(ends)
        self._claims = None if header.compressed else GrainClaims(blob, header.grain_sectors, header.table_count)

    def entries(self, first: int, last: int) -> Entries:
        """The entries of grains ``[first, last)``: 0 none, 1 zeros (with the header's flag), else a sector.

        The array may be shared: do not write to it. Raises ``CorruptDiskError`` and ``UnsafeDiskError``.
        """
        parts: list[Entries] = []
        while first < last:
            number, low = divmod(first, _REGION_GRAINS)
            high = min(low + last - first, _REGION_GRAINS)
            region = self._region(number)
            tables = slice(low // TABLE_ENTRIES, -(-high // TABLE_ENTRIES))
            if not region.loaded[tables].all():
                self._load(number, region, tables)
            parts.append(region.entries.reshape(-1)[low:high])
            first += high - low
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def forget(self) -> None:
        """Let go of the tables that are kept; they are loaded again when they are asked for."""
        with self._lock:
            self._regions.clear()

    def stored_behind(self, grain: int) -> int:
        """The sector of the next stored grain from ``grain`` on in the same table, or 0. A hint: it reads nothing."""
        number, low = divmod(grain, _REGION_GRAINS)
        region = self._regions.get(number)
        if region is None or grain >= self._header.grain_count or not region.loaded[low // TABLE_ENTRIES]:
            return 0
        rest = region.entries[low // TABLE_ENTRIES, low % TABLE_ENTRIES :]
        stored = rest[rest >= self._header.lowest_pointer]
        return int(stored[0]) if stored.size else 0

    def runs(self, first: int, last: int) -> Iterator[Run]:
        """Ascending runs of grains of one kind that cover ``[first, last)``; neighbours may be alike.

        What has no table costs nothing. Raises as ``entries`` does.
        """
        for start in range(first // _REGION_GRAINS * _REGION_TABLES, -(-last // TABLE_ENTRIES), _REGION_TABLES):
            window = self._directory.entries[start : start + _REGION_TABLES]
            for low, high, kind in self._split(window, start):
                span = max(first, low * TABLE_ENTRIES), min(last, high * TABLE_ENTRIES)
                if span[0] >= span[1]:
                    continue
                if kind is not ExtentKind.DATA:
                    yield (*span, kind)
                    continue
                for grain in range(*span, _BATCH_TABLES * TABLE_ENTRIES):
                    stop = min(span[1], grain + _BATCH_TABLES * TABLE_ENTRIES)
                    yield from self._split(self.entries(grain, stop), grain)

    def _split(self, entries: Entries, base: int) -> Iterator[Run]:
        """``entries`` (of the directory or of tables) as runs of one kind, numbered from ``base``."""
        stored = entries >= self._header.lowest_pointer
        kinds = np.where(stored, np.uint8(2), (entries & 1).astype(np.uint8))
        for low, high in equal_runs(kinds):
            yield base + low, base + high, _KINDS[kinds[low]]

    def _region(self, number: int) -> _Region:
        region = self._regions.get(number)
        if region is not None:
            return region
        start = number * _REGION_TABLES
        region = _Region(self._directory.entries[start : start + _REGION_TABLES], self._header.lowest_pointer)
        with self._lock:
            if number in self._regions:
                return self._regions[number]
            if len(self._regions) >= _MAX_REGIONS:
                del self._regions[next(iter(self._regions))]
            self._regions[number] = region
        return region

    def _load(self, number: int, region: _Region, wanted: slice) -> None:
        """Load the missing tables of ``wanted``, and the next ones too as long as they lie one behind another."""
        base = number * _REGION_TABLES
        sectors = self._directory.entries[base : base + region.loaded.size].astype(np.int64)
        last = sectors[wanted.stop - 1 : max(wanted.stop, wanted.start + _BATCH_TABLES)]
        breaks = np.flatnonzero((np.diff(last) < TABLE_SECTORS) | (np.diff(last) > _AHEAD_STRIDE // SECTOR))
        stop = wanted.stop + int(breaks[0] if breaks.size else max(0, last.size - 1))
        missing = wanted.start + np.flatnonzero(~region.loaded[wanted.start : stop])
        order = missing[np.argsort(sectors[missing], kind="stable")]
        places = sectors[order]
        split = np.flatnonzero(np.diff(places) > TABLE_SECTORS + _BATCH_GAP // SECTOR) + 1
        for some in np.split(order, split):
            for batch in self._by_span(some, sectors):
                self._read(base, region, batch, sectors[batch])

    @staticmethod
    def _by_span(order: npt.NDArray[np.intp], sectors: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.intp]]:
        """``order`` in pieces that each lie within 2 MiB of the file."""
        places = sectors[order]
        low = 0
        while low < order.size:
            high = int(np.searchsorted(places, places[low] + _BATCH_SPAN // SECTOR, side="left"))
            yield order[low:high]
            low = high

    def _read(self, base: int, region: _Region, tables: npt.NDArray[np.intp], sectors: npt.NDArray[np.int64]) -> None:
        """Read ``tables`` (numbers in ``region``, ascending by place) in one go, check them, let them be seen."""
        start = int(sectors[0])
        words = np.frombuffer(
            self._blob.read_at(start * SECTOR, (int(sectors[-1]) - start) * SECTOR + TABLE_SIZE), ENTRY
        )
        rows = np.lib.stride_tricks.sliding_window_view(words, TABLE_ENTRIES)
        entries = rows[(sectors - start) * (SECTOR // ENTRY.itemsize)]
        rest = self._header.grain_count % TABLE_ENTRIES
        if rest:  # the last table of the disk is longer than the disk
            entries[tables + base == self._header.table_count - 1, rest:] = 0
        # Most tables of a large disk hold nothing; passed over, they take no memory and no page faults.
        used = np.flatnonzero(entries.max(axis=1))
        entries, stored = entries[used], tables[used]
        numbers = (stored + base) * TABLE_ENTRIES
        self._check(entries, numbers)
        if self._claims is not None:
            self._claims.add(entries, stored + base, self._header.lowest_pointer)
        region.entries[stored] = entries
        region.loaded[tables] = True

    def _check(self, entries: Entries, numbers: npt.NDArray[np.int64]) -> None:
        """Raise unless all that ``entries`` point to lies inside the file and clear of header and tables.

        ``numbers`` are the first grains of the tables. A compressed grain is known by its first sector only; its
        marker says the rest when it is read.
        """
        header = self._header
        stored = entries[entries >= header.lowest_pointer]
        if not stored.size:
            return
        length = 1 if header.compressed else header.grain_sectors
        if stored.min() >= self._metadata_end and (int(stored.max()) + length) * SECTOR <= header.data_end:
            return  # the usual file: all grains lie behind all tables
        rows, columns = np.nonzero(entries >= header.lowest_pointer)
        sectors = stored.astype(np.int64)
        grains = numbers[rows] + columns
        ends = (sectors + length) * SECTOR
        if not header.compressed:  # the disk's last grain may be stored as far as the disk goes
            ends[grains == header.grain_count - 1] -= header.grain_count * header.grain_size - header.size
        outside = ends > header.data_end
        if outside.any():
            self._refuse(outside, sectors, grains, "past the end of the data; the file may be cut short")
        inside = np.zeros(sectors.size, np.bool_)
        for low, high in self._directory.reserved:
            inside |= (sectors < high) & (sectors + length > low)
        tables = self._directory.tables
        before = np.searchsorted(tables, sectors + length) - 1  # the last table that starts before the grain ends
        inside |= (before >= 0) & (tables[before] + TABLE_SECTORS > sectors)
        if inside.any():
            self._refuse(inside, sectors, grains, "inside the file's own header or tables")

    def _refuse(
        self, bad: npt.NDArray[np.bool_], sectors: npt.NDArray[np.int64], grains: npt.NDArray[np.int64], where: str
    ) -> None:
        first = int(np.argmax(bad))
        guest, host = int(grains[first]) * self._header.grain_size, int(sectors[first]) * SECTOR
        raise CorruptDiskError(
            f"vmdk: {quote(self._blob.name)}: the grain at guest offset 0x{guest:x} is said to lie "
            f"at host offset 0x{host:x}, {where}. Export the disk again."
        )
