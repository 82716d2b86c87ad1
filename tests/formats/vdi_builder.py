"""VDIs made from the table of the format alone, sound or with chosen faults."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

DYNAMIC, FIXED, UNDO, DIFFERENCING = 1, 2, 3, 4
BLOCK = 4096
"""Bytes of a block where a test does not say otherwise: small, so that a few KiB hold many."""
ZERO = 0xFFFFFFFE


def sparse(
    size: int,
    blocks: Mapping[int, bytes],
    *,
    kind: int = DYNAMIC,
    block_size: int = BLOCK,
    zeros: Sequence[int] = (),
    order: Sequence[int] | None = None,
    extra: int = 0,
    extra_entries: int = 0,
    header_size: int = 400,
    map_at: int = 1024,
    ids: tuple[bytes, bytes, bytes, bytes] = (b"I" * 16, b"M" * 16, bytes(16), bytes(16)),
    version: int = 0x10001,
) -> bytes:
    """A VDI that holds ``blocks``, in ``order``; those of ``zeros`` are marked as zeros."""
    count = -(-size // block_size) + extra_entries
    data_at = -(-(map_at + count * 4) // 512) * 512
    table = [0xFFFFFFFF] * count
    for number in zeros:
        table[number] = ZERO
    body = b""
    for place, number in enumerate(order if order is not None else blocks):
        table[number] = place
        body += b"\xee" * extra + blocks[number].ljust(block_size, b"\0")
    data = bytearray(data_at)
    data[0:40] = b"<<< Oracle VM VirtualBox Disk Image >>>\n"
    struct.pack_into("<IIIII", data, 64, 0xBEDA107F, version, header_size, kind, 0)
    struct.pack_into("<II", data, 340, map_at, data_at)
    struct.pack_into("<I", data, 360, 512)
    struct.pack_into("<QIIII", data, 368, size, block_size, extra, count, len(blocks))
    for index, value in enumerate(ids):
        data[392 + 16 * index : 408 + 16 * index] = value
    struct.pack_into(f"<{count}I", data, map_at, *table)
    return bytes(data) + body
