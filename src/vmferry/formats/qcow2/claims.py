"""Which places of the file the clusters of one layer have taken: each may be taken once."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from vmferry.blob import Blob
from vmferry.errors import UnsafeDiskError, quote
from vmferry.formats.qcow2.entries import Words
from vmferry.formats.qcow2.header import ZSTD, Header
from vmferry.limits import MAX_QCOW2_CLUSTERS
from vmferry.units import SECTOR

_MAX_DEFLATE_RATIO = 1032
"""258 bytes for two bits: RFC 1951 lets nothing shrink further."""
_LEAST_ZSTD_FRAME = 9
"""Magic, header and one block of one byte (RFC 8878)."""
_SLACK = 2 * SECTOR
"""What a compressed cluster may share with the next one: the sector where one ends and the other begins, and one more
for writers that round up twice."""


class ClusterClaims:
    """One bit for each host cluster (2 MiB for a TiB of 64 KiB clusters). Safe from any number of threads.

    A file in which many clusters of the disk share one place grows a thousandfold on its way out, at no cost to whoever
    made it. With a bit per place, all standard clusters together never hold more bytes than the file, and none of
    them shows the guest the image's own tables. Compressed clusters are packed too densely for bits: within a table
    none may begin where another one lies, and all together must not be more than the file has bytes for. One layer
    (the present state, an internal snapshot) has claims of its own: layers share clusters by right.
    """

    def __init__(self, blob: Blob, data_size: int, header: Header, groups: int) -> None:
        """``data_size`` is the length of the file that standard clusters lie in, ``groups`` how many ``add`` may name.

        Raises ``UnsafeDiskError`` for a file of more than 2,147,483,648 clusters.
        """
        clusters = data_size >> header.cluster_bits
        if clusters > MAX_QCOW2_CLUSTERS:
            raise UnsafeDiskError(
                f"{quote(blob.name)}: qcow2 of {clusters:,} clusters; at most {MAX_QCOW2_CLUSTERS:,} are read. "
                "Convert it to larger clusters: qemu-img convert -O qcow2 OLD NEW."
            )
        self._name = blob.name
        self._size = blob.size
        self._bits = header.cluster_bits
        zstd = header.compression_type == ZSTD
        self._least = _LEAST_ZSTD_FRAME if zstd else -(-header.cluster_size // _MAX_DEFLATE_RATIO)
        self._packed = 0
        self._taken: NDArray[np.uint8] = np.zeros(clusters // 8 + 1, np.uint8)
        self._seen: NDArray[np.bool_] = np.zeros(groups, np.bool_)
        self._lock = threading.Lock()

    def reserve(self, start: int, length: int) -> None:
        """Nothing of a guest lies at host bytes ``[start, start + length)``: they are the image's own."""
        low, high = start >> self._bits, (start + length - 1) >> self._bits
        self._mark(np.arange(low, min(high + 1, len(self._taken) * 8), dtype=np.uint64))

    def reserve_clusters(self, offsets: Words) -> None:
        """As ``reserve``, for whole clusters anywhere in the file."""
        self._mark(np.sort(offsets >> np.uint64(self._bits)))

    def add(self, group: int, hosts: Words, starts: Words, ends: Words) -> None:
        """Claim what the tables of ``group`` point to: standard clusters at ``hosts``, compressed ones at
        ``[starts, ends)``. A group that was here before is passed over. Raises ``UnsafeDiskError``.
        """
        with self._lock:
            if self._seen[group]:
                return
            self._claim_packed(starts, ends)
            self._claim(hosts >> np.uint64(self._bits))
            self._seen[group] = True

    def _claim(self, slots: Words) -> None:
        if not slots.size:
            return
        if not (slots[1:] > slots[:-1]).all():  # most files lie in order: looking is cheaper than sorting
            slots = np.sort(slots)
            self._refuse_any(slots[1:][slots[1:] == slots[:-1]])
        bits = np.left_shift(np.uint8(1), (slots & np.uint64(7)).astype(np.uint8))
        self._refuse_any(slots[(self._taken[slots >> np.uint64(3)] & bits) != 0])
        self._mark(slots)

    def _mark(self, slots: Words) -> None:
        """Set the bits of ascending ``slots``."""
        if not slots.size:
            return
        places = slots >> np.uint64(3)
        bits = np.left_shift(np.uint8(1), (slots & np.uint64(7)).astype(np.uint8))
        firsts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
        self._taken[places[firsts]] |= np.bitwise_or.reduceat(bits, firsts)

    def _claim_packed(self, starts: Words, ends: Words) -> None:
        if not starts.size:
            return
        if not (starts[1:] > starts[:-1]).all():
            order = np.argsort(starts)
            starts, ends = starts[order], ends[order]
        overlapping = (starts[1:] == starts[:-1]) | (starts[1:] + np.uint64(_SLACK) < ends[:-1])
        if overlapping.any():
            self._refuse(int(starts[1:][overlapping][0]))
        self._packed += starts.size
        if self._packed * self._least > self._size:
            raise UnsafeDiskError(
                f"{quote(self._name)}: qcow2 with more than {self._packed:,} compressed clusters, which cannot all lie "
                f"in {self._size:,} bytes. The file is corrupt or an attack: export it again."
            )

    def _refuse_any(self, slots: Words) -> None:
        if slots.size:
            self._refuse(int(slots[0]) << self._bits)

    def _refuse(self, host: int) -> None:
        raise UnsafeDiskError(
            f"{quote(self._name)}: qcow2 with one cluster of the file used for several clusters of the disk, or for "
            f"the image's own tables as well, around host offset {host:#x}. The file is corrupt or an attack: "
            "export it again."
        )
