"""The grain directory: one entry for each grain table, read whole when the disk is opened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, quote
from vmferry.formats.vmdk.header import TABLE_ENTRIES, SparseHeader
from vmferry.units import SECTOR

ENTRY = np.dtype("<u4")
TABLE_SIZE = TABLE_ENTRIES * ENTRY.itemsize
TABLE_SECTORS = TABLE_SIZE // SECTOR

Entries = npt.NDArray[np.uint32]
Interval = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class GrainDirectory:
    """Where each grain table lies. All numbers are sectors of the file."""

    entries: Entries
    """One per table, in guest order: 0 none, 1 all zeros (with the header's flag), else the table's first sector."""
    tables: npt.NDArray[np.int64]
    """The first sectors of all tables, ascending; none overlaps another."""
    reserved: tuple[Interval, ...]
    """What neither tables nor grains may touch: header, descriptor, the directory itself."""
    offset: int
    """Where the directory lies."""


def read_directory(blob: Blob, header: SparseHeader) -> GrainDirectory:
    """The grain directory of ``blob``, or the redundant one when the first is damaged or missing.

    Reads four bytes for each 512 grains (2 MiB for 16 TiB). Raises ``CorruptDiskError`` when no directory is sound.
    """
    fault: CorruptDiskError | None = None
    for offset in header.directory_offsets:
        try:
            return _read_at(blob, header, offset)
        except CorruptDiskError as error:
            fault = fault or error
    raise fault or CorruptDiskError(
        f"vmdk: {quote(blob.name)} has no grain directory. The file is damaged: export it again."
    )


def compare_copies(blob: Blob, header: SparseHeader, directory: GrainDirectory) -> str | None:
    """What is odd about the redundant grain directory, beside ``directory``, which is read; one sentence, or none."""
    offsets = header.directory_offsets
    if len(offsets) < 2:
        return None
    if directory.offset != offsets[0]:
        return "Its grain directory is damaged; the redundant one is read instead."
    try:
        copy = _read_at(blob, header, offsets[1])
    except CorruptDiskError:
        return "Its redundant grain directory is damaged; the first one is read."
    lowest = header.lowest_pointer
    if np.array_equal(copy.entries >= lowest, directory.entries >= lowest):
        return None
    return "Its redundant grain directory differs from the first one, which is read."


def _read_at(blob: Blob, header: SparseHeader, offset: int) -> GrainDirectory:
    size = header.table_count * ENTRY.itemsize
    if offset * SECTOR + size > header.data_end:
        raise _damaged(
            blob,
            f"its grain directory of {size:,} bytes at host offset 0x{offset * SECTOR:x} goes past the end of the data "
            f"at 0x{header.data_end:x}",
        )
    reserved = [(0, 1), (offset, offset - (-size // SECTOR))]
    if header.descriptor_offset and header.descriptor_size:
        reserved.append((header.descriptor_offset, header.descriptor_offset + header.descriptor_size))
    if any(low < reserved[1][1] and reserved[1][0] < high for low, high in (reserved[0], *reserved[2:])):
        raise _damaged(
            blob, f"its grain directory at host offset 0x{offset * SECTOR:x} lies on its header or descriptor"
        )
    entries = np.frombuffer(blob.read_at(offset * SECTOR, size), ENTRY)
    return GrainDirectory(entries, _check_tables(blob, header, entries, reserved), tuple(reserved), offset)


def _check_tables(
    blob: Blob, header: SparseHeader, entries: Entries, reserved: list[Interval]
) -> npt.NDArray[np.int64]:
    """The tables' first sectors in order. Raises unless they lie inside the file and clear of everything else."""
    pointers = entries[entries >= header.lowest_pointer]
    if pointers.size * TABLE_SIZE > header.data_end:  # before anything of that size is allocated
        raise _damaged(blob, f"{pointers.size:,} grain tables cannot fit in {header.data_end:,} bytes")
    tables = np.sort(pointers).astype(np.int64)
    if tables.size and (int(tables[-1]) + TABLE_SECTORS) * SECTOR > header.data_end:
        raise _damaged(
            blob, f"a grain table at host offset 0x{int(tables[-1]) * SECTOR:x} goes past the end of the data"
        )
    crowded = np.flatnonzero(np.diff(tables) < TABLE_SECTORS)
    if crowded.size:
        raise _damaged(
            blob, f"two entries of its grain directory share the table at host offset 0x{tables[crowded[0]] * SECTOR:x}"
        )
    for low, high in reserved:
        if np.searchsorted(tables, high) > np.searchsorted(tables, low - TABLE_SECTORS, side="right"):
            raise _damaged(blob, f"a grain table lies on its header, descriptor or directory at 0x{low * SECTOR:x}")
    return tables


def _damaged(blob: Blob, what: str) -> CorruptDiskError:
    return CorruptDiskError(f"vmdk: {quote(blob.name)}: {what}. The file is damaged: export it again.")
