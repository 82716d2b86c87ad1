"""The header of a hosted sparse extent, and the footer that replaces it at the end of a stream."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.formats.vmdk.kinds import HOSTED
from vmferry.limits import MAX_DISK_SIZE
from vmferry.units import KIB, MIB, SECTOR, format_size

TABLE_ENTRIES = 512
"""Entries in a grain table. The header has a field for it; every product writes 512."""

_LAYOUT = struct.Struct("<4sIIQQQQIQQQB4sH")
_MARKER = struct.Struct("<QII")
_MARKER_FOOTER = 3
_AT_END = (1 << 64) - 1
_LINE_ENDS = b"\n \r\n"
_REPLACEMENT = "\ufffd".encode()

FLAG_LINE_ENDS = 1 << 0
FLAG_REDUNDANT = 1 << 1
_FLAG_ZERO_ENTRIES = 1 << 2
FLAG_COMPRESSED = 1 << 16
FLAG_MARKERS = 1 << 17

_MIN_GRAIN_SECTORS = 16
_MAX_GRAIN_SECTORS = 2048
_MAX_DESCRIPTOR_SECTORS = 2048
_MAX_DIRECTORY_ENTRIES = 32 << 20
_FOOTER_SEARCH = (64 * KIB, MIB)
"""How far from the end of the file a footer is looked for: some uploads are padded with zeros."""


@dataclass(frozen=True, slots=True)
class SparseHeader:
    """What the header, or the footer in its place, says; checked. Offsets are in sectors from the file's start."""

    version: int
    flags: int
    capacity_sectors: int
    grain_sectors: int
    descriptor_offset: int
    descriptor_size: int
    redundant_offset: int
    directory_offset: int
    data_end: int
    """Host offset in bytes behind which neither tables nor grains lie: the footer's marker, or the file's end."""
    unclean: bool = False
    """Whether whoever had the disk open for writing never closed it."""

    @property
    def size(self) -> int:
        """The virtual disk's bytes."""
        return self.capacity_sectors * SECTOR

    @property
    def grain_size(self) -> int:
        """Guest bytes in a grain."""
        return self.grain_sectors * SECTOR

    @property
    def grain_count(self) -> int:
        """Grains in the disk; the last one may be short."""
        return -(-self.capacity_sectors // self.grain_sectors)

    @property
    def table_count(self) -> int:
        """Entries in the grain directory."""
        return -(-self.grain_count // TABLE_ENTRIES)

    @property
    def compressed(self) -> bool:
        """Whether grains are zlib streams behind markers."""
        return bool(self.flags & FLAG_COMPRESSED)

    @property
    def lowest_pointer(self) -> int:
        """The smallest table entry that points anywhere: 1 means *reads as zeros* where the flag for it is set."""
        return 2 if self.flags & _FLAG_ZERO_ENTRIES else 1

    @property
    def directory_offsets(self) -> list[int]:
        """Where grain directories are said to lie, best first."""
        redundant = self.redundant_offset if self.flags & FLAG_REDUNDANT else 0
        return [offset for offset in (self.directory_offset, redundant) if offset]


def pack_header(
    *,
    version: int,
    flags: int,
    capacity_sectors: int,
    grain_sectors: int,
    descriptor: tuple[int, int],
    directories: tuple[int, int],
    overhead_sectors: int,
) -> bytes:
    """A header's 512 bytes. ``descriptor`` is offset and size, ``directories`` the redundant one's and the first one's
    offset, all in sectors."""
    packed = _LAYOUT.pack(
        HOSTED,
        version,
        flags,
        capacity_sectors,
        grain_sectors,
        *descriptor,
        TABLE_ENTRIES,
        *directories,
        overhead_sectors,
        0,
        _LINE_ENDS,
        bool(flags & FLAG_COMPRESSED),
    )
    return packed.ljust(SECTOR, b"\0")


def read_header(blob: Blob) -> SparseHeader:
    """The header of ``blob``, or its footer where the header says that the grain directory is at the end.

    Reads 512 bytes, and at most 1 MiB more from the end. Raises ``CorruptDiskError``, ``UnsupportedFeatureError``,
    ``UnsafeDiskError``. Safe from any thread.
    """
    if blob.size < SECTOR:
        raise _cut_short(blob.name, f"its header takes {SECTOR} bytes and the file has {blob.size}")
    header = parse_header(blob.read_at(0, SECTOR), blob)
    if header.directory_offset != _AT_END:
        return header
    return _read_footer(blob, header)


def parse_header(sector: bytes, blob: Blob) -> SparseHeader:
    """The fields in ``sector`` (512 bytes), checked on their own and against the size of ``blob``."""
    (
        _,
        version,
        flags,
        capacity,
        grain,
        descriptor,
        descriptor_size,
        entries,
        redundant,
        directory,
        _,
        unclean,
        ends,
        method,
    ) = _LAYOUT.unpack_from(sector)
    grain_is_sound = not grain & (grain - 1) and _MIN_GRAIN_SECTORS <= grain <= _MAX_GRAIN_SECTORS
    # A grain size of 128 sectors is a byte of 0x80, so a copy that took the file for UTF-8 spoils it without fail.
    if (flags & FLAG_LINE_ENDS and ends != _LINE_ENDS) or (not grain_is_sound and _REPLACEMENT in sector):
        raise CorruptDiskError(
            f"vmdk: {quote(blob.name)} was changed as if it were text while it was copied (its header shows it). "
            "Copy it again in binary mode."
        )
    if not 1 <= version <= 3:
        raise UnsupportedFeatureError(
            f"vmdk: {quote(blob.name)} has version {version} of the sparse header; versions 1 to 3 are read. "
            "Export the disk again as a streamOptimized VMDK."
        )
    if bool(flags & FLAG_COMPRESSED) != bool(flags & FLAG_MARKERS) or method != bool(flags & FLAG_COMPRESSED):
        raise _damaged(
            blob.name,
            f"flags 0x{flags:x} and compression method {method} do not go together",
        )
    if entries != TABLE_ENTRIES:
        raise _damaged(blob.name, f"grain tables are said to have {entries:,} entries instead of {TABLE_ENTRIES}")
    if not grain_is_sound:
        raise _damaged(
            blob.name,
            f"a grain is said to have {grain:,} sectors; a power of two "
            f"from {_MIN_GRAIN_SECTORS} to {_MAX_GRAIN_SECTORS:,} is meant to stand there",
        )
    _check_capacity(capacity, grain, blob.name)
    _check_descriptor_place(descriptor, descriptor_size, blob)
    return SparseHeader(
        version, flags, capacity, grain, descriptor, descriptor_size, redundant, directory, blob.size, bool(unclean)
    )


def _check_capacity(capacity: int, grain: int, name: str) -> None:
    if capacity == 0:
        raise UnsupportedFeatureError(
            f"vmdk: {quote(name)} holds no disk of its own (capacity 0), only a description of one that lies in other "
            "files. Export the disk again as an OVA or as a streamOptimized VMDK."
        )
    size = capacity * SECTOR
    if size > MAX_DISK_SIZE:
        raise UnsafeDiskError(
            f"vmdk: {quote(name)} claims a disk of {size:,} bytes; at most {format_size(MAX_DISK_SIZE)} are accepted. "
            "The file is damaged or made to do harm: export it again."
        )
    entries = -(-capacity // (grain * TABLE_ENTRIES))
    if entries > _MAX_DIRECTORY_ENTRIES:
        raise UnsafeDiskError(
            f"vmdk: {quote(name)} needs a grain directory of {entries:,} entries; at most {_MAX_DIRECTORY_ENTRIES:,} "
            "are accepted. The file is damaged or made to do harm: export it again."
        )


def _check_descriptor_place(offset: int, size: int, blob: Blob) -> None:
    if not offset:
        return
    if size > _MAX_DESCRIPTOR_SECTORS:
        raise UnsafeDiskError(
            f"vmdk: {quote(blob.name)} sets {size:,} sectors aside for its descriptor; at most "
            f"{_MAX_DESCRIPTOR_SECTORS:,} are accepted. The file is damaged or made to do harm: export it again."
        )
    if (offset + size) * SECTOR > blob.size:
        raise _cut_short(
            blob.name,
            f"its descriptor ends at {(offset + size) * SECTOR:,} and the file at {blob.size:,}",
        )


def _read_footer(blob: Blob, header: SparseHeader) -> SparseHeader:
    """The footer of a stream: FOOTER marker, copy of the header, EOS marker (a sector of zeros), maybe more zeros.

    Nothing but zeros is passed over on the way back: else a guest could write a footer of its own into its data.
    Bytes behind the last whole sector are not looked at; qemu-img counts them in and so loses the footer.
    """
    end = blob.size // SECTOR * SECTOR
    for window in _FOOTER_SEARCH:
        start = max(SECTOR, end - window)
        tail = blob.read_at(start, max(0, end - start)).rstrip(b"\0")
        if tail:
            break
    else:
        raise _cut_short(blob.name, "the stream has no footer, only zeros, at its end")
    place = (len(tail) - 1) // SECTOR * SECTOR
    footer_end = start + place + SECTOR
    marker = tail[place - SECTOR : place] if place >= SECTOR else b""
    if not marker or not tail.startswith(HOSTED, place) or _MARKER.unpack_from(marker)[1:] != (0, _MARKER_FOOTER):
        raise _cut_short(blob.name, "the stream has no footer at its end")
    if footer_end + SECTOR > end:
        raise _cut_short(blob.name, "the stream has no end marker behind its footer")
    footer = parse_header(tail[place:].ljust(SECTOR, b"\0"), blob)
    if _identity(footer) != _identity(header) or footer.directory_offset == _AT_END:
        raise _damaged(blob.name, "the footer does not agree with the header")
    return replace(
        footer,
        descriptor_offset=header.descriptor_offset,
        descriptor_size=header.descriptor_size,
        data_end=footer_end - 2 * SECTOR,
    )


def _identity(header: SparseHeader) -> tuple[int, int, int, bool]:
    return header.version, header.capacity_sectors, header.grain_sectors, header.compressed


def _cut_short(name: str, what: str) -> CorruptDiskError:
    return CorruptDiskError(f"vmdk: {quote(name)} is cut short: {what}. Export or upload it again.")


def _damaged(name: str, what: str) -> CorruptDiskError:
    return CorruptDiskError(f"vmdk: {quote(name)}: {what}. The file is damaged: export it again.")
