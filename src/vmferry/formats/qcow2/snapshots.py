"""The table of internal snapshots (qcow2.rst, "Snapshots"): names, and where each one's L1 table lies."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vmferry.blob import Blob
from vmferry.errors import UnsupportedFeatureError, quote
from vmferry.formats.qcow2.header import Header, Layer, check_layer, corrupt
from vmferry.limits import MAX_QCOW2_SNAPSHOT_TABLE
from vmferry.units import KIB

_ENTRY = struct.Struct(">QIHHIIQII")
_DISK_SIZE = struct.Struct(">Q")
_DISK_SIZE_OFFSET = 8
"""In the extra data, behind the length of the machine's state."""
_MAX_EXTRA = 1024
"""Bytes of extra data: QEMU's own bound; 24 are known today."""
_READ = 64 * KIB


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An internal snapshot as the table has it; nothing of it is checked yet."""

    id: str
    name: str
    size: int
    """Guest bytes; the disk's own where an old image does not say."""
    l1_size: int
    l1_table_offset: int


def read_snapshots(blob: Blob, header: Header) -> list[Snapshot]:
    """The snapshots of ``blob``: at most 4 MiB are read, however many it claims. Raises ``CorruptDiskError``."""
    if not header.snapshot_count:
        return []
    if header.snapshots_offset % header.cluster_size or header.snapshots_offset == 0:
        raise corrupt(blob, f"its table of internal snapshots cannot begin at host offset {header.snapshots_offset:#x}")
    table = _Table(blob, header.snapshots_offset)
    return [_read_entry(table, header) for _ in range(header.snapshot_count)]


def find_layer(blob: Blob, header: Header, snapshots: list[Snapshot], wanted: str) -> Layer:
    """What the snapshot named ``wanted``, or the one with that id, holds.

    Raises ``UnsupportedFeatureError`` where there is none, ``CorruptDiskError`` and ``UnsafeDiskError``.
    """
    found = [snapshot for snapshot in snapshots if snapshot.name == wanted]
    found = found or [snapshot for snapshot in snapshots if snapshot.id == wanted]
    if not found:
        there = ", ".join(quote(snapshot.name or snapshot.id) for snapshot in snapshots[:8]) or "none"
        raise UnsupportedFeatureError(
            f"{quote(blob.name)} has no internal snapshot {quote(wanted)}; it has {there}. Name one of these."
        )
    first = found[0]
    return check_layer(
        blob,
        first.size,
        first.l1_size,
        first.l1_table_offset,
        cluster_bits=header.cluster_bits,
        l2_bits=header.l2_bits,
    )


class _Table:
    """The table's bytes one after the other, read in pieces of 64 KiB."""

    def __init__(self, blob: Blob, start: int) -> None:
        self.blob = blob
        self._end = min(start + MAX_QCOW2_SNAPSHOT_TABLE, blob.size)
        self._read = start
        self._held = b""
        self._position = 0
        self._taken = 0

    def align(self) -> None:
        """Go to the next multiple of 8 bytes. Behind the last entry QEMU writes nothing up to there."""
        self.take(-self._taken % 8)

    def take(self, length: int) -> bytes:
        while self._position + length > len(self._held):
            more = min(_READ, self._end - self._read)
            if more <= 0:
                raise corrupt(self.blob, "its table of internal snapshots goes past the end of the file")
            self._held = self._held[self._position :] + self.blob.read_at(self._read, more)
            self._read += more
            self._position = 0
        taken = self._held[self._position : self._position + length]
        self._position += length
        self._taken += length
        return taken


def _read_entry(table: _Table, header: Header) -> Snapshot:
    table.align()
    l1_table_offset, l1_size, id_length, name_length, _, _, _, _, extra_length = _ENTRY.unpack(table.take(_ENTRY.size))
    if extra_length > _MAX_EXTRA:
        raise corrupt(table.blob, f"an internal snapshot has {extra_length:,} bytes of extra data")
    extra = table.take(extra_length)
    size = header.active.size
    if extra_length >= _DISK_SIZE_OFFSET + _DISK_SIZE.size:
        (size,) = _DISK_SIZE.unpack_from(extra, _DISK_SIZE_OFFSET)
    identity, name = table.take(id_length), table.take(name_length)
    return Snapshot(
        identity.decode("utf-8", "replace"), name.decode("utf-8", "replace"), size, l1_size, l1_table_offset
    )
