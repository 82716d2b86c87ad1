"""Which places of the file uncompressed grains have taken: each may be taken once."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from vmferry.blob import Blob
from vmferry.errors import UnsafeDiskError, quote
from vmferry.formats.vmdk.directory import Entries
from vmferry.formats.vmdk.header import TABLE_ENTRIES, SparseHeader
from vmferry.units import SECTOR


class GrainClaims:
    """One bit for each grain's length of the file (4 MiB for 2 TiB of 64 KiB grains).

    A file in which many grains of the disk share one place grows a thousandfold on its way out, at no cost to whoever
    made it. With a bit per place, all grains together never hold more bytes than the file. Compressed grains need none
    of this: a marker in front of each says which grain it is. Safe from any number of threads.
    """

    def __init__(self, blob: Blob, header: SparseHeader) -> None:
        self._blob = blob
        self._header = header
        self._taken: npt.NDArray[np.uint8] = np.zeros(blob.size // (header.grain_size * 8) + 1, np.uint8)
        self._seen: npt.NDArray[np.bool_] = np.zeros(header.table_count, np.bool_)
        self._lock = threading.Lock()

    def add(self, entries: Entries, numbers: npt.NDArray[np.int64]) -> None:
        """Claim the places of ``entries`` (tables, one a row, of which ``numbers`` are the first grains).

        A table that was here before is passed over. Raises ``UnsafeDiskError`` when a place is taken.
        """
        with self._lock:
            fresh = ~self._seen[numbers // TABLE_ENTRIES]
            some = entries[fresh]
            sectors = some[some >= self._header.lowest_pointer]
            if sectors.size:
                self._claim(sectors)
            self._seen[numbers[fresh] // TABLE_ENTRIES] = True

    def _claim(self, sectors: Entries) -> None:
        slots = sectors // np.uint32(self._header.grain_sectors)
        if not (slots[1:] > slots[:-1]).all():  # most files lie in order: looking is cheaper than sorting
            slots.sort()
            twice = slots[1:][slots[1:] == slots[:-1]]
            if twice.size:
                self._refuse(int(twice[0]))
        places, bits = slots >> 3, np.left_shift(np.uint8(1), (slots & 7).astype(np.uint8))
        taken = slots[(self._taken[places] & bits) != 0]
        if taken.size:
            self._refuse(int(taken[0]))
        firsts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
        self._taken[places[firsts]] |= np.bitwise_or.reduceat(bits, firsts)

    def _refuse(self, slot: int) -> None:
        host = slot * self._header.grain_sectors * SECTOR
        raise UnsafeDiskError(
            f"vmdk: {quote(self._blob.name)}: two grains of the disk share the bytes around host offset 0x{host:x}. "
            "The file is damaged or made to do harm: export it again."
        )
