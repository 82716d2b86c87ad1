"""A qcow2 image as a Disk: a map of L2 entries, loaded when they are asked for, and reads joined where they can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from vmferry.blob import Blob, Buffer, read_view
from vmferry.extent import Extent, check_inside, cut_range, merge
from vmferry.formats.qcow2.clusters import ClusterReader
from vmferry.formats.qcow2.entries import PACKED, STANDARD, Words
from vmferry.formats.qcow2.header import Header, Layer
from vmferry.formats.qcow2.tables import L2Tables
from vmferry.ranges import StoredRange, StoredRanges, read_ranges

_Run = tuple[int, int, int, Words]
"""``(kind, host offset, length, words)`` of a run that is one piece of the file, or of one kind: the host offset counts
for standard clusters only, ``words`` for compressed ones."""


class Qcow2Layer:
    """One layer by itself, the disk's present state or an internal snapshot. Thread-safe for any number of readers."""

    def __init__(self, blob: Blob, header: Header, layer: Layer, data: Blob) -> None:
        """Reads the L1 table (at most 32 MiB). ``data`` is what standard clusters lie in, ``blob`` or a data file.

        Raises ``CorruptDiskError``, ``UnsafeDiskError``.
        """
        self._blob = blob
        self._data = data
        self._header = header
        self._layer = layer
        self._tables = L2Tables(blob, header, layer, data)
        self._clusters = ClusterReader(blob, header)

    @property
    def size(self) -> int:
        return self._layer.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        start, end = cut_range(self.size, start, end)
        return merge(self._tables.extents(start, end)) if start < end else iter(())

    def read_at(self, offset: int, length: int) -> Buffer:
        runs = self._runs(offset, length)
        stored = self._ranges(runs)
        if all(kind != PACKED for kind, *_ in runs):
            return stored.read(length)
        data = bytearray(length)
        out = memoryview(data)
        position = 0
        for kind, _, run_length, words in runs:
            if kind == PACKED:
                skip = (offset + position) % self._header.cluster_size
                self._clusters.unpack(words, skip, out[position : position + run_length])
            position += run_length
        read_ranges(partial(read_view, stored.blob), stored.ranges, out)
        return data

    def ranges(self, offset: int, length: int) -> StoredRanges | None:
        """As ``SupportsRanges``."""
        runs = self._runs(offset, length)
        return None if any(kind == PACKED for kind, *_ in runs) else self._ranges(runs)

    def stored_size(self) -> int:
        """Standard clusters whole, compressed ones up to the next one or in whole sectors. Reads every L2 table."""
        total = 0
        rules = self._tables.rules
        for entries in self._tables.present():
            total += int(np.count_nonzero(rules.unit_kinds(entries) == STANDARD)) * rules.unit_size
            starts, ends = rules.packed_spans(entries.words[rules.cluster_kinds(entries.words) == PACKED])
            if len(starts):
                order = np.argsort(starts)
                limits = np.append(starts[order][1:], np.uint64(self._blob.size))
                total += int((np.minimum(ends[order], limits) - starts[order]).sum())
        return total

    def _ranges(self, runs: Sequence[_Run]) -> StoredRanges:
        """What lies in standard clusters. A file that was cut within its last cluster lacks zeros."""
        found, position = [], 0
        for kind, host, length, _ in runs:
            there = min(length, self._data.size - host)
            if kind == STANDARD and there > 0:
                found.append(StoredRange(position, host, there))
            position += length
        return StoredRanges(self._data, found)

    def _runs(self, offset: int, length: int) -> list[_Run]:
        """The runs of ``length`` bytes from ``offset``, clipped to them. ``ValueError`` for what is not in the disk."""
        check_inside(self.size, offset, length)
        return list(self._find_runs(offset, length)) if length else []

    def _find_runs(self, offset: int, length: int) -> Iterator[_Run]:
        bits, rules = self._header.cluster_bits, self._tables.rules
        first = offset >> bits
        entries = self._tables.entries(first, ((offset + length - 1) >> bits) - first + 1)
        if (host := rules.standard_run(entries)) is not None:
            skip = offset - (first << bits)
            yield STANDARD, host + skip, length, entries.words
            return
        kinds, hosts, unit = rules.unit_kinds(entries), rules.unit_hosts(entries), rules.unit_size
        apart = kinds[1:] != kinds[:-1]
        apart |= (kinds[1:] == STANDARD) & (hosts[1:] != hosts[:-1] + np.uint64(unit))
        edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(kinds)]
        base, units = first << bits, rules.units
        for low, high in pairwise(edges):
            start, end = max(base + low * unit, offset), min(base + high * unit, offset + length)
            if start < end:
                host = int(hosts[low]) + start - (base + low * unit)
                yield int(kinds[low]), host, end - start, entries.words[low // units : -(-high // units)]
