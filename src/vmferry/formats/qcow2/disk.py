"""A qcow2 image as a Disk: a map of L2 entries, loaded when they are asked for, and reads joined where they can be."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
from deflate import DeflateError, deflate_decompress
from numpy.typing import NDArray

from vmferry.blob import Blob, Buffer
from vmferry.errors import CorruptDiskError, UnsafeDiskError, quote
from vmferry.extent import Extent, ExtentKind, clip, merge
from vmferry.formats.qcow2.header import COMPRESSED, OFFSET_MASK, READS_AS_ZEROS, read_header
from vmferry.units import KIB, MIB, SECTOR

_L2_CACHE = 16 * MIB
"""Bytes of L2 tables that are held: 128 GiB of a disk with 64 KiB clusters."""
_MAX_COMPRESSED_READ = 8 * MIB
_MAX_COMPRESSED_GAP = 64 * KIB
"""Compressed clusters this near to each other are read at once: over a network a gap costs less than a request."""

_HOLE, _ZERO, _STANDARD, _COMPRESSED = range(4)
_KINDS = (ExtentKind.HOLE, ExtentKind.ZERO, ExtentKind.DATA, ExtentKind.DATA)

Entries = NDArray[np.uint64]


class Qcow2Disk:
    """The active layer of a qcow2 image of version 2 or 3. Thread-safe for any number of readers."""

    def __init__(self, blob: Blob) -> None:
        """Reads the header and the L1 table (at most 32 MiB). Raises ``FormatError``, ``UnsafeDiskError``."""
        self._header = read_header(blob)
        self._blob = blob
        self._l1 = self._load_l1()
        self._l2 = lru_cache(maxsize=_L2_CACHE // self._header.cluster_size)(self._load_l2)
        # qcow2.rst, "Compressed Clusters Descriptor": x bits of offset, then the number of additional sectors.
        self._descriptor_bits = 62 - (self._header.cluster_bits - 8)

    @property
    def size(self) -> int:
        return self._header.size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        end = self.size if end is None else min(end, self.size)
        return clip(merge(self._map(start, end)), start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at guest offset {offset} do not lie in a disk of {self.size} bytes")
        runs = list(self._runs(offset, length))
        if len(runs) == 1 and runs[0][0] == _STANDARD:
            return self._read_standard(runs[0][1], length)
        data = bytearray(length)
        position = 0
        for kind, host, run_length, entries in runs:
            if kind == _STANDARD:
                data[position : position + run_length] = self._read_standard(host, run_length)
            elif kind == _COMPRESSED:
                skip = (offset + position) % self._header.cluster_size
                self._read_compressed(entries, skip, memoryview(data)[position : position + run_length])
            position += run_length
        return data

    def stored_size(self) -> int:
        """Standard clusters whole, compressed ones up to the next one or in whole sectors. Reads every L2 table."""
        total = 0
        for index in np.flatnonzero(self._l1):
            entries = self._l2(int(index))
            kinds = self._classify(entries)
            total += int(np.count_nonzero(kinds == _STANDARD)) * self._header.cluster_size
            starts, ends = self._descriptors(entries[kinds == _COMPRESSED])
            if len(starts):
                order = np.argsort(starts)
                limits = np.append(starts[order][1:], np.uint64(self._blob.size))
                total += int((np.minimum(ends[order], limits) - starts[order]).sum())
        return total

    def close(self) -> None:
        self._blob.close()

    def _load_l1(self) -> Entries:
        header = self._header
        table = self._blob.read_at(header.l1_table_offset, header.l1_size * 8)
        offsets = np.frombuffer(table, dtype=">u8").astype(np.uint64) & np.uint64(OFFSET_MASK)
        used = offsets[offsets != 0]
        bad = (used % header.cluster_size != 0) | (used > max(self._blob.size - header.cluster_size, 0))
        if bad.any():
            raise self._corrupt(f"an L1 entry points to host offset {int(used[bad][0]):#x}, where no L2 table can be")
        if _has_twins(used):
            raise UnsafeDiskError(
                f"{quote(self._blob.name)}: qcow2 with one L2 table used for several places of the disk, as no program "
                "writes it. The file is corrupt or an attack: export it again."
            )
        return offsets

    def _load_l2(self, l1_index: int) -> Entries:
        """The L2 table of ``l1_index``, checked; only called for tables that exist."""
        header = self._header
        table = self._blob.read_at(int(self._l1[l1_index]), header.cluster_size)
        entries = np.frombuffer(table, dtype=">u8").astype(np.uint64)
        kinds = self._classify(entries)
        standard = entries[kinds == _STANDARD] & np.uint64(OFFSET_MASK)
        packed = entries[kinds == _COMPRESSED] & np.uint64(COMPRESSED - 1)
        starts, _ = self._descriptors(packed)
        bad = (standard % header.cluster_size != 0) | (standard >= self._blob.size)
        if bad.any():
            raise self._corrupt(f"an L2 entry points to host offset {int(standard[bad][0]):#x}, where no cluster is")
        if (starts >= self._blob.size).any():
            raise self._corrupt("a compressed cluster lies behind the end of the file")
        if _has_twins(standard) or _has_twins(starts):
            raise UnsafeDiskError(
                f"{quote(self._blob.name)}: qcow2 with one cluster of the file used for several clusters of the disk. "
                "The file is corrupt or an attack: export it again."
            )
        return entries

    def _classify(self, entries: Entries) -> NDArray[np.uint8]:
        kinds = np.full(len(entries), _HOLE, dtype=np.uint8)
        kinds[(entries & np.uint64(OFFSET_MASK)) != 0] = _STANDARD
        if self._header.version >= 3:
            kinds[(entries & np.uint64(READS_AS_ZEROS)) != 0] = _ZERO
        kinds[(entries & np.uint64(COMPRESSED)) != 0] = _COMPRESSED
        return kinds

    def _descriptors(self, entries: Entries) -> tuple[Entries, Entries]:
        """Where the compressed clusters of ``entries`` start in the file, and where, at the latest, they end."""
        bits = np.uint64(self._descriptor_bits)
        starts = entries & np.uint64((1 << self._descriptor_bits) - 1)
        sectors = ((entries & np.uint64(COMPRESSED - 1)) >> bits) + np.uint64(1)
        return starts, starts - starts % np.uint64(SECTOR) + sectors * np.uint64(SECTOR)

    def _map(self, start: int, end: int) -> Iterator[Extent]:
        """Runs of one kind, one L2 table after the other, that cover ``[start, end)`` and may go beyond."""
        covered = self._header.cluster_size << self._header.l2_bits
        first = start // covered
        position = first * covered
        for offset in np.flatnonzero(self._l1[first : -(-end // covered)]):
            index = first + int(offset)
            if index * covered > position:
                yield Extent(position, index * covered - position, ExtentKind.HOLE)
            yield from self._map_table(index)
            position = (index + 1) * covered
        if position < end:
            yield Extent(position, end - position, ExtentKind.HOLE)

    def _map_table(self, index: int) -> Iterator[Extent]:
        kinds = self._classify(self._l2(index))
        first = index << self._header.l2_bits
        edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
        cluster_size = self._header.cluster_size
        for low, high in pairwise(edges):
            yield Extent((first + low) * cluster_size, (high - low) * cluster_size, _KINDS[kinds[low]])

    def _entries(self, first: int, count: int) -> Entries:
        """The L2 entries of ``count`` guest clusters from ``first``; zeros where there is no table."""
        parts: list[Entries] = []
        per_table = 1 << self._header.l2_bits
        while count:
            index, low = first >> self._header.l2_bits, first % per_table
            taken = min(count, per_table - low)
            parts.append(self._l2(index)[low : low + taken] if self._l1[index] else np.zeros(taken, dtype=np.uint64))
            first, count = first + taken, count - taken
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _runs(self, offset: int, length: int) -> Iterator[tuple[int, int, int, Entries]]:
        """``(kind, host offset, length, entries)`` of runs that are one piece of the file, or of one kind.

        The host offset counts for standard clusters only, and ``length`` is clipped to what was asked for.
        """
        if length == 0:
            return
        bits = self._header.cluster_bits
        first = offset >> bits
        entries = self._entries(first, ((offset + length - 1) >> bits) - first + 1)
        kinds = self._classify(entries)
        hosts = entries & np.uint64(OFFSET_MASK)
        apart = kinds[1:] != kinds[:-1]
        apart |= (kinds[1:] == _STANDARD) & (hosts[1:] != hosts[:-1] + np.uint64(self._header.cluster_size))
        edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(entries)]
        for low, high in pairwise(edges):
            start = max((first + low) << bits, offset)
            end = min((first + high) << bits, offset + length)
            yield int(kinds[low]), int(hosts[low]) + start - ((first + low) << bits), end - start, entries[low:high]

    def _read_standard(self, host: int, length: int) -> bytes:
        """Host bytes; what a file that was cut within its last cluster lacks are zeros."""
        there = max(min(length, self._blob.size - host), 0)
        data = self._blob.read_at(host, there) if there else b""
        return data if there == length else data.ljust(length, b"\0")

    def _read_compressed(self, entries: Entries, skip: int, out: memoryview) -> None:
        """Fill ``out`` with what neighbouring compressed clusters hold, from byte ``skip`` of the first on."""
        starts, ends = (part.tolist() for part in self._descriptors(entries))
        position, index = 0, 0
        while index < len(starts):
            until = index + 1
            while (
                until < len(starts)
                and starts[index] <= starts[until] <= ends[until - 1] + _MAX_COMPRESSED_GAP
                and ends[until] - starts[index] <= _MAX_COMPRESSED_READ
            ):
                until += 1
            base, end = starts[index], min(max(ends[index:until]), self._blob.size)
            stored = memoryview(self._blob.read_at(base, end - base))
            for start, last in zip(starts[index:until], ends[index:until], strict=True):
                cluster = self._inflate(stored[start - base : last - base], start)
                taken = min(self._header.cluster_size - skip, len(out) - position)
                out[position : position + taken] = cluster[skip : skip + taken]
                position, skip = position + taken, 0
            index = until

    def _inflate(self, stored: Buffer, host: int) -> Buffer:
        try:
            cluster: bytearray = deflate_decompress(stored, self._header.cluster_size)
        except DeflateError as error:
            raise self._corrupt(f"the compressed cluster at host offset {host:#x} does not inflate") from error
        if len(cluster) != self._header.cluster_size:
            raise self._corrupt(
                f"the compressed cluster at host offset {host:#x} holds {len(cluster):,} bytes of "
                f"{self._header.cluster_size:,}"
            )
        return cluster

    def _corrupt(self, what: str) -> CorruptDiskError:
        return CorruptDiskError(f"{quote(self._blob.name)}: damaged qcow2: {what}. Export or upload it again.")


def _has_twins(offsets: Entries) -> bool:
    """Whether two are equal. Most tables ascend, so sorting is rarely needed."""
    if len(offsets) < 2 or (offsets[1:] > offsets[:-1]).all():
        return False
    ordered = np.sort(offsets)
    return bool((ordered[1:] == ordered[:-1]).any())
