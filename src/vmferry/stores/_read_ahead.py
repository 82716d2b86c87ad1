"""Fewer and larger requests for who reads most of an object: what lies side by side comes in one answer."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from vmferry.blob import Blob, WrappedBlob, read_view
from vmferry.errors import StoreError
from vmferry.units import KIB, MIB

BLOCK = 4 * MIB
"""Bytes of a request: a store answers one of them with less work than three of a third each."""

_AHEAD = 2
"""Blocks that are fetched at once while readers go on: one at a time would take no more than 4 MiB in the time that a
distant store takes to answer."""
_KEPT = 8
"""Blocks that are there at the most: those of four readers, of a block and a bit each, and those ahead of them."""
_WORTH = BLOCK // 4
"""A read of so much fetches its block whoever reads beside it: at the worst four times the bytes are fetched."""
_GAP = 64 * KIB
"""Of smaller reads one follows another when it begins so close behind it."""
_REMEMBERED = 32


class _Block:
    """A block that is there, or on its way."""

    def __init__(self, length: int) -> None:
        self.ready = threading.Event()
        self.data: memoryview | None = None
        """``None`` once it is ready: it could not be read."""
        self.left = length
        """Bytes that nobody has asked for yet."""


class ReadAheadBlob(WrappedBlob):
    """A blob whose bytes are fetched in blocks of 4 MiB, each once, where they are read one behind another.

    Reads of scattered places go through as they are, and so do reads of two blocks and more. A block is kept until all
    of it was read, or eight younger ones are there. While readers go on from block to block, two threads of its own
    fetch those before them, so that they need not wait for the store. Thread-safe.
    """

    def __init__(self, blob: Blob, block: int = BLOCK, kept: int = _KEPT) -> None:
        super().__init__(blob)
        self._size = block
        self._kept = kept
        self._lock = threading.Lock()
        self._blocks: dict[int, _Block] = {}  # oldest first
        self._ends: deque[int] = deque(maxlen=_REMEMBERED)  # of the last reads
        self._begun: deque[int] = deque(maxlen=_REMEMBERED)  # the blocks that readers came to last
        self._fetcher = ThreadPoolExecutor(
            _AHEAD, "fetch"
        )  # threads begin with the first blocks that are fetched ahead

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self.view_at(offset, length))

    def view_at(self, offset: int, length: int) -> memoryview:
        """As ``read_view``."""
        if offset < 0 or length <= 0 or offset + length > self.size or not self._pays(offset, length):
            return read_view(self._blob, offset, length)
        pieces, position, end = [], offset, offset + length
        while position < end:
            number = position // self._size
            limit = min(end, (number + 1) * self._size)
            pieces.append(self._read(number, position, limit - position))
            position = limit
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def rest(self) -> None:
        """Let go of what was read ahead: nobody reads for a while."""
        with self._lock:
            self._blocks.clear()
            self._begun.clear()

    def close(self) -> None:
        self._fetcher.shutdown(cancel_futures=True)
        self.rest()
        super().close()

    def _pays(self, offset: int, length: int) -> bool:
        """Whether what lies around a read is likely to be read, too."""
        with self._lock:
            follows = any(0 <= offset - end <= _GAP for end in self._ends)
            self._ends.append(offset + length)
            known = offset // self._size in self._blocks
        return length < 2 * self._size and (known or follows or length >= _WORTH * self._size // BLOCK)

    def _read(self, number: int, offset: int, length: int) -> memoryview:
        """Bytes inside one block."""
        if self._goes_on(number):
            for ahead in range(1, _AHEAD + 1):
                self._fetcher.submit(self._fetch_ahead, number + ahead)
        block, mine = self._claim(number, length)
        if mine:
            self._fetch(number, block)
        else:
            block.ready.wait()
        if block.data is None:  # whoever reads gets the error of a read of its own
            return read_view(self._blob, offset, length)
        begin = offset - number * self._size
        return block.data[begin : begin + length]

    def _goes_on(self, number: int) -> bool:
        """Whether a reader comes to block ``number`` as the first one, and readers come from the block before it."""
        with self._lock:
            if number in self._begun:
                return False
            self._begun.append(number)
            return number - 1 in self._begun

    def _claim(self, number: int, wanted: int) -> tuple[_Block, bool]:
        """A block, and whether the caller has to fetch it; ``wanted`` bytes of it are taken now."""
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                block, mine = self._begin(number), True
            else:
                mine = False
            block.left -= wanted
            if block.left <= 0:
                self._blocks.pop(number, None)
            return block, mine

    def _begin(self, number: int) -> _Block:
        """A block that is on its way from now on. Call it with the lock held."""
        block = self._blocks[number] = _Block(self._length(number))
        while len(self._blocks) > self._kept:
            del self._blocks[next(iter(self._blocks))]
        return block

    def _fetch(self, number: int, block: _Block) -> None:
        try:
            block.data = read_view(self._blob, number * self._size, self._length(number))
        finally:
            if block.data is None:
                with self._lock:
                    self._blocks.pop(number, None)
            block.ready.set()

    def _fetch_ahead(self, number: int) -> None:
        """Fetch a block, unless readers have come to it by now: what goes wrong with it concerns nobody yet."""
        with self._lock:  # held from the question to the claim: a block may be read and let go in between
            if number * self._size >= self.size or number in self._begun or number in self._blocks:
                return
            block = self._begin(number)
        try:
            self._fetch(number, block)
        except StoreError:
            return

    def _length(self, number: int) -> int:
        return min(self._size, self.size - number * self._size)
