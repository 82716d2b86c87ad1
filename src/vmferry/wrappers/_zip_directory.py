"""The central directory of a zip file: what is in it, and where.

Sources: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.limits import MAX_FOLDER_FILES, MAX_ZIP_DIRECTORY
from vmferry.units import format_size

_END = struct.Struct("<4s4H2IH")
_END_MAGIC = b"PK\5\6"
_LOCATOR = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_FULL = 0xFFFFFFFF
_ZIP_64 = 1
"""The extra field that holds what does not fit in 32 bits."""
_ENCRYPTED, _STRONG, _MASKED = 0x0001, 0x0040, 0x2000


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One file of a zip file."""

    name: str
    method: int
    checksum: int
    packed: int
    size: int
    header: int
    """Offset of its local header."""
    encrypted: bool


def read_members(blob: Blob) -> list[ZipMember]:
    """The files in the zip file, folders left out. Raises ``CorruptDiskError``, ``UnsafeDiskError``."""
    start, length, count = _find_directory(blob)
    if length > MAX_ZIP_DIRECTORY or count > MAX_FOLDER_FILES:
        raise UnsafeDiskError(
            f"{quote(blob.name)} lists {count:,} files in {format_size(length)}: unpack it first (unzip)."
        )
    directory = blob.read_at(start, length)
    members = []
    position = 0
    for _ in range(count):
        if position + _ENTRY.size > length:
            raise corrupt(blob, start + position)
        member, position = _read_entry(blob, directory, position)
        if not member.name.endswith("/"):
            members.append(member)
    return members


def find_data(blob: Blob, member: ZipMember) -> int:
    """Offset of the member's data. Raises ``CorruptDiskError`` unless all of it lies in the file."""
    header = blob.read_at(member.header, _LOCAL.size)
    magic, _, flags, method, _, _, _, _, _, name, extra = _LOCAL.unpack(header)
    start = member.header + _LOCAL.size + name + extra
    if magic != b"PK\3\4" or method != member.method or start + member.packed > blob.size:
        raise corrupt(blob, member.header)
    if flags & (_ENCRYPTED | _STRONG | _MASKED):
        raise UnsupportedFeatureError(f"{quote(blob.name)} is encrypted: unpack it first (7z x).")
    return int(start)


def corrupt(blob: Blob, place: int) -> CorruptDiskError:
    """The error about a zip file whose structure is broken at ``place``."""
    return CorruptDiskError(
        f"{quote(blob.name)}: the zip structure at offset {place:,} is not sound. "
        "It is cut short or damaged: pack or upload it again."
    )


def _find_directory(blob: Blob) -> tuple[int, int, int]:
    """Where the central directory begins, its length, and how many entries it has."""
    tail_from = max(0, blob.size - _END.size - 0xFFFF)
    tail = blob.read_at(tail_from, blob.size - tail_from)
    place = tail.rfind(_END_MAGIC, 0, max(len(tail) - _END.size + 4, 0))
    if place < 0:
        raise CorruptDiskError(
            f"{quote(blob.name)} has no zip directory at its end. It is cut short: pack or upload it again."
        )
    _, disk, directory_disk, _, count, length, start, _ = _END.unpack_from(tail, place)
    end = tail_from + place
    if disk not in (0, 0xFFFF) or directory_disk not in (0, 0xFFFF):
        raise UnsupportedFeatureError(f"{quote(blob.name)} is a part of a split zip file: unpack it first (7z x).")
    if count == 0xFFFF or _FULL in (length, start):
        end, count, length, start = _read_end_64(blob, end)
    if start + length > end:
        raise corrupt(blob, end)
    return start, length, count


def _read_end_64(blob: Blob, end: int) -> tuple[int, int, int, int]:
    """Where the 64-bit end record stands, and its count, length and start."""
    if end < _LOCATOR.size:
        raise corrupt(blob, end)
    magic, _, place, _ = _LOCATOR.unpack(blob.read_at(end - _LOCATOR.size, _LOCATOR.size))
    if magic != b"PK\6\7" or place + _END_64.size > end:
        raise corrupt(blob, end - _LOCATOR.size)
    magic, *_, count, length, start = _END_64.unpack(blob.read_at(place, _END_64.size))
    if magic != b"PK\6\6":
        raise corrupt(blob, place)
    return place, count, length, start


def _read_entry(blob: Blob, directory: bytes, position: int) -> tuple[ZipMember, int]:
    """The entry at ``position`` of the directory and the place behind it."""
    entry = _ENTRY.unpack_from(directory, position)
    magic, _, _, flags, method, _, _, checksum, packed, size, name, extra, comment, _, _, _, header = entry
    body = position + _ENTRY.size
    behind = body + name + extra + comment
    if magic != b"PK\1\2" or behind > len(directory):
        raise corrupt(blob, position)
    numbers = [size, packed, header]
    wide = _wide_numbers(directory[body + name : body + name + extra])
    for place, number in enumerate(numbers):
        if number == _FULL and wide:
            numbers[place] = wide.pop(0)
    size, packed, header = numbers
    text = directory[body : body + name].decode("utf-8" if flags & 0x0800 else "cp437", "replace")
    encrypted = bool(flags & (_ENCRYPTED | _STRONG | _MASKED))
    return ZipMember(text, method, checksum, packed, size, header, encrypted), behind


def _wide_numbers(extra: bytes) -> list[int]:
    """The 64-bit numbers of an entry, in the order in which its own fields want them."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == _ZIP_64 and position + 4 + length <= len(extra):
            return list(struct.unpack_from(f"<{min(length // 8, 3)}Q", extra, position + 4))
        position += 4 + length
    return []
