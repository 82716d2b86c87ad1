"""The members of a tar, found in place: nothing is unpacked, no path is ever made of a name.

Sources: POSIX.1-2008, *pax* (ustar and pax formats); GNU tar manual (base-256 numbers, long names). V7 headers without
the "ustar" magic are taken when their checksum is right.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, FormatError, UnsafeDiskError, quote
from vmferry.units import KIB, MIB, format_size, round_up

BLOCK = 512
MAX_MEMBERS = 10_000
_MAX_EXTENSION = MIB
"""Bytes of a pax header or a long name: a stranger may claim gigabytes."""
_READ_AHEAD = 64 * KIB
_REGULAR = b"0\0007"
_PASSED_OVER = b"5VM"
"""Directories, volume labels and the like: no bytes of a disk are in them."""
_LINKS_AND_DEVICES = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a FIFO"}


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: ``size`` bytes from ``offset`` of the tar."""

    name: str
    offset: int
    size: int


def is_tar(blob: Blob) -> bool:
    """Whether ``blob`` begins with a tar header whose checksum is right."""
    if blob.size < BLOCK:
        return False
    header = blob.read_at(0, BLOCK)
    return any(header) and _checksum_is_right(header)


def read_members(blob: Blob) -> list[Member]:
    """The regular files of the tar ``blob``, in order; a few reads of 64 KiB each.

    Raises ``CorruptDiskError`` for damaged headers and members that end behind the file, ``UnsafeDiskError`` for links,
    devices, sparse members, unsafe or repeated names, and more than 10,000 members.
    """
    members: list[Member] = []
    names: set[str] = set()
    for member in _walk(blob):
        if len(members) >= MAX_MEMBERS:
            raise UnsafeDiskError(f"{quote(blob.name)} has more than {MAX_MEMBERS:,} members; it is no appliance.")
        if member.name.rpartition("/")[2].startswith("._"):  # AppleDouble: what macOS adds of its own
            continue
        same = unicodedata.normalize("NFC", member.name)
        if same in names:
            raise UnsafeDiskError(f"{quote(blob.name)} has two members called {quote(member.name)}: pack it again.")
        names.add(same)
        members.append(member)
    return members


def _walk(blob: Blob) -> Iterator[Member]:
    reader = _Headers(blob)
    offset = 0
    long_name: str | None = None
    pax: dict[str, str] = {}
    while offset + BLOCK <= blob.size:
        header = reader.at(offset)
        if not any(header):
            return
        if not _checksum_is_right(header):
            raise CorruptDiskError(
                f"{quote(blob.name)}: the tar header at offset {offset:,} is damaged: export or upload it again."
            )
        kind = header[156:157]
        size = _number(header[124:136], blob, offset)
        if kind in (b"x", b"L"):
            content = _extension(blob, offset + BLOCK, size)
            if kind == b"L":
                long_name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
            else:
                pax = _read_pax(content, blob, offset)
        elif kind in (b"g", b"K"):
            _extension(blob, offset + BLOCK, size)
        else:
            size = _pax_size(pax, blob, offset) if "size" in pax else size
            name = pax.get("path") or long_name or _name(header)
            if kind in _REGULAR and not (kind == b"\0" and name.endswith("/")):
                _check_member(blob, name, offset + BLOCK, size, pax)
                yield Member(_normal(name, blob), offset + BLOCK, size)
            elif kind not in _PASSED_OVER and kind not in (b"0", b"\0"):
                raise _refused(blob, name, kind)
            long_name, pax = None, {}
        offset += BLOCK + round_up(size, BLOCK)


class _Headers:
    """Reads headers with some read-ahead: small members, one behind another, cost one read."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._start = 0
        self._window = b""

    def at(self, offset: int) -> bytes:
        if not self._start <= offset <= self._start + len(self._window) - BLOCK:
            self._start = offset
            self._window = self._blob.read_at(offset, min(_READ_AHEAD, self._blob.size - offset))
        return self._window[offset - self._start : offset - self._start + BLOCK]


def _checksum_is_right(header: bytes) -> bool:
    """The sum of all bytes, the field itself taken as blanks; old writers summed signed bytes."""
    try:
        stored = int(header[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    rest = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(rest)
    return stored in (unsigned, unsigned - 256 * sum(byte > 127 for byte in rest))


def _number(field: bytes, blob: Blob, offset: int) -> int:
    """Octal digits, or GNU's base-256 when the first bit is set."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise CorruptDiskError(f"{quote(blob.name)}: the tar header at offset {offset:,} has a negative size.")
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError as error:
        raise CorruptDiskError(
            f"{quote(blob.name)}: the tar header at offset {offset:,} has no readable size: export it again."
        ) from error


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "surrogateescape")


def _extension(blob: Blob, offset: int, size: int) -> bytes:
    if size > _MAX_EXTENSION:
        raise UnsafeDiskError(f"{quote(blob.name)}: a tar extension at offset {offset:,} claims {format_size(size)}.")
    return blob.read_at(offset, size)


def _read_pax(content: bytes, blob: Blob, offset: int) -> dict[str, str]:
    """Records of ``LENGTH KEY=VALUE\\n``; the length counts itself."""
    records: dict[str, str] = {}
    position = 0
    while position < len(content) and content[position]:
        blank = content.find(b" ", position, position + 10)
        digits = content[position:blank] if blank > 0 else b""
        length = int(digits) if digits.isdigit() else 0
        record = content[blank + 1 : position + length]
        if length <= blank + 1 - position or not record.endswith(b"\n") or b"=" not in record:
            raise CorruptDiskError(
                f"{quote(blob.name)}: the pax header at offset {offset:,} is damaged: pack it again."
            )
        key, _, value = record[:-1].partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        position += length
    return records


def _pax_size(pax: dict[str, str], blob: Blob, offset: int) -> int:
    text = pax["size"]
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise CorruptDiskError(
            f"{quote(blob.name)}: the member at offset {offset:,} has no readable size: pack it again."
        )
    return int(text)


def _check_member(blob: Blob, name: str, offset: int, size: int, pax: dict[str, str]) -> None:
    if any(key.startswith("GNU.sparse.") for key in pax):
        raise _refused(blob, name, b"S")
    if offset + size > blob.size:
        raise CorruptDiskError(
            f"{quote(blob.name)} is cut short: its member {quote(name)} needs {offset + size - blob.size:,} bytes more "
            "than there are. Export or upload it again."
        )


def _normal(name: str, blob: Blob) -> str:
    """``name`` without a leading ``./``; what could mean a place outside is refused, though no path is made of it."""
    plain = name
    while plain.startswith("./"):
        plain = plain[2:]
    parts = plain.split("/")
    if (
        "\0" in plain
        or "\\" in plain
        or plain.startswith("/")
        or plain[1:2] == ":"
        or any(p in ("", "..") for p in parts)
    ):
        raise UnsafeDiskError(f"{quote(blob.name)} has a member with the unsafe name {quote(name)}: pack it again.")
    return plain


def _refused(blob: Blob, name: str, kind: bytes) -> FormatError | UnsafeDiskError:
    what = _LINKS_AND_DEVICES.get(kind) or ("a sparse file" if kind == b"S" else f"of the unknown kind {quote(kind)}")
    return UnsafeDiskError(f"{quote(blob.name)}: its member {quote(name)} is {what}; pack it with plain files only.")
