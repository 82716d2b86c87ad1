"""S3, or anything that speaks it: SeaweedFS, Ceph RGW, MinIO, AWS. Options are those of ``S3Options``.

Reads are ranges, each sent with ``If-Match``, so an object that is replaced half-way is noticed and never mixed.
No event loop is needed; any number of threads may use one store. A process that is forked must make its own.

S3 User Guide and API Reference: *GetObject* (``Range``, ``If-Match``, ``versionId``), *Multipart upload limits*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
import obstore.store
from obstore.exceptions import BaseError, InvalidPathError

from vmferry.blob import check_range
from vmferry.errors import BlobChangedError, BlobNotFoundError, ConfigError, StoreError, VmferryError, quote
from vmferry.stores import Pin
from vmferry.stores._s3_client import Multipart, make_bucket, read_acl
from vmferry.stores._s3_client import connect as connect_client
from vmferry.stores._s3_errors import Request, changed, status_of, translate, translated
from vmferry.stores._s3_kept_upload import KeptUpload
from vmferry.stores._s3_location import check_bucket, check_key, parse_location
from vmferry.stores._s3_upload import DEFAULT_BUDGET, PartSizes, S3Upload

__all__ = ["STORE", "S3Blob", "S3Options", "S3Store", "parse_location"]

_UPLOAD_CONNECTIONS = 16
AWS = "S3 at AWS"
"""What an endpoint that was not named is called in messages."""


@dataclass(frozen=True, slots=True)
class S3Options:
    """How an S3 service is reached. Without keys they are looked for where AWS's own tools look, in the environment."""

    endpoint: str | None = None
    """``http(s)://host[:port]``; AWS itself when it is not given."""
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    region: str = "us-east-1"
    allow_http: bool = False
    """Speak to an ``http://`` endpoint: bytes and names go over the wire as they are."""
    retry_seconds: float = 60.0
    """How long one request may be tried again, in all; a hung server is noticed after a third of it at the latest."""

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> S3Options:
        """Options as text. Raises ``ConfigError`` for unknown ones and wrong values."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(options.keys() - known):
            raise ConfigError(f"The s3 store has no option {quote(unknown[0])}; it takes {', '.join(sorted(known))}.")
        values: dict[str, Any] = {name: value for name, value in options.items() if value}
        if "allow_http" in values:
            if values["allow_http"] not in ("true", "false"):
                raise ConfigError(f"allow_http must be true or false, not {quote(values['allow_http'])}.")
            values["allow_http"] = values["allow_http"] == "true"
        if "retry_seconds" in values:
            values["retry_seconds"] = _seconds(values["retry_seconds"])
        made = cls(**values)
        made.check()
        return made

    def check(self) -> None:
        """Raise ``ConfigError`` for options that cannot work."""
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ConfigError("The s3 store needs access_key_id and secret_access_key together, or neither.")
        if self.endpoint is None:
            return
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ConfigError(f"The S3 endpoint must be http(s)://host[:port], not {quote(self.endpoint)}.")
        if parts.scheme == "http" and not self.allow_http:
            raise ConfigError(
                f"The S3 endpoint {quote(self.endpoint)} is not encrypted: use https, or set allow_http to true."
            )


class S3Blob:
    """An object as it was when it was opened."""

    def __init__(self, objects: obstore.store.S3Store, request: Request, pin: Pin) -> None:
        self._objects = objects
        self._request = request
        self._pin = pin
        self._options: obstore.GetOptions = {"if_match": pin.etag}

    @property
    def size(self) -> int:
        return self._pin.size

    @property
    def name(self) -> str:
        return self._request.name

    @property
    def pin(self) -> Pin:
        return self._pin

    def read_at(self, offset: int, length: int) -> bytes:
        """See ``Blob``. One request: callers who want more bytes at once read from several threads."""
        return bytes(self.view_at(offset, length))

    def view_at(self, offset: int, length: int) -> memoryview:
        """As ``read_view``."""
        check_range(self, offset, length)
        if length == 0:
            return memoryview(b"")
        try:
            data = self._get(offset, length, self._options)
        except (BlobChangedError, BlobNotFoundError) as error:
            data = self._get_version(offset, length, error)
        if len(data) != length:
            raise changed(self._request)
        return data

    def _get(self, offset: int, length: int, options: obstore.GetOptions) -> memoryview:
        with translated(self._request):
            found = obstore.get(
                self._objects, self._request.key, options={**options, "range": (offset, offset + length)}
            )
            return memoryview(found.bytes())

    def _get_version(self, offset: int, length: int, error: VmferryError) -> memoryview:
        """The bytes out of the version that was opened, in a bucket that keeps versions.

        The version is named only once the object was replaced: naming it takes ``s3:GetObjectVersion``, which the usual
        role of VM Import does not have.
        """
        if self._pin.version is None or "version" in self._options:
            raise error
        options: obstore.GetOptions = {"if_match": self._pin.etag, "version": self._pin.version}
        try:
            data = self._get(offset, length, options)
        except StoreError as refusal:
            if refusal.retryable:
                raise
            raise error from refusal
        self._options = options
        return data

    def close(self) -> None:
        pass


class S3Store:
    """One S3 service, with one account's rights."""

    def __init__(self, options: S3Options) -> None:
        options.check()
        self._options = options
        self._endpoint = options.endpoint or AWS
        self._objects = lru_cache(maxsize=64)(lambda bucket: _connect(options, bucket))
        self._multipart = lru_cache(maxsize=1)(lambda: connect_client(options, _UPLOAD_CONNECTIONS))

    @property
    def endpoint(self) -> str:
        """What the service is called in messages: its address, where one was named."""
        return self._endpoint

    def open(self, bucket: str, key: str, pin: Pin | None = None) -> S3Blob:
        """See ``Store``. It asks for one byte, not for the head: that tells in one request whether the object is there,
        may be read and is served by ranges, and an answer to GET says what is wrong where one to HEAD has no body."""
        request = self._request(bucket, key, "s3:GetObject")
        objects = self._objects(bucket)
        if pin is None:
            return S3Blob(objects, request, self._look(objects, request, {}))
        try:
            found = self._look(objects, request, {"if_match": pin.etag})
        except (BlobChangedError, BlobNotFoundError) as error:
            if pin.version is None:
                raise
            found = self._look_at_version(objects, request, pin, error)
        if (found.size, found.etag) != (pin.size, pin.etag):
            raise changed(request)
        return S3Blob(objects, request, pin)

    def create(self, bucket: str, key: str) -> S3Upload:
        """See ``Store`` and ``S3Upload``."""
        return self.upload(bucket, key)

    def upload(self, bucket: str, key: str, budget: int = DEFAULT_BUDGET, expected: int = 0) -> S3Upload:
        """See ``SupportsUpload`` and ``S3Upload``."""
        request = self._request(bucket, key, "s3:PutObject")
        self._check_writable(request)
        multipart = Multipart(self._multipart(), request)
        return S3Upload(multipart, request.name, PartSizes.least_budget(expected, budget))

    def upload_in_parts(self, bucket: str, key: str) -> Multipart:
        """See ``SupportsUpload``."""
        return Multipart(self._multipart(), self._request(bucket, key, "s3:PutObject"))

    def keep_upload(self, bucket: str, key: str, folder: Path, budget: int) -> KeptUpload:
        """As ``upload``, of an object that another process goes on with, which has ``folder`` too: see ``KeptUpload``.

        Raises ``StoreUnavailableError`` while another process has it.
        """
        request = self._request(bucket, key, "s3:PutObject")
        self._check_writable(request)
        multipart = Multipart(self._multipart(), request)
        return KeptUpload(multipart, request.name, folder, budget)

    def check_upload(self, bucket: str, key: str) -> None:
        """See ``SupportsUpload``: an upload is begun, which takes the permission, and removed again."""
        multipart = Multipart(self._multipart(), self._request(bucket, key, "s3:PutObject"))
        multipart.abort(multipart.begin())

    def check_acl(self, bucket: str) -> None:
        """See ``SupportsUpload``."""
        read_acl(self._multipart(), Request(self._endpoint, check_bucket(bucket), "", "s3:GetBucketAcl"))

    def abort_uploads(self, bucket: str, key: str) -> None:
        """See ``SupportsUpload``. Takes ``s3:ListBucketMultipartUploads``; raises ``AccessDeniedError`` without it."""
        listing = Multipart(self._multipart(), self._request(bucket, key, "s3:ListBucketMultipartUploads"))
        for upload in listing.unfinished():
            listing.abort(upload)

    def ensure_bucket(self, bucket: str) -> None:
        """See ``SupportsBuckets``."""
        make_bucket(self._multipart(), Request(self._endpoint, check_bucket(bucket), "", "s3:CreateBucket"))

    def delete(self, bucket: str, key: str) -> None:
        request = self._request(bucket, key, "s3:DeleteObject")
        with translated(request):
            obstore.delete(self._objects(bucket), key)

    def keys(self, bucket: str, prefix: str = "") -> Iterator[str]:
        """See ``Store``. All keys that match are held in memory: SeaweedFS lists by directory, not in S3's order."""
        request = Request(self._endpoint, check_bucket(bucket), "", "s3:ListBucket")
        folder = prefix.rpartition("/")[0]  # obstore takes whole segments only
        try:
            pages = obstore.list(self._objects(bucket), prefix=folder or None)
            found = [meta["path"] for page in pages for meta in page if meta["path"].startswith(prefix)]
        except InvalidPathError as error:
            raise StoreError(
                f"The bucket {quote(bucket)} holds a key that cannot be listed, with control characters or an empty, "
                "'.' or '..' segment: name a longer prefix, or rename that object."
            ) from error
        except (BaseError, OSError, ValueError) as error:
            raise translate(error, request) from error
        yield from sorted(found, key=lambda key: key.encode())

    def _request(self, bucket: str, key: str, permission: str) -> Request:
        return Request(self._endpoint, check_bucket(bucket), check_key(key), permission)

    def _look(self, objects: obstore.store.S3Store, request: Request, options: obstore.GetOptions) -> Pin:
        try:
            with_range: obstore.GetOptions = {**options, "range": (0, 1)}
            found = obstore.get(objects, request.key, options=with_range)
            found.bytes()  # one byte, but unread it would spoil the connection
            meta = found.meta
        except (BaseError, OSError, ValueError) as error:
            if status_of(error) != 416:
                raise translate(error, request) from error
            with translated(request):  # an empty object has no first byte
                meta = obstore.get(objects, request.key, options={**options, "head": True}).meta
        if not meta["e_tag"]:
            raise StoreError(
                f"{quote(request.endpoint)} gives no ETag for {quote(request.name)}: a change could not be noticed. "
                "Use an S3 service that gives ETags."
            )
        version = meta["version"]
        return Pin(meta["size"], meta["e_tag"], None if version == "null" else version)

    def _look_at_version(self, objects: obstore.store.S3Store, request: Request, pin: Pin, error: VmferryError) -> Pin:
        try:
            return self._look(objects, request, {"if_match": pin.etag, "version": pin.version})
        except StoreError as refusal:
            if refusal.retryable:
                raise
            raise error from refusal

    def _check_writable(self, request: Request) -> None:
        """Tell a missing bucket before hours of work go into its object. Whether it may be listed is no matter."""
        try:
            next(iter(obstore.list(self._objects(request.bucket), prefix=request.key, chunk_size=1)), None)
        except (BaseError, OSError, ValueError) as error:
            if status_of(error) == 404 or status_of(error) is None:
                raise translate(error, request) from error


class S3StoreKind:
    """S3 as a kind of store."""

    name = "s3"

    def connect(self, options: Mapping[str, str]) -> S3Store:
        """Options: endpoint, access_key_id, secret_access_key, session_token, region, allow_http, retry_seconds.

        Nothing is asked of the service yet. Raises ``ConfigError``.
        """
        return S3Store(S3Options.parse(options))


STORE = S3StoreKind()


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 300:  # a request's signature ages while it is tried again
        raise ConfigError(f"retry_seconds must be a number from 0.1 to 300, not {quote(text)}.")
    return value


def _connect(options: S3Options, bucket: str) -> obstore.store.S3Store:
    """obstore's client for ``bucket``.

    obstore fills what is not told it from the environment, so all that matters is told: there ``AWS_ENDPOINT_URL_S3``
    or a session token may belong to another service.
    """
    config: obstore.store.S3Config = {
        "region": options.region,
        "virtual_hosted_style_request": options.endpoint is None,
        "disable_bulk_delete": True,  # one DELETE says by its status what was wrong
    }
    if options.endpoint is not None:
        config |= {"endpoint": options.endpoint, "aws_endpoint_url_s3": options.endpoint}
    if options.access_key_id is not None and options.secret_access_key is not None:
        config |= {
            "access_key_id": options.access_key_id,
            "secret_access_key": options.secret_access_key,
            "session_token": options.session_token or "",
            "skip_signature": False,
        }
    budget = options.retry_seconds
    return obstore.store.S3Store(
        bucket,
        config=config,
        client_options=_client_options(options),
        retry_config={
            "max_retries": 1000,  # the time decides
            "retry_timeout": timedelta(seconds=budget),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=min(3.0, budget / 4)),
                "base": 2,
            },
        },
    )


def _client_options(options: S3Options) -> obstore.store.ClientConfig:
    patience = min(20.0, options.retry_seconds / 3)
    client: obstore.store.ClientConfig = {
        "allow_http": options.allow_http,
        "connect_timeout": timedelta(seconds=min(5.0, patience)),
        "read_timeout": timedelta(seconds=patience),
        "timeout": timedelta(seconds=600),
    }
    host = urlsplit(options.endpoint or "").hostname
    if host in ("127.0.0.1", "::1", "localhost"):
        # The only way to keep a proxy of the environment away from loopback: name one, and except the host from it.
        client |= {"proxy_url": "http://127.0.0.1:9", "proxy_excludes": host}
    return client
