"""Compressed clusters into guest bytes: exactly one cluster comes out of each, or an error."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator

import zstandard
from deflate import DeflateError, deflate_decompress

from vmferry.blob import Buffer
from vmferry.formats.qcow2.header import ZSTD

Decompress = Callable[[Buffer, int], Buffer]
"""``(stored bytes with what follows them, cluster size)`` to the cluster; raises ``ValueError`` with the reason."""

_MAX_WINDOW = 8 << 20
"""Bytes of history that a zstd frame may ask for: RFC 8878 wants readers to offer as much, a cluster needs 2 MiB."""
_MAGIC, _SKIPPABLE = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_MAX_BLOCKS = 1024
"""Blocks of all frames of a cluster: 2 MiB take 16 of them, unless somebody wants to keep us busy."""
_RLE, _RESERVED = 1, 3

_local = threading.local()


def decompressor(compression_type: int) -> Decompress:
    """What turns a stored cluster of ``compression_type`` into its bytes. Safe from any number of threads."""
    return unpack_zstd if compression_type == ZSTD else inflate


def inflate(stored: Buffer, size: int) -> Buffer:
    """Deflate, without zlib's header; what follows the stream is left aside."""
    try:
        cluster: bytearray = deflate_decompress(stored, size)
    except DeflateError as error:
        raise ValueError("does not inflate") from error
    if len(cluster) != size:
        raise ValueError(f"holds {len(cluster):,} bytes of {size:,}")
    return cluster


def unpack_zstd(stored: Buffer, size: int) -> Buffer:
    """One zstd frame, or several, until the cluster is full; what follows is left aside.

    The frame that fills the cluster must end there. Memory: the cluster and a window of 8 MiB at the most.
    """
    cluster = _unpack_frame(stored, size)
    if len(cluster) == size:
        return cluster
    parts: list[bytes] = []  # the rare case: several frames, or skippable ones
    missing = size
    for frame in _frames(memoryview(stored)):
        parts.append(_unpack_frame(frame, missing))
        missing -= len(parts[-1])
        if not missing:
            return b"".join(parts)
    raise ValueError(f"holds {size - missing:,} bytes of {size:,}")


def _unpack_frame(frame: Buffer, most: int) -> bytes:
    """What the first frame in ``frame`` holds, at most ``most`` bytes; nothing for a skippable one."""
    if bytes(frame[1:4]) == _SKIPPABLE:
        return b""
    try:
        said = zstandard.get_frame_parameters(frame)
        unknown = said.content_size == zstandard.CONTENTSIZE_UNKNOWN
        if not unknown and said.content_size > most:
            raise ValueError(f"holds {said.content_size:,} bytes, {most:,} are due")
        if said.window_size > max(_MAX_WINDOW, most):
            raise ValueError(f"asks for a window of {said.window_size:,} bytes")
        if said.content_size == 0:
            return b""
        data: bytes = _decompressor().decompress(frame, max_output_size=most)
    except zstandard.ZstdError as error:
        raise ValueError("does not decompress") from error
    return data


def _decompressor() -> zstandard.ZstdDecompressor:
    """This thread's own: one must not be used by two at once, and making one costs as much as a cluster."""
    if not hasattr(_local, "zstd"):
        _local.zstd = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    found: zstandard.ZstdDecompressor = _local.zstd
    return found


def _frames(stored: memoryview) -> Iterator[memoryview]:
    """The frames at the start of ``stored``, found by their headers (RFC 8878, 3.1); raises ``ValueError``."""
    start = 0
    blocks = 0
    while start < len(stored):
        if stored[start + 1 : start + 4] == _SKIPPABLE and stored[start] >> 4 == 5:
            if start + 8 > len(stored):
                return
            (length,) = struct.unpack_from("<I", stored, start + 4)
            end = start + 8 + length
            blocks += 1
        elif stored[start : start + 4] == _MAGIC:
            end, count = _frame_end(stored, start)
            blocks += count
            yield stored[start:end]
        else:
            return
        if blocks > _MAX_BLOCKS:
            raise ValueError(f"has more than {_MAX_BLOCKS:,} blocks")
        start = end


def _frame_end(stored: memoryview, start: int) -> tuple[int, int]:
    """Where the frame at ``start`` ends, and how many blocks it has."""
    try:
        position = start + zstandard.frame_header_size(stored[start:])
    except zstandard.ZstdError as error:
        raise ValueError("does not decompress") from error
    checksum = 4 if stored[start + 4] & 4 else 0
    for count in range(1, _MAX_BLOCKS + 1):
        if position + 3 > len(stored):
            raise ValueError("is cut short")
        block = int.from_bytes(stored[position : position + 3], "little")
        kind, length = (block >> 1) & 3, block >> 3
        if kind == _RESERVED:
            raise ValueError("does not decompress")
        position += 3 + (1 if kind == _RLE else length)
        if block & 1:
            return position + checksum, count
    raise ValueError(f"has more than {_MAX_BLOCKS:,} blocks")
