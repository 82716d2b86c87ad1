"""Parts of a file that go to S3: several at once, in bounded memory, and only those that are not there yet."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol, TypeVar

from vmferry.errors import BlobChangedError, quote
from vmferry.units import MIB

DEFAULT_THREADS = 8
_MEMORY = 256 * MIB
"""All parts in flight together, at the most."""


class Part(Protocol):
    """A run of the file."""

    @property
    def start(self) -> int: ...
    @property
    def length(self) -> int: ...


class Unchanged:
    """A file that must not be written to while it is uploaded: parts of two states would make neither."""

    def __init__(self, path: Path) -> None:
        """As the file is now."""
        self._path = path
        self._state = self._look()

    def check(self) -> None:
        """Raise ``BlobChangedError`` unless it is still the same, or was removed: then it was read to its end."""
        if self._path.exists() and self._look() != self._state:
            raise BlobChangedError(
                f"{quote(self._path)} was changed while it was uploaded. Import it again, and leave it alone meanwhile."
            )

    def _look(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns


SomePart = TypeVar("SomePart", bound=Part)


def send_parts(
    path: Path,
    parts: Sequence[SomePart],
    threads: int,
    put: Callable[[SomePart, bytes], None],
    progress: Callable[[int], None],
) -> None:
    """Call ``put`` with each part and its bytes; ``progress`` is told the bytes of each that was put.

    The first failure ends it: parts in flight are waited for, no further one is begun. Raises what ``put`` raises, and
    ``BlobChangedError``.
    """
    descriptor = os.open(path, os.O_RDONLY)
    pool = ThreadPoolExecutor(_workers(parts, threads))

    def send(part: SomePart) -> int:
        put(part, _read(descriptor, path, part))
        return part.length

    try:
        _collect({pool.submit(send, part) for part in parts}, progress)
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(descriptor)


def digest_parts(path: Path, parts: Sequence[Part], threads: int) -> list[bytes]:
    """The MD5 of each part, which is what S3 keeps of it as its ETag. Raises ``BlobChangedError``."""
    with path.open("rb") as file, ThreadPoolExecutor(_workers(parts, threads)) as pool:
        return list(pool.map(lambda part: _md5(_read(file.fileno(), path, part)), parts))


def content_md5(data: bytes) -> str:
    """As S3 takes it with a part, which it refuses where it got other bytes."""
    return base64.b64encode(_md5(data)).decode()


def _workers(parts: Sequence[Part], threads: int) -> int:
    """How many parts are in hand at once: ``threads``, or as many as memory allows."""
    largest = max((part.length for part in parts), default=1)
    return max(1, min(threads, _MEMORY // max(largest, 1)))


def _collect(waiting: set[Future[int]], progress: Callable[[int], None]) -> None:
    """Tell of each part as it gets there; raise what one of them raised."""
    while waiting:
        done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
        for future in done:
            progress(future.result())


def _read(descriptor: int, path: Path, part: Part) -> bytes:
    data = os.pread(descriptor, part.length, part.start)
    while data and len(data) < part.length:
        more = os.pread(descriptor, part.length - len(data), part.start + len(data))
        if not more:
            break
        data += more
    if len(data) < part.length:
        raise BlobChangedError(f"{quote(path)} became shorter while it was read. Import it again.")
    return data


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
