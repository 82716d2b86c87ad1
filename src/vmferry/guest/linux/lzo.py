"""LZO1X in the blocks of lzop, which some initramfs are packed with. No library of ours reads it.

Sources: the Linux kernel's Documentation/staging/lzo.rst; the layout of lzop 1.04's files as its manual and the
kernel's decompressor describe it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vmferry.errors import GuestError
from vmferry.guest.linux.lz4 import repeat_end
from vmferry.units import MIB

MAGIC = b"\x89LZO\x00\r\n\x1a\n"
MAX_BLOCK = MIB
"""Bytes of a block, unpacked: lzop writes 256 KiB."""
DAMAGED = "its LZO data is damaged"


_ADLER32_D, _ADLER32_C, _CRC32_D, _CRC32_C = 0x1, 0x2, 0x100, 0x200
_EXTRA_FIELD, _FILTER = 0x40, 0x800
_NEWER = 0x940
"""Version of lzop from which a file's header has three fields more."""


@dataclass(frozen=True, slots=True)
class Checks:
    """Bytes of checksums before each block."""

    of_unpacked: int
    of_packed: int
    """Only where the block is packed."""


def read_header(need: Callable[[int], bytes]) -> Checks:
    """Read the header of a file of lzop's from ``need``, which gives so many bytes. Raises what ``need`` does."""
    need(len(MAGIC))
    version = int.from_bytes(need(2), "big")
    need(6 if version >= _NEWER else 3)
    flags = int.from_bytes(need(4), "big")
    need((4 if flags & _FILTER else 0) + (12 if version >= _NEWER else 8))
    need(need(1)[0] + 4)
    if flags & _EXTRA_FIELD:
        need(min(int.from_bytes(need(4), "big"), MAX_BLOCK) + 4)
    return Checks(_count(flags, _ADLER32_D, _CRC32_D), _count(flags, _ADLER32_C, _CRC32_C))


def _count(flags: int, *bits: int) -> int:
    return sum(4 for bit in bits if flags & bit)


def unpack_block(data: bytes, size: int) -> bytes:
    """One block, which unpacks to ``size`` bytes. Raises ``GuestError`` where it is damaged."""
    out = unpack_at_most(data, size)
    if len(out) != size:
        raise GuestError(DAMAGED)
    return out


def unpack_at_most(data: bytes, size: int) -> bytes:
    """One block, which unpacks to ``size`` bytes or fewer. Raises ``GuestError`` where it is damaged."""
    try:
        return bytes(_Block(data, size).unpack())
    except IndexError:
        raise GuestError(DAMAGED) from None


class _Block:
    """The state of the decoder: where it reads, what it has written, how many literals came last."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self._size = size
        self._at = 0
        self._out = bytearray()

    def unpack(self) -> bytearray:
        state = 0
        if self._data[0] > 17:
            state = self._copy_literals(self._next() - 17)
        while True:
            code = self._next()
            if code >= 16 or state:
                literals = self._copy(code, state)
                if literals is None:
                    return self._out
                state = self._copy_literals(literals) if literals else 0
            else:
                state = self._copy_literals(3 + (code or self._length(15)))

    def _copy(self, code: int, state: int) -> int | None:
        """Copy the match that ``code`` begins; answers the literals that follow it, ``None`` at the end."""
        if code >= 64:
            low = self._next()
            self._append(1 + (code >> 2 & 7) + (low << 3), (code >> 5) + 1)
            return code & 3
        if code >= 16:
            return self._copy_far(code)
        low = self._next()
        near = 1 + (code >> 2) + (low << 2)
        self._append(*((near, 2) if state < 4 else (near + 2048, 3)))
        return code & 3

    def _copy_far(self, code: int) -> int | None:
        mask, base = (31, 1) if code >= 32 else (7, 16384)
        length = 2 + (code & mask or self._length(mask))
        pair = self._next() | self._next() << 8
        distance = base + (pair >> 2) + (0 if code >= 32 else (code & 8) << 11)
        if distance == base == 16384:
            return None
        self._append(distance, length)
        return pair & 3

    def _append(self, distance: int, length: int) -> None:
        start = len(self._out) - distance
        if start < 0 or len(self._out) + length > self._size:
            raise GuestError(DAMAGED)
        if length <= distance:
            self._out += self._out[start : start + length]
        else:
            repeat_end(self._out, distance, length)

    def _copy_literals(self, count: int) -> int:
        """Take ``count`` bytes as they are; answers the state that follows, 4 for a run of four and more."""
        piece = self._data[self._at : self._at + count]
        if len(piece) < count or len(self._out) + count > self._size:
            raise GuestError(DAMAGED)
        self._out += piece
        self._at += count
        return min(count, 4)

    def _length(self, base: int) -> int:
        while not (byte := self._next()):
            base += 255
        return base + byte

    def _next(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte
