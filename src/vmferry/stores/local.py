"""Blobs as files: a bucket is a directory below one root, a key the path below that.

A blob being made has a hidden name beside the one it will have, ``.<name>.<random>.partial``, or ``.<name>.partial``
where several processes make it together, and is renamed at ``finish``. So a file under its own name is always whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from vmferry.blob import FileBlob, foreign_error
from vmferry.directory import sync_directories
from vmferry.errors import (
    BlobChangedError,
    BlobNotFoundError,
    ConfigError,
    StoreError,
    StoreUnavailableError,
    quote,
)
from vmferry.stores import Pin, Store, StoreKind
from vmferry.stores._file_writers import (
    PARTIAL,
    FileWriter,
    FinishedWriter,
    SharedFileWriter,
    begin_file,
    open_alone,
)

__all__ = ["FileWriter", "FinishedWriter", "LocalBlob", "LocalStore", "SharedFileWriter", "create_file", "resume_file"]

_MAX_KEY = 1024
"""Bytes of a key, as in S3; it bounds the depth of directories too."""
_FINISHING_SECONDS = 10.0
"""How long somebody may take to rename a file, and to make the name durable."""
_FINISHING_PAUSE = 0.01


class LocalBlob(FileBlob):
    """A file of a local store, pinned to the inode, size and time of change that it was opened with."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._pin = self._look()

    @property
    def pin(self) -> Pin:
        return self._pin

    def read_at(self, offset: int, length: int) -> bytes:
        data = super().read_at(offset, length)
        self._check()
        return data

    def read_into(self, offset: int, out: memoryview) -> None:
        super().read_into(offset, out)
        self._check()

    def _check(self) -> None:
        """Raise ``BlobChangedError`` unless the file is still the one that was opened: what changed before shows."""
        if self._look() != self._pin:
            raise _changed(self.name)

    def _look(self) -> Pin:
        status = os.fstat(self._fd)
        return Pin(status.st_size, f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}")


class LocalStore:
    """Buckets are the directories below ``root``; a bucket is made with the first blob that is written to it.

    Keys that cannot be a path below the bucket (empty parts, ``.``, ``..``, NUL, more than 1024 bytes, names of
    partial files) raise ``StoreError``. Thread-safe, and safe among processes on one machine.
    """

    def __init__(self, root: Path | str) -> None:
        self._root = Path(root).absolute()

    def open(self, bucket: str, key: str, pin: Pin | None = None) -> LocalBlob:
        path = self._existing(bucket, key)
        blob = LocalBlob(path)
        if pin is not None and (blob.pin.size != pin.size or pin.etag not in (None, blob.pin.etag)):
            blob.close()
            raise _changed(str(path))
        return blob

    def create(self, bucket: str, key: str) -> FileWriter:
        return begin_file(self._path(bucket, key), top=self._root)

    def resume(self, bucket: str, key: str) -> SharedFileWriter | FinishedWriter:
        """See ``SupportsResume``. Raises ``StoreUnavailableError`` where another process is about to let the blob
        appear, and does not."""
        final = self._path(bucket, key)
        until = time.monotonic() + _FINISHING_SECONDS
        while (writer := self._try_to_resume(final)) is None:
            if time.monotonic() > until:
                raise StoreUnavailableError(
                    f"Another process has been about to finish {quote(final)} for {_FINISHING_SECONDS:.0f} s: it is "
                    "frozen. End it, or wait until it goes on."
                )
            time.sleep(_FINISHING_PAUSE)
        return writer

    def _try_to_resume(self, final: Path) -> SharedFileWriter | FinishedWriter | None:
        """``None`` where another process finishes the file just now."""
        partial = final.with_name(f".{final.name}{PARTIAL}")
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise foreign_error(error, str(final)) from error
        writer = SharedFileWriter(fd, partial, final, top=self._root)
        try:
            is_held = writer.lock(shared=True, wait=False)
            # Only now, holding the file: whoever finishes it from here on lets a copy appear.
            if _is_blob(final):
                writer.abort()
                return FinishedWriter(final)
            if is_held and writer.is_unfinished:
                return writer
        except BaseException:
            writer.close()
            raise
        writer.close()  # it was renamed, or removed, or is about to be
        return None

    def link(self, bucket: str, key: str, to_bucket: str, to_key: str, *, further: bool = False) -> bool:
        source, target = self._existing(bucket, key), self._path(to_bucket, to_key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP):
                return False
            raise foreign_error(error, str(target)) from error
        if further and target.stat().st_nlink < 3:  # looked at behind the link: the file may have been another before
            target.unlink()
            return False
        try:
            sync_directories(target.parent, self._root)
        except OSError as error:
            raise foreign_error(error, str(target)) from error
        return True

    def copy(self, bucket: str, key: str, to_bucket: str, to_key: str) -> None:
        """Make a blob of its own at ``to_key`` that holds what ``key`` does. The kernel copies, holes left out, or lets
        the file system do so by reference. Raises ``BlobNotFoundError``, ``OutOfSpaceError``, ``StoreError``."""
        source = FileBlob(self._existing(bucket, key))
        try:
            target = self.create(to_bucket, to_key)
            try:
                target.fill(source)
                target.finish()
            finally:
                target.abort()  # harmless once it is whole
        finally:
            source.close()

    def unshare(self, bucket: str, key: str) -> None:
        """Let the blob at ``key`` share its bytes with no other one, so that it may be written in place.

        Nothing happens where it shares none; else it gets a copy, when that is whole. Who asks meanwhile waits for it:
        a second copy would take the place of one that is written to already. Raises as ``copy``.
        """
        path = self._existing(bucket, key)
        if path.stat().st_nlink == 1:
            return
        try:
            held = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # some file systems lock alone what may be written
            try:
                fcntl.flock(held, fcntl.LOCK_EX)
                is_shared = os.path.samestat(os.fstat(held), path.stat()) and path.stat().st_nlink > 1
                if is_shared:
                    self.copy(bucket, key, bucket, key)
            finally:
                os.close(held)
        except OSError as error:
            raise foreign_error(error, str(path)) from error

    def locate(self, bucket: str, key: str) -> str:
        return str(self._existing(bucket, key))

    def changed_at(self, bucket: str, key: str) -> datetime:
        """When the blob was made or written, or got this name or another one. Raises ``BlobNotFoundError``."""
        try:
            return datetime.fromtimestamp(self._existing(bucket, key).stat().st_ctime, UTC)
        except FileNotFoundError:
            raise self._not_found(bucket, key) from None

    def delete(self, bucket: str, key: str) -> None:
        path = self._path(bucket, key)
        try:
            path.unlink(missing_ok=True)
        except (NotADirectoryError, IsADirectoryError):
            return  # other keys have this one as a part of theirs: no blob lies under it
        except OSError as error:
            raise foreign_error(error, str(path)) from error

    def keys(self, bucket: str, prefix: str = "") -> Iterator[str]:
        directory = self._bucket(bucket)
        if not directory.is_dir():
            raise self._not_found(bucket, prefix)
        yield from _walk(directory, "", prefix)

    def unfinished(self, bucket: str) -> Iterator[str]:
        """The keys of blobs that were begun and neither finished nor aborted, in no order; ``resume`` takes them up."""
        directory = self._bucket(bucket)
        for partial in directory.rglob(f".*{PARTIAL}"):
            final = partial.with_name(partial.name[1 : -len(PARTIAL)])
            yield final.relative_to(directory).as_posix()

    def _bucket(self, bucket: str) -> Path:
        if "/" in bucket:
            raise _unusable(bucket, "a bucket is one directory")
        _check_parts([bucket], bucket)
        return self._root / bucket

    def _path(self, bucket: str, key: str) -> Path:
        parts = key.split("/")
        _check_parts(parts, key)
        return self._bucket(bucket).joinpath(*parts)

    def _existing(self, bucket: str, key: str) -> Path:
        path = self._path(bucket, key)
        if not _is_blob(path):
            raise self._not_found(bucket, key)
        return path

    def _not_found(self, bucket: str, key: str) -> BlobNotFoundError:
        if not (self._root / bucket).is_dir():
            return BlobNotFoundError(f"There is no bucket {quote(bucket)} in {quote(self._root)}. Check its name.")
        return BlobNotFoundError(
            f"There is no key {quote(key)} in bucket {quote(bucket)} of {quote(self._root)}. Check its name."
        )


def resume_file(path: Path, *, sync: bool = True) -> SharedFileWriter:
    """A writer that goes on with the unfinished file for ``path``, or begins one; it is this process' alone.

    It stands beside ``path`` as ``.<name>.partial``, after ``detach`` and whatever else ends the process, too. Without
    ``sync`` a power cut loses it.

    Raises ``StoreError`` as ``create_file`` does, and where another process writes it just now.
    """
    final, mode = _check_target(path)
    partial = final.with_name(f".{final.name}{PARTIAL}")
    try:
        fd = open_alone(partial)
    except BlockingIOError as error:
        raise StoreError(
            f"Another process writes {quote(path)} just now. Wait for it, or name another file."
        ) from error
    except OSError as error:
        raise foreign_error(error, str(final)) from error
    try:
        if mode is not None:
            os.fchmod(fd, stat.S_IMODE(mode))
    except OSError as error:
        os.close(fd)
        raise foreign_error(error, str(final)) from error
    return SharedFileWriter(fd, partial, final, top=final.parent, sync=sync, replaces=True)


def create_file(path: Path, *, sync: bool = True) -> FileWriter:
    """A writer of the file at ``path``, which appears, or takes the place of the old one, at ``finish``.

    Symbolic links are followed. A file that is replaced hands on its mode. Raises ``StoreError`` where ``path`` is
    anything else than a regular file; ``sync`` is ``FileWriter``'s.
    """
    final, mode = _check_target(path)
    return begin_file(final, top=final.parent, mode=mode, sync=sync)


def _check_target(path: Path) -> tuple[Path, int | None]:
    """Where the file at ``path`` really lies, and the mode of the one that is there."""
    try:
        final = Path(os.path.realpath(path))
        mode = final.stat().st_mode if final.exists() else None
    except OSError as error:
        raise foreign_error(error, str(path)) from error
    if mode is not None and not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise StoreError(f"{quote(path)} is {what} and is not overwritten. Name a file.")
    if not final.parent.is_dir():
        raise BlobNotFoundError(f"The directory {quote(final.parent)} does not exist. Make it first.")
    return final, mode


def _walk(directory: Path, base: str, prefix: str) -> Iterator[str]:
    """The keys below ``directory``, whose own key is ``base``, that start with ``prefix``; in the order of keys."""
    try:
        with os.scandir(directory) as entries:
            # A directory sorts with the slash that follows it in every key: "a.b" and "a-b" come before "a/b".
            found = sorted(entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "") for entry in entries)
    except OSError as error:
        raise foreign_error(error, str(directory)) from error
    for name in found:
        key = base + name
        if name.endswith("/"):
            if key.startswith(prefix) or prefix.startswith(key):
                yield from _walk(directory / name, key, prefix)
        elif key.startswith(prefix) and not _is_partial(name) and _is_blob(directory / name):
            yield key


def _is_blob(path: Path) -> bool:
    """Whether something other than a directory is there."""
    try:
        return path.exists() and not path.is_dir()
    except OSError as error:
        raise foreign_error(error, str(path)) from error


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(PARTIAL)


def _check_parts(parts: list[str], whole: str) -> None:
    """Raise ``StoreError`` unless ``parts`` name something below a directory, and no partial file."""
    try:
        length = len(whole.encode())
    except UnicodeEncodeError as error:
        raise _unusable(whole, "it is not Unicode text") from error
    if length > _MAX_KEY:
        raise _unusable(whole, f"it has {length:,} bytes, {_MAX_KEY:,} are allowed")
    for part in parts:
        if part in ("", ".", "..") or "\0" in part:
            raise _unusable(whole, "a part between slashes is empty, '.', '..' or holds NUL")
        if _is_partial(part):
            raise _unusable(whole, f"names like '.…{PARTIAL}' are kept for unfinished files")


def _unusable(name: str, reason: str) -> StoreError:
    return StoreError(f"{quote(name)} cannot name anything in a local store: {reason}. Choose another name.")


def _changed(name: str) -> BlobChangedError:
    return BlobChangedError(f"{quote(name)} is not the file that was opened: it was changed meanwhile. Start again.")


class _Local:
    name = "local"

    def connect(self, options: Mapping[str, str]) -> Store:
        """Option ``root``: the directory that holds the buckets; made where it does not exist."""
        if not options.get("root"):
            raise ConfigError("A local store needs the option 'root': the directory that holds its buckets.")
        root = Path(options["root"])
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"The store's directory {quote(root)} cannot be made: {error.strerror}.") from error
        return LocalStore(root)


STORE: StoreKind = _Local()
