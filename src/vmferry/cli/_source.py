"""What commands read: a local file, or an object in S3; and how that S3 is reached."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vmferry.blob import Blob, FileBlob
from vmferry.errors import StoreUnavailableError, quote

if TYPE_CHECKING:
    from vmferry.stores.s3 import S3Blob, S3Store

SCHEME = "s3://"
_REMOTE_THREADS = 8
"""Most of them wait for the store's answers."""
_CONNECT_SECONDS = 5.0
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def open_source(source: str) -> Blob:
    """The blob at a path or at ``s3://bucket/key``. Raises ``StoreError``, ``ConfigError``."""
    if not source.startswith(SCHEME):
        return FileBlob(Path(source))
    return _open_object(source)


def read_ahead(blob: Blob) -> Blob:
    """``blob``, for who reads most of it: in fewer and larger requests, where it is no local file."""
    if isinstance(blob, FileBlob):
        return blob
    from vmferry.stores import ReadAheadBlob

    return ReadAheadBlob(blob)


def read_nearby(blob: Blob, source: str) -> Blob:
    """``blob``, for who looks at its headers and tables: in fewer requests, where ``source`` is an object in S3."""
    if not source.startswith(SCHEME):
        return blob
    from vmferry.stores import NearbyBlob

    return NearbyBlob(blob)


def connect_object(url: str) -> tuple[S3Store, str, str]:
    """The S3 that the environment names, and the bucket and key of ``s3://bucket/key`` there.

    Raises ``ConfigError``, ``StoreError``.
    """
    from vmferry.stores.s3 import S3Options, S3Store, parse_location

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    bucket, key = parse_location(url, endpoint)
    options = S3Options(
        endpoint=endpoint,
        access_key_id=os.environ.get("AWS_ACCESS_KEY_ID"),
        secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY"),
        session_token=os.environ.get("AWS_SESSION_TOKEN"),
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        allow_http=bool(endpoint and endpoint.startswith("http://")),
    )
    options.check()
    if endpoint is not None:
        _check_reachable(endpoint, url)
    return S3Store(options), bucket, key


def _check_reachable(endpoint: str, url: str) -> None:
    """Say at once that nobody listens at ``endpoint``: the store tries for a minute, lest a conversion end half-way.

    Raises ``StoreUnavailableError``. Through a proxy it cannot be told.
    """
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES):
        return
    import socket  # by whoever reads from S3

    place = urlsplit(endpoint)
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((place.hostname or "", port), _CONNECT_SECONDS).close()
    except OSError as error:
        raise StoreUnavailableError(
            f"{quote(endpoint)} does not serve {quote(url)}: {quote(error.strerror or error)}. Check that "
            "AWS_ENDPOINT_URL_S3 is right, and that the S3 service runs there."
        ) from error


def _open_object(source: str) -> S3Blob:
    store, bucket, key = connect_object(source)
    return store.open(bucket, key)


def identify(source: str) -> list[str]:
    """What tells the file at ``source`` from any other, and from itself once it was changed; a folder from any other.

    Raises ``StoreError``.
    """
    if source.startswith(SCHEME):
        blob = _open_object(source)
        return [source, str(blob.size), str(blob.pin.etag), str(blob.pin.version)]
    status = Path(source).stat()
    if S_ISDIR(status.st_mode):  # which changes with every file that is made in it
        return [os.path.realpath(source), "", str(status.st_ino), ""]
    return [os.path.realpath(source), *map(str, (status.st_size, status.st_ino, status.st_mtime_ns))]


def default_threads(names: Sequence[str]) -> int | None:
    """As many threads as ``names`` need where the user says nothing; ``None``: one for each core."""
    return _REMOTE_THREADS if any(name.startswith(SCHEME) for name in names) else None
