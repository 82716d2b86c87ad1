"""What an initramfs or a kernel may be packed with: all that Linux reads, each as a stream of bounded pieces."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterator
from typing import Protocol, cast

import zstandard
from isal import igzip_lib

from vmferry.errors import GuestError
from vmferry.guest.linux import lz4, lzo
from vmferry.limits import MAX_INITRAMFS_WINDOW
from vmferry.units import KIB, MIB

ReadAt = Callable[[int, int], bytes]
"""``read_at(offset, length)``: up to ``length`` bytes, fewer only at the end."""
_INPUT = 64 * KIB
_PIECE = MIB
"""Bytes that one step unpacks to, at the most; lz4's blocks are 8 MiB, zstd's step is bounded by its input."""
_ZSTD_INPUT = KIB // 4
"""Bytes that zstd is given at once: it cannot bound its output, and unpacks this to 8 MiB at the most."""
_FAULTS: tuple[type[Exception], ...] = (
    lzma.LZMAError,
    zstandard.ZstdError,
    cast("type[Exception]", igzip_lib.error),
    OSError,
    EOFError,
    ValueError,
)


class PackedInput:
    """A file read forwards. For one thread."""

    def __init__(self, read_at: ReadAt, position: int = 0) -> None:
        self._read_at = read_at
        self._window = b""
        self._start = position
        self.position = position

    def take(self, length: int) -> bytes:
        """The next bytes, at most ``length`` (itself at most 8 MiB or so); fewer only at the end."""
        begin = self.position - self._start
        if begin + length > len(self._window):
            left = self._window[begin:]
            self._start, begin = self.position, 0
            self._window = left + self._read_at(self.position + len(left), max(length, _PIECE))
        data = self._window[begin : begin + length]
        self.position += len(data)
        return data

    def need(self, length: int) -> bytes:
        """The next ``length`` bytes. Raises ``GuestError`` where there are fewer."""
        data = self.take(length)
        if len(data) < length:
            raise GuestError("it ends in the middle of its packed data")
        return data

    def number(self, order: str = "big") -> int:
        """The next four bytes as a number; 0 at the end."""
        return int.from_bytes(self.take(4), "little" if order == "little" else "big")

    def give_back(self, count: int) -> None:
        """Let the last ``count`` bytes be read again."""
        self.position -= count
        if self.position < self._start:
            self._start, self._window = self.position, b""


Unpack = Callable[[PackedInput], Iterator[bytes]]


def find_compression(head: bytes) -> Unpack | None:
    """What unpacks a stream whose first bytes are ``head`` (nine of them tell); ``None`` where nothing does."""
    return next((unpack for magic, unpack in _COMPRESSIONS if head.startswith(magic)), None)


def unpack(compression: Unpack, packed: PackedInput) -> Iterator[bytes]:
    """One stream, piece by piece; ``packed`` is behind it then. Raises ``GuestError`` where it is damaged."""
    try:
        yield from compression(packed)
    except MemoryError:
        raise GuestError("unpacking it takes more memory than there is for it") from None
    except _FAULTS as error:
        raise GuestError(f"its packed data is damaged ({type(error).__name__})") from error


class _Decompressor(Protocol):
    """What ``lzma``, ``bz2`` and ``isal`` have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _with(make: Callable[[], _Decompressor]) -> Unpack:
    def pieces(packed: PackedInput) -> Iterator[bytes]:
        decompressor = make()
        while not decompressor.eof:
            data = b""
            if decompressor.needs_input and not (data := packed.take(_INPUT)):
                raise GuestError("it ends in the middle of its packed data")
            yield decompressor.decompress(data, _PIECE)
        packed.give_back(len(decompressor.unused_data))

    return pieces


def _unpack_zstd(packed: PackedInput) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_INITRAMFS_WINDOW).decompressobj()
    while not decompressor.eof:
        data = packed.take(_ZSTD_INPUT)
        if not data:
            raise GuestError("it ends in the middle of its packed data")
        yield decompressor.decompress(data)
    packed.give_back(len(decompressor.unused_data))


def _unpack_lz4(packed: PackedInput) -> Iterator[bytes]:
    packed.need(len(lz4.MAGIC))
    while size := packed.number("little"):
        if size == int.from_bytes(lz4.MAGIC, "little"):
            continue
        if size > lz4.MAX_PACKED_BLOCK:  # what follows the last block belongs to something else
            packed.give_back(4)
            return
        yield bytes(lz4.unpack_block(packed.need(size)))


def _unpack_lzop(packed: PackedInput) -> Iterator[bytes]:
    checks = lzo.read_header(packed.need)
    while size := packed.number():
        packed_size = packed.number()
        if not packed_size <= size <= lzo.MAX_BLOCK:
            raise GuestError(lzo.DAMAGED)
        packed.need(checks.of_unpacked + (checks.of_packed if packed_size < size else 0))
        data = packed.need(packed_size)
        yield data if packed_size == size else lzo.unpack_block(data, size)


def _gzip() -> _Decompressor:
    made: _Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return made


_COMPRESSIONS: tuple[tuple[bytes, Unpack], ...] = (
    (b"\x1f\x8b", _with(_gzip)),
    (b"\xfd7zXZ\0", _with(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_INITRAMFS_WINDOW))),
    (b"\x28\xb5\x2f\xfd", _unpack_zstd),
    (lz4.MAGIC, _unpack_lz4),
    (lzo.MAGIC, _unpack_lzop),
    (b"BZh", _with(bz2.BZ2Decompressor)),
    (b"\x5d\0\0", _with(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, MAX_INITRAMFS_WINDOW))),
)
