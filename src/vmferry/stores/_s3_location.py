"""Which bucket and key a URL means, and which names S3 can hold at all."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit

from vmferry.errors import BlobNotFoundError, UnsafeDiskError, quote

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MAX_KEY_BYTES = 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_bucket(bucket: str) -> str:
    """``bucket``, when a bucket can be called so (S3 User Guide, *Bucket naming rules*). Else ``BlobNotFoundError``."""
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _is_address(bucket):
        raise BlobNotFoundError(
            f"There is no bucket {quote(bucket)!r}: a bucket's name has 3 to 63 lower-case letters, digits, dots and "
            "hyphens. Check the name."
        )
    return bucket


def check_key(key: str) -> str:
    """``key``, when it can be put into a request unchanged. Else ``BlobNotFoundError``.

    S3 itself allows empty segments, ``.`` and ``..``; on the way they would be normalised, by one client or another,
    into another key, so they are refused.
    """
    if not key or len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise BlobNotFoundError(
            f"There is no object {quote(key)!r}: a key has 1 to {MAX_KEY_BYTES:,} bytes. Check the key."
        )
    if _CONTROL.search(key) or not _is_text(key):
        raise BlobNotFoundError(f"The key {quote(key)!r} has control characters: copy the object to a plain name.")
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise BlobNotFoundError(
            f"The key {quote(key)!r} has an empty, '.' or '..' segment between slashes, which cannot be asked for "
            "safely. Copy the object to a key without one."
        )
    return key


def parse_location(url: str, endpoint: str | None) -> tuple[str, str]:
    """``(bucket, key)`` of ``s3://bucket/key``, or of an ``http(s)`` URL below ``endpoint`` (path style).

    Of a presigned URL only bucket and key are used, never its signature: the object is read with the rights of the
    account that asks. So a URL opens nothing that ``s3://`` would not, and no host but ``endpoint`` is ever spoken to.
    Keys are percent-decoded in ``http(s)`` URLs, and taken as they stand in ``s3://`` ones, as AWS's own tools do.

    Raises ``UnsafeDiskError`` for any other host, port or scheme, ``BlobNotFoundError`` for an impossible name.
    """
    if url.startswith("s3://"):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return check_bucket(bucket), check_key(key)
    if endpoint is None or _origin(url) is None or _origin(url) != _origin(endpoint):
        known = f"s3:// URLs and URLs below {quote(endpoint)}" if endpoint else "s3:// URLs"
        raise UnsafeDiskError(
            f"{quote(_without_query(url))} is not opened: only {known} are. Upload the file there and name it so."
        )
    bucket, _, key = urlsplit(url).path.removeprefix("/").partition("/")
    return check_bucket(unquote(bucket)), check_key(_decode(key))


def _origin(url: str) -> tuple[str, str, int] | None:
    """``(scheme, host, port)``, or ``None`` for what is no plain http(s) URL."""
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc or "\\" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]


def _without_query(url: str) -> str:
    """A presigned URL's query is a secret: it belongs in no message."""
    return url.partition("?")[0]


def _decode(key: str) -> str:
    try:
        return unquote(key, errors="strict")
    except UnicodeDecodeError:
        raise BlobNotFoundError(f"The key {quote(key)!r} is not UTF-8 when percent-decoded. Check the URL.") from None


def _is_text(key: str) -> bool:
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _is_address(bucket: str) -> bool:
    try:
        ipaddress.IPv4Address(bucket)
    except ValueError:
        return False
    return True
