"""The names in an initramfs: archives one after the other, each plain or packed, with zeros between them.

Sources: the Linux kernel's Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c; cpio(5).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from vmferry.errors import GuestError
from vmferry.guest.linux.compression import PackedInput, ReadAt, Unpack, find_compression, unpack
from vmferry.limits import (
    MAX_GUEST_PATH,
    MAX_INITRAMFS_NAMES,
    MAX_INITRAMFS_READ,
    MAX_INITRAMFS_SECONDS,
    MAX_INITRAMFS_UNPACKED,
)
from vmferry.units import KIB, format_size, round_up

_HEADER = re.compile(rb"07070[12][0-9a-fA-F]{104}")
_HEADER_SIZE = 110
_FILE_SIZE, _NAME_SIZE = slice(54, 62), slice(94, 102)
_TRAILER = b"TRAILER!!!"
_READ = 16 * KIB
"""Bytes that are read of a plain archive at once: the contents of longer files are jumped over."""
_LONGEST_MAGIC = 9


@dataclass(slots=True)
class Initramfs:
    """What is in it."""

    names: list[str] = field(default_factory=list)
    """As its archives have them, without ``./`` and ``/`` in front; what is no UTF-8 with replacement characters."""
    problem: str | None = None
    """Why the rest was not read: half a sentence that begins with ``it``."""
    partly: bool = False
    """Whether it is sound as far as it was read, and the problem a limit."""
    bytes_read: int = 0


def read_initramfs(
    read_at: ReadAt, size: int, *, limit: int = MAX_INITRAMFS_READ, seconds: float = MAX_INITRAMFS_SECONDS
) -> Initramfs:
    """List the names in ``size`` bytes that ``read_at`` gives: the whole file, or the part of a unified kernel image.

    At most ``limit`` bytes are read, ``MAX_INITRAMFS_UNPACKED`` unpacked and ``MAX_INITRAMFS_NAMES`` names
    kept, for at most ``seconds`` of this process; memory stays below 64 MiB and a window of 72 MiB. What is beyond, or
    damaged, is the answer's ``problem``.
    """
    found = Initramfs()
    try:
        _read_segments(_File(read_at, size, found, limit, time.process_time() + seconds), found)
    except GuestError as error:
        found.problem = str(error)
        found.partly = isinstance(error, _LimitError)
    return found


class _LimitError(GuestError):
    """As much was read as may be."""


class _File:
    """The file itself as a source: read at any offset, a window at a time."""

    def __init__(self, read_at: ReadAt, size: int, found: Initramfs, limit: int, deadline: float) -> None:
        self._read_at = read_at
        self.size = size
        self.deadline = deadline
        self._limit = limit
        self._found = found
        self._start = 0
        self._window = b""

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes; fewer only at the end."""
        if not self._start <= offset <= offset + length <= self._start + len(self._window):
            self._start, self._window = offset, self.read_past(offset, max(length, _READ))
        return self._window[offset - self._start : offset - self._start + length]

    def read_past(self, offset: int, length: int) -> bytes:
        """As ``read``, not by the window."""
        _check_time(self.deadline)
        length = min(length, self.size - offset)
        if self._found.bytes_read + length > self._limit:
            raise _LimitError(
                f"only {format_size(self._found.bytes_read)} of its {format_size(self.size)} were looked at"
            )
        data = self._read_at(offset, length) if length > 0 else b""
        self._found.bytes_read += len(data)
        return data


class _Stream:
    """An unpacked stream as a source: offsets never go back."""

    def __init__(self, pieces: Iterator[bytes], deadline: float) -> None:
        self._pieces = pieces
        self._start = 0
        self._held = b""
        self._unpacked = 0
        self._deadline = deadline

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes; fewer only at the end."""
        while offset + length > self._start + len(self._held):
            kept = self._held[offset - self._start :] if offset > self._start else self._held
            self._start += len(self._held) - len(kept)
            piece = next(self._pieces, None)
            if piece is None:
                self._held = kept
                break
            self._unpacked += len(piece)
            _check_time(self._deadline)
            if self._unpacked > MAX_INITRAMFS_UNPACKED:
                raise GuestError(f"it unpacks to more than {format_size(MAX_INITRAMFS_UNPACKED)}")
            self._held = kept + piece
        begin = max(offset - self._start, 0)
        return self._held[begin : begin + length]


def _check_time(deadline: float) -> None:
    if time.process_time() > deadline:
        raise _LimitError(f"this and others before take more than {MAX_INITRAMFS_SECONDS} s")


def _read_segments(file: _File, found: Initramfs) -> None:
    at = _skip_zeros(file, 0)
    while head := file.read(at, _LONGEST_MAGIC):
        read = _read_archives if head.startswith(b"0707") else _read_packed
        at = _skip_zeros(file, read(file, at, found))


def _read_packed(file: _File, at: int, found: Initramfs) -> int:
    """Read one packed segment; answers where it ends."""
    compression = find_compression(file.read(at, _LONGEST_MAGIC))
    if compression is None:
        raise GuestError(f"it has neither an archive nor packed data that we know at offset {at:,}")
    packed = PackedInput(file.read_past, at)
    stream = _Stream(_unpack_all(compression, packed), file.deadline)
    if stream.read(_read_archives(stream, _skip_zeros(stream, 0), found), 1):
        raise GuestError(f"what it has packed at offset {at:,} is no archive")
    return packed.position


def _unpack_all(compression: Unpack, packed: PackedInput) -> Iterator[bytes]:
    """Unpack a stream, and those of the same kind right behind it, which may go on with what the first began."""
    head = b""
    while not head or find_compression(head) is compression:
        yield from unpack(compression, packed)
        head = packed.take(_LONGEST_MAGIC)
        packed.give_back(len(head))
        if not head:
            return


def _read_archives(source: _File | _Stream, at: int, found: Initramfs) -> int:
    """Read what archives there are from ``at`` on; answers the offset of what is none."""
    while source.read(at, 4) == b"0707":
        at = _skip_zeros(source, _read_archive(source, at, found))
    return at


def _read_archive(source: _File | _Stream, start: int, found: Initramfs) -> int:
    """Read one archive up to its end; answers where that is. Everything in it is padded to four bytes."""
    at = start
    while True:
        header = source.read(at, _HEADER_SIZE)
        if len(header) < _HEADER_SIZE:
            raise GuestError(f"it is cut short behind {len(found.names):,} names")
        if not _HEADER.fullmatch(header):
            raise GuestError(f"it is damaged at offset {at:,} of an archive, behind {len(found.names):,} names")
        file_size, name_size = int(header[_FILE_SIZE], 16), int(header[_NAME_SIZE], 16)
        if name_size > MAX_GUEST_PATH:
            raise GuestError(f"it has a name of {name_size:,} bytes, and Linux takes {MAX_GUEST_PATH:,}")
        name = source.read(at + _HEADER_SIZE, name_size)
        if len(name) < name_size:
            raise GuestError(f"it is cut short behind {len(found.names):,} names")
        at = start + round_up(at - start + _HEADER_SIZE + name_size, 4)
        at = start + round_up(at - start + file_size, 4)
        if (name := name.rstrip(b"\0")) == _TRAILER:
            return at
        _add(name, found)


def _add(name: bytes, found: Initramfs) -> None:
    if len(found.names) == MAX_INITRAMFS_NAMES:
        raise GuestError(f"it has more than {MAX_INITRAMFS_NAMES:,} names")
    found.names.append(name.decode("utf-8", "replace").removeprefix(".").lstrip("/"))


def _skip_zeros(source: _File | _Stream, at: int) -> int:
    """The offset of the first byte from ``at`` on that is not zero, or of the end."""
    while data := source.read(at, _READ):
        rest = data.lstrip(b"\0")
        at += len(data) - len(rest)
        if rest:
            break
    return at
