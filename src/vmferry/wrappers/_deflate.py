"""Deflate as gzip and zip pack it: decoded once from end to end, with checkpoints that decoding can go on from.

A checkpoint is a copy of zlib's state (some 50 KiB), taken each ``step`` bytes of output. When there are too many of
them every other is dropped and the step doubles, so memory is bounded whatever the size.

Source: RFC 1951; zlib's ``inflateCopy``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Protocol

import deflate

from vmferry.errors import CorruptDiskError, quote
from vmferry.limits import MAX_UNPACK_CHECKPOINTS
from vmferry.units import MIB
from vmferry.wrappers._input import PackedInput
from vmferry.wrappers._unpacked import Decoder, check_size, cut_short

_FIRST_STEP = 4 * MIB
_MEASURED = MIB
"""Bytes of output asked for at once while measuring."""


class Inflate(Protocol):
    """zlib's decompression object, which has no name in its module."""

    @property
    def eof(self) -> bool: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: memoryview, max_length: int = ..., /) -> bytes: ...

    def copy(self) -> Inflate: ...


def new_inflate() -> Inflate:
    """For one bare deflate stream."""
    return zlib.decompressobj(-zlib.MAX_WBITS)


class DeflateStream:
    """One bare deflate stream out of ``feed``. For one thread."""

    def __init__(self, name: str, feed: PackedInput, inflate: Inflate) -> None:
        self._name = name
        self._feed = feed
        self._inflate = inflate

    @property
    def ended(self) -> bool:
        """Whether the stream's last byte was read; ``feed`` stands behind it then."""
        return self._inflate.eof

    def read(self, limit: int) -> bytes:
        """Between one and ``limit`` bytes; none when the stream has ended. Raises ``CorruptDiskError``."""
        while not self._inflate.eof:
            packed = self._feed.peek()
            try:
                data = self._inflate.decompress(packed, limit)
            except zlib.error as error:
                raise CorruptDiskError(
                    f"{quote(self._name)}: the packed data at offset {self._feed.position:,} is damaged: "
                    "pack or upload it again."
                ) from error
            left = len(self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail)
            self._feed.skip(len(packed) - left)
            if data:
                return data
            if not packed and not self._inflate.eof:
                raise cut_short(self._name)
        return b""

    def snapshot(self) -> tuple[int, Inflate] | None:
        """Where the input stands and the state there, which was given nothing behind it; ``None`` at the end."""
        return None if self._inflate.eof else (self._feed.position, self._inflate.copy())


class Checkpoints:
    """Places at which decoding can begin, made while the content is measured; read by any number of threads."""

    def __init__(self, position: int) -> None:
        """Decoding begins at offset ``position`` of the file, with nothing before it."""
        self.starts = [0]
        """Unpacked offsets, ascending."""
        self._states: list[tuple[int, Inflate | None]] = [(position, None)]
        self._step = _FIRST_STEP

    def offer(self, offset: int, snapshot: Callable[[], tuple[int, Inflate | None] | None]) -> None:
        """Take a snapshot at unpacked ``offset`` if it is time for one."""
        if offset - self.starts[-1] < self._step:
            return
        if (state := snapshot()) is None:
            return
        self.starts.append(offset)
        self._states.append(state)
        if len(self.starts) > MAX_UNPACK_CHECKPOINTS:
            del self.starts[1::2], self._states[1::2]
            self._step *= 2

    def state(self, number: int) -> tuple[int, Inflate | None]:
        """Offset in the file and a state of one's own; no state where a member begins."""
        position, inflate = self._states[number]
        return position, None if inflate is None else inflate.copy()


def measure(name: str, stream: Decoder, offset: int, offer: Callable[[int], None]) -> tuple[int, int]:
    """Decode ``stream`` to its end: the unpacked offset behind it, and the CRC-32 of its bytes.

    ``offer`` is told each unpacked offset that was reached. Raises ``CorruptDiskError``, ``UnsafeDiskError``.
    """
    checksum = 0
    while data := stream.read(_MEASURED):
        checksum = deflate.crc32(data, checksum)
        offset += len(data)
        check_size(name, offset)
        offer(offset)
    return offset, checksum
