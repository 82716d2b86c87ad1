"""A monolithicSparse VMDK being made: one file that grows with the data, as VMware Workstation and Fusion use it.

The order in the file is header | descriptor | redundant directory and its tables | directory and its tables | grains.
Tables for the whole disk have their places, as *Virtual Disk Format 5.0* wants it; those without grains stay holes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from deflate import crc32

from vmferry.blob import BlobWriter, Buffer
from vmferry.disk import Placed
from vmferry.extent import nonzero_runs
from vmferry.formats.vmdk.descriptor_text import (
    DESCRIPTOR_OFFSET,
    DESCRIPTOR_SECTORS,
    check_name,
    content_id,
    render_descriptor,
)
from vmferry.formats.vmdk.header import FLAG_LINE_ENDS, FLAG_REDUNDANT, TABLE_ENTRIES, pack_header
from vmferry.formats.vmdk.layout import (
    GRAIN_SECTORS,
    GRAIN_SIZE,
    TABLE_SECTORS,
    TABLE_SPAN,
    check_end,
    check_grains,
    image_size,
)
from vmferry.units import KIB, SECTOR, round_up

_VERSION = 1
_BATCH = 128 * KIB
"""Entries of a directory that are made at once."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring grains that hold data; the last one may be short."""

    first: int
    count: int
    data: Buffer
    facts: bytes
    """Number and checksum of each grain."""


class MonolithicSparseWriter:
    """The OrderedDiskWriter of monolithicSparse VMDKs, with 64 KiB grains. ``encode`` and ``write`` in any thread.

    What is held is one grain table. Until ``finish`` there is no header, so an unfinished file is no VMDK for anybody;
    the content id follows from the size and the guest's bytes.
    """

    granularity = GRAIN_SIZE

    def __init__(self, target: BlobWriter, size: int, *, name: str = "disk.vmdk") -> None:
        """A disk of ``size`` bytes, rounded up to whole MiB; ``name`` is the file's own.

        Raises ``UnsupportedFeatureError`` over 64 TiB, ``ValueError`` for a ``name`` that is not plain.
        """
        self.size = image_size(size)
        """Guest bytes of the disk that is made."""
        self._guest_size = size
        self._target = target
        self._name = check_name(name)
        self._tables = -(-self.size // TABLE_SPAN)
        directory_sectors = -(-self._tables * 4 // SECTOR)
        self._redundant = DESCRIPTOR_OFFSET + DESCRIPTOR_SECTORS
        self._redundant_tables = self._redundant + directory_sectors
        self._directory = self._redundant_tables + self._tables * TABLE_SECTORS
        self._directory_tables = self._directory + directory_sectors
        self._first_grain = round_up(self._directory_tables + self._tables * TABLE_SECTORS, GRAIN_SECTORS)
        self._end = self._first_grain
        self._index = -1
        self._entries = np.zeros(TABLE_ENTRIES, "<u4")
        self._digest = hashlib.sha256()

    def encode(self, offset: int, data: Buffer) -> Sequence[_Run]:
        """As ``OrderedDiskWriter``. ``ValueError`` for what is not whole grains."""
        check_grains(offset, len(data), self._guest_size)
        view = memoryview(data)
        runs = []
        for low, high in nonzero_runs(data, GRAIN_SIZE):
            start = low
            while start < high:  # cut where a grain table ends
                stop = min(high, start + TABLE_SPAN - (offset + start) % TABLE_SPAN)
                runs.append(_run((offset + start) // GRAIN_SIZE, view[start:stop]))
                start = stop
        return runs

    def place(self, encoded: Sequence[_Run]) -> Sequence[Placed]:
        placed: list[Placed] = []
        for run in encoded:
            self._digest.update(run.facts)
            index, slot = divmod(run.first, TABLE_ENTRIES)
            if index != self._index:
                placed += self._close_table()
                self._index = index
            start = self._end
            self._end += run.count * GRAIN_SECTORS
            check_end(self._end, "monolithicSparse")
            self._entries[slot : slot + run.count] = start + np.arange(run.count, dtype=np.int64) * GRAIN_SECTORS
            placed.append((start * SECTOR, run.data))
        return placed

    def note(self, encoded: Sequence[_Run]) -> bytes:
        """As ``SupportsReplay``: the facts of the grains, run behind run; they tell where a run begins."""
        return b"".join(run.facts for run in encoded)

    def replay(self, note: bytes) -> None:
        """As ``SupportsReplay``."""
        facts = np.frombuffer(note, "<u8").reshape(-1, 2)
        numbers = facts[:, 0].astype(np.int64)
        if not len(numbers):  # nothing but zeros
            return
        apart = (np.diff(numbers) != 1) | (numbers[1:] % TABLE_ENTRIES == 0)
        edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(numbers)]
        for low, high in pairwise(edges):
            self.place([_Run(int(numbers[low]), high - low, b"", facts[low:high].tobytes())])

    def write(self, placed: Sequence[Placed]) -> None:
        for host, data in placed:
            self._target.write_at(host, data)

    def finish(self) -> None:
        self.write(self._close_table())
        for directory, tables in ((self._redundant, self._redundant_tables), (self._directory, self._directory_tables)):
            for first in range(0, self._tables, _BATCH):
                count = min(_BATCH, self._tables - first)
                entries = tables + (first + np.arange(count, dtype=np.int64)) * TABLE_SECTORS
                self._target.write_at(directory * SECTOR + first * 4, entries.astype("<u4").tobytes())
        ids = content_id("monolithicSparse", self.size, self._digest.hexdigest())
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
        return [((start + self._index * TABLE_SECTORS) * SECTOR, content) for start in starts]

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


def _run(first: int, data: memoryview) -> _Run:
    """``data``, the grains from number ``first`` on."""
    count = -(-len(data) // GRAIN_SIZE)
    facts = np.empty((count, 2), "<u8")
    facts[:, 0] = np.arange(first, first + count)
    facts[:, 1] = [crc32(data[start : start + GRAIN_SIZE]) for start in range(0, len(data), GRAIN_SIZE)]
    return _Run(first, count, data, facts.tobytes())
