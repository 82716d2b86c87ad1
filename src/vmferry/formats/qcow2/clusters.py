"""Compressed clusters into guest bytes: few reads of the file, each cluster put straight to where it belongs."""

from __future__ import annotations

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError
from vmferry.formats.qcow2.compression import decompressor
from vmferry.formats.qcow2.entries import EntryRules, Words
from vmferry.formats.qcow2.header import Header, corrupt
from vmferry.formats.qcow2.tables import near
from vmferry.units import KIB, MIB

_MAX_READ = 8 * MIB
_MAX_GAP = 64 * KIB
"""Runs this near to each other are read at once: over a network a gap costs less than a request."""


class ClusterReader:
    """Reads compressed clusters. Holds blobs and the header only, so any number of threads may use it."""

    def __init__(self, blob: Blob, header: Header) -> None:
        self._blob = blob
        self._rules = EntryRules(header)
        self._cluster_size = header.cluster_size
        self._decompress = decompressor(header.compression_type)

    def unpack(self, words: Words, skip: int, out: memoryview) -> None:
        """Fill ``out`` with what neighbouring compressed clusters hold, from byte ``skip`` of the first on."""
        starts, ends = (part.tolist() for part in self._rules.packed_spans(words))
        size, position = self._cluster_size, 0
        for low, high in near(starts, ends, _MAX_GAP, _MAX_READ):
            base, end = starts[low], min(max(ends[low:high]), self._blob.size)
            stored = memoryview(self._blob.read_at(base, end - base))
            for start, last in zip(starts[low:high], ends[low:high], strict=True):
                try:
                    cluster = self._decompress(stored[start - base : last - base], size)
                except ValueError as error:
                    raise self._damaged(start, str(error)) from error
                taken = min(size - skip, len(out) - position)
                out[position : position + taken] = cluster if taken == size else cluster[skip : skip + taken]
                position, skip = position + taken, 0

    def _damaged(self, host: int, what: str) -> CorruptDiskError:
        return corrupt(self._blob, f"the compressed cluster at host offset {host:#x} {what}")
