"""The blocks of one ext file system. Changes are held until they are flushed, all together."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from vmferry.blob import Buffer
from vmferry.errors import GuestError
from vmferry.guest.ext_writer.superblock import Superblock
from vmferry.guest.overlay_volume import OverlayVolume
from vmferry.limits import MAX_PREPARE_SECONDS
from vmferry.units import KIB

_CHUNK = 64 * KIB
"""Bytes that are read at once at the least: over a network a request costs more."""
_CHUNKS = 768
"""Of these chunks, those that were used last stay in memory: 48 MiB."""


class Blocks:
    """For one thread."""

    def __init__(self, volume: OverlayVolume, superblock: Superblock) -> None:
        self.volume = volume
        self._superblock = superblock
        self.size = superblock.block_size
        """Bytes of a block."""
        self._end = time.monotonic() + MAX_PREPARE_SECONDS
        self._changed: dict[int, bytes] = {}
        self._chunks: OrderedDict[int, bytes] = OrderedDict()

    def read(self, number: int) -> bytes:
        """Block ``number``. Raises ``GuestError`` outside the file system, and when it has been read for too long."""
        if time.monotonic() > self._end:
            raise GuestError(
                f"The ext file system was read for {MAX_PREPARE_SECONDS} seconds: run e2fsck on the guest."
            )
        changed = self._changed.get(number)
        return changed if changed is not None else self.read_many(number, 1)

    def read_many(self, number: int, count: int) -> bytes:
        """``count`` blocks from ``number``, as they are on the volume: for contents of files."""
        superblock = self._superblock
        if number < superblock.first_block or number + count > superblock.block_count:
            raise GuestError(f"The ext file system refers to block {number:,}, which it does not have.")
        start, end = number * self.size, (number + count) * self.size
        first, last = start // _CHUNK, -(-end // _CHUNK)
        data = b"".join(self._read_chunks(first, last))
        return data[start - first * _CHUNK : end - first * _CHUNK]

    def write(self, number: int, data: Buffer) -> None:
        """Let block ``number`` hold ``data``, once it is flushed."""
        if len(data) != self.size or not self._superblock.first_block <= number < self._superblock.block_count:
            raise ValueError(f"{len(data)} bytes are not block {number}")
        self._changed[number] = bytes(data)

    def write_now(self, number: int, data: Buffer) -> None:
        """Write whole blocks from ``number`` on to the volume: contents of files, in blocks that were free."""
        self.volume.write_at(number * self.size, data)
        for block in range(number, number + len(data) // self.size):
            self._changed.pop(block, None)  # what was freed and given away again
        for chunk in range(number * self.size // _CHUNK, -(-(number * self.size + len(data)) // _CHUNK)):
            self._chunks.pop(chunk, None)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What is changed inside is as if it had not been, after an error."""
        changed, superblock = dict(self._changed), self._superblock.save()
        try:
            yield
        except BaseException:
            self._changed = changed
            self._superblock.restore(superblock)
            raise

    def flush(self) -> None:
        """Write everything that was changed."""
        for number, data in sorted(self._changed.items()):
            self.write_now(number, data)

    def _read_chunks(self, first: int, last: int) -> Iterator[bytes]:
        """Chunks ``[first, last)``; those that are missing and follow one another are read together."""
        while first < last:
            found = self._chunks.get(first)
            if found is not None:
                self._chunks.move_to_end(first)
                yield found
                first += 1
                continue
            end = next((chunk for chunk in range(first, last) if chunk in self._chunks), last)
            data = self.volume.read_at(first * _CHUNK, min(end * _CHUNK, self.volume.size) - first * _CHUNK)
            for at in range(0, len(data), _CHUNK):
                self._chunks[first + at // _CHUNK] = data[at : at + _CHUNK]
            while len(self._chunks) > _CHUNKS:
                self._chunks.popitem(last=False)
            yield data
            first = end
