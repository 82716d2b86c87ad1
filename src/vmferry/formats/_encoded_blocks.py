"""A piece of a disk as the blocks of it that hold data, and ids that are made from blocks."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from deflate import crc32

from vmferry.blob import Buffer
from vmferry.extent import nonzero_runs
from vmferry.units import KIB

_PAGE = 4 * KIB
"""What file systems allocate at once: smaller holes within a block would save nothing."""


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """A block that holds data: its number, the checksum of its bytes, and its runs that are not all zeros."""

    number: int
    checksum: int
    runs: tuple[tuple[int, Buffer], ...]
    """Offset in the block, and bytes."""


def encode_blocks(offset: int, data: Buffer, size: int, block_size: int) -> Iterator[EncodedBlock]:
    """The blocks of ``data``, which begins at guest ``offset`` of a disk of ``size`` bytes, that are not all zeros.

    ``ValueError`` unless ``data`` is whole blocks, the disk's end excepted.
    """
    end = offset + len(data)
    if offset % block_size or (end % block_size and end != size) or not 0 <= offset <= end <= size:
        raise ValueError(f"{offset} to {end} are not whole blocks of a disk of {size} bytes")
    view = memoryview(data)
    for start in range(0, len(data), block_size):
        block = view[start : start + block_size]
        runs = tuple((low, block[low:high]) for low, high in nonzero_runs(block, _PAGE))
        if runs:
            yield EncodedBlock((offset + start) // block_size, crc32(block), runs)


class ContentDigest:
    """Ids that follow from a disk's content: the same disk gives the same file, another disk another id."""

    def __init__(self, kind: str, size: int) -> None:
        """``kind`` of file that is made for a disk of ``size`` bytes."""
        self._digest = hashlib.sha256(f"vmferry {kind} {size}".encode())

    def add(self, block: EncodedBlock) -> None:
        """Count ``block`` in; blocks come in the order of the disk."""
        self._digest.update(struct.pack(">QI", block.number, block.checksum))

    def uuid(self, purpose: str) -> bytes:
        """A UUID, big endian, of version 8 (RFC 9562: made by the application's own rule); another for each purpose."""
        digest = self._digest.copy()
        digest.update(purpose.encode())
        data = bytearray(digest.digest()[:16])
        data[6] = data[6] & 0x0F | 0x80
        data[8] = data[8] & 0x3F | 0x80
        return bytes(data)
