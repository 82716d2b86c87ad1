"""The members of a tar, found in place: nothing is unpacked, no path is ever made of a name.

Sources: POSIX.1-2008, *pax* (ustar and pax formats); GNU tar manual (base-256 numbers, long names). V7 headers, which
lack the "ustar" magic, are taken when their checksum is right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vmferry.blob import Blob, SliceBlob
from vmferry.errors import BlobNotFoundError, CorruptDiskError, UnsafeDiskError, quote
from vmferry.limits import MAX_TAR_EXTENSION, MAX_TAR_EXTENSIONS, MAX_TAR_HEADERS, MAX_TAR_MEMBERS
from vmferry.units import KIB, format_size, round_up

BLOCK = 512
_READ_AHEAD = 64 * KIB

_REGULAR = (b"0", b"\0", b"7")
_PAX = (b"x", b"X")
_LONG_NAME = b"L"
_PASSED_OVER = (b"g", b"K", b"V")
"""Global headers, long link names, volume labels: nothing that a plain file needs."""
_DIRECTORY = b"5"
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"S": "a sparse file",
    b"M": "a piece of a file from another volume",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: ``size`` bytes from ``offset`` of the tar."""

    name: str
    offset: int
    size: int


def is_tar(blob: Blob) -> bool:
    """Whether ``blob`` begins with a tar header whose checksum is right."""
    return blob.size >= BLOCK and _checksum_is_right(blob.read_at(0, BLOCK))


def read_members(blob: Blob) -> list[Member]:
    """The regular files of the tar ``blob``, in order; a read of 64 KiB for each run of small members.

    Names are UTF-8, or Latin-1 where they are not. Directories and AppleDouble files (``._name``) are left out.
    Raises ``CorruptDiskError`` for damaged headers and members that end behind the file, ``UnsafeDiskError`` for links,
    devices, sparse members, unsafe or repeated names, and more than 10,000 members.
    """
    members: list[Member] = []
    names: set[str] = set()
    walk = TarWalk(blob)
    while (member := walk.next()) is not None:
        if member.name.rpartition("/")[2].startswith("._"):
            continue
        same = unicodedata.normalize("NFC", member.name)
        if same in names:
            raise UnsafeDiskError(f"{quote(blob.name)} has two members called {quote(member.name)}: pack it again.")
        if len(members) >= MAX_TAR_MEMBERS:
            raise UnsafeDiskError(f"{quote(blob.name)} has more than {MAX_TAR_MEMBERS:,} members; it is no appliance.")
        names.add(same)
        members.append(member)
    return members


@dataclass(slots=True)
class _Extension:
    """What extension headers say of the member that follows them."""

    path: str | None = None
    size: int | None = None
    sparse: bool = False

    def clear(self) -> None:
        self.path, self.size, self.sparse = None, None, False


class TarWalk:
    """The way from header to header of a tar. For one thread.

    ``offset`` is where the next header is looked for; whoever knows of a shorter way may set it.
    """

    def __init__(self, blob: Blob, max_headers: int = MAX_TAR_HEADERS, read_ahead: int = _READ_AHEAD) -> None:
        self.offset = 0
        self._blob = blob
        self._reader = _Reader(blob, read_ahead)
        self._headers_left = max_headers
        self._max_headers = max_headers

    def next(self) -> Member | None:
        """The next regular file, or ``None`` at the first zero block or the end: writers leave the end blocks out.

        Raises as ``read_members`` does, and ``UnsafeDiskError`` over ``max_headers``.
        """
        extension = _Extension()
        while self._headers_left:
            self._headers_left -= 1
            if self.offset + BLOCK > self._blob.size:
                return None
            header = self._reader.read(self.offset, BLOCK)
            if not any(header):
                return None
            found = self._step(header, extension)
            if found is not None:
                return found
        raise UnsafeDiskError(
            f"{quote(self._blob.name)} has more than {self._max_headers:,} tar headers; it is no appliance."
        )

    def header(self, offset: int) -> bytes | None:
        """The block at ``offset``, if it is a header whose checksum is right."""
        if offset + BLOCK > self._blob.size:
            return None
        header = self._reader.read(offset, BLOCK)
        return header if _checksum_is_right(header) else None

    def _step(self, header: bytes, extension: _Extension) -> Member | None:
        """Go over one header and what belongs to it; the file, if it is one's."""
        blob, offset = self._blob, self.offset
        if not _checksum_is_right(header):
            raise _damaged(blob, offset, "its checksum is wrong")
        kind, size = header[156:157], _number(header[124:136], blob, offset)
        start = offset + BLOCK
        member = None
        if kind in _PAX or kind == _LONG_NAME:
            _read_extension(extension, kind, self._reader.read_extension(start, size), blob, offset)
        elif kind in _PASSED_OVER:
            _check_end(blob, "an extension header", start + size)
        else:
            member = _member(header, kind, start, size, extension)
            size = member.size
            if kind == _DIRECTORY or (kind == b"\0" and member.name.endswith("/")):
                member = None
            else:
                member = _checked(blob, member, kind, extension)
            extension.clear()
        self.offset = start + round_up(size, BLOCK)
        return member


class TarFolder:
    """A tar as a ``Folder``: its members, read where they lie. Any number of threads may ask at once.

    Raises as ``read_members`` does. Closing the blobs that it gives leaves ``blob`` open: that one's owner closes it.
    """

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._members = {member.name: member for member in read_members(blob)}

    @property
    def name(self) -> str:
        return self._blob.name

    def names(self) -> Sequence[str]:
        return sorted(self._members)

    def open(self, name: str) -> Blob:
        member = self._members.get(name)
        if member is None:
            raise BlobNotFoundError(f"{quote(self.name)} holds no file {quote(name)}.")
        return SliceBlob(self._blob, member.offset, member.size, f"{self.name}:{name}")


class _Reader:
    """Reads with some read-ahead: small members, one behind another, cost one read."""

    def __init__(self, blob: Blob, ahead: int) -> None:
        self._blob = blob
        self._ahead = ahead
        self._start = 0
        self._window = b""
        self._extensions = 0

    def read(self, offset: int, length: int) -> bytes:
        if not self._start <= offset <= self._start + len(self._window) - length:
            ahead = min(self._ahead, self._blob.size - offset)
            self._window = self._blob.read_at(offset, max(ahead, length))
            self._start = offset
        return self._window[offset - self._start : offset - self._start + length]

    def read_extension(self, offset: int, size: int) -> bytes:
        self._extensions += size
        if size > MAX_TAR_EXTENSION or self._extensions > MAX_TAR_EXTENSIONS:
            raise UnsafeDiskError(
                f"{quote(self._blob.name)}: the tar extension header at offset {offset - BLOCK:,} claims "
                f"{format_size(size)}; at most {format_size(MAX_TAR_EXTENSION)} is read of each, and "
                f"{format_size(MAX_TAR_EXTENSIONS)} in all. Pack it again."
            )
        _check_end(self._blob, "an extension header", offset + size)
        return self.read(offset, size)


def _checksum_is_right(header: bytes) -> bool:
    """The sum of all bytes, the field itself taken as blanks; old writers summed signed bytes."""
    digits = header[148:156].lstrip(b" ").partition(b"\0")[0].rstrip(b" ")
    if not re.fullmatch(rb"[0-7]{1,8}", digits):
        return False
    said, unsigned = int(digits, 8), sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if said == unsigned:
        return True
    rest = header[:148] + header[156:]
    return said == unsigned - 256 * sum(byte > 127 for byte in rest)


def _number(field: bytes, blob: Blob, offset: int) -> int:
    """Octal digits, or GNU's base-256 when the first bit is set."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise _damaged(blob, offset, "its size is negative or beyond all bounds")
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise _damaged(blob, offset, "its size cannot be read")
    return int(digits or b"0", 8)


def _decode(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _read_extension(extension: _Extension, kind: bytes, content: bytes, blob: Blob, offset: int) -> None:
    if kind == _LONG_NAME:
        extension.path = extension.path or _decode(content.partition(b"\0")[0])
        return
    for key, value in _pax_records(content, blob, offset):
        if key == b"path":
            extension.path = _decode(value) or None
        elif key == b"size" and value:
            if not re.fullmatch(rb"[0-9]{1,19}", value):
                raise _damaged(blob, offset, "the size in its pax header cannot be read")
            extension.size = int(value)
        elif key.startswith(b"GNU.sparse."):
            extension.sparse = True


def _pax_records(content: bytes, blob: Blob, offset: int) -> Iterator[tuple[bytes, bytes]]:
    """Records of ``LENGTH KEY=VALUE\\n``; the length counts itself."""
    position = 0
    while position < len(content) and content[position]:
        blank = content.find(b" ", position, position + 9)
        digits = content[position : max(blank, position)]
        length = int(digits) if re.fullmatch(rb"[0-9]+", digits) else 0
        record = content[blank + 1 : position + length]
        if len(record) != length - len(digits) - 1 or not record.endswith(b"\n") or b"=" not in record:
            raise _damaged(blob, offset, "its pax records cannot be read")
        key, _, value = record[:-1].partition(b"=")
        yield key, value
        position += length


def _member(header: bytes, kind: bytes, start: int, size: int, extension: _Extension) -> Member:
    """What a header and its extensions say. No data follows a directory, whatever its size."""
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    path = extension.path or _decode(prefix + b"/" + name if prefix else name)
    stored = size if extension.size is None else extension.size
    return Member(path, start, 0 if kind == _DIRECTORY else stored)


def _checked(blob: Blob, member: Member, kind: bytes, extension: _Extension) -> Member:
    """``member`` as it may be used. Raises for what is no plain file inside the tar."""
    if kind not in _REGULAR or extension.sparse:
        what = "a sparse file" if extension.sparse else _REFUSED.get(kind, f"of the unknown kind {kind!r}")
        raise UnsafeDiskError(
            f"{quote(blob.name)}: its member {quote(member.name)} is {what}; pack it again with plain files only."
        )
    _check_end(blob, f"its member {quote(member.name)}", member.offset + member.size)
    parts = [part for part in member.name.split("/") if part != "."]
    plain = "/".join(parts)
    if any(part in ("", "..") for part in parts) or re.search(r"[\0\\]|^[A-Za-z]:", plain) or not plain:
        raise UnsafeDiskError(
            f"{quote(blob.name)} has a member with the unsafe name {quote(member.name)}: "
            "pack it again with plain names."
        )
    return Member(plain, member.offset, member.size)


def _check_end(blob: Blob, what: str, end: int) -> None:
    if end > blob.size:
        raise CorruptDiskError(
            f"{quote(blob.name)} is cut short: {what} ends at {end:,}, the file at {blob.size:,}; "
            f"{end - blob.size:,} bytes are missing. Export or upload it again."
        )


def _damaged(blob: Blob, offset: int, what: str) -> CorruptDiskError:
    return CorruptDiskError(
        f"{quote(blob.name)}: damaged tar header at offset {offset:,}: {what}. Export or upload it again."
    )
