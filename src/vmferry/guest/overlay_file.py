"""The changes of an overlay as a file: kept, and applied again to the same disk elsewhere.

All numbers little-endian, nothing is aligned::

    0   magic "VMFERRY CHANGES\\n"
    16  u32 version, 2 (1 knew no zeros); u32 count of ranges
    24  u64 guest bytes of the disk
    32  count × (u64 guest offset, u64 length): ascending, of whole sectors; with bit 63 of the length: of zeros
    …   the bytes of all other ranges, in order
    …   BLAKE3 of everything before: 32 bytes, the file's end
"""

from __future__ import annotations

import struct
from itertools import pairwise

from blake3 import blake3

from vmferry.blob import Blob, BlobWriter
from vmferry.errors import CorruptDiskError, DifferentError, quote
from vmferry.guest.overlay import OverlayDisk, Written
from vmferry.units import MIB, SECTOR

_MAGIC = b"VMFERRY CHANGES\n"
_HEADER = struct.Struct("<16sIIQ")
_RANGE = struct.Struct("<QQ")
_VERSIONS = (1, 2)
_ZEROS = 1 << 63
_DIGEST = 32
_MAX_RANGES = 1 << 20
_PIECE = MIB


def save_changes(overlay: OverlayDisk, target: BlobWriter) -> None:
    """Write what was changed in ``overlay`` to ``target``, which is neither finished nor aborted.

    Raises ``StoreError``.
    """
    changed = list(overlay.changed())
    digest, at = blake3(), 0

    def put(data: bytes) -> None:
        nonlocal at
        digest.update(data)
        target.write_at(at, data)
        at += len(data)

    put(_HEADER.pack(_MAGIC, _VERSIONS[-1], len(changed), overlay.size))
    put(b"".join(_RANGE.pack(start, end - start | _ZEROS * is_zero) for start, end, is_zero in changed))
    for start, end, is_zero in changed:
        for low in () if is_zero else range(start, end, _PIECE):
            put(bytes(overlay.read_at(low, min(_PIECE, end - low))))
    target.write_at(at, digest.digest())


def apply_changes(overlay: OverlayDisk, source: Blob) -> None:
    """Write to ``overlay`` what ``save_changes`` kept; twice is as once. The whole file is checked before.

    Raises ``CorruptDiskError`` where it is no such file, or damaged; ``DifferentError`` where it is another disk's.
    """
    ranges = _read_ranges(overlay, source)
    _check_digest(source)
    at = _HEADER.size + len(ranges) * _RANGE.size
    for start, end, is_zero in ranges:
        if is_zero:
            overlay.zero_at(start, end - start)
            continue
        for low in range(start, end, _PIECE):
            count = min(_PIECE, end - low)
            overlay.write_at(low, source.read_at(at, count))
            at += count


def _read_ranges(overlay: OverlayDisk, source: Blob) -> list[Written]:
    """The ranges, all of them sound."""
    name = quote(source.name)
    if source.size < _HEADER.size + _DIGEST:
        raise CorruptDiskError(f"{name} holds no changes to a disk: it has only {source.size:,} bytes.")
    magic, version, count, size = _HEADER.unpack(source.read_at(0, _HEADER.size))
    if magic != _MAGIC or version not in _VERSIONS:
        raise CorruptDiskError(f"{name} holds no changes to a disk, or is of another version of vmferry.")
    if count > _MAX_RANGES or source.size < _HEADER.size + count * _RANGE.size + _DIGEST:
        raise CorruptDiskError(f"{name} is cut short: it says that it has {count:,} ranges.")
    if size != overlay.size:
        raise DifferentError(f"{name} is of a disk of {size:,} bytes, this one has {overlay.size:,}.")
    told = _RANGE.iter_unpack(source.read_at(_HEADER.size, count * _RANGE.size))
    ranges = [Written(start, start + (length & ~_ZEROS), bool(length & _ZEROS)) for start, length in told]
    sound = all(start < end <= size and start % SECTOR == end % SECTOR == 0 for start, end, _ in ranges) and all(
        one.end <= other.start for one, other in pairwise(ranges)
    )
    held = source.size - _HEADER.size - count * _RANGE.size - _DIGEST
    if not sound or sum(end - start for start, end, is_zero in ranges if not is_zero) != held:
        raise CorruptDiskError(f"{name} is damaged: its ranges do not fit the disk, or the file. Make it again.")
    return ranges


def _check_digest(source: Blob) -> None:
    digest, end = blake3(), source.size - _DIGEST
    for low in range(0, end, _PIECE):
        digest.update(source.read_at(low, min(_PIECE, end - low)))
    if digest.digest() != bytes(source.read_at(end, _DIGEST)):
        raise CorruptDiskError(f"{quote(source.name)} is damaged: its digest is not that of its bytes. Make it again.")
