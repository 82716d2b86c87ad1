"""COWD: the delta of a snapshot on VMFS, ``createType`` ``vmfsSparse``.

Source: QEMU's ``block/vmdk.c`` and libvmdk's documentation of the file header, as far as both agree.
"""

from __future__ import annotations

import struct

import numpy as np

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsupportedFeatureError, quote
from vmferry.formats.vmdk.delta import DeltaExtent, DeltaMap, Sectors, Words, count_tables
from vmferry.units import SECTOR

_HEADER = struct.Struct("<4s6I")
_HEADER_SECTORS = 4
_UNCLEAN = 1648
_MAX_GRAIN_SECTORS = 2048
_ENTRY = np.dtype("<u4")


def open_extent(blob: Blob) -> tuple[DeltaExtent, list[str]]:
    """The extent in ``blob``, which begins with ``kinds.COWD``, and what is odd about it. Reads header and directory.

    Raises ``CorruptDiskError``, ``UnsupportedFeatureError``.
    """
    header = blob.read_at(0, _HEADER_SECTORS * SECTOR) if blob.size >= _HEADER_SECTORS * SECTOR else b""
    if not header:
        raise _damaged(blob, f"its header takes {_HEADER_SECTORS * SECTOR:,} bytes and the file has {blob.size:,}")
    _, version, _, capacity, grain, place, entries = _HEADER.unpack_from(header)
    if version != 1:
        raise UnsupportedFeatureError(
            f"vmdk: {quote(blob.name)} has version {version} of the COWD header; version 1 is read. "
            "Consolidate the machine's snapshots and export it again."
        )
    if not 1 <= grain <= _MAX_GRAIN_SECTORS or grain & (grain - 1) or not capacity:
        raise _damaged(blob, f"a disk of {capacity:,} sectors in grains of {grain:,} is no disk")
    count = count_tables(capacity * SECTOR, grain)
    end = place * SECTOR + count * _ENTRY.itemsize
    if entries < count or place < _HEADER_SECTORS or end > blob.size:
        raise _damaged(
            blob, f"its grain directory of {entries:,} entries at sector {place:,} is too short, or not in the file"
        )
    directory = np.frombuffer(blob.read_at(place * SECTOR, count * _ENTRY.itemsize), _ENTRY).astype(np.int64)
    reserved = ((0, _HEADER_SECTORS), (place, -(-end // SECTOR)))
    (unclean,) = struct.unpack_from("<I", header, _UNCLEAN)
    warnings = ["It was not closed properly; its data is read as it stands."] if unclean else []
    return DeltaExtent(blob, DeltaMap(capacity * SECTOR, grain, directory, _ENTRY, _decode, reserved)), warnings


def _decode(words: Words) -> Sectors:
    """An entry is a sector, 0 where the parent shows; sector 1 is the header, no place for a grain."""
    sectors = words.astype(np.int64)
    sectors[sectors == 1] = -1
    return sectors


def _damaged(blob: Blob, what: str) -> CorruptDiskError:
    return CorruptDiskError(
        f"vmdk: {quote(blob.name)}: {what}. The file is damaged or cut short: export or upload it again."
    )
