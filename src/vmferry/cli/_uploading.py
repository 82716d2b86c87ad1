"""The upload of a file as one object, which goes on where an earlier one was cut off.

What is left of that lies in S3 alone: the parts of its multipart upload, each known by the MD5 of its bytes.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmferry.cli._client import ApiError, Clients, api_errors, list_all
from vmferry.cli._file_parts import DEFAULT_THREADS, Unchanged, content_md5, digest_parts, send_parts
from vmferry.cli._output import print_note, show_progress
from vmferry.units import MIB, round_up

_PART_SIZE = 8 * MIB
_MOST_PARTS = 10_000
"""Of one object, in S3."""


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    """From 1."""
    start: int
    length: int


def upload_file(clients: Clients, path: Path, bucket: str, key: str, *, as_json: bool) -> None:
    """Put the file at ``path`` there as ``key``, unless these very bytes lie there already.

    Raises ``ApiError``, ``BlobChangedError``. What was sent when it was cut off, or interrupted, is kept.
    """
    file = Unchanged(path)
    parts = _cut(path.stat().st_size)
    upload = _MultipartUpload(clients.s3, path, bucket, key, parts)
    if len(parts) == 1:
        with show_progress(f"upload {path.name}", parts[0].length, as_json=as_json) as progress:
            _put_whole(clients.s3, path, bucket, key, progress)
    elif upload.is_done():
        print_note(f"s3://{bucket}/{key} holds these very bytes already: nothing is sent.")
    else:
        upload.run(file, as_json=as_json)


class _MultipartUpload:
    """One file on its way; nothing in it is kept but what S3 keeps."""

    def __init__(self, s3: Any, path: Path, bucket: str, key: str, parts: Sequence[_Part]) -> None:
        self._s3 = s3
        self._path = path
        self._place = {"Bucket": bucket, "Key": key}
        self._parts = parts

    def is_done(self) -> bool:
        """Whether the object is there, made of these very parts."""
        try:
            with api_errors():
                found = self._s3.head_object(**self._place)
        except ApiError:
            return False
        etag, size = str(found["ETag"]).strip('"'), sum(part.length for part in self._parts)
        if found["ContentLength"] != size or not etag.endswith(f"-{len(self._parts)}"):
            return False
        digests = b"".join(digest_parts(self._path, self._parts, DEFAULT_THREADS))
        return etag == f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self._parts)}"

    def run(self, file: Unchanged, *, as_json: bool) -> None:
        """Send what is not there yet, and make the object of it, unless ``file`` was changed since."""
        upload_id, there = self._find_or_begin()
        etags = self._kept(there)
        if etags:
            print_note(f"{len(etags)} of {len(self._parts)} parts are there already, from an upload that was cut off.")
        try:
            self._send(upload_id, etags, as_json=as_json)
            file.check()
        except KeyboardInterrupt:
            print(self._how_to_go_on(upload_id), file=sys.stderr)
            raise
        except ApiError as error:
            told = " ".join(self._how_to_go_on(upload_id).splitlines())
            raise ApiError(f"{error} | {told}", code=error.code) from error
        listed = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
        with api_errors():
            self._s3.complete_multipart_upload(**self._place, UploadId=upload_id, MultipartUpload={"Parts": listed})

    def _find_or_begin(self) -> tuple[str, Mapping[int, tuple[int, str]]]:
        """The newest upload of that key that was cut off, with its parts, number → length and ETag; else a new one."""
        bucket, key = self._place["Bucket"], self._place["Key"]
        uploads = list_all(self._s3, "list_multipart_uploads", "Uploads", Bucket=bucket, Prefix=key)
        own = [upload for upload in uploads if upload["Key"] == key]
        if not own:
            with api_errors():
                return str(self._s3.create_multipart_upload(**self._place)["UploadId"]), {}
        upload_id = str(max(own, key=lambda upload: str(upload["Initiated"]))["UploadId"])
        parts = list_all(self._s3, "list_parts", "Parts", **self._place, UploadId=upload_id)
        return upload_id, {one["PartNumber"]: (one["Size"], str(one["ETag"]).strip('"')) for one in parts}

    def _kept(self, there: Mapping[int, tuple[int, str]]) -> dict[int, str]:
        """Number → ETag of the parts that are there with the very bytes of the file."""
        candidates = [part for part in self._parts if there.get(part.number, (None, ""))[0] == part.length]
        digests = digest_parts(self._path, candidates, DEFAULT_THREADS)
        pairs = zip(candidates, digests, strict=True)
        return {part.number: md5.hex() for part, md5 in pairs if there[part.number][1] == md5.hex()}

    def _send(self, upload_id: str, etags: dict[int, str], *, as_json: bool) -> None:
        """Send the parts that ``etags`` lacks, and put theirs into it."""

        def put(part: _Part, data: bytes) -> None:
            with api_errors():
                answer = self._s3.upload_part(
                    **self._place, UploadId=upload_id, PartNumber=part.number, Body=data, ContentMD5=content_md5(data)
                )
            etags[part.number] = str(answer["ETag"]).strip('"')

        missing = [part for part in self._parts if part.number not in etags]
        total = sum(part.length for part in missing)
        with show_progress(f"upload {self._path.name}", total, as_json=as_json) as progress:
            send_parts(self._path, missing, DEFAULT_THREADS, put, progress)

    def _how_to_go_on(self, upload_id: str) -> str:
        words = ("--bucket", self._place["Bucket"], "--key", self._place["Key"], "--upload-id", upload_id)
        return (
            "What was uploaded is kept: the same command goes on from there.\n"
            f"To give it up: {shlex.join(['aws', 's3api', 'abort-multipart-upload', *words])}"
        )


def _cut(size: int) -> list[_Part]:
    """The parts of a file of ``size`` bytes: always the same, so that another call can go on."""
    length = max(_PART_SIZE, round_up(-(-size // _MOST_PARTS), MIB))
    starts = range(0, max(size, 1), length)
    return [_Part(number, start, min(length, size - start)) for number, start in enumerate(starts, 1)]


def _put_whole(s3: Any, path: Path, bucket: str, key: str, progress: Callable[[int], None]) -> None:
    data = path.read_bytes()
    with api_errors():
        s3.put_object(Bucket=bucket, Key=key, Body=data, ContentMD5=content_md5(data))
    progress(len(data))
