"""Files being made: under a hidden name until they are whole, by one process or by several together."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vmferry.blob import Blob, Buffer, ByteRange, FileBlob, Part, file_data_ranges, find_file, foreign_error
from vmferry.directory import sync_directories
from vmferry.errors import StoreError, quote
from vmferry.units import KIB, MIB

PARTIAL = ".partial"
"""How the name of a file that is being made ends."""

_CLONE_RANGE = 0x4020_940D
"""``FICLONERANGE`` of ``linux/fs.h``, ioctl_ficlonerange(2): let a range of a file share the blocks of another's."""
_CLONE_ARGUMENT = struct.Struct("qQQQ")
"""``struct file_clone_range``: descriptor, source offset, length, target offset."""

_MAX_GATHERED = 1024
"""``IOV_MAX``: buffers that one pwritev(2) takes."""

_LEAST_CLONE = 64 * KIB
"""Shorter ranges are written: a file of many small pieces is slow to read ever after."""


class FileWriter:
    """A file being made under a hidden name. ``write_at`` may be called by any number of threads.

    Several writers, in any processes, may hold one partial file: ``finish`` and ``abort`` of one ends it for all.
    """

    def __init__(self, fd: int, partial: Path, final: Path, *, top: Path, sync: bool = True) -> None:
        """Owns ``fd``. The directories from ``final``'s up to ``top`` are made durable along with the file.

        Without ``sync`` the kernel writes when it likes, as for ``cp``: a power cut then loses the file.
        """
        self._fd = fd
        self._partial = partial
        self._final = final
        self._top = top
        self._sync = sync
        self._can_clone = True
        """Until the file system refuses."""
        self._block = 0
        """Bytes of the file system's blocks, once that was asked for."""
        self._syncing = threading.Lock()
        self._lost: OSError | None = None
        """Why the kernel could not write what it had taken: it says so once, and then forgets what that was."""

    def write_at(self, offset: int, data: Buffer) -> None:
        rest = memoryview(data).cast("B")
        try:
            while rest:  # one pwrite takes at most 2 GiB, and less on a file system that is nearly full
                written = os.pwrite(self._fd, rest, offset)
                rest, offset = rest[written:], offset + written
        except OSError as error:
            raise foreign_error(error, str(self._final)) from error

    def write_parts(self, offset: int, parts: Sequence[Part]) -> None:
        """As ``blob.write_parts``."""
        try:
            written = os.pwritev(self._fd, parts[:_MAX_GATHERED], offset)
        except OSError as error:
            raise foreign_error(error, str(self._final)) from error
        for part in parts:  # what was not taken goes as always
            taken = min(written, len(part))
            if taken < len(part):
                self.write_at(offset + taken, memoryview(part)[taken:])
            written, offset = written - taken, offset + len(part)

    def set_size(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise foreign_error(error, str(self._final)) from error

    def clone(self, blob: Blob, source: int, offset: int, length: int) -> int:
        """As ``Clone``: whole blocks of the file system (XFS, Btrfs), of a file that nobody has changed."""
        if not self._can_clone or length < _LEAST_CLONE or (found := find_file(blob, source)) is None:
            return 0
        file, source = found
        try:
            block = self._block = self._block or os.fstatvfs(self._fd).f_frsize
            length = length // block * block
            if not length or source % block or offset % block:
                return 0
            fcntl.ioctl(self._fd, _CLONE_RANGE, _CLONE_ARGUMENT.pack(file.fileno(), source, length, offset))
        except OSError:  # another file system, or one that cannot; if there is no room, writing will say so
            self._can_clone = False
            return 0
        return length if file.is_unchanged else 0

    def copy_from(self, blob: FileBlob, source: int, offset: int, length: int) -> None:
        """Write ``length`` bytes of ``blob`` from ``source`` at ``offset``: within the kernel, where it can."""
        try:
            while length and (copied := os.copy_file_range(blob.fileno(), self._fd, length, source, offset)):
                source, offset, length = source + copied, offset + copied, length - copied
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise foreign_error(error, str(self._final)) from error
        while length:  # two file systems, or one that cannot
            step = min(length, MIB)
            self.write_at(offset, blob.read_at(source, step))
            source, offset, length = source + step, offset + step, length - step

    def fill(self, blob: FileBlob) -> None:
        """Let the file hold what ``blob`` does, holes left out."""
        for start, end in blob.data_ranges(0, blob.size):
            self.copy_from(blob, start, start, end - start)
        self.set_size(blob.size)

    def read_back(self, offset: int, length: int) -> bytes:
        """What was written to ``[offset, offset + length)`` so far; zeros where nothing was. Raises ``StoreError``."""
        try:
            return os.pread(self._fd, length, offset).ljust(length, b"\0")
        except OSError as error:
            raise foreign_error(error, str(self._final)) from error

    def finish(self) -> None:
        try:
            if self._sync:
                self._make_durable(os.fsync)
            if self._is_ours(self._partial):
                with suppress(FileNotFoundError):  # another process was a moment faster
                    self._partial.replace(self._final)
            if not self._is_ours(self._final):
                raise StoreError(f"{quote(self._final)} was removed while it was written. Start again.")
        except OSError as error:
            raise foreign_error(error, str(self._final)) from error
        self._sync_directories()
        self._close()

    def abort(self) -> None:
        if self._fd < 0:
            return
        try:
            if self._is_ours(self._partial):
                self._partial.unlink(missing_ok=True)
        except OSError as error:
            raise foreign_error(error, str(self._partial)) from error
        finally:
            self._close()

    def _make_durable(self, sync: Callable[[int], None]) -> None:
        """Raises ``OSError``; once it has, always: what was written before may be gone."""
        with self._syncing:
            if self._lost is None:
                try:
                    sync(self._fd)
                except OSError as error:
                    self._lost = error
            if self._lost is not None:
                raise self._lost

    def _is_ours(self, path: Path) -> bool:
        """Whether ``path`` names the file that this writer holds: not one that was begun since."""
        try:
            return os.path.samestat(os.fstat(self._fd), path.stat())
        except FileNotFoundError:
            return False

    def _sync_directories(self) -> None:
        """Raises ``StoreError``."""
        if self._sync:
            try:
                sync_directories(self._final.parent, self._top)
            except OSError as error:
                raise foreign_error(error, str(self._final)) from error

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


class SharedFileWriter(FileWriter):
    """A file that several processes make together, or one after another, under one hidden name.

    In a store each holds a lock on it until it lets go, or dies. Who finishes the file while somebody else holds it
    lets a copy appear: a process that was taken for dead, and is only frozen, may write whenever it wakes, to a file
    that has become somebody's volume meanwhile.
    """

    reached = 0
    has_durable_name = False
    """Whether the first ``flush`` need not see to the file's name; set it where that was made durable before."""

    def __init__(
        self, fd: int, partial: Path, final: Path, *, top: Path, sync: bool = True, replaces: bool = False
    ) -> None:
        """As ``FileWriter``. ``replaces``: what is at ``final`` is another file, whose place this one takes; else that
        is this one, which somebody has finished."""
        super().__init__(fd, partial, final, top=top, sync=sync)
        self._replaces = replaces

    @property
    def survives_power_cut(self) -> bool:
        """As ``KeptBlobWriter``: a file that is not made durable at its end is not before either."""
        return self._sync

    def begin(self) -> None:
        """Begin anew: nothing that was written before is left."""
        self.set_size(0)

    def note(self, complete: int) -> dict[str, int]:
        """Inode and size: by both a file is told from one that took its place, which is shorter at first."""
        status = os.fstat(self._fd)
        return {"inode": status.st_ino, "size": status.st_size}

    def saved(self) -> None:
        """What was noted is all in the file."""

    def is_there(self, note: Mapping[str, Any]) -> bool:
        """Whether the file is the one that ``note`` was of."""
        status = os.fstat(self._fd)
        return bool(note["inode"] == status.st_ino and note["size"] <= status.st_size)

    def restore(self, note: Mapping[str, Any]) -> None:
        """The file is as it was."""

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        self.flush()  # some file systems tell of a hole where bytes still wait to be placed
        yield from file_data_ranges(self._fd, start, end)

    def finish(self) -> None:
        self.flush()  # before others are kept out, who must not wait for that
        try:
            if not self.lock(shared=False, wait=False):
                self._finish_copy()
            elif not self._replaces and not self.is_unfinished and self._final.exists():
                self._close()  # another process was faster
            else:
                super().finish()
        except OSError as error:
            raise foreign_error(error, str(self._final)) from error

    @property
    def is_unfinished(self) -> bool:
        """Whether the file that this writer holds has its hidden name."""
        return self._is_ours(self._partial)

    def detach(self) -> None:
        if self._fd < 0:
            return
        try:
            self.flush()
        finally:
            self._close()

    def close(self) -> None:
        """Let go of the file; what was not flushed the kernel writes when it likes."""
        if self._fd >= 0:
            self._close()

    @property
    def size(self) -> int:
        """How long the file is so far."""
        return os.fstat(self._fd).st_size

    @property
    def changed_at(self) -> datetime:
        """When somebody wrote to it last."""
        return datetime.fromtimestamp(os.fstat(self._fd).st_mtime, UTC)

    def lock(self, *, shared: bool, wait: bool = True) -> bool:
        """Hold the file, together with others or alone, until this writer lets go of it, or its process dies.

        Without ``wait`` the answer may be ``False``: somebody else holds it.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._fd, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise foreign_error(error, str(self._final)) from error
        return True

    def _finish_copy(self) -> None:
        """Finish a copy, which nobody else can write to, and remove the file itself."""
        if self.is_unfinished:
            source = FileBlob(self._partial, os.dup(self._fd))
            copy = begin_file(self._final, top=self._top, sync=self._sync)
            try:
                copy.fill(source)
                if not self._final.exists():
                    copy.finish()
            finally:
                copy.abort()  # harmless once it is whole
                source.close()
        if not self._final.exists():
            raise StoreError(f"{quote(self._final)} was removed while it was written. Start again.")
        self.abort()

    def flush(self) -> None:
        """Make what was written so far durable. Once it has failed, it always does.

        The first time the file's name becomes durable, too: bytes that nobody finds after a power cut are none.
        """
        try:
            self._make_durable(os.fdatasync)
        except OSError as error:
            raise foreign_error(error, str(self._final)) from error
        if not self.has_durable_name:
            self._sync_directories()
            self.has_durable_name = True


class FinishedWriter:
    """What ``resume`` gives for a key that is there already: nothing it is told changes a byte."""

    def __init__(self, path: Path) -> None:
        self._blob = FileBlob(path)

    def write_at(self, offset: int, data: Buffer) -> None:
        """Ignored: the blob holds these bytes."""

    def set_size(self, size: int) -> None:
        """Ignored: the blob has its size."""

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        return self._blob.data_ranges(start, end)

    def flush(self) -> None:
        """The blob is durable."""

    def detach(self) -> None:
        self._blob.close()

    finish = abort = close = detach


def begin_file(final: Path, *, top: Path, mode: int | None = None, sync: bool = True) -> FileWriter:
    """A writer of ``final`` that nobody shares; ``mode``'s permissions where it is given. Raises ``StoreError``."""
    partial = final.with_name(f".{final.name}.{os.urandom(4).hex()}{PARTIAL}")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if mode is not None:
            os.fchmod(fd, stat.S_IMODE(mode))
    except OSError as error:
        raise foreign_error(error, str(final)) from error
    return FileWriter(fd, partial, final, top=top, sync=sync)


def open_alone(path: Path, mode: int = 0o666) -> int:
    """A descriptor of the file at ``path``, made where there is none, which nobody else holds until it is closed.

    Raises ``BlockingIOError`` where another one holds it; ``OSError``.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # who held it has renamed or removed it in between: it is that one's, whole perhaps
