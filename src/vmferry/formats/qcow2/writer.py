"""A qcow2 image being made: data goes straight to its place, tables and refcounts follow, the header comes last."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

from vmferry.blob import BlobWriter, Buffer, Part, SupportsDataRanges, write_parts
from vmferry.errors import BlobChangedError
from vmferry.extent import nonzero_parts, nonzero_runs
from vmferry.formats.qcow2.header import COPIED, make_header
from vmferry.formats.qcow2.layout import CLUSTER_BITS, CLUSTER_SIZE, REFCOUNTS, TABLE_ENTRIES, Bits, Layout, set_bits
from vmferry.ranges import StoredRanges, put_run
from vmferry.units import format_size

_BATCH = 16
"""Table clusters that are made and written at once: 1 MiB."""


class Qcow2Writer:
    """The DiskWriter of qcow2: version 3, 64 KiB clusters, no compression, no backing file.

    Writers with the same layout on the same target may write in any number of threads and processes. Until ``finish``
    there is no header, so an unfinished file is no qcow2 for anybody.
    """

    granularity = CLUSTER_SIZE

    def __init__(self, target: BlobWriter, layout: Layout) -> None:
        self._target = target
        self._layout = layout
        self._shared = target if isinstance(target, SupportsDataRanges) else None
        self._written = np.zeros(0 if self._shared else -(-layout.data_clusters // 8), dtype=np.uint8)
        self._marking = threading.Lock()

    def write_at(self, offset: int, data: Buffer) -> None:
        """As ``DiskWriter``, and as ``write_stored``."""
        self.write_stored(offset, data, None)

    def write_stored(self, offset: int, data: Buffer, stored: StoredRanges | None) -> None:
        """As ``SupportsSharing``. Clusters of zeros are left out. Raises ``BlobChangedError`` for data where the layout
        has none."""
        self._check(offset, len(data))
        view = memoryview(data)
        for low, high in nonzero_runs(data, CLUSTER_SIZE):
            host, count = self._find(offset + low, high - low)
            put_run(self._target, host << CLUSTER_BITS, view[low:high], low, stored)
            self._mark(host, count)

    def write_parts(self, offset: int, parts: Sequence[Part]) -> None:
        """As ``SupportsWriteParts``; raises as ``write_stored``."""
        self._check(offset, sum(map(len, parts)))
        for low, run in nonzero_parts(parts, CLUSTER_SIZE):
            host, count = self._find(offset + low, sum(map(len, run)))
            write_parts(self._target, host << CLUSTER_BITS, run)
            self._mark(host, count)

    def finish(self) -> None:
        present = self._present()
        kept = self._kept(present)
        self._write_l2(present)
        self._write_l1(kept)
        self._write_refcounts(present, kept)
        self._target.set_size(self._end(present))
        layout = self._layout
        self._target.write_at(
            0,
            make_header(
                layout.size,
                CLUSTER_BITS,
                layout.l1_size,
                layout.l1_start << CLUSTER_BITS,
                (layout.refcount_table_start << CLUSTER_BITS, layout.refcount_table_clusters),
            ),
        )
        self._target.finish()

    def abort(self) -> None:
        self._target.abort()

    def _check(self, offset: int, length: int) -> None:
        end, size = offset + length, self._layout.size
        if offset % CLUSTER_SIZE or (end % CLUSTER_SIZE and end != size) or not 0 <= offset <= end <= size:
            raise ValueError(f"{offset} to {end} are not whole clusters of a disk of {format_size(size)}")

    def _find(self, guest: int, length: int) -> tuple[int, int]:
        """The first host cluster of ``length`` bytes from ``guest`` on, and how many they take."""
        count = -(-length // CLUSTER_SIZE)
        host = self._layout.host_cluster(guest >> CLUSTER_BITS, count)
        if host is None:
            raise BlobChangedError(
                f"The disk has data between {guest:,} and {guest + length:,}, where its map had none: it was "
                "changed while it was read. Start again, and leave it alone meanwhile."
            )
        return host, count

    def _mark(self, host: int, count: int) -> None:
        """``count`` clusters from ``host`` on are written."""
        if self._shared is None:
            first = host - self._layout.data_start
            with self._marking:
                set_bits(self._written, first, first + count)

    def _present(self) -> Bits:
        """Which data clusters, in host order, are in the image: what was written here, or by all who share the target.

        Of a shared target that is what is no hole, asked once for all tables: some file systems see data beside the
        place where some is written.
        """
        if self._shared is None:
            return self._written
        layout = self._layout
        bits = np.zeros(-(-layout.data_clusters // 8), dtype=np.uint8)
        base = layout.data_start << CLUSTER_BITS
        for start, end in self._shared.data_ranges(base, base + (layout.data_clusters << CLUSTER_BITS)):
            set_bits(bits, (start - base) >> CLUSTER_BITS, -(-(end - base) // CLUSTER_SIZE))
        return bits

    def _kept(self, present: Bits) -> NDArray[np.bool_]:
        """Which L2 tables have a cluster left to point to; the others stay holes, and unallocated."""
        layout = self._layout
        bounds = [*(before for _, before in layout.tables()), layout.data_clusters]
        return np.array([_bits(present, low, high).any() for low, high in pairwise(bounds)], dtype=np.bool_)

    def _write_l2(self, present: Bits) -> None:
        def tables() -> Iterator[bytes]:
            for used, before in self._layout.tables():
                entries = np.zeros(TABLE_ENTRIES, dtype=">u8")
                guest = np.flatnonzero(np.unpackbits(used, bitorder="little"))
                there = np.flatnonzero(_bits(present, before, before + len(guest)))
                host = (self._layout.data_start + before + there).astype(np.uint64) << np.uint64(CLUSTER_BITS)
                entries[guest[there]] = host | np.uint64(COPIED)
                yield entries.tobytes()

        self._write_batches(self._layout.l2_start, tables())

    def _write_l1(self, kept: NDArray[np.bool_]) -> None:
        layout = self._layout
        entries = np.zeros(layout.l1_size, dtype=">u8")
        hosts = np.arange(layout.l2_start, layout.data_start, dtype=np.uint64) << np.uint64(CLUSTER_BITS)
        entries[layout.l2_indices[kept]] = (hosts | np.uint64(COPIED))[kept]
        self._target.write_at(layout.l1_start << CLUSTER_BITS, entries.tobytes())

    def _write_refcounts(self, present: Bits, kept: NDArray[np.bool_]) -> None:
        layout = self._layout
        metadata = np.ones(layout.data_start, dtype=np.uint8)
        metadata[layout.l2_start :] = kept

        def blocks() -> Iterator[bytes]:
            for start in range(0, layout.refcount_blocks * REFCOUNTS, REFCOUNTS):
                refcounts = np.zeros(REFCOUNTS, dtype=">u2")
                tables = metadata[start : start + REFCOUNTS]
                first = start + len(tables) - layout.data_start
                data = _bits(present, first, first + REFCOUNTS - len(tables))
                refcounts[: len(tables)] = tables
                refcounts[len(tables) : len(tables) + len(data)] = data
                yield refcounts.tobytes()

        self._write_batches(layout.refcount_blocks_start, blocks())
        hosts = np.arange(layout.refcount_blocks_start, layout.l1_start, dtype=np.uint64) << np.uint64(CLUSTER_BITS)
        self._target.write_at(layout.refcount_table_start << CLUSTER_BITS, hosts.astype(">u8").tobytes())

    def _write_batches(self, start: int, clusters: Iterator[bytes]) -> None:
        """``clusters``, one after the other from host cluster ``start`` on; those of zeros are left as holes."""
        while batch := b"".join(islice(clusters, _BATCH)):
            base = start << CLUSTER_BITS
            for low, high in nonzero_runs(batch, CLUSTER_SIZE):
                self._target.write_at(base + low, batch[low:high])
            start += _BATCH

    def _end(self, present: Bits) -> int:
        """The length of the file: up to the last cluster that is used."""
        used = np.flatnonzero(present)
        clusters = 0
        if len(used):
            last = int(used[-1])
            clusters = last * 8 + int(present[last]).bit_length()
        return (self._layout.data_start + clusters) << CLUSTER_BITS


def _bits(packed: Bits, low: int, high: int) -> Bits:
    """Bits ``[low, high)`` of ``packed``, one a byte; those behind its end are left out."""
    low, high = max(low, 0), max(min(high, len(packed) * 8), 0)
    if low >= high:
        return np.zeros(0, dtype=np.uint8)
    first = low >> 3
    return np.unpackbits(packed[first : (high + 7) >> 3], bitorder="little")[low - first * 8 : high - first * 8]
