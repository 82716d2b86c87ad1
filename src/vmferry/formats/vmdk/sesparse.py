"""seSparse: the delta of a snapshot on VMFS 6, and of disks over 2 TiB.

VMware has not published the format. Source: QEMU's ``block/vmdk.c``, and files of ESXi 6.5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.formats.vmdk.delta import HOLE, ZERO, DeltaExtent, DeltaMap, Sectors, Words, count_tables
from vmferry.limits import MAX_DISK_SIZE
from vmferry.units import SECTOR, format_size

_HEADER = struct.Struct("<26Q")
_VOLATILE = struct.Struct("<4Q")
_VOLATILE_MAGIC = 0xCAFECAFE
_VERSION = 0x2_0000_0001
_GRAIN_SECTORS = 8
_TABLE_SECTORS = 64
_ENTRY = np.dtype("<u8")
_SLICE = 1 << 18
"""Entries of the directory that are read at once: 2 MiB."""
_TABLE_MARK = 1
"""The top nibble of an entry of the directory that leads to a table."""


@dataclass(frozen=True, slots=True)
class _Header:
    """The fields that matter; places in sectors, checked to lie inside the file."""

    capacity: int
    volatile: int
    directory: int
    directory_sectors: int
    tables: int
    tables_sectors: int
    grains: int


def open_extent(blob: Blob) -> DeltaExtent:
    """The extent in ``blob``, which begins with ``kinds.SESPARSE``. Reads its headers and its directory.

    Raises ``CorruptDiskError``, ``UnsupportedFeatureError``, ``UnsafeDiskError``.
    """
    header = _read_header(blob)
    _check_volatile(blob, header)
    size = header.capacity * SECTOR
    count = count_tables(size, _GRAIN_SECTORS)
    length = count * _ENTRY.itemsize
    if length > header.directory_sectors * SECTOR:
        raise _damaged(blob, f"its grain directory holds less than the {count:,} entries that its disk needs")
    if header.directory * SECTOR + length > blob.size:
        raise _damaged(blob, "its grain directory goes past the end of the file")
    directory = np.zeros(count, np.int64)
    for low in range(0, count, _SLICE):
        high = min(count, low + _SLICE)
        place = header.directory * SECTOR + low * _ENTRY.itemsize
        words = np.frombuffer(blob.read_at(place, (high - low) * _ENTRY.itemsize), _ENTRY)
        _decode_directory(blob, header, words, directory[low:high])
    reserved = [(0, 1), (header.volatile, header.volatile + 1)]
    reserved.append((header.directory, header.directory + -(-length // SECTOR)))
    room = blob.size // SECTOR

    def decode(words: Words) -> Sectors:
        return _decode_table(words.astype(np.uint64), header.grains, room)

    return DeltaExtent(blob, DeltaMap(size, _GRAIN_SECTORS, directory, _ENTRY, decode, tuple(reserved)))


def _read_header(blob: Blob) -> _Header:
    if blob.size < SECTOR:
        raise _damaged(blob, f"its header takes {SECTOR} bytes and the file has {blob.size}")
    fields = _HEADER.unpack_from(blob.read_at(0, SECTOR))
    version, capacity, grain, table, flags = fields[1:6]
    if (version, grain, table, flags) != (_VERSION, _GRAIN_SECTORS, _TABLE_SECTORS, 0) or any(fields[6:10]):
        raise UnsupportedFeatureError(
            f"vmdk: {quote(blob.name)} is a seSparse extent of a kind that is not read (version 0x{version:x}, grains "
            f"of {grain:,} and tables of {table:,} sectors, flags 0x{flags:x}). Consolidate the machine's snapshots "
            "and export it again."
        )
    if not capacity:
        raise _damaged(blob, "its disk has no sectors")
    if capacity * SECTOR > MAX_DISK_SIZE:
        raise UnsafeDiskError(
            f"vmdk: {quote(blob.name)} claims a disk of {capacity * SECTOR:,} bytes; at most "
            f"{format_size(MAX_DISK_SIZE)} are accepted. The file is damaged or made to do harm: export it again."
        )
    header = _Header(capacity, fields[10], fields[16], fields[17], fields[18], fields[19], fields[24])
    room = blob.size // SECTOR
    if any(not 0 < place <= room for place in (header.volatile, header.directory, header.tables, header.grains)):
        raise _damaged(blob, "its header points past the end of the file, or to itself")
    return header


def _check_volatile(blob: Blob, header: _Header) -> None:
    """Raise unless the journal has been written back: what it holds is not read."""
    if (header.volatile + 1) * SECTOR > blob.size:
        raise _damaged(blob, "its volatile header goes past the end of the file")
    magic, _, _, replay = _VOLATILE.unpack_from(blob.read_at(header.volatile * SECTOR, SECTOR))
    if magic != _VOLATILE_MAGIC:
        raise _damaged(blob, "its volatile header is none")
    if replay:
        raise UnsupportedFeatureError(
            f"vmdk: {quote(blob.name)} was not closed properly, and its journal was not written back yet. Switch the "
            "machine on and off once, or consolidate its snapshots; then export it again."
        )


def _decode_directory(blob: Blob, header: _Header, words: npt.NDArray[np.uint64], out: Sectors) -> None:
    """Put the first sector of each table into ``out``; it stays 0 where there is none."""
    used = words != 0
    marks, indexes = words[used] >> np.uint64(60), words[used] & np.uint64((1 << 60) - 1)
    if (marks != _TABLE_MARK).any() or (indexes >> np.uint64(32)).any():
        raise _damaged(blob, "its grain directory holds an entry of no meaning")
    if indexes.size and (int(indexes.max()) + 1) * _TABLE_SECTORS > header.tables_sectors:
        raise _damaged(blob, "its grain directory leads to a table behind the last one")
    out[used] = indexes.astype(np.int64) * _TABLE_SECTORS + header.tables


def _decode_table(words: npt.NDArray[np.uint64], grains: int, room: int) -> Sectors:
    """Entries by their top nibble: 0 none, 1 unmapped by the guest, 2 zeros, 3 a grain; its number is turned about."""
    kinds = (words >> np.uint64(60)).astype(np.uint8)
    low, high = words & np.uint64((1 << 48) - 1), (words >> np.uint64(48)) & np.uint64(0xFFF)
    numbers = (low << np.uint64(12)) | high
    sectors = np.full(words.size, -1, np.int64)
    sectors[words == 0] = HOLE
    sectors[(kinds == 1) | (kinds == 2)] = ZERO
    stored = (kinds == 3) & (numbers <= np.uint64(max(0, room - grains) // _GRAIN_SECTORS))
    sectors[stored] = numbers[stored].astype(np.int64) * _GRAIN_SECTORS + grains
    return sectors


def _damaged(blob: Blob, what: str) -> CorruptDiskError:
    return CorruptDiskError(
        f"vmdk: {quote(blob.name)}: {what}. The file is damaged or cut short: export or upload it again."
    )
