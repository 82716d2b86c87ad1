"""The upload of a disk image in parts, each an object of its own: several at once, and only those not there yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmferry.cli._client import api_errors
from vmferry.cli._file_parts import Unchanged, content_md5, digest_parts, send_parts
from vmferry.units import MIB

PART_SIZE = 10 * MIB
"""As AWS's tool cuts files."""


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

    Raises ``ApiError``, ``BlobChangedError``.
    """

    def put(part: FilePart, data: bytes) -> None:
        with api_errors():
            s3.put_object(Bucket=bucket, Key=part.key, Body=data, ContentMD5=content_md5(data))

    file = Unchanged(path)
    send_parts(path, parts, threads, put, progress)
    file.check()


def missing_parts(
    s3: Any, bucket: str, path: Path, parts: Sequence[FilePart], threads: int, prefix: str
) -> list[FilePart]:
    """Those of ``parts`` that do not lie below ``prefix`` in ``bucket`` with the very bytes of the file.

    An object's ETag is the MD5 of its bytes; of one for which it is not (encrypted with a key of KMS), nothing is known
    and it goes up again.
    """
    there = _etags(s3, bucket, prefix)
    candidates = [part for part in parts if there.get(part.key, (None, ""))[0] == part.length]
    digests = digest_parts(path, candidates, threads)
    same = {part.key for part, md5 in zip(candidates, digests, strict=True) if there[part.key][1] == md5.hex()}
    return [part for part in parts if part.key not in same]


def _etags(s3: Any, bucket: str, prefix: str) -> Mapping[str, tuple[int, str]]:
    """The objects below ``prefix``: key → length and ETag."""
    with api_errors():
        pages: Iterable[Mapping[str, Any]] = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {
            found["Key"]: (int(found["Size"]), str(found["ETag"]).strip('"'))
            for page in pages
            for found in page.get("Contents", ())
        }
