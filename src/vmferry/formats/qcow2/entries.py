"""L2 entries (qcow2.rst, "L2 table entry"): what the bits of many of them say, at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmferry.extent import ExtentKind
from vmferry.formats.qcow2.header import COMPRESSED, COPIED, OFFSET_MASK, READS_AS_ZEROS, Header
from vmferry.units import SECTOR

HOLE, ZERO, STANDARD, PACKED = range(4)
"""What a unit is; ``PACKED`` is compressed. ``STANDARD`` and ``ZERO`` stand where the two bits of a subcluster do."""
EXTENT_KINDS = (ExtentKind.HOLE, ExtentKind.ZERO, ExtentKind.DATA, ExtentKind.DATA)

SUBCLUSTERS = 32
"""In a cluster of an image with extended L2 entries."""

Words = NDArray[np.uint64]
Kinds = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Entries:
    """Consecutive L2 entries; arrays that may be shared and are never written to."""

    words: Words
    """One for each cluster, zeros where there is no table."""
    bitmaps: Words | None
    """Extended L2 only: which subclusters are allocated (bits 0 to 31), which read as zeros (bits 32 to 63)."""

    def slice(self, low: int, high: int) -> Entries:
        """Entries ``[low, high)``."""
        return Entries(self.words[low:high], None if self.bitmaps is None else self.bitmaps[low:high])


def join(parts: list[Entries]) -> Entries:
    """``parts``, all extended or none, one after the other."""
    if len(parts) == 1:
        return parts[0]
    bitmaps = [part.bitmaps for part in parts if part.bitmaps is not None]
    return Entries(np.concatenate([part.words for part in parts]), np.concatenate(bitmaps) if bitmaps else None)


class EntryRules:
    """How the entries of one image are read; what depends on its header, worked out once. Immutable."""

    def __init__(self, header: Header) -> None:
        self._zero_flag = header.version >= 3 and not header.extended_l2
        self._data_file = header.data_file is not None
        self._cluster_size = header.cluster_size
        # Compressed cluster descriptor: x bits of offset, then the number of additional sectors.
        self._descriptor_bits = 62 - (header.cluster_bits - 8)
        self.units = SUBCLUSTERS if header.extended_l2 else 1
        """In a cluster."""
        self.unit_size = header.cluster_size // self.units
        """Guest bytes that have one kind: a cluster's, or a subcluster's with extended L2 entries."""

    def cluster_kinds(self, words: Words) -> Kinds:
        """A kind for each entry; with extended L2, ``STANDARD`` where there is a host cluster, whatever the bitmap."""
        kinds = np.full(len(words), HOLE, dtype=np.uint8)
        kinds[(words & np.uint64(OFFSET_MASK)) != 0] = STANDARD
        if self._data_file:  # its first cluster is a place like any other
            kinds[(words & np.uint64(COPIED)) != 0] = STANDARD
        if self._zero_flag:
            kinds[(words & np.uint64(READS_AS_ZEROS)) != 0] = ZERO
        kinds[(words & np.uint64(COMPRESSED)) != 0] = PACKED
        return kinds

    def unit_kinds(self, entries: Entries) -> Kinds:
        """A kind for each unit."""
        clusters = self.cluster_kinds(entries.words)
        if entries.bitmaps is None:
            return clusters
        bits = subcluster_bits(entries.bitmaps)
        kinds = bits[:, SUBCLUSTERS:] | (bits[:, :SUBCLUSTERS] << np.uint8(1))
        kinds[clusters == PACKED] = PACKED
        flat: Kinds = kinds.reshape(-1)
        return flat

    def standard_run(self, entries: Entries) -> int | None:
        """Where ``entries`` begin if they are standard clusters that follow one another in the file; ``None`` if not.

        By one comparison, for the usual case: entries that differ by the size of a cluster have the same flags.
        """
        if entries.bitmaps is not None:
            return None
        words: list[int] = entries.words.tolist()  # a few: numpy would take longer to begin
        first = words[0]
        if words != list(range(first, first + len(words) * self._cluster_size, self._cluster_size)):
            return None
        if first & COMPRESSED or (self._zero_flag and first & READS_AS_ZEROS):
            return None
        host = first & OFFSET_MASK
        return host if host or (self._data_file and first & COPIED) else None

    def unit_hosts(self, entries: Entries) -> Words:
        """Where each unit lies if it is ``STANDARD``."""
        hosts = entries.words & np.uint64(OFFSET_MASK)
        if entries.bitmaps is None:
            return hosts
        inside = np.arange(SUBCLUSTERS, dtype=np.uint64) * np.uint64(self.unit_size)
        return (hosts[:, None] + inside).reshape(-1)

    def packed_spans(self, words: Words) -> tuple[Words, Words]:
        """Where the compressed clusters of ``words`` start in the file, and where, at the latest, they end."""
        bits = np.uint64(self._descriptor_bits)
        starts = words & np.uint64((1 << self._descriptor_bits) - 1)
        sectors = ((words & np.uint64(COMPRESSED - 1)) >> bits) + np.uint64(1)
        return starts, starts - starts % np.uint64(SECTOR) + sectors * np.uint64(SECTOR)


def subcluster_bits(bitmaps: Words) -> Kinds:
    """The 64 bits of each bitmap, bit 0 first, one a byte: a row for each cluster."""
    return np.unpackbits(bitmaps.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
