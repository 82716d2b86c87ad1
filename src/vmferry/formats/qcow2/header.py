"""The qcow2 header (qcow2.rst, "Header"): what it says, which claims are believed, and how one is made."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.formats.qcow2 import MAGIC
from vmferry.formats.qcow2.extensions import Extensions, read_extensions
from vmferry.limits import MAX_DISK_SIZE, MAX_QCOW2_HEADER, MAX_QCOW2_L1, MAX_QCOW2_SNAPSHOTS
from vmferry.units import SECTOR, format_size, round_up

COPIED = 1 << 63
"""In an L1 or L2 entry: the refcount of what it points to is exactly one."""
COMPRESSED = 1 << 62
"""In an L2 entry: the rest is a compressed cluster descriptor."""
READS_AS_ZEROS = 1
"""In a standard L2 entry of version 3: the cluster reads as zeros, whatever it points to."""
OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
"""Bits 9 to 55 of a standard entry: a host offset."""
ZLIB, ZSTD = 0, 1
"""Compression types; zlib's is deflate without zlib's header."""

_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_V3_LENGTH = _V2.size + _V3.size
_WRITTEN_LENGTH = 112
"""Version 3 with the compression type and its seven bytes of padding: what QEMU writes today."""

_MIN_CLUSTER_BITS, _MAX_CLUSTER_BITS = 9, 21
_MIN_EXTENDED_BITS = 14
_MAX_BACKING_NAME = 1023
_REFCOUNT_ORDER = 4

_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION_TYPE, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN_INCOMPATIBLE = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION_TYPE | _EXTENDED_L2
_BITMAPS = 1 << 0
"""An autoclear feature: bitmaps of what was written since backups, which go with the disk's size."""
_RAW_DATA_FILE = 1 << 1
"""An autoclear feature: the data file is the raw disk."""


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
class _Features:
    """What the fields that only version 3 has say; the defaults are version 2's."""

    length: int = _V2.size
    dirty: bool = False
    data_file: bool = False
    raw_data_file: bool = False
    bitmaps: bool = False
    compression_type: int = ZLIB
    extended_l2: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """The disk's present state, or an internal snapshot: a size and an L1 table, which passed ``check_layer``."""

    size: int
    """Guest bytes, in whole sectors."""
    l1_size: int
    """Entries that the disk needs; the table may hold more."""
    l1_table_offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a reader needs of a header that passed every check. Offsets are host offsets."""

    version: int
    cluster_bits: int
    active: Layer
    extended_l2: bool
    compression_type: int
    """``ZLIB`` or ``ZSTD``."""
    dirty: bool
    backing_name: str | None
    """What the image calls its backing file, never to be opened; ``None`` where it has none."""
    backing_format: str | None
    """QEMU's name of the backing file's format, where the image says it."""
    data_file: str | None
    """What the image calls the file that its data lies in, perhaps ``""``; ``None`` where that is the image itself."""
    raw_data_file: bool
    bitmaps: bool
    """Whether it keeps bitmaps for incremental backups."""
    snapshot_count: int
    snapshots_offset: int
    refcount_table: tuple[int, int]
    """Host offset and clusters, unchecked: a reader needs no refcounts."""

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l2_bits(self) -> int:
        """An L2 table is one cluster of ``1 << l2_bits`` entries of eight bytes, or of sixteen where extended."""
        return self.cluster_bits - (4 if self.extended_l2 else 3)

    @property
    def subformat(self) -> str:
        """``v2``, ``v3 zlib``, ``v3 zstd, extended L2``."""
        if self.version == 2:
            return "v2"
        parts = ["v3 zstd" if self.compression_type == ZSTD else "v3 zlib"]
        parts += ["extended L2"] if self.extended_l2 else []
        parts += ["external data file"] if self.data_file is not None else []
        return ", ".join(parts)


def read_header(blob: Blob) -> Header:
    """The header of ``blob``, which at most 64 KiB are read for.

    Raises ``CorruptDiskError``, ``UnsupportedFeatureError`` or ``UnsafeDiskError``. Dirty images are read: only their
    refcounts may be stale.
    """
    head = blob.read_at(0, max(min(blob.size, MAX_QCOW2_HEADER), _V2.size))
    fields = _Fields._make(_V2.unpack_from(head))
    _check_fields(blob, fields)
    features = _read_features(blob, head, 1 << fields.cluster_bits) if fields.version == 3 else _Features()
    extensions, backing_name = _read_names(blob, head, fields, features)
    if features.raw_data_file and (backing_name is not None or not features.data_file):
        raise corrupt(blob, "it claims a raw data file, which goes with no backing file and with a data file only")
    l2_bits = fields.cluster_bits - (4 if features.extended_l2 else 3)
    return Header(
        version=fields.version,
        cluster_bits=fields.cluster_bits,
        active=check_layer(
            blob, fields.size, fields.l1_size, fields.l1_table_offset, cluster_bits=fields.cluster_bits, l2_bits=l2_bits
        ),
        extended_l2=features.extended_l2,
        compression_type=features.compression_type,
        dirty=features.dirty,
        backing_name=backing_name,
        backing_format=extensions.backing_format if backing_name is not None else None,
        data_file=(extensions.data_file or "") if features.data_file else None,
        raw_data_file=features.raw_data_file,
        bitmaps=features.bitmaps,
        snapshot_count=fields.nb_snapshots,
        snapshots_offset=fields.snapshots_offset,
        refcount_table=(fields.refcount_table_offset, fields.refcount_table_clusters),
    )


def make_header(
    size: int,
    cluster_bits: int,
    l1_size: int,
    l1_table_offset: int,
    refcount_table: tuple[int, int],
    compression_type: int = ZLIB,
) -> bytes:
    """A version 3 header without features but zstd's; the zeros that follow it in its cluster end the extensions.

    ``refcount_table`` is its host offset and its length in clusters.
    """
    fields = _Fields(MAGIC, 3, 0, 0, cluster_bits, size, 0, l1_size, l1_table_offset, *refcount_table, 0, 0)
    incompatible = _COMPRESSION_TYPE if compression_type else 0
    third = _V3.pack(incompatible, 0, 0, _REFCOUNT_ORDER, _WRITTEN_LENGTH) + bytes([compression_type])
    return (_V2.pack(*fields) + third).ljust(_WRITTEN_LENGTH, b"\0")


def check_layer(blob: Blob, size: int, l1_size: int, l1_table_offset: int, *, cluster_bits: int, l2_bits: int) -> Layer:
    """A claim about an L1 table as a ``Layer``: all entries that ``size`` needs are there.

    Longer tables are left over from a larger disk. Raises ``CorruptDiskError``, ``UnsafeDiskError``.
    """
    if size > MAX_DISK_SIZE:
        raise UnsafeDiskError(
            f"{quote(blob.name)}: qcow2 with a virtual size of {size:,} bytes; at most "
            f"{format_size(MAX_DISK_SIZE)} are read. If the disk is real, copy its content to a smaller one.",
            size=size,
        )
    if l1_size > MAX_QCOW2_L1:
        raise UnsafeDiskError(
            f"{quote(blob.name)}: qcow2 whose L1 table has {l1_size:,} entries; at most {MAX_QCOW2_L1:,} are "
            "read. The file is corrupt: export it again."
        )
    size = round_up(size, SECTOR)
    needed = -(-size // (1 << (cluster_bits + l2_bits)))
    if l1_size < needed:
        raise corrupt(blob, f"its L1 table has {l1_size:,} entries, but {format_size(size)} need {needed:,}")
    if needed and (l1_table_offset % (1 << cluster_bits) or l1_table_offset == 0):
        raise corrupt(blob, f"its L1 table cannot begin at host offset {l1_table_offset:#x}")
    if needed and l1_table_offset + needed * 8 > blob.size:
        raise corrupt(
            blob,
            f"its L1 table, {needed:,} entries at host offset {l1_table_offset:#x}, goes past the end of the file "
            f"({blob.size:,} bytes)",
        )
    return Layer(size, needed, l1_table_offset)


def _check_fields(blob: Blob, fields: _Fields) -> None:
    if fields.magic != MAGIC:
        raise CorruptDiskError(f"{quote(blob.name)} is not qcow2: it does not begin with QFI and 0xFB.")
    if fields.version not in (2, 3):
        raise _unsupported(blob, f"version {fields.version:,} (2 and 3 are read)")
    if fields.crypt_method:
        raise _unsupported(blob, f"encryption (method {fields.crypt_method:,})")
    if not _MIN_CLUSTER_BITS <= fields.cluster_bits <= _MAX_CLUSTER_BITS:
        raise corrupt(
            blob,
            f"cluster_bits is {fields.cluster_bits:,}, but {_MIN_CLUSTER_BITS} to {_MAX_CLUSTER_BITS} exist",
        )
    if fields.nb_snapshots > MAX_QCOW2_SNAPSHOTS:
        raise corrupt(blob, f"it claims {fields.nb_snapshots:,} internal snapshots; {MAX_QCOW2_SNAPSHOTS:,} can be")


def _read_features(blob: Blob, head: bytes, cluster_size: int) -> _Features:
    if len(head) < _V3_LENGTH:
        raise corrupt(blob, f"its header ends after {len(head):,} bytes of {_V3_LENGTH:,}")
    incompatible, _, autoclear, refcount_order, length = _V3.unpack_from(head, _V2.size)
    if unknown := incompatible & ~_KNOWN_INCOMPATIBLE:
        raise _unsupported(blob, f"unknown incompatible features {unknown:#x}")
    if incompatible & _CORRUPT:
        raise CorruptDiskError(
            f"{quote(blob.name)}: QEMU has marked this qcow2 image as corrupt. "
            "Repair a copy of it, qemu-img check -r all COPY, or export it again."
        )
    if incompatible & _EXTENDED_L2 and cluster_size < 1 << _MIN_EXTENDED_BITS:
        raise corrupt(blob, f"it has extended L2 entries with clusters of {cluster_size:,} bytes; 16 KiB is the least")
    # A longer header than any known one has fields that may be skipped; those that may not have a feature bit.
    if length < _V3_LENGTH or length % 8 or length > min(cluster_size, len(head)):
        raise corrupt(blob, f"header_length is {length:,}; at least {_V3_LENGTH}, a multiple of 8, must be")
    if refcount_order > 6:
        raise corrupt(blob, f"refcount_order is {refcount_order:,}, but at most 6 can be")
    compression_type = head[_V3_LENGTH] if length > _V3_LENGTH else ZLIB
    if bool(compression_type) != bool(incompatible & _COMPRESSION_TYPE):
        raise corrupt(blob, f"compression type {compression_type} does not go with its incompatible feature bit")
    if compression_type not in (ZLIB, ZSTD):
        raise _unsupported(blob, f"compression {compression_type}")
    return _Features(
        length=length,
        dirty=bool(incompatible & _DIRTY),
        data_file=bool(incompatible & _DATA_FILE),
        raw_data_file=bool(autoclear & _RAW_DATA_FILE),
        bitmaps=bool(autoclear & _BITMAPS),
        compression_type=compression_type,
        extended_l2=bool(incompatible & _EXTENDED_L2),
    )


def _read_names(blob: Blob, head: bytes, fields: _Fields, features: _Features) -> tuple[Extensions, str | None]:
    """The header extensions, and the backing file's name, which stands behind them in the first cluster."""
    start, length = fields.backing_file_offset, fields.backing_file_size
    end = min(1 << fields.cluster_bits, len(head))
    if not start and not length:
        return read_extensions(blob, head[:end], features.length), None
    if length > _MAX_BACKING_NAME or start < features.length or start + length > end:
        raise corrupt(blob, f"the name of its backing file, {length:,} bytes, cannot stand at host offset {start:#x}")
    extensions = read_extensions(blob, head[:start], features.length)
    return extensions, head[start : start + length].decode("utf-8", "replace")


def corrupt(blob: Blob, what: str) -> CorruptDiskError:
    """The error for a qcow2 in which ``what`` is wrong."""
    return CorruptDiskError(f"{quote(blob.name)}: damaged qcow2: {what}. Export or upload it again.")


def _unsupported(blob: Blob, what: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(
        f"{quote(blob.name)}: qcow2 with {what} is not supported. "
        "Convert it where it was made: qemu-img convert -O qcow2 OLD NEW."
    )
