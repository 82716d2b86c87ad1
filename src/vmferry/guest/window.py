"""Bytes that a file system stands in: an area of a disk, a cache over it, and the file object that libyal wants."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from vmferry.blob import Buffer
from vmferry.errors import GuestError, VmferryError
from vmferry.limits import MAX_LOOK_CACHE, MAX_LOOK_RANGE
from vmferry.units import KIB, MIB

_BLOCK = 64 * KIB
_AHEAD = 2 * MIB


class Area(Protocol):
    """Bytes of known size: a whole disk, a partition, a logical volume. Every ``Disk`` is one."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read_at(self, offset: int, length: int) -> Buffer:
        """Exactly ``length`` bytes from ``offset``, which lie inside (``ValueError`` otherwise). Raises as a disk."""


Place = tuple[Area, int, int]
"""``(area, offset, length)``: some bytes of an area."""


@runtime_checkable
class SupportsPlaces(Protocol):
    """An area whose bytes lie as they are in others, so that they can be written there."""

    def places(self, offset: int, length: int) -> Iterator[Place]:
        """Where ``length`` bytes from ``offset`` lie, in order. Raises ``GuestError`` where they lie in several places
        at once."""


class Slice:
    """``size`` bytes of ``area`` from ``start``, as far as they lie inside it."""

    def __init__(self, area: Area, start: int, size: int) -> None:
        self._area = area
        self.start = start
        self.size = max(min(size, area.size - start), 0)

    def read_at(self, offset: int, length: int) -> Buffer:
        check_range(self, offset, length)
        return self._area.read_at(self.start + offset, length) if length else b""

    def places(self, offset: int, length: int) -> Iterator[Place]:
        """As ``SupportsPlaces``."""
        yield self._area, self.start + offset, length


class MirroredSlice(Slice):
    """A slice of which there is another copy: it can be read only."""

    def places(self, offset: int, length: int) -> Iterator[Place]:
        """As ``SupportsPlaces``: there is more than one."""
        raise GuestError("It is mirrored (Linux software RAID), which is not written to here.")


class BlockCache:
    """``area`` in blocks of 64 KiB, the ones last used kept; who reads on is read ahead for, up to 2 MiB.

    File system parsers read some bytes here and there, and the same ones again: each would be a round trip to the
    store. For one thread. Raises as ``area``.
    """

    def __init__(self, area: Area, limit: int = MAX_LOOK_CACHE) -> None:
        self._area = area
        self.size = area.size
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._most = max(limit // _BLOCK, 1)
        self._next = -1
        self._ahead = _BLOCK

    def read_at(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        first, last = offset // _BLOCK, (offset + length - 1) // _BLOCK
        if length and first == last:
            data = self._block(first, 1)
            return data[offset - first * _BLOCK : offset - first * _BLOCK + length]
        parts = [self._block(number, last - number + 1) for number in range(first, last + 1)]
        start = offset - first * _BLOCK
        return b"".join(parts)[start : start + length]

    def _block(self, number: int, wanted: int) -> bytes:
        """Block ``number``; ``wanted`` blocks from there on will be read."""
        block = self._blocks.get(number)
        if block is None:
            self._fetch(number, wanted)
            return self._blocks[number]
        self._blocks.move_to_end(number)
        return block

    def _fetch(self, number: int, wanted: int) -> None:
        goes_on = number == self._next
        self._ahead = min(self._ahead * 2, _AHEAD) if goes_on else _BLOCK
        start = number * _BLOCK
        most = min(max(wanted * _BLOCK, self._ahead), MAX_LOOK_RANGE, self.size - start, self._most * _BLOCK)
        data = memoryview(self._area.read_at(start, most))
        for index, at in enumerate(range(0, most, _BLOCK)):
            self._blocks[number + index] = bytes(data[at : at + _BLOCK])
            self._blocks.move_to_end(number + index)
        # The block asked for goes last: room is made among the others.
        self._blocks.move_to_end(number)
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)
        self._next = number + -(-most // _BLOCK)


class Window:
    """``area`` as the seekable file object that libyal's ``open_file_object`` takes. Reads end at its end."""

    def __init__(self, area: Area) -> None:
        self._area = area
        self._offset = 0
        self.failure: VmferryError | None = None
        """Why bytes could not be read; libyal makes something of its own of the exception."""

    def read(self, size: int = -1) -> bytes:
        left = max(self._area.size - self._offset, 0)
        count = left if size < 0 else min(size, left)
        try:
            data = bytes(self._area.read_at(self._offset, count)) if count else b""
        except VmferryError as error:
            self.failure = error
            raise
        self._offset += count
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._offset = max(offset + (0, self._offset, self._area.size)[whence], 0)
        return self._offset

    def tell(self) -> int:
        return self._offset

    def get_size(self) -> int:
        return self._area.size


def check_range(area: Area, offset: int, length: int) -> None:
    """``ValueError`` unless ``length`` bytes from ``offset`` lie inside ``area``."""
    if offset < 0 or length < 0 or offset + length > area.size:
        raise ValueError(f"[{offset}, {offset + length}) is not inside an area of {area.size} bytes")
