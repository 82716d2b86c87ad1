"""The extents of a file on Btrfs, and how they are packed. Source: btrfs-dev-docs, "On-disk format"."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import zstandard

from vmferry.errors import GuestError
from vmferry.guest.filesystems._btrfs_tree import BtrfsTrees, damaged
from vmferry.guest.linux.lzo import unpack_at_most
from vmferry.units import KIB

_INLINE, _REGULAR = 0, 1
_HEAD, _BODY = 21, 53
_NONE, _ZLIB, _LZO, _ZSTD = range(4)
_MAX_PACKED = 128 * KIB
"""Bytes of a packed extent, before and after: the kernel's own bound."""


@dataclass(frozen=True, slots=True)
class FileExtent:
    """``length`` bytes of a file from ``start``."""

    start: int
    length: int
    packing: int
    inline: bytes | None = None
    """What an inline extent holds, packed or not."""
    address: int = 0
    """Logical, of what is stored; 0 for a hole."""
    stored: int = 0
    """Bytes there."""
    offset: int = 0
    """Of the file's bytes in what is stored, once it is unpacked."""
    unpacked: int = 0
    """Bytes of that."""


def read_extent(start: int, item: bytes) -> FileExtent:
    """The extent that ``item`` describes. Raises ``GuestError``."""
    if len(item) < _HEAD:
        raise damaged("an extent is cut short")
    unpacked, packing, encrypted, encoding, kind = struct.unpack_from("<QBBHB", item, 8)
    if encrypted or encoding or packing > _ZSTD:
        raise GuestError(f"A file on Btrfs is packed by method {packing}, which is not read.")
    if kind == _INLINE:
        length = len(item) - _HEAD if packing == _NONE else unpacked
        if length > _MAX_PACKED:
            raise damaged(f"an inline extent claims {length:,} bytes")
        return FileExtent(start, length, packing, inline=item[_HEAD:], unpacked=length)
    if len(item) < _BODY:
        raise damaged("an extent is cut short")
    address, stored, offset, length = struct.unpack_from("<QQQQ", item, _HEAD)
    if packing != _NONE and address and max(stored, unpacked) > _MAX_PACKED:
        raise damaged(f"a packed extent claims {max(stored, unpacked):,} bytes")
    return FileExtent(start, length, packing, None, address if kind == _REGULAR else 0, stored, offset, unpacked)


def read_piece(trees: BtrfsTrees, extent: FileExtent, offset: int, length: int) -> bytes:
    """``length`` bytes of what ``extent`` holds, from ``offset`` in it. Raises ``GuestError``."""
    if extent.packing != _NONE and (extent.inline is not None or extent.address):
        packed = extent.inline if extent.inline is not None else trees.read(extent.address, extent.stored)
        data = _unpack(packed, extent.packing, extent.unpacked, trees.sector_size)
        return data[extent.offset + offset : extent.offset + offset + length].ljust(length, b"\0")
    if extent.inline is not None:
        return extent.inline[offset : offset + length]
    return trees.read(extent.address + extent.offset + offset, length) if extent.address else bytes(length)


def _unpack(packed: bytes, packing: int, size: int, sector: int) -> bytes:
    """At most ``size`` bytes."""
    try:
        if packing == _ZLIB:
            return zlib.decompressobj().decompress(packed, size) if size else b""
        if packing == _ZSTD:
            return zstandard.ZstdDecompressor().decompressobj().decompress(packed)[:size]
    except (zlib.error, zstandard.ZstdError) as error:
        raise damaged("a packed extent does not unpack") from error
    return _unpack_lzo(packed, size, sector)


def _unpack_lzo(packed: bytes, size: int, sector: int) -> bytes:
    """Pieces of a sector each, every one behind its length, which never lies over the end of a sector."""
    total = min(int.from_bytes(packed[:4], "little"), len(packed))
    at, out = 4, bytearray()
    while at + 4 <= total and len(out) < size:
        if sector - at % sector < 4:
            at += sector - at % sector
        count = int.from_bytes(packed[at : at + 4], "little")
        piece = packed[at + 4 : at + 4 + count]
        if not count or len(piece) < count:
            raise damaged("a packed extent is cut short")
        # The last piece of a file holds no more than the file does: what is behind it reads as zeros.
        out += unpack_at_most(piece, min(sector, size - len(out)))
        at += 4 + count
    return bytes(out)
