"""A packed qcow2 image being made: clusters, compressed or not, lie as they come, tables follow what they point to.

The order in the file is header | L1 table | data, each L2 table behind the data of its part of the disk | refcount
table | refcount blocks. What is held is the L1 table, one L2 table and two bytes for each 64 KiB of the file.
"""

from __future__ import annotations

import struct
import threading
import zlib
from array import array
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import zstandard

from vmferry.blob import BlobWriter, Buffer
from vmferry.disk import Placed
from vmferry.errors import UnsupportedFeatureError
from vmferry.extent import nonzero_runs
from vmferry.formats import Compression
from vmferry.formats._deflate import LEVELS, deflate
from vmferry.formats.qcow2.header import COMPRESSED, COPIED, ZLIB, ZSTD, make_header
from vmferry.formats.qcow2.layout import CLUSTER_BITS, CLUSTER_SIZE, REFCOUNTS, TABLE_ENTRIES
from vmferry.units import SECTOR, format_size

_DESCRIPTOR_BITS = 62 - (CLUSTER_BITS - 8)
_MAX_FILE = 1 << _DESCRIPTOR_BITS
_WINDOW_BITS = -12
"""Raw deflate with 4 KiB of history, as QEMU writes it: strict readers have no more."""
_ZLIB_LEVEL = 7
"""QEMU's is 6."""
_MEMORY_LEVEL = 9
_ZSTD_LEVELS = {Compression.FAST: 1, Compression.BALANCED: 3, Compression.BEST: 9}

_NOTE = struct.Struct("<QI")

Compress = Callable[[Buffer], Buffer]
Encoded = list[tuple[int, bool, Buffer]]
"""``(guest cluster, whether it is compressed, what is stored)``."""


class PackedQcow2Writer:
    """The OrderedDiskWriter of qcow2: version 3, clusters of 64 KiB, each compressed where that makes it smaller.

    Without a ``compression_type`` they are packed as they are: for targets on which what is left out takes room.

    Until ``finish`` there is no header, so an unfinished file is no qcow2 for anybody.
    """

    granularity = CLUSTER_SIZE

    def __init__(self, target: BlobWriter, size: int, compression_type: int | None, compression: Compression) -> None:
        self._target = target
        self._size = size
        self._compression_type = ZLIB if compression_type is None else compression_type
        self._compress = _compressor(compression_type, compression)
        l1_size = max(-(-size // (TABLE_ENTRIES * CLUSTER_SIZE)), 1)
        self._l1 = np.zeros(l1_size, dtype=">u8")
        self._space = _Space(1 + -(-l1_size // TABLE_ENTRIES))
        self._table = _Table(-1)

    def encode(self, offset: int, data: Buffer) -> Encoded:
        """As ``OrderedDiskWriter``. ``ValueError`` for what is not whole clusters of the disk."""
        end = offset + len(data)
        if offset % CLUSTER_SIZE or (end % CLUSTER_SIZE and end != self._size) or not 0 <= offset <= end <= self._size:
            raise ValueError(f"{offset} to {end} are not whole clusters of a disk of {format_size(self._size)}")
        view = memoryview(data)
        encoded: Encoded = []
        for low, high in nonzero_runs(data, CLUSTER_SIZE):
            for start in range(low, high, CLUSTER_SIZE):
                cluster: Buffer = view[start : start + CLUSTER_SIZE]
                if len(cluster) < CLUSTER_SIZE:  # the disk's end
                    cluster = bytes(cluster).ljust(CLUSTER_SIZE, b"\0")
                packed = self._compress(cluster)
                smaller = len(packed) < CLUSTER_SIZE
                encoded.append(((offset + start) >> CLUSTER_BITS, smaller, packed if smaller else cluster))
        return encoded

    def place(self, encoded: Encoded) -> Sequence[Placed]:
        placed: list[Placed] = []
        for guest, is_packed, data in encoded:
            index, entry = divmod(guest, TABLE_ENTRIES)
            if index != self._table.index:
                placed += self._close_table()
                self._table = _Table(index)
            host = self._space.pack(len(data)) if is_packed else self._space.clusters(1)
            if host + CLUSTER_SIZE > _MAX_FILE:
                raise UnsupportedFeatureError(
                    f"The compressed qcow2 would pass {format_size(_MAX_FILE)}: write subformat plain."
                )
            if is_packed:
                more = ((host + len(data) - 1) // SECTOR - host // SECTOR) << _DESCRIPTOR_BITS
                self._table.entries[entry] = COMPRESSED | more | host
            else:
                self._table.entries[entry] = COPIED | host
            placed.append((host, data))
        return placed

    def note(self, encoded: Encoded) -> bytes:
        """As ``SupportsReplay``: number and length of each cluster; a length that is a cluster's is not compressed."""
        return b"".join(_NOTE.pack(guest, len(data)) for guest, _, data in encoded)

    def replay(self, note: bytes) -> None:
        """As ``SupportsReplay``."""
        if len(note) % _NOTE.size:
            raise ValueError(f"{len(note)} bytes are no note of clusters")
        nothing = memoryview(bytes(CLUSTER_SIZE))
        self.place([(guest, size < CLUSTER_SIZE, nothing[:size]) for guest, size in _NOTE.iter_unpack(note)])

    def write(self, placed: Sequence[Placed]) -> None:
        for _, run in groupby(_numbered(placed), key=lambda item: item[0]):
            parts = [part for _, part in run]
            whole = parts[0][1] if len(parts) == 1 else b"".join(data for _, data in parts)
            self._target.write_at(parts[0][0], whole)

    def finish(self) -> None:
        self.write(self._close_table())
        self._target.write_at(CLUSTER_SIZE, self._l1.tobytes())
        start, clusters = self._write_refcounts()
        self._target.set_size(self._space.end)
        self._target.write_at(
            0,
            make_header(
                self._size,
                CLUSTER_BITS,
                len(self._l1),
                CLUSTER_SIZE,
                (start, clusters),
                self._compression_type,
            ),
        )
        self._target.finish()

    def abort(self) -> None:
        self._target.abort()

    def _close_table(self) -> list[Placed]:
        """Give the L2 table that is complete its place; nothing where there is none yet."""
        if self._table.index < 0:
            return []
        host = self._space.clusters(1)
        self._l1[self._table.index] = host | COPIED
        entries = self._table.entries.astype(">u8").tobytes()
        self._table = _Table(-1)
        return [(host, entries)]

    def _write_refcounts(self) -> tuple[int, int]:
        """Write refcount table and blocks behind everything; the table's host offset and its clusters."""
        used = self._space.end // CLUSTER_SIZE
        blocks = table = 0
        while (wanted := -(-(used + blocks + table) // REFCOUNTS)) != blocks:  # they count themselves
            blocks, table = wanted, -(-wanted // TABLE_ENTRIES)
        start = self._space.clusters(table)
        first = self._space.clusters(blocks)
        hosts = first + np.arange(blocks, dtype=np.uint64) * np.uint64(CLUSTER_SIZE)
        self._target.write_at(start, hosts.astype(">u8").tobytes().ljust(table * CLUSTER_SIZE, b"\0"))
        refcounts = np.frombuffer(self._space.refcounts, dtype=np.uint16)
        for block in range(blocks):
            part = refcounts[block * REFCOUNTS : (block + 1) * REFCOUNTS].astype(">u2").tobytes()
            self._target.write_at(first + block * CLUSTER_SIZE, part.ljust(CLUSTER_SIZE, b"\0"))
        return start, table


class _Table:
    """The L2 table that is being filled."""

    def __init__(self, index: int) -> None:
        """``index`` is its L1 entry; -1 for none."""
        self.index = index
        self.entries = np.zeros(TABLE_ENTRIES, dtype=np.uint64)


class _Space:
    """The file's clusters, given away from front to back, and how often each is used."""

    def __init__(self, clusters: int) -> None:
        """The first ``clusters`` are taken."""
        self.refcounts = array("H", [1]) * clusters
        self._open = 0
        """Where the next compressed cluster goes: inside the last host cluster that has room, or at its end."""

    @property
    def end(self) -> int:
        """Host bytes given away, in whole clusters."""
        return len(self.refcounts) << CLUSTER_BITS

    def clusters(self, count: int) -> int:
        """``count`` whole clusters; their host offset."""
        start = self.end
        self.refcounts.extend([1] * count)
        return start

    def pack(self, length: int) -> int:
        """``length`` bytes, less than a cluster, right behind the last ones packed; across a boundary only where the
        next cluster is free. Counts every cluster touched: a span in whole sectors touches no other ones."""
        room = -self._open % CLUSTER_SIZE
        if room < length and self._open + room != self.end:
            self._open, room = self.end, 0
        # Always even: in a descriptor, bit 0 belongs to the offset, but some readers (libqcow 20260703) take it for the
        # flag that makes a standard cluster read as zeros.
        start, self._open = self._open, self._open + length + length % 2
        if room:
            self.refcounts[start >> CLUSTER_BITS] += 1
        if room < length:
            self.refcounts.append(1)
        return start


def _numbered(placed: Sequence[Placed]) -> list[tuple[int, Placed]]:
    """Each with the number of the run of bytes, without gaps, that it belongs to."""
    number, end, found = 0, -1, []
    for host, data in placed:
        number += host != end
        end = host + len(data)
        found.append((number, (host, data)))
    return found


def _compressor(compression_type: int | None, compression: Compression) -> Compress:
    """What makes a cluster smaller, or not; safe from any number of threads."""
    if compression_type is None:
        return lambda cluster: cluster
    if compression_type == ZSTD:
        return _Zstd(_ZSTD_LEVELS[compression])
    if compression is Compression.BEST:
        return _deflate
    level = LEVELS[compression]
    return lambda cluster: deflate(cluster, level, _WINDOW_BITS)


def _deflate(cluster: Buffer) -> bytes:
    packer = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL)
    return packer.compress(cluster) + packer.flush()


class _Zstd:
    """One zstd frame for each cluster, which says its size. A compressor for each thread: none may be shared."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._local = threading.local()

    def __call__(self, cluster: Buffer) -> bytes:
        if not hasattr(self._local, "packer"):
            self._local.packer = zstandard.ZstdCompressor(level=self._level)
        packed: bytes = self._local.packer.compress(cluster)
        return packed
