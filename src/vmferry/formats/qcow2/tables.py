"""The L1 table and the L2 tables of one layer: loaded as they are asked for, checked when they are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np

from vmferry.blob import Blob
from vmferry.errors import UnsafeDiskError, quote
from vmferry.extent import Extent, ExtentKind
from vmferry.formats.qcow2.claims import ClusterClaims
from vmferry.formats.qcow2.entries import (
    EXTENT_KINDS,
    PACKED,
    STANDARD,
    SUBCLUSTERS,
    Entries,
    EntryRules,
    Words,
    join,
)
from vmferry.formats.qcow2.header import OFFSET_MASK, Header, Layer, corrupt
from vmferry.units import KIB, MIB

_CACHE = 16 * MIB
"""Bytes of L2 tables that are held: 128 GiB of a disk with 64 KiB clusters."""
_GROUP = 64 * KIB
"""Bytes of L2 tables that are loaded together, where clusters are smaller."""
_MAPPED = 8192
"""Entries whose runs are found at once; with subclusters there may be 32 runs in each."""
_MAX_READ = MIB
_MAX_GAP = 64 * KIB
"""Tables this near to each other are read at once: over a network a gap costs less than a request."""


class L2Tables:
    """The entries of one layer. Thread-safe; what two threads load at once is loaded twice and the same.

    Small tables are loaded in groups of 64 KiB: a group is what stands for several neighbours in the L1 table.
    """

    def __init__(self, blob: Blob, header: Header, layer: Layer, data: Blob) -> None:
        """Reads the L1 table (at most 32 MiB). ``data`` is the blob that standard clusters lie in.

        Raises ``CorruptDiskError``, ``UnsafeDiskError``.
        """
        self._blob = blob
        self._data_size = data.size
        self._header = header
        self.rules = EntryRules(header)
        self._l1 = self._load_l1(layer)
        self._tables = max(_GROUP // header.cluster_size, 1)
        self._bits = header.l2_bits + self._tables.bit_length() - 1
        """A group has ``1 << bits`` entries."""
        zeros = np.zeros(1 << self._bits, np.uint64)
        self._nothing = Entries(zeros, zeros if header.extended_l2 else None)
        groups = -(-len(self._l1) // self._tables)
        self._claims = ClusterClaims(blob, data.size, header, groups)
        if data is blob and layer.l1_size:
            self._reserve(layer)
        self._group = lru_cache(maxsize=max(_CACHE // max(_GROUP, header.cluster_size), 1))(self._load_group)

    def entries(self, first: int, count: int) -> Entries:
        """Those of ``count`` guest clusters from ``first``, all inside the disk; ``count`` is positive."""
        parts: list[Entries] = []
        while count:
            group, low = first >> self._bits, first & ((1 << self._bits) - 1)
            taken = min(count, (1 << self._bits) - low)
            parts.append(self._group(group).slice(low, low + taken))
            first, count = first + taken, count - taken
        return join(parts)

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Runs of one kind that cover ``[start, end)``; neighbours may be of one kind."""
        covered = self._header.cluster_size << self._bits
        first = start // covered
        position = start
        for group in self._groups(first, -(-end // covered)):
            if group * covered > position:
                yield Extent(position, group * covered - position, ExtentKind.HOLE)
            yield from self._map_group(group, start, end)
            position = (group + 1) * covered
        if position < end:
            yield Extent(position, end - position, ExtentKind.HOLE)

    def present(self) -> Iterator[Entries]:
        """All entries of all tables that exist, group by group: reads every one."""
        for group in self._groups(0, -(-len(self._l1) // self._tables)):
            yield self._group(group)

    def _groups(self, first: int, end: int) -> list[int]:
        """The groups of ``[first, end)`` that have a table."""
        used = np.flatnonzero(self._l1[first * self._tables : end * self._tables]) // self._tables
        # Ascending already. np.unique would say the same, and import 5 ms of numpy.ma to do so.
        found: list[int] = (used[np.diff(used, prepend=-1) != 0] + first).tolist()
        return found

    def _load_l1(self, layer: Layer) -> Words:
        header = self._header
        table = self._blob.read_at(layer.l1_table_offset, layer.l1_size * 8) if layer.l1_size else b""
        offsets: Words = np.frombuffer(table, dtype=">u8").astype(np.uint64) & np.uint64(OFFSET_MASK)
        used = offsets[offsets != 0]
        bad = (used % header.cluster_size != 0) | (used > max(self._blob.size - header.cluster_size, 0))
        if bad.any():
            raise corrupt(
                self._blob,
                f"an L1 entry points to host offset {int(used[bad][0]):#x}, where no L2 table can be",
            )
        if _has_twins(used):
            raise UnsafeDiskError(
                f"{quote(self._blob.name)}: qcow2 with one L2 table used for several places of the disk, as no program "
                "writes it. The file is corrupt or an attack: export it again."
            )
        return offsets

    def _reserve(self, layer: Layer) -> None:
        """Keep guest data off the header and the tables that this layer is read by."""
        used = self._l1[self._l1 != 0]
        tables = (layer.l1_table_offset, layer.l1_table_offset + layer.l1_size * 8)
        low, high = np.uint64(tables[0] & -self._header.cluster_size), np.uint64(tables[1])
        if ((used < self._header.cluster_size) | ((used >= low) & (used < high))).any():
            raise UnsafeDiskError(
                f"{quote(self._blob.name)}: qcow2 whose L1 table points to itself or to the header. "
                "The file is corrupt or an attack: export it again."
            )
        self._claims.reserve(0, 1)
        self._claims.reserve(layer.l1_table_offset, layer.l1_size * 8)
        self._claims.reserve_clusters(used)
        start, clusters = self._header.refcount_table
        if start and clusters and start + clusters * self._header.cluster_size <= self._blob.size:
            self._claims.reserve(start, clusters * self._header.cluster_size)

    def _load_group(self, group: int) -> Entries:
        tables = self._l1[group * self._tables : (group + 1) * self._tables]
        if not tables.any():
            return self._nothing
        stored = self._read_tables(tables)
        words = stored.astype(np.uint64)
        if self._header.extended_l2:
            pairs = words.reshape(-1, 2)
            entries = Entries(np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]))
        else:
            entries = Entries(words, None)
        self._check(group, entries)
        return entries

    def _read_tables(self, tables: Words) -> Words:
        """What ``tables``, host offsets of at most a group's tables, hold; zeros for those that do not exist."""
        size = self._header.cluster_size
        if self._tables == 1:
            stored = self._blob.read_at(int(tables[0]), size) if tables[0] else bytes(size)
            return np.frombuffer(stored, dtype=">u8")
        out = bytearray(self._tables * size)
        numbers = np.flatnonzero(tables)
        numbers = numbers[np.argsort(tables[numbers])]
        hosts = tables[numbers].tolist()
        for low, high in near(hosts, [host + size for host in hosts], _MAX_GAP, _MAX_READ):
            stored = self._blob.read_at(hosts[low], hosts[high - 1] + size - hosts[low])
            for number, host in zip(numbers[low:high].tolist(), hosts[low:high], strict=True):
                out[number * size : (number + 1) * size] = stored[host - hosts[low] : host - hosts[low] + size]
        return np.frombuffer(out, dtype=">u8")

    def _check(self, group: int, entries: Entries) -> None:
        """Everything that a group points to is in the file, aligned, and nobody else's."""
        rules, header = self.rules, self._header
        kinds = rules.cluster_kinds(entries.words)
        where = np.flatnonzero(kinds == STANDARD)
        standard = entries.words[where] & np.uint64(OFFSET_MASK)
        bad = (standard % header.cluster_size != 0) | (standard >= self._data_size)
        if bad.any():
            raise corrupt(
                self._blob, f"an L2 entry points to host offset {int(standard[bad][0]):#x}, where no cluster is"
            )
        if (
            header.raw_data_file
            and (
                standard != (where.astype(np.uint64) + np.uint64(group << self._bits)) << np.uint64(header.cluster_bits)
            ).any()
        ):
            raise corrupt(self._blob, "its data file is said to be the raw disk, but its tables say otherwise")
        starts, ends = rules.packed_spans(entries.words[kinds == PACKED])
        if starts.size and header.data_file is not None:
            raise corrupt(self._blob, "it has compressed clusters beside a data file, which cannot be")
        if (starts >= self._blob.size).any():
            raise corrupt(self._blob, "a compressed cluster lies behind the end of the file")
        if entries.bitmaps is not None:
            self._check_bitmaps(entries.bitmaps[kinds != PACKED], kinds[kinds != PACKED] == STANDARD)
        self._claims.add(group, standard, starts, ends)

    def _check_bitmaps(self, bitmaps: Words, has_host: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
        allocated, zero = bitmaps & np.uint64((1 << SUBCLUSTERS) - 1), bitmaps >> np.uint64(SUBCLUSTERS)
        if (allocated & zero).any():
            raise corrupt(self._blob, "a subcluster is both allocated and zero")
        if allocated[~has_host].any():
            raise corrupt(self._blob, "a subcluster is allocated in a cluster that is not")

    def _map_group(self, group: int, start: int, end: int) -> Iterator[Extent]:
        """The runs of ``group`` inside ``[start, end)``."""
        first, bits = group << self._bits, self._header.cluster_bits
        low = max((start >> bits) - first, 0)
        high = min(-(-end // self._header.cluster_size) - first, 1 << self._bits)
        entries, unit = self._group(group), self.rules.unit_size
        for part in range(low, high, _MAPPED):
            kinds = self.rules.unit_kinds(entries.slice(part, min(part + _MAPPED, high)))
            base = (first + part) << bits
            edges = np.concatenate(([0], np.flatnonzero(np.diff(kinds)) + 1, [len(kinds)]))
            places = np.clip(edges * unit + base, start, end).tolist()
            for (one, other), kind in zip(pairwise(places), kinds[edges[:-1]].tolist(), strict=True):
                if one < other:
                    yield Extent(one, other - one, EXTENT_KINDS[kind])


def near(starts: list[int], ends: list[int], gap: int, limit: int) -> Iterator[tuple[int, int]]:
    """``[low, high)`` of ranges to read in one go: ascending, at most ``gap`` apart, ``limit`` bytes together."""
    low = 0
    while low < len(starts):
        high = low + 1
        while (
            high < len(starts)
            and starts[low] <= starts[high] <= ends[high - 1] + gap
            and ends[high] - starts[low] <= limit
        ):
            high += 1
        yield low, high
        low = high


def _has_twins(offsets: Words) -> bool:
    """Whether two are equal. Most tables ascend, so sorting is rarely needed."""
    if len(offsets) < 2 or (offsets[1:] > offsets[:-1]).all():
        return False
    ordered = np.sort(offsets)
    return bool((ordered[1:] == ordered[:-1]).any())
