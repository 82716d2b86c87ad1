"""The upload of a disk image in parts: several at once, in bounded memory, and only those that are not there yet."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmferry.cli._client import api_errors
from vmferry.errors import BlobChangedError, quote
from vmferry.units import MIB

DEFAULT_THREADS = 8
PART_SIZE = 10 * MIB
"""As AWS's tool cuts files."""
_MEMORY = 256 * MIB
"""All parts in flight together, at the most."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A run of the file that is an object of its own."""

    key: str
    start: int
    length: int


def upload_parts(
    s3: Any, bucket: str, path: Path, parts: Sequence[FilePart], threads: int, progress: Callable[[int], None]
) -> None:
    """Put ``parts`` of the file at ``path`` into ``bucket``; ``progress`` is told the bytes of each that is there.

    The first failure ends it: parts in flight are waited for, no further one is begun. Raises ``ApiError``,
    ``BlobChangedError``.
    """
    workers = _workers(parts, threads)
    descriptor = os.open(path, os.O_RDONLY)
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = {pool.submit(_put, s3, bucket, descriptor, path, part) for part in parts}
        _collect(waiting, progress)
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(descriptor)


def missing_parts(
    s3: Any, bucket: str, path: Path, parts: Sequence[FilePart], threads: int, prefix: str
) -> list[FilePart]:
    """Those of ``parts`` that do not lie below ``prefix`` in ``bucket`` with the very bytes of the file.

    An object's ETag is the MD5 of its bytes; of one for which it is not (encrypted with a key of KMS), nothing is known
    and it goes up again.
    """
    there = _etags(s3, bucket, prefix)
    with path.open("rb") as file, ThreadPoolExecutor(_workers(parts, threads)) as pool:
        same = pool.map(lambda part: _is_there(file.fileno(), path, part, there.get(part.key)), parts)
        return [part for part, is_there in zip(parts, same, strict=True) if not is_there]


def _workers(parts: Sequence[FilePart], threads: int) -> int:
    """How many parts are in hand at once: ``threads``, or as many as memory allows."""
    largest = max((part.length for part in parts), default=1)
    return max(1, min(threads, _MEMORY // largest))


def _collect(waiting: set[Future[int]], progress: Callable[[int], None]) -> None:
    """Tell of each part as it gets there; raise what one of them raised."""
    while waiting:
        done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
        for future in done:
            progress(future.result())


def _put(s3: Any, bucket: str, descriptor: int, path: Path, part: FilePart) -> int:
    data = _read(descriptor, path, part)
    digest = base64.b64encode(_md5(data)).decode()
    with api_errors():
        s3.put_object(Bucket=bucket, Key=part.key, Body=data, ContentMD5=digest)
    return part.length


def _read(descriptor: int, path: Path, part: FilePart) -> bytes:
    data = os.pread(descriptor, part.length, part.start)
    while data and len(data) < part.length:
        more = os.pread(descriptor, part.length - len(data), part.start + len(data))
        if not more:
            break
        data += more
    if len(data) < part.length:
        raise BlobChangedError(f"{quote(path)} became shorter while it was read. Import it again.")
    return data


def _is_there(descriptor: int, path: Path, part: FilePart, found: tuple[int, str] | None) -> bool:
    if found is None or found[0] != part.length:
        return False
    return found[1] == _md5(_read(descriptor, path, part)).hex()


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _etags(s3: Any, bucket: str, prefix: str) -> Mapping[str, tuple[int, str]]:
    """The objects below ``prefix``: key → length and ETag."""
    with api_errors():
        pages: Iterable[Mapping[str, Any]] = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {
            found["Key"]: (int(found["Size"]), str(found["ETag"]).strip('"'))
            for page in pages
            for found in page.get("Contents", ())
        }
