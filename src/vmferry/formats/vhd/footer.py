"""The footer: 512 bytes at the end of every VHD, and their copy at the start of all but the fixed ones.

Source: Microsoft, *Virtual Hard Disk Image Format Specification* 1.0, "Hard Disk Footer Format" and "Appendix: CHS
Calculation". Everything is big endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.formats.vhd import COOKIE, FOOTER_LENGTH
from vmferry.limits import MAX_DISK_SIZE
from vmferry.units import SECTOR, format_size, round_up

OLD_LENGTH = 511
"""Of the footers that Virtual PC wrote before 2004; the last byte is one of the reserved ones."""
VERSION = 0x0001_0000
NOWHERE = 0xFFFF_FFFF_FFFF_FFFF
"""The offset of what is not there."""
FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4

_FORM = struct.Struct(">8sIIQI4sI4sQQHBBII16sB")
_CHECKSUM = 64
"""Where the footer's checksum is."""
_FEATURES = 2
_CHS_CREATORS = (b"vpc ", b"qemu")
"""They size their disks by the geometry and round it up first: what lies behind it is slack."""
_MAX_SECTORS = 65535 * 16 * 255


@dataclass(frozen=True, slots=True)
class Footer:
    """What the footer says; sizes in bytes."""

    data_offset: int
    """Host offset of the dynamic header; ``NOWHERE`` in fixed disks."""
    timestamp: int
    """Seconds since 2000-01-01 UTC."""
    creator: bytes
    creator_version: int
    creator_host: bytes
    original_size: int
    current_size: int
    """The disk's size."""
    cylinders: int
    heads: int
    sectors_per_track: int
    disk_type: int
    unique_id: bytes
    saved_state: int = 0
    """Not 0: the machine was suspended when the file was copied."""

    @property
    def disk_size(self) -> int:
        """The disk's size in whole sectors, as the guest sees it."""
        return round_up(self.current_size, SECTOR)

    @property
    def geometry_size(self) -> int:
        """The size that the geometry gives, in bytes."""
        return self.cylinders * self.heads * self.sectors_per_track * SECTOR

    @property
    def written_by(self) -> str:
        """The creator in words: ``win 10.0 (Wi2k)``."""
        name = self.creator.decode("latin-1").strip(" \0")
        host = self.creator_host.decode("latin-1").strip(" \0")
        version = f"{self.creator_version >> 16}.{self.creator_version & 0xFFFF}"
        return f"{name} {version}" + (f" ({host})" if host else "")

    def pack(self) -> bytes:
        """The footer's 512 bytes, with their checksum."""
        start = (COOKIE, _FEATURES, VERSION, self.data_offset, self.timestamp)
        creator = (self.creator, self.creator_version, self.creator_host)
        disk = (self.original_size, self.current_size, self.cylinders, self.heads, self.sectors_per_track)
        fields = (*start, *creator, *disk, self.disk_type)
        data = bytearray(_FORM.pack(*fields, 0, self.unique_id, self.saved_state).ljust(FOOTER_LENGTH, b"\0"))
        struct.pack_into(">I", data, _CHECKSUM, checksum(data, _CHECKSUM))
        return bytes(data)


@dataclass(frozen=True, slots=True)
class FoundFooter:
    """The footer that counts, and what was found on the way to it."""

    footer: Footer
    data_end: int
    """Host offset where the footer at the end begins; the file's length where that one is lost."""
    warnings: tuple[str, ...]


def checksum(data: bytes | bytearray, place: int) -> int:
    """The ones' complement of the sum of the bytes of ``data``, the four at ``place`` taken for zeros."""
    return ~(sum(data) - sum(data[place : place + 4])) & 0xFFFF_FFFF


def geometry(size: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track of a disk of ``size`` bytes, which they may fall short of."""
    sectors = min(size // SECTOR, _MAX_SECTORS)
    if sectors >= 65535 * 16 * 63:
        return sectors // 255 // 16, 16, 255
    per_track = 17
    tracks = sectors // per_track
    heads = max(4, -(-tracks // 1024))
    if tracks >= heads * 1024 or heads > 16:
        per_track, heads = 31, 16
        tracks = sectors // per_track
    if tracks >= heads * 1024:
        per_track, heads = 63, 16
        tracks = sectors // per_track
    return tracks // heads, heads, per_track


def find_tail(blob: Blob) -> tuple[bytes, int]:
    """The footer at the end, 512 bytes of it, and where it begins; ``(b"", blob.size)`` where there is no cookie."""
    for length in (FOOTER_LENGTH, OLD_LENGTH):
        if blob.size >= length:
            data = blob.read_at(blob.size - length, length)
            if data.startswith(COOKIE):
                return data.ljust(FOOTER_LENGTH, b"\0"), blob.size - length
    return b"", blob.size


def ends_in_footer(blob: Blob) -> bool:
    """Whether a footer with a right checksum stands at the end: a cookie alone may be anything of a guest's."""
    tail, _ = find_tail(blob)
    return _fault(tail) is None


def read_footer(blob: Blob) -> FoundFooter:
    """The footer at the end, or else the copy at the start, if that one is sound and the disk is not fixed.

    Raises ``CorruptDiskError`` where neither is sound, and as ``_check`` for what the footer says.
    """
    head = blob.read_at(0, FOOTER_LENGTH) if blob.size >= FOOTER_LENGTH else b""
    tail, start = find_tail(blob)
    tail_fault, head_fault = _fault(tail), _fault(head)
    if tail_fault is None:
        footer = _parse(tail)
        warning = None
        if footer.disk_type != FIXED and (head_fault is not None or _parse(head) != footer):
            warning = (
                f"The copy of the footer at the start of the file {head_fault or 'differs'}; the one at the end counts."
            )
    elif head_fault is None and _parse(head).disk_type != FIXED:
        footer = _parse(head)
        warning = f"The footer at the end of the file {tail_fault}; its copy at the start is sound and was used."
    else:
        raise CorruptDiskError(
            f"vhd: the footer at the end of {quote(blob.name)} {tail_fault}, and there is no sound copy at the start. "
            "The file is damaged or cut short: export or upload it again."
        )
    _check(footer, blob)
    return FoundFooter(footer, start, (*((warning,) if warning else ()), *_remarks(footer)))


def _fault(data: bytes) -> str | None:
    """What speaks against taking ``data`` for a footer, as the end of a sentence."""
    if not data.startswith(COOKIE):
        return "is missing"
    if checksum(data, _CHECKSUM) != int.from_bytes(data[_CHECKSUM : _CHECKSUM + 4], "big"):
        return "has a wrong checksum"
    version = int.from_bytes(data[12:16], "big")
    return None if version >> 16 == VERSION >> 16 else f"is of version {version >> 16}.{version & 0xFFFF}, not 1.0"


def _parse(data: bytes) -> Footer:
    """The fields of a footer without fault."""
    fields = _FORM.unpack_from(data)
    return Footer(*fields[3:14], *fields[15:])  # without cookie, features, version and checksum


def _check(footer: Footer, blob: Blob) -> None:
    """Raise unless the footer describes a disk that is read here."""
    if footer.disk_type not in (FIXED, DYNAMIC, DIFFERENCING):
        raise UnsupportedFeatureError(
            f"vhd: {quote(blob.name)} is of type {footer.disk_type}, which the specification reserves; 2 (fixed), "
            "3 (dynamic) and 4 (differencing) are read. Convert it where it was made."
        )
    if footer.current_size == 0:
        raise CorruptDiskError(f"vhd: {quote(blob.name)} says that its disk has 0 bytes. Export it again.")
    if footer.current_size > MAX_DISK_SIZE:
        raise UnsafeDiskError(
            f"vhd: {quote(blob.name)} claims a disk of {footer.current_size:,} bytes; at most "
            f"{format_size(MAX_DISK_SIZE)} are accepted. The file is corrupt: export it again."
        )


def _remarks(footer: Footer) -> tuple[str, ...]:
    """What is odd, but does no harm."""
    remarks = []
    if footer.creator in _CHS_CREATORS and 0 < footer.geometry_size < footer.current_size:
        remarks.append(
            f"The footer gives two sizes: {footer.current_size:,} bytes, which is read, and a geometry of "
            f"{footer.geometry_size:,} bytes, which programs that go by it see; what lies behind that is slack."
        )
    if footer.saved_state:
        remarks.append(
            "The machine was suspended when this file was written: its file systems may want a repair. "
            "Shut the machine down and export it again if you can."
        )
    return tuple(remarks)
