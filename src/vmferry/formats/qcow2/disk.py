"""A qcow2 image as a Disk: a map of L2 entries, loaded when they are asked for, and reads joined where they can be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from vmferry.blob import Blob, Buffer
from vmferry.disk import DiskFacts
from vmferry.extent import Extent, merge
from vmferry.formats._overlay import Overlay
from vmferry.formats._pieces import Piece
from vmferry.formats.qcow2.clusters import ClusterReader
from vmferry.formats.qcow2.entries import PACKED, STANDARD, Words
from vmferry.formats.qcow2.header import Header, Layer
from vmferry.formats.qcow2.tables import L2Tables

_Run = tuple[int, int, int, Words]
"""``(kind, host offset, length, words)`` of a run that is one piece of the file, or of one kind: the host offset counts
for standard clusters only, ``words`` for compressed ones."""


class Qcow2Disk:
    """A qcow2 image of version 2 or 3: one layer, its parent showing through where it has one. Thread-safe."""

    def __init__(self, blob: Blob, header: Header, layer: Layer, data: Blob, facts: DiskFacts) -> None:
        """Reads the L1 table (at most 32 MiB). ``data`` is what standard clusters lie in, ``blob`` or a data file; the
        parent is that of ``facts``.

        Raises ``CorruptDiskError``, ``UnsafeDiskError``.
        """
        self._blobs = (blob, data)
        self._facts = facts
        self._layer = Qcow2Layer(blob, header, layer, data)
        self._seen = self._layer if facts.parent is None else Overlay(self._layer, facts.parent)

    @property
    def size(self) -> int:
        return self._layer.size

    @property
    def facts(self) -> DiskFacts:
        return self._facts

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        return self._seen.extents(start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        return self._seen.read_at(offset, length)

    def stored_size(self) -> int:
        """As ``SupportsStoredSize``, of this image alone. Reads every L2 table."""
        return self._layer.stored_size()

    def close(self) -> None:
        for blob in self._blobs:
            blob.close()
        if self._facts.parent is not None:
            self._facts.parent.close()


class Qcow2Layer:
    """One layer by itself, the disk's present state or an internal snapshot. Thread-safe for any number of readers."""

    def __init__(self, blob: Blob, header: Header, layer: Layer, data: Blob) -> None:
        self._blob = blob
        self._header = header
        self._layer = layer
        self._tables = L2Tables(blob, header, layer, data)
        self._clusters = ClusterReader(blob, header, data)

    @property
    def size(self) -> int:
        return self._layer.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        start, end = max(start, 0), self.size if end is None else min(end, self.size)
        if start >= end:
            return iter(())
        return merge(self._tables.extents(start, end))

    def read_at(self, offset: int, length: int) -> Buffer:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at guest offset {offset} do not lie in a disk of {self.size} bytes")
        runs = list(self._runs(offset, length)) if length else []
        if len(runs) == 1 and runs[0][0] == STANDARD:
            return self._clusters.read(runs[0][1], length)
        data = bytearray(length)
        out = memoryview(data)
        pieces: list[Piece] = []
        position = 0
        for kind, host, run_length, words in runs:
            if kind == STANDARD:
                pieces.append(Piece(position, host, run_length))
            elif kind == PACKED:
                skip = (offset + position) % self._header.cluster_size
                self._clusters.unpack(words, skip, out[position : position + run_length])
            position += run_length
        self._clusters.copy(pieces, out)
        return data

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

    def _runs(self, offset: int, length: int) -> Iterator[_Run]:
        """The runs of ``length`` bytes, at least one, from ``offset``, clipped to them."""
        bits, rules = self._header.cluster_bits, self._tables.rules
        first = offset >> bits
        entries = self._tables.entries(first, ((offset + length - 1) >> bits) - first + 1)
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
