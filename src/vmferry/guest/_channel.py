"""What parent and child of a look say to each other over a socket: the child asks for ranges, notes what it reads, and
answers facts; the parent gives bytes or says why not."""

from __future__ import annotations

import json
import socket
import struct
import time
from dataclasses import asdict, dataclass
from typing import Any

from vmferry.errors import CorruptDiskError, GuestError
from vmferry.limits import MAX_LOOK_RANGE
from vmferry.units import format_size

REQUEST = struct.Struct("<cIQI")
"""Of the child: kind, disk, offset, length."""
READ, NOTE, FACTS = b"R", b"N", b"F"
"""Kinds: bytes of a disk; ``length`` bytes follow that name what is read now; ``length`` bytes of JSON follow."""
REPLY = struct.Struct("<BI")
"""Of the parent: whether (``SOUND``) it is what was asked for, or the reason why not; bytes that follow."""
SOUND = 1
MAX_NOTE = 200

_SHARE = 0.8
"""Of the time and bytes allowed. What reads on behind it is refused once: the one large file that took most of it ends
there, and what is small can still be read, up to the last share."""
_LAST_SHARE = 0.95
"""Of the bytes, after which the child asks for no more, and answers what it knows."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one look may take."""

    bytes_read: int
    seconds: float
    cpu_seconds: int
    addresses: int
    memory: int


def receive(channel: socket.socket, length: int) -> bytes:
    """Exactly ``length`` bytes. ``EOFError`` when the other end is gone; ``TimeoutError`` as the socket says."""
    parts = bytearray()
    while len(parts) < length:
        part = channel.recv(min(length - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def send_setup(channel: socket.socket, sizes: list[int], allowance: Allowance) -> None:
    """Tell the child how large the disks are, and what it may take."""
    data = json.dumps({"sizes": sizes, "allowance": asdict(allowance)}).encode()
    channel.sendall(REPLY.pack(SOUND, len(data)) + data)


def receive_setup(channel: socket.socket) -> tuple[list[int], Allowance]:
    """What ``send_setup`` told."""
    _, length = REPLY.unpack(receive(channel, REPLY.size))
    said: dict[str, Any] = json.loads(receive(channel, length))
    return said["sizes"], Allowance(**said["allowance"])


class Asker:
    """The child's end: asks for ranges until what is allowed is nearly used up."""

    def __init__(self, channel: socket.socket, allowance: Allowance) -> None:
        self._channel = channel
        self._read = 0
        self._most = int(allowance.bytes_read * _SHARE)
        self._limit = allowance
        self._end = time.monotonic() + allowance.seconds * _SHARE
        self.ended_by: str | None = None
        """Why no more is read, a sentence."""

    def read(self, disk: int, offset: int, length: int) -> bytes:
        """``length`` bytes of disk number ``disk`` (from 0). Raises ``CorruptDiskError``, and ``GuestError`` when no
        more may be read."""
        self._check(length)
        self._channel.sendall(REQUEST.pack(READ, disk, offset, length))
        sound, count = REPLY.unpack(receive(self._channel, REPLY.size))
        data = receive(self._channel, count)
        if not sound:
            raise CorruptDiskError(data.decode("utf-8", "replace"))
        return data

    def say(self, kind: bytes, data: bytes) -> None:
        """Send a note or facts."""
        self._channel.sendall(REQUEST.pack(kind, 0, 0, len(data)) + data)

    def _check(self, length: int) -> None:
        wanted = self._read + length
        if wanted > self._limit.bytes_read * _LAST_SHARE:
            self.ended_by = f"The look ended after {format_size(self._limit.bytes_read * _LAST_SHARE)} of reading."
        elif wanted > self._most:
            self._most = self._limit.bytes_read
            raise GuestError(f"more than {format_size(self._limit.bytes_read * _SHARE)} would be read of the disks")
        elif time.monotonic() > self._end:
            self.ended_by = f"The look ended after {self._limit.seconds * _SHARE:.0f} seconds."
        if self.ended_by:
            raise GuestError(self.ended_by)
        self._read = wanted


class RemoteDisk:
    """A disk whose bytes the parent reads; an ``Area``."""

    def __init__(self, asker: Asker, number: int, size: int) -> None:
        self._asker = asker
        self._number = number
        self.size = size

    def read_at(self, offset: int, length: int) -> bytes:
        if length <= MAX_LOOK_RANGE:
            return self._asker.read(self._number, offset, length)
        ends = range(offset, offset + length, MAX_LOOK_RANGE)
        return b"".join(self._asker.read(self._number, at, min(MAX_LOOK_RANGE, offset + length - at)) for at in ends)
