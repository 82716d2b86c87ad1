"""Streams that can only be decoded from their first byte on: what bzip2 and the blocks of xz have in common."""

from __future__ import annotations

from typing import Protocol

from vmferry.wrappers._input import PackedInput
from vmferry.wrappers._unpacked import cut_short


class Decompressor(Protocol):
    """What ``bz2.BZ2Decompressor`` and ``lzma.LZMADecompressor`` share. It holds on to input it did not use yet."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def read_stream(name: str, feed: PackedInput, decompressor: Decompressor, limit: int) -> bytes:
    """Between one and ``limit`` bytes of the stream; none at its end, and ``feed`` stands behind it then.

    Raises ``CorruptDiskError`` when ``feed`` ends before, and what the decompressor raises.
    """
    while not decompressor.eof:
        packed = bytes(feed.peek()) if decompressor.needs_input else b""
        if decompressor.needs_input and not packed:
            raise cut_short(name)
        data = decompressor.decompress(packed, limit)
        feed.skip(len(packed) - len(decompressor.unused_data))  # there is none before the end
        if data:
            return data
    return b""
