"""Which places of the file uncompressed grains have taken: each may be taken once."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from vmferry.blob import Blob
from vmferry.errors import UnsafeDiskError, quote
from vmferry.units import MIB, SECTOR

Numbers = npt.NDArray[np.signedinteger[Any]]
Sectors = npt.NDArray[np.uint32] | npt.NDArray[np.int64]

_MAX_BITMAP = 33 * MIB


class GrainClaims:
    """One bit for each grain's length of the file (4 MiB for 2 TiB of 64 KiB grains).

    A file in which many grains of the disk share one place grows a thousandfold on its way out, at no cost to whoever
    made it. With a bit per place, all grains together never hold more bytes than the file. Where the bits would take
    more than 33 MiB (132 GiB of grains of one sector) grains are counted instead: they may not be more than the file
    has room for. Compressed grains need none of this: a marker in front of each says which grain it is.
    Safe from any number of threads.
    """

    def __init__(self, blob: Blob, grain_sectors: int, table_count: int) -> None:
        self._blob = blob
        self._grain_sectors = grain_sectors
        self._room = blob.size // (grain_sectors * SECTOR) + 1
        counted = self._room > _MAX_BITMAP * 8
        self._taken: npt.NDArray[np.uint8] | None = None if counted else np.zeros(self._room // 8 + 1, np.uint8)
        self._count = 0
        self._seen: npt.NDArray[np.bool_] = np.zeros(table_count, np.bool_)
        self._lock = threading.Lock()

    def add(self, entries: Sectors, tables: Numbers, lowest_pointer: int) -> None:
        """Claim the places of ``entries``, one table a row, of which ``tables`` are the numbers.

        Entries below ``lowest_pointer`` have no place. A table that was here before is passed over. Raises
        ``UnsafeDiskError`` when a place is taken.
        """
        with self._lock:
            fresh = ~self._seen[tables]
            some = entries[fresh]
            sectors = some[some >= lowest_pointer]
            if sectors.size:
                self._claim(sectors)
            self._seen[tables[fresh]] = True

    def _claim(self, sectors: Sectors) -> None:
        slots = sectors // sectors.dtype.type(self._grain_sectors)
        if not (slots[1:] > slots[:-1]).all():  # most files lie in order: looking is cheaper than sorting
            slots.sort()
            twice = slots[1:][slots[1:] == slots[:-1]]
            if twice.size:
                self._refuse(int(twice[0]))
        if self._taken is None:
            self._count += slots.size
            if self._count > self._room:
                self._refuse(int(slots[0]))
            return
        places, bits = slots >> 3, np.left_shift(np.uint8(1), (slots & 7).astype(np.uint8))
        taken = slots[(self._taken[places] & bits) != 0]
        if taken.size:
            self._refuse(int(taken[0]))
        firsts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
        self._taken[places[firsts]] |= np.bitwise_or.reduceat(bits, firsts)

    def _refuse(self, slot: int) -> None:
        host = slot * self._grain_sectors * SECTOR
        raise UnsafeDiskError(
            f"vmdk: {quote(self._blob.name)}: two grains of the disk share the bytes around host offset 0x{host:x}. "
            "The file is damaged or made to do harm: export it again."
        )
