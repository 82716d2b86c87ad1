"""The header of a VHDX: two copies, of which the sound one with the higher number counts. [MS-VHDX], section 2.2.2."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.formats.vhdx.structures import CREATOR, HEADER_SIZE, HEADERS, NO_ID, UNIT, crc32c, has_checksum
from vmferry.limits import MAX_VHDX_LOG
from vmferry.units import format_size

_SIGNATURE = b"head"
_LAYOUT = struct.Struct("<4sIQ16s16s16sHHIQ")


@dataclass(frozen=True, slots=True)
class VhdxHeader:
    """What the current header says, checked."""

    sequence: int
    file_write_id: bytes
    data_write_id: bytes
    """What a child remembers of its parent: it changes with the guest's bytes."""
    log_id: bytes
    log_offset: int
    log_length: int

    @property
    def has_log(self) -> bool:
        """Whether there may be something in the log that is not in the file yet."""
        return self.log_id != NO_ID

    def pack(self) -> bytes:
        """The header's 4 KiB."""
        fields = (_SIGNATURE, 0, self.sequence, self.file_write_id, self.data_write_id, self.log_id)
        data = bytearray(_LAYOUT.pack(*fields, 0, 1, self.log_length, self.log_offset).ljust(HEADER_SIZE, b"\0"))
        data[4:8] = crc32c(data, 4).to_bytes(4, "little")
        return bytes(data)


def read_header(blob: Blob) -> tuple[VhdxHeader, str | None]:
    """The header that counts, and what is odd about the other. Raises ``FormatError``, ``UnsafeDiskError``."""
    if blob.size < UNIT:
        raise CorruptDiskError(f"vhdx: {quote(blob.name)} is cut short: it has {blob.size:,} bytes. Upload it again.")
    copies = [blob.read_at(place, HEADER_SIZE) for place in HEADERS]
    sound = [copy for copy in copies if copy.startswith(_SIGNATURE) and has_checksum(copy)]
    if not sound:
        raise CorruptDiskError(
            f"vhdx: both headers of {quote(blob.name)} are damaged (signature or checksum). Export it again."
        )
    sequences = [_LAYOUT.unpack_from(copy)[2] for copy in sound]
    if len(sound) == 2 and sequences[0] == sequences[1] and sound[0] != sound[1]:
        raise CorruptDiskError(
            f"vhdx: the two headers of {quote(blob.name)} differ, but have one sequence number. Export it again."
        )
    current = sound[sequences.index(max(sequences))]
    warning = None if len(sound) == 2 else "One of the two headers is damaged; the other one counts."
    return _check(blob, current), warning


def read_creator(blob: Blob) -> str | None:
    """Who says to have written the file; a stranger's words."""
    place, length = CREATOR
    text = blob.read_at(place, length).decode("utf-16-le", "replace").partition("\0")[0].strip()
    return text or None


def _check(blob: Blob, data: bytes) -> VhdxHeader:
    _, _, sequence, file_id, data_id, log_id, log_version, version, length, offset = _LAYOUT.unpack_from(data)
    if version != 1 or (log_version and log_id != NO_ID):
        raise UnsupportedFeatureError(
            f"vhdx: {quote(blob.name)} has version {version} of the format (log {log_version}); version 1 (log 0) is "
            "read. Convert it where it was made, to a dynamic VHDX."
        )
    if length > MAX_VHDX_LOG and log_id != NO_ID:  # a log without an id is never read
        raise UnsafeDiskError(
            f"vhdx: the log of {quote(blob.name)} is said to have {format_size(length)}; at most "
            f"{format_size(MAX_VHDX_LOG)} are read. The file is damaged or made to do harm: export it again."
        )
    if length % UNIT or (length and (offset % UNIT or offset < UNIT or offset + length > blob.size)):
        raise CorruptDiskError(
            f"vhdx: the log of {quote(blob.name)}, {length:,} bytes at host offset 0x{offset:x}, does not lie inside "
            "the file at whole MiB. The file is damaged or cut short: export or upload it again."
        )
    if not length and log_id != NO_ID:
        raise CorruptDiskError(f"vhdx: {quote(blob.name)} is said to have a log, but has no room for it. Export again.")
    return VhdxHeader(sequence, file_id, data_id, log_id, offset, length)
