"""S3's multipart uploads as its API reference has them, in memory: strict about parts, and mortal."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from itertools import count

from vmferry.blob import Buffer
from vmferry.errors import StoreError
from vmferry.stores import PartStream
from vmferry.units import KIB, MIB


class FakeBucket:
    """One key of a bucket, and the uploads of it that are neither complete nor aborted."""

    def __init__(self, least: int) -> None:
        """No part but the last may have fewer than ``least`` bytes."""
        self.least = least
        self.object: bytes | None = None
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.ids = count(1)


class FakeMultipart:
    """As ``Multipart``, which is asked by one process. Thread-safe."""

    def __init__(self, bucket: FakeBucket, step: Callable[[], None] = lambda: None) -> None:
        """``step`` is called before and behind each request: a process may die before the answer comes."""
        self._bucket = bucket
        self._step = step
        self._lock = threading.Lock()
        self.sent: list[int] = []

    def put(self, data: Buffer) -> None:
        self._step()
        self._bucket.object = bytes(data)
        self._step()

    def begin(self) -> str:
        self._step()
        with self._lock:
            upload = f"upload-{next(self._bucket.ids)}"
            self._bucket.uploads[upload] = {}
        self._step()
        return upload

    def send(self, upload: str, number: int, data: Buffer | PartStream) -> str:
        self._step()
        content = bytes(data) if isinstance(data, Buffer) else _read(data)
        with self._lock:
            self._parts(upload)[number] = content
            self.sent.append(number)
        self._step()
        return hashlib.md5(content).hexdigest()

    def complete(self, upload: str, etags: Sequence[str]) -> None:
        self._step()
        parts = self._parts(upload)
        assert etags, "MalformedXML: an object has one part at the least"
        for number, etag in enumerate(etags, 1):
            assert hashlib.md5(parts[number]).hexdigest() == etag, "InvalidPart"
            assert number == len(etags) or len(parts[number]) >= self._bucket.least, "EntityTooSmall"
        self._bucket.object = b"".join(parts[number] for number in range(1, len(etags) + 1))
        del self._bucket.uploads[upload]
        self._step()

    def abort(self, upload: str) -> None:
        assert upload, "a DELETE without an upload's id is one of the object"
        self._step()
        self._bucket.uploads.pop(upload, None)
        self._step()

    def parts(self, upload: str) -> dict[int, str] | None:
        self._step()
        found = self._bucket.uploads.get(upload)
        return None if found is None else {number: hashlib.md5(data).hexdigest() for number, data in found.items()}

    def _parts(self, upload: str) -> dict[int, bytes]:
        if upload not in self._bucket.uploads:
            raise StoreError("the upload was swept away", code="NoSuchUpload")
        return self._bucket.uploads[upload]


def _read(stream: PartStream) -> bytes:
    """As S3's client does: once for the signature, once to send."""
    digest = hashlib.sha256(b"".join(iter(lambda: stream.read(MIB), b"")))
    stream.seek(0)
    content = b"".join(iter(lambda: stream.read(16 * KIB), b""))
    assert len(content) == len(stream)
    assert hashlib.sha256(content).digest() == digest.digest()
    return content
