"""The qcow2 header (qcow2.rst, "Header"): what it says, which claims are believed, and how one is made."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.limits import MAX_DISK_SIZE
from vmferry.units import SECTOR, format_size, round_up

MAGIC = b"QFI\xfb"
COPIED = 1 << 63
"""In an L1 or L2 entry: the refcount of what it points to is exactly one."""
COMPRESSED = 1 << 62
"""In an L2 entry: the rest is a compressed cluster descriptor."""
READS_AS_ZEROS = 1
"""In a standard L2 entry of version 3: the cluster reads as zeros, whatever it points to."""
OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
"""Bits 9 to 55 of a standard entry: a host offset."""

_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_V3_LENGTH = _V2.size + _V3.size
_WRITTEN_LENGTH = 112
"""Version 3 with the compression type and its seven bytes of padding: what QEMU writes today."""

_MIN_CLUSTER_BITS, _MAX_CLUSTER_BITS = 9, 21
_MAX_L1_SIZE = 4 << 20
"""Entries: QEMU's own bound, 32 MiB of table."""
_MAX_SNAPSHOTS = 65536
_REFCOUNT_ORDER = 4

_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION_TYPE, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN_INCOMPATIBLE = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION_TYPE | _EXTENDED_L2
_FLATTEN = "Flatten it where it was made: qemu-img convert -O qcow2 OLD NEW."


class _Fields(NamedTuple):
    """The 72 bytes of every version, in order and unchecked."""

    magic: bytes
    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a reader needs of a header that passed every check. Offsets are host offsets."""

    version: int
    cluster_bits: int
    size: int
    """Guest bytes, rounded up to whole sectors."""
    l1_size: int
    """Entries that the disk needs; the table may hold more."""
    l1_table_offset: int

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l2_bits(self) -> int:
        """An L2 table is one cluster of ``1 << l2_bits`` entries of eight bytes."""
        return self.cluster_bits - 3


def read_header(blob: Blob) -> Header:
    """The header of ``blob``.

    Raises ``CorruptDiskError``, ``UnsupportedFeatureError`` or ``UnsafeDiskError``. Dirty images are read: only their
    refcounts may be stale. Internal snapshots are left aside: what is read is the active layer.
    """
    fields = _Fields._make(_V2.unpack(blob.read_at(0, _V2.size)))
    if fields.magic != MAGIC:
        raise CorruptDiskError(f"{quote(blob.name)} is not qcow2: it does not begin with QFI and 0xFB.")
    if fields.version not in (2, 3):
        raise _unsupported(blob, f"version {fields.version:,} (2 and 3 are read)")
    if fields.backing_file_offset or fields.backing_file_size:
        raise UnsafeDiskError(f"{quote(blob.name)} is a qcow2 overlay of another file, which is not read. {_FLATTEN}")
    if fields.crypt_method:
        raise _unsupported(blob, f"encryption (method {fields.crypt_method:,})")
    bits = fields.cluster_bits
    if not _MIN_CLUSTER_BITS <= bits <= _MAX_CLUSTER_BITS:
        raise _corrupt(blob, f"cluster_bits is {bits:,}, but {_MIN_CLUSTER_BITS} to {_MAX_CLUSTER_BITS} exist")
    if fields.size > MAX_DISK_SIZE:
        raise UnsafeDiskError(
            f"{quote(blob.name)}: qcow2 with a virtual size of {fields.size:,} bytes; at most "
            f"{format_size(MAX_DISK_SIZE)} are read. If the disk is real, copy its content to a smaller one.",
            size=fields.size,
        )
    if fields.nb_snapshots > _MAX_SNAPSHOTS:
        raise _corrupt(blob, f"it claims {fields.nb_snapshots:,} internal snapshots; {_MAX_SNAPSHOTS:,} can be")
    if fields.version == 3:
        _check_version_3(blob, 1 << bits)
    size = round_up(fields.size, SECTOR)
    l1_size = -(-size // (1 << (2 * bits - 3)))
    _check_l1(blob, fields, l1_size)
    return Header(fields.version, bits, size, l1_size, fields.l1_table_offset)


def make_header(
    size: int, cluster_bits: int, l1_size: int, l1_table_offset: int, refcount_table: tuple[int, int]
) -> bytes:
    """A version 3 header without features; the zeros that follow it in its cluster end the header extensions.

    ``refcount_table`` is its host offset and its length in clusters.
    """
    fields = _Fields(MAGIC, 3, 0, 0, cluster_bits, size, 0, l1_size, l1_table_offset, *refcount_table, 0, 0)
    return (_V2.pack(*fields) + _V3.pack(0, 0, 0, _REFCOUNT_ORDER, _WRITTEN_LENGTH)).ljust(_WRITTEN_LENGTH, b"\0")


def _check_version_3(blob: Blob, cluster_size: int) -> None:
    incompatible, _, _, refcount_order, header_length = _V3.unpack(blob.read_at(_V2.size, _V3.size))
    if unknown := incompatible & ~_KNOWN_INCOMPATIBLE:
        raise _unsupported(blob, f"unknown incompatible features {unknown:#x}")
    if incompatible & _CORRUPT:
        raise CorruptDiskError(
            f"{quote(blob.name)}: QEMU has marked this qcow2 image as corrupt. "
            "Repair a copy of it, qemu-img check -r all COPY, or export it again."
        )
    if incompatible & _DATA_FILE:
        raise UnsafeDiskError(
            f"{quote(blob.name)}: qcow2 whose data lies in another file, which is not read. {_FLATTEN}"
        )
    if incompatible & _EXTENDED_L2:
        raise _unsupported(blob, "extended L2 entries")
    if header_length < _V3_LENGTH or header_length % 8 or header_length > cluster_size:
        raise _corrupt(blob, f"header_length is {header_length:,}; at least {_V3_LENGTH}, a multiple of 8, must be")
    if refcount_order > 6:
        raise _corrupt(blob, f"refcount_order is {refcount_order:,}, but at most 6 can be")
    compression_type = blob.read_at(_V3_LENGTH, 1)[0] if header_length > _V3_LENGTH else 0
    if bool(compression_type) != bool(incompatible & _COMPRESSION_TYPE):
        raise _corrupt(blob, f"compression type {compression_type} does not go with its incompatible feature bit")
    if compression_type:
        raise _unsupported(blob, "zstd compression" if compression_type == 1 else f"compression {compression_type}")


def _check_l1(blob: Blob, fields: _Fields, needed: int) -> None:
    """The ``needed`` entries of the L1 table must be there; longer tables are left over from a larger disk."""
    offset = fields.l1_table_offset
    if fields.l1_size > _MAX_L1_SIZE:
        raise UnsafeDiskError(
            f"{quote(blob.name)}: qcow2 whose L1 table has {fields.l1_size:,} entries; at most {_MAX_L1_SIZE:,} are "
            "read. The file is corrupt: export it again."
        )
    if fields.l1_size < needed:
        raise _corrupt(
            blob, f"its L1 table has {fields.l1_size:,} entries, but {format_size(fields.size)} need {needed:,}"
        )
    if needed and (offset % (1 << fields.cluster_bits) or offset == 0):
        raise _corrupt(blob, f"its L1 table cannot begin at host offset {offset:#x}")
    if needed and offset + needed * 8 > blob.size:
        raise _corrupt(
            blob,
            f"its L1 table, {needed:,} entries at host offset {offset:#x}, goes past the end of the file "
            f"({blob.size:,} bytes)",
        )


def _corrupt(blob: Blob, what: str) -> CorruptDiskError:
    return CorruptDiskError(f"{quote(blob.name)}: damaged qcow2: {what}. Export or upload it again.")


def _unsupported(blob: Blob, what: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(
        f"{quote(blob.name)}: qcow2 with {what} is not supported. "
        "Convert it where it was made: qemu-img convert -O qcow2 OLD NEW."
    )
