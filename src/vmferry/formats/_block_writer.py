"""What the writers of VHD, VHDX and VDI share: blocks placed one behind another, noted, and packed in slices."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence

from vmferry.blob import BlobWriter, Buffer
from vmferry.disk import PackedSlice, Placed
from vmferry.formats._encoded_blocks import EncodedBlock

_NOTE = struct.Struct("<QI")
"""Number and checksum of a block."""


class BlockWriter(ABC):
    """An OrderedDiskWriter without its format: what such a one says is where blocks stand (``_place``), and the rest.

    ``place``, ``replay`` and the methods of slices are called by one thread at a time.
    """

    def __init__(self, target: BlobWriter, end: int, *, is_fixed: bool) -> None:
        """The first block that is placed begins, with what belongs to it, at host offset ``end`` of ``target``; in a
        fixed image, which has room for every block already, nothing else is ever placed behind that."""
        self._target = target
        self._is_fixed = is_fixed
        self._end = end
        """Host offset behind everything that is placed."""
        self.front = end
        """As ``SupportsSlices``, of what is not fixed."""
        self._notes: list[bytes] | None = None
        """Of the blocks of a slice."""

    @abstractmethod
    def _place(self, encoded: Sequence[EncodedBlock]) -> list[Placed]:
        """Give each block its place, and say what is to be written there. Does not write."""

    def place(self, encoded: Sequence[EncodedBlock]) -> Sequence[Placed]:
        """As ``OrderedDiskWriter``."""
        if self._notes is not None:
            self._notes.append(self.note(encoded))
        return self._place(encoded)

    def write(self, placed: Sequence[Placed]) -> None:
        """As ``OrderedDiskWriter``."""
        for host, data in placed:
            self._target.write_at(host, data)

    def note(self, encoded: Sequence[EncodedBlock]) -> bytes:
        """As ``SupportsReplay``."""
        return b"".join(_NOTE.pack(block.number, block.checksum) for block in encoded)

    def replay(self, note: bytes) -> None:
        """As ``SupportsReplay``."""
        if len(note) % _NOTE.size:
            raise ValueError(f"{len(note)} bytes are no note of blocks")
        self.place([EncodedBlock(number, checksum, ()) for number, checksum in _NOTE.iter_unpack(note)])

    def begin_slice(self) -> None:
        """As ``SupportsSlices``."""
        assert not self._is_fixed, "a fixed image is not packed"
        self._notes = []

    def end_slice(self) -> PackedSlice:
        """As ``SupportsSlices``; the map is the notes of its blocks."""
        assert self._notes is not None, "end_slice without begin_slice"
        self._target.set_size(self._end)
        return PackedSlice(self._end - self.front, b"".join(self._notes))

    def join(self, piece: PackedSlice) -> None:
        """As ``SupportsSlices``."""
        begun = self._end
        self.replay(piece.map)
        if self._end - begun != piece.length:
            raise ValueError(f"{piece.length} bytes are not what the slice's blocks take")

    def move(self, piece: PackedSlice, offset: int, data: Buffer, start: int) -> Buffer:
        """As ``SupportsSlices``: blocks are the same wherever they lie."""
        return data

    def abort(self) -> None:
        """As ``OrderedDiskWriter``."""
        self._target.abort()
