"""Where everything lies in a new image: a pure function of the disk's size and of where its data is.

The order in the file is header | refcount table | refcount blocks | L1 table | L2 tables | data clusters, the last two
in guest order. One bit per guest cluster is all that is kept, and only for L2 tables with some data and some gaps:
2 MiB for each TiB at the most, whatever the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from vmferry.extent import Extent, ExtentKind
from vmferry.units import round_up

CLUSTER_BITS = 16
CLUSTER_SIZE = 1 << CLUSTER_BITS
TABLE_ENTRIES = CLUSTER_SIZE // 8
"""Entries in a cluster of L1, L2 or refcount table."""
REFCOUNTS = CLUSTER_SIZE // 2
"""Refcounts, of 16 bits, in a refcount block."""

Bits = NDArray[np.uint8]
"""Eight clusters a byte, the first in bit 0."""

_FULL: Bits = np.full(TABLE_ENTRIES // 8, 0xFF, dtype=np.uint8)


def set_bits(bits: Bits, low: int, high: int) -> None:
    """Set bits ``[low, high)`` of ``bits``."""
    if low >= high:
        return
    first, last = low >> 3, (high - 1) >> 3
    head, tail = (0xFF << (low & 7)) & 0xFF, 0xFF >> (7 - ((high - 1) & 7))
    if first == last:
        bits[first] |= head & tail
        return
    bits[first] |= head
    bits[first + 1 : last] = 0xFF
    bits[last] |= tail


def count_bits(bits: Bits, high: int) -> int:
    """How many of the first ``high`` bits are set."""
    return int(np.count_nonzero(np.unpackbits(bits[: (high + 7) >> 3], count=high, bitorder="little")))


class Layout:
    """Offsets are in clusters of 64 KiB unless said otherwise. Immutable once made: any thread may ask it."""

    def __init__(self, size: int, extents: Iterable[Extent]) -> None:
        """A guest cluster is allocated when an ascending DATA extent of ``extents`` touches it."""
        self.size = size
        self.l1_size = max(-(-size // (TABLE_ENTRIES * CLUSTER_SIZE)), 1)
        self._tables = _mark(size, extents)
        self.l2_indices = np.array(sorted(self._tables), dtype=np.int64)
        """The L1 entries that have an L2 table."""
        counts = [count_bits(self._tables[index], TABLE_ENTRIES) for index in self.l2_indices.tolist()]
        self._before = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        """Data clusters of all tables before the n-th."""
        self.data_clusters = int(self._before[-1])
        self._place()

    def _place(self) -> None:
        l1_clusters = -(-self.l1_size // TABLE_ENTRIES)
        fixed = 1 + l1_clusters + len(self.l2_indices) + self.data_clusters
        blocks = table = 0
        while True:  # refcount blocks count themselves: a few rounds until nothing changes
            total = fixed + blocks + table
            wanted = -(-total // REFCOUNTS)
            if wanted == blocks:
                break
            blocks, table = wanted, -(-wanted // TABLE_ENTRIES)
        self.refcount_table_clusters = table
        self.refcount_blocks = blocks
        self.refcount_table_start = 1
        self.refcount_blocks_start = 1 + table
        self.l1_start = self.refcount_blocks_start + blocks
        self.l2_start = self.l1_start + l1_clusters
        self.data_start = self.l2_start + len(self.l2_indices)

    def host_cluster(self, first: int, count: int) -> int | None:
        """Where ``count`` guest clusters from ``first`` lie, in one piece; ``None`` unless all are allocated."""
        rank = self._rank(first)
        if self._rank(first + count) - rank != count:
            return None
        return self.data_start + rank

    def tables(self) -> Iterator[tuple[Bits, int]]:
        """For each L2 table, in order: which of its clusters are allocated, and how many are in tables before it."""
        for index, before in zip(self.l2_indices.tolist(), self._before.tolist(), strict=False):
            yield self._tables[index], before

    def _rank(self, cluster: int) -> int:
        """How many guest clusters before ``cluster`` are allocated."""
        index, low = divmod(cluster, TABLE_ENTRIES)
        before = int(self._before[np.searchsorted(self.l2_indices, index)])
        bits = self._tables.get(index)
        if bits is None or low == 0:
            return before
        return before + (low if bits is _FULL else count_bits(bits, low))


def _mark(size: int, extents: Iterable[Extent]) -> dict[int, Bits]:
    """The L2 tables that hold data, and which clusters of theirs do."""
    tables: dict[int, Bits] = {}
    marked = 0  # guest clusters below this one are done
    for extent in extents:
        if extent.start < 0 or extent.end > round_up(size, CLUSTER_SIZE):
            raise ValueError(f"{extent} does not lie in a disk of {size} bytes")
        if extent.kind is not ExtentKind.DATA:
            continue
        low, high = max(extent.start >> CLUSTER_BITS, marked), -(-extent.end // CLUSTER_SIZE)
        if high < marked:
            raise ValueError(f"{extent} comes behind one that lies after it")
        while low < high:
            index, first = divmod(low, TABLE_ENTRIES)
            last = min(high - index * TABLE_ENTRIES, TABLE_ENTRIES)
            if (first, last) == (0, TABLE_ENTRIES):
                tables[index] = _FULL  # shared: a disk full of data costs nothing
            else:
                set_bits(tables.setdefault(index, np.zeros_like(_FULL)), first, last)
            low = index * TABLE_ENTRIES + last
        marked = max(marked, high)
    return tables
