"""A monolithicSparse VMDK being made: one file that grows with the data, as VMware Workstation and Fusion use it.

The order in the file is header | descriptor | redundant directory and its tables | directory and its tables | grains.
Tables for the whole disk have their places, as *Virtual Disk Format 5.0* wants it; those without grains stay holes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from deflate import crc32

from vmferry.blob import BlobWriter, Buffer
from vmferry.disk import Placed
from vmferry.errors import UnsupportedFeatureError
from vmferry.extent import nonzero_runs
from vmferry.formats.vmdk.descriptor_text import DESCRIPTOR_OFFSET, DESCRIPTOR_SECTORS, content_id, render_descriptor
from vmferry.formats.vmdk.header import FLAG_LINE_ENDS, FLAG_REDUNDANT, TABLE_ENTRIES, pack_header
from vmferry.formats.vmdk.stream_writer import GRAIN_SECTORS, GRAIN_SIZE, MAX_SECTORS
from vmferry.units import KIB, MIB, SECTOR, format_size, round_up

_VERSION = 1
_TABLE_SECTORS = TABLE_ENTRIES * 4 // SECTOR
_BATCH = 128 * KIB
"""Entries of a directory that are made at once."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring grains that hold data; the last one may be short."""

    first: int
    count: int
    data: Buffer
    checksum: int


class MonolithicSparseWriter:
    """The OrderedDiskWriter of monolithicSparse VMDKs, with 64 KiB grains. ``encode`` and ``write`` in any thread.

    What is held is one grain table. Until ``finish`` there is no header, so an unfinished file is no VMDK for anybody.
    """

    granularity = GRAIN_SIZE

    def __init__(self, target: BlobWriter, size: int, name: str = "disk.vmdk") -> None:
        """A disk of ``size`` bytes, rounded up to whole MiB."""
        self.size = round_up(max(size, 1), MIB)
        """Guest bytes of the disk that is made."""
        self._guest_size = size
        self._target = target
        self._name = name
        self._tables = -(-self.size // (GRAIN_SIZE * TABLE_ENTRIES))
        directory_sectors = -(-self._tables * 4 // SECTOR)
        self._redundant = DESCRIPTOR_OFFSET + DESCRIPTOR_SECTORS
        self._redundant_tables = self._redundant + directory_sectors
        self._directory = self._redundant_tables + self._tables * _TABLE_SECTORS
        self._directory_tables = self._directory + directory_sectors
        self._first_grain = round_up(self._directory_tables + self._tables * _TABLE_SECTORS, GRAIN_SECTORS)
        self._end = self._first_grain
        self._index = -1
        self._entries = np.zeros(TABLE_ENTRIES, "<u4")
        self._checksum: int | None = None

    def encode(self, offset: int, data: Buffer) -> Sequence[_Run]:
        """As ``OrderedDiskWriter``. ``ValueError`` for what is not whole grains."""
        end = offset + len(data)
        if (
            offset % GRAIN_SIZE
            or (end % GRAIN_SIZE and end != self._guest_size)
            or not 0 <= offset <= end <= self._guest_size
        ):
            raise ValueError(f"{offset} to {end} are not whole grains of a disk of {self._guest_size} bytes")
        view = memoryview(data)
        step = GRAIN_SIZE * TABLE_ENTRIES
        runs = []
        for low, high in nonzero_runs(data, GRAIN_SIZE):
            start = low
            while start < high:  # cut where a grain table ends
                stop = min(high, start + step - (offset + start) % step)
                part = view[start:stop]
                first = (offset + start) // GRAIN_SIZE
                runs.append(_Run(first, -(-len(part) // GRAIN_SIZE), part, crc32(part[:GRAIN_SIZE])))
                start = stop
        return runs

    def place(self, encoded: Sequence[_Run]) -> Sequence[Placed]:
        placed: list[Placed] = []
        for run in encoded:
            if self._checksum is None:
                self._checksum = run.checksum
            index, slot = divmod(run.first, TABLE_ENTRIES)
            if index != self._index:
                placed += self._close_table()
                self._index = index
            start = self._end
            self._end += run.count * GRAIN_SECTORS
            if self._end > MAX_SECTORS:
                raise UnsupportedFeatureError(
                    f"vmdk: the file would pass {format_size(MAX_SECTORS * SECTOR)}, the most that a monolithicSparse "
                    "VMDK can hold: write a VHDX or a qcow2 instead."
                )
            self._entries[slot : slot + run.count] = start + np.arange(run.count, dtype=np.int64) * GRAIN_SECTORS
            placed.append((start * SECTOR, run.data))
        return placed

    def write(self, placed: Sequence[Placed]) -> None:
        for host, data in placed:
            self._target.write_at(host, data)

    def finish(self) -> None:
        self.write(self._close_table())
        for directory, tables in ((self._redundant, self._redundant_tables), (self._directory, self._directory_tables)):
            for first in range(0, self._tables, _BATCH):
                count = min(_BATCH, self._tables - first)
                entries = tables + (first + np.arange(count, dtype=np.int64)) * _TABLE_SECTORS
                self._target.write_at(directory * SECTOR + first * 4, entries.astype("<u4").tobytes())
        ids = content_id("monolithicSparse", self.size, self._checksum)
        descriptor = render_descriptor("monolithicSparse", self.size // SECTOR, self._name, ids)
        self._target.write_at(DESCRIPTOR_OFFSET * SECTOR, descriptor)
        self._target.set_size(self._end * SECTOR)
        self._target.write_at(0, self._header())
        self._target.finish()

    def abort(self) -> None:
        self._target.abort()

    def _close_table(self) -> list[Placed]:
        """Both copies of the grain table that is complete; nothing where there is none yet."""
        if self._index < 0:
            return []
        content = self._entries.tobytes()
        self._entries[:] = 0
        starts = (self._redundant_tables, self._directory_tables)
        return [((start + self._index * _TABLE_SECTORS) * SECTOR, content) for start in starts]

    def _header(self) -> bytes:
        return pack_header(
            version=_VERSION,
            flags=FLAG_LINE_ENDS | FLAG_REDUNDANT,
            capacity_sectors=self.size // SECTOR,
            grain_sectors=GRAIN_SECTORS,
            descriptor=(DESCRIPTOR_OFFSET, DESCRIPTOR_SECTORS),
            directories=(self._redundant, self._directory),
            overhead_sectors=self._first_grain,
        )
