"""Disks shown to QEMU as they are: a server of the NBD protocol on a Unix socket, read only but for overlays.

So QEMU parses no format but its own overlay's, nothing is copied, and a disk in S3 starts from where it lies.

Source: NBD protocol, *Fixed newstyle negotiation*, *Transmission phase*, ``NBD_OPT_GO``. Structured replies are
declined, which every client has to bear.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from vmferry.disk import Disk
from vmferry.errors import VmferryError
from vmferry.guest.overlay import OverlayDisk
from vmferry.units import MIB, SECTOR

_OPTION_MAGIC = 0x49484156454F5054
_REPLY_MAGIC = 0x0003E889045565A9
_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC = 0x25609513
_ANSWER = struct.Struct(">IIQ")
_ANSWER_MAGIC = 0x67446698
_EXPORT_NAME, _ABORT, _INFO, _GO = 1, 2, 6, 7
_ACK, _REP_INFO, _UNSUPPORTED, _UNKNOWN = 1, 3, (1 << 31) + 1, (1 << 31) + 6
_READ, _WRITE, _DISCONNECT, _FLUSH, _ZERO = 0, 1, 2, 3, 6
_FLAGS = 1 | 4
"""Has flags, knows flush."""
_READ_ONLY, _WRITABLE = 2 | 256, 64
"""Is read only, may be connected to several times; knows how zeros are written."""
_EPERM, _EIO, _EINVAL = 1, 5, 22
_MOST = 32 * MIB
"""Bytes of one request, as the protocol advises; QEMU asks for 32 MiB at the most."""
_MOST_OPTION = 64 * 1024


class NbdServer:
    """Serves ``disks`` by the export names ``0``, ``1`` …, as a context: a thread a connection, all gone at the end."""

    def __init__(self, disks: Sequence[Disk], path: Path, *, writable: bool = False) -> None:
        """``path`` must be short (100 bytes): it is the socket's address. ``writable``: all disks are overlays, which
        clients write to, whole sectors."""
        self._disks = disks
        self.path = path
        self._writable = writable
        self._turn = threading.Lock() if writable else nullcontext()
        self.problem: VmferryError | None = None
        """The first error that a disk gave; QEMU is told of an I/O error."""
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for open_socket in (self._listening, *self._connections):
            with suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()
        for thread in self._threads:
            thread.join()
        self.path.unlink(missing_ok=True)

    @property
    def _flags(self) -> int:
        return _FLAGS | (_WRITABLE if self._writable else _READ_ONLY)

    def address(self, number: int) -> str:
        """What QEMU calls the disk with that index."""
        return f"nbd+unix:///{number}?socket={self.path}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError, struct.error):
            disk = self._negotiate(connection)
            while disk is not None and self._answer(connection, disk):
                pass

    def _negotiate(self, connection: socket.socket) -> Disk | None:
        """The disk that the client chose; ``None`` when it left."""
        connection.sendall(struct.pack(">8sQH", b"NBDMAGIC", _OPTION_MAGIC, 3))
        _receive(connection, 4)
        while True:
            magic, option, length = struct.unpack(">QII", _receive(connection, 16))
            if magic != _OPTION_MAGIC or length > _MOST_OPTION:
                return None
            data = _receive(connection, length)
            if option == _ABORT:
                _reply(connection, option, _ACK)
                return None
            if option == _EXPORT_NAME:
                disk = self._find(data)
                if disk is not None:
                    connection.sendall(struct.pack(">QH", disk.size, self._flags))
                return disk
            if option in (_INFO, _GO):
                disk = self._describe(connection, option, data)
                if disk is not None and option == _GO:
                    return disk
            else:
                _reply(connection, option, _UNSUPPORTED)

    def _describe(self, connection: socket.socket, option: int, data: bytes) -> Disk | None:
        (length,) = struct.unpack_from(">I", data)
        disk = self._find(data[4 : 4 + length])
        if disk is None:
            _reply(connection, option, _UNKNOWN)
            return None
        _reply(connection, option, _REP_INFO, struct.pack(">HQH", 0, disk.size, self._flags))
        _reply(connection, option, _ACK)
        return disk

    def _find(self, name: bytes) -> Disk | None:
        number = int(name) if name.isdigit() and len(name) < 6 else -1
        return self._disks[number] if 0 <= number < len(self._disks) else None

    def _answer(self, connection: socket.socket, disk: Disk) -> bool:
        """Answer one request; whether there may be more."""
        magic, _, command, handle, offset, length = _REQUEST.unpack(_receive(connection, _REQUEST.size))
        if magic != _REQUEST_MAGIC or command == _DISCONNECT:
            return False
        error, data = 0, memoryview(b"")
        is_short, inside = length <= _MOST, offset + length <= disk.size
        if command == _READ and is_short and inside:
            error, data = self._read(disk, offset, length)
        elif command == _WRITE and is_short and self._writable:
            written = _receive(connection, length)
            error = self._write(disk, offset, written) if inside else _EINVAL
        elif command == _ZERO and self._writable:
            error = self._write(disk, offset, None, length) if inside else _EINVAL
        elif command != _FLUSH:
            error = _EINVAL if command == _READ else _EPERM
        connection.sendall(_ANSWER.pack(_ANSWER_MAGIC, error, handle))
        connection.sendall(data)
        return True

    def _read(self, disk: Disk, offset: int, length: int) -> tuple[int, memoryview]:
        try:
            with self._turn:
                return 0, memoryview(disk.read_at(offset, length))
        except VmferryError as error:
            self.problem = self.problem or error
            return _EIO, memoryview(b"")

    def _write(self, disk: Disk, offset: int, data: bytes | None, length: int = 0) -> int:
        """Write ``data``; without it, or where they are nothing else, zeros."""
        length = length if data is None else len(data)
        if not isinstance(disk, OverlayDisk) or offset % SECTOR or length % SECTOR:
            return _EINVAL
        try:
            with self._turn:
                if data is None or data.count(0) == length:
                    disk.zero_at(offset, length)
                else:
                    disk.write_at(offset, data)
        except VmferryError as error:
            self.problem = self.problem or error
            return _EIO
        return 0


def _reply(connection: socket.socket, option: int, kind: int, data: bytes = b"") -> None:
    connection.sendall(struct.pack(">QIII", _REPLY_MAGIC, option, kind, len(data)) + data)


def _receive(connection: socket.socket, length: int) -> bytes:
    """Exactly ``length`` bytes; ``EOFError`` when the other end left."""
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
