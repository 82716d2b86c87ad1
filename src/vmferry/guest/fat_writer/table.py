"""The table of a FAT file system: for each cluster the next one of its file."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

from vmferry.errors import GuestError
from vmferry.guest.fat_writer.layout import Layout
from vmferry.guest.overlay_volume import OverlayVolume
from vmferry.units import SECTOR, format_size

_SUMMARY = ((0, b"RRaA"), (0x1E4, b"rrAa"))
_FREE, _NEXT = 0x1E8, 0x1EC


class Table:
    """For one thread; what is changed is written by ``flush``.

    Raises ``GuestError`` where its copies differ, or it does not begin as a table does.
    """

    def __init__(self, volume: OverlayVolume, layout: Layout) -> None:
        self._volume = volume
        self._layout = layout
        self._old = volume.read_at(layout.tables[0], layout.table_size)
        self._raw = bytearray(self._old)
        if (
            any(volume.read_at(copy, layout.table_size) != self._old for copy in layout.tables[1:])
            or self.get(0) < 0xFF0
        ):
            raise GuestError("The tables of the FAT file system differ: run fsck.vfat on the guest.")
        self._taken = 0
        self._last = 2

    def get(self, cluster: int) -> int:
        """What stands for a cluster: 0 where it is free."""
        bits = self._layout.bits
        if bits == 12:
            pair = int.from_bytes(self._raw[cluster * 3 // 2 : cluster * 3 // 2 + 2], "little")
            return pair >> 4 if cluster % 2 else pair & 0xFFF
        width = bits // 8
        value = int.from_bytes(self._raw[cluster * width : (cluster + 1) * width], "little")
        return value & 0x0FFFFFFF if bits == 32 else value

    def _put(self, cluster: int, value: int) -> None:
        bits = self._layout.bits
        if bits == 12:
            at = cluster * 3 // 2
            pair = int.from_bytes(self._raw[at : at + 2], "little")
            pair = pair & 0xF | value << 4 if cluster % 2 else pair & 0xF000 | value
            self._raw[at : at + 2] = pair.to_bytes(2, "little")
            return
        width = bits // 8
        if bits == 32:
            value |= int.from_bytes(self._raw[cluster * 4 : cluster * 4 + 4], "little") & 0xF0000000
        self._raw[cluster * width : (cluster + 1) * width] = value.to_bytes(width, "little")

    @property
    def _end(self) -> int:
        """What stands for the last cluster of a file."""
        return (1 << min(self._layout.bits, 28)) - 1

    def chain(self, cluster: int) -> list[int]:
        """The clusters of the file whose first one is ``cluster``. Raises ``GuestError`` where they go in a circle, or
        outside."""
        found: list[int] = []
        while cluster < self._end - 7:
            self._layout.place(cluster)
            found.append(cluster)
            if len(found) > self._layout.cluster_count:
                raise GuestError("A file of the FAT file system goes in a circle: run fsck.vfat on the guest.")
            cluster = self.get(cluster)
        return found

    def check_room(self, count: int) -> None:
        """Raise ``GuestError`` unless so many clusters are free."""
        free = sum(1 for cluster in range(2, self._layout.cluster_count + 2) if not self.get(cluster))
        if count > free:
            size = self._layout.cluster_size
            raise GuestError(
                f"The EFI system partition has {format_size(free * size)} free, {format_size(count * size)} are "
                "needed: make room on the guest."
            )

    def take(self, count: int) -> list[int]:
        """``count`` free clusters become a file's, in that order. There are so many: see ``check_room``."""
        found: list[int] = []
        cluster = self._last
        while len(found) < count:
            if not self.get(cluster):
                found.append(cluster)
            cluster += 1
        self._last = cluster
        self._taken += count
        self.link(found)
        return found

    def link(self, clusters: Sequence[int]) -> None:
        """Let ``clusters`` follow one another, and the last one be the end."""
        for here, after in pairwise([*clusters, self._end]):
            self._put(here, after)

    def flush(self) -> None:
        """Write what was changed to every copy of the table, and count the free clusters anew."""
        for at in range(0, len(self._raw), SECTOR):
            if self._raw[at : at + SECTOR] != self._old[at : at + SECTOR]:
                for table in self._layout.tables:
                    self._volume.write_at(table + at, self._raw[at : at + SECTOR])
        if self._layout.summary and self._taken:
            summary = bytearray(self._volume.read_at(self._layout.summary, SECTOR))
            (free,) = struct.unpack_from("<I", summary, _FREE)
            if all(summary.startswith(magic, at) for at, magic in _SUMMARY) and self._taken <= free < 0xFFFFFFFF:
                struct.pack_into("<I", summary, _FREE, free - self._taken)
                self._volume.write_at(self._layout.summary, summary)
