"""botocore's client of S3, for what obstore does not offer: a multipart upload whose parts come in any order, access
control lists, and new buckets.

botocore has no types and its own errors; all it says passes through this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from vmferry.blob import Buffer
from vmferry.errors import ConfigError, StoreError
from vmferry.stores import PartStream
from vmferry.stores._s3_errors import Request, translated

_PATIENT_SECONDS = 5.0
"""A retry budget from which on a request is tried often, with waits that double."""


class S3Access(Protocol):
    """How an S3 service is reached: see ``S3Options``."""

    @property
    def endpoint(self) -> str | None: ...
    @property
    def access_key_id(self) -> str | None: ...
    @property
    def secret_access_key(self) -> str | None: ...
    @property
    def session_token(self) -> str | None: ...
    @property
    def region(self) -> str: ...
    @property
    def retry_seconds(self) -> float: ...


class Multipart:
    """The requests of one object's multipart upload. Safe from any thread."""

    def __init__(self, client: Any, request: Request) -> None:
        self._client = client
        self._request = request
        self._names = {"Bucket": request.bucket, "Key": request.key}

    def put(self, data: Buffer) -> None:
        """The whole object in one request."""
        self._call("put_object", **self._names, Body=data)

    def begin(self) -> str:
        """A new upload's id."""
        answer: dict[str, str] = self._call("create_multipart_upload", **self._names)
        return answer["UploadId"]

    def send(self, upload: str, number: int, data: Buffer | PartStream) -> str:
        """Part ``number``, from 1; its ETag. A stream is read once for the request's signature, and once to be sent."""
        answer: dict[str, str] = self._call("upload_part", **self._names, UploadId=upload, PartNumber=number, Body=data)
        return answer["ETag"]

    def complete(self, upload: str, etags: Sequence[str]) -> None:
        """Let the object appear: its parts are those with ``etags``, from part 1 on."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        self._call("complete_multipart_upload", **self._names, UploadId=upload, MultipartUpload={"Parts": parts})

    def abort(self, upload: str) -> None:
        """Remove what was sent; nothing happens where there is no such upload."""
        try:
            self._call("abort_multipart_upload", **self._names, UploadId=upload)
        except StoreError as error:
            if error.facts.get("code") != "NoSuchUpload":
                raise

    def parts(self, upload: str) -> dict[int, str] | None:
        """The ETag of every part that was sent, by its number, from 1; ``None`` where there is no such upload."""
        found: dict[int, str] = {}
        marker = 0
        while True:
            try:
                answer: dict[str, Any] = self._call(
                    "list_parts", **self._names, UploadId=upload, PartNumberMarker=marker
                )
            except StoreError as error:
                if error.facts.get("code") != "NoSuchUpload":
                    raise
                return None
            found |= {one["PartNumber"]: one["ETag"] for one in answer.get("Parts", ())}
            if not answer.get("IsTruncated"):
                return found
            marker = answer["NextPartNumberMarker"]

    def unfinished(self) -> list[str]:
        """The ids of all uploads of the object that were neither completed nor aborted: the first thousand."""
        answer: dict[str, Any] = self._call(
            "list_multipart_uploads", Bucket=self._names["Bucket"], Prefix=self._names["Key"]
        )
        return [one["UploadId"] for one in answer.get("Uploads", ()) if one["Key"] == self._names["Key"]]

    def _call(self, action: str, **parameters: Any) -> Any:
        return _call(self._client, self._request, action, **parameters)


def read_acl(client: Any, request: Request) -> None:
    """Ask for the access control list of the bucket of ``request``. What stands there is S3's own to judge: whoever may
    write is let in when it is tried."""
    _call(client, request, "get_bucket_acl", Bucket=request.bucket)


def _call(client: Any, request: Request, action: str, **parameters: Any) -> Any:
    with translated(request), _plain_errors():
        return getattr(client, action)(**parameters)


def make_bucket(client: Any, request: Request) -> None:
    """Make the bucket that ``request`` names, unless it is there."""
    try:
        _call(client, request, "create_bucket", Bucket=request.bucket)
    except StoreError as error:
        if error.facts.get("code") not in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
            raise


def connect(access: S3Access, connections: int) -> Any:
    """A client of the service; nothing is asked of it yet. Thread-safe; takes about 0.2 s.

    Raises ``ConfigError`` where botocore is not installed.
    """
    try:
        from botocore.config import Config
        from botocore.session import Session
    except ImportError as error:
        raise ConfigError("Writing to S3 needs botocore: pip install 'vmferry[client]'.") from error
    keys = {}
    if access.access_key_id is not None:
        keys = {
            "aws_access_key_id": access.access_key_id,
            "aws_secret_access_key": access.secret_access_key,
            "aws_session_token": access.session_token,
        }
    patient = access.retry_seconds >= _PATIENT_SECONDS
    loopback = urlsplit(access.endpoint or "").hostname in ("127.0.0.1", "::1", "localhost")
    options = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if access.endpoint else "auto"},
        connect_timeout=5,
        read_timeout=min(60.0, access.retry_seconds),
        retries={"mode": "standard", "total_max_attempts": 9 if patient else 3},
        max_pool_connections=connections,
        proxies={} if loopback else None,
        # Checksums beyond the signature's are not known to every S3 service.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    with _plain_errors():
        return Session().create_client(
            "s3", region_name=access.region, endpoint_url=access.endpoint or None, config=options, **keys
        )


@contextmanager
def _plain_errors() -> Iterator[None]:
    """botocore's errors as obstore words them, so that one table says what they mean to the user."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ProfileNotFound

    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        code, message = answer.get("Code", ""), answer.get("Message", "")
        raise OSError(f"status code: {status} <Code>{code}</Code><Message>{message}</Message>") from error
    except NoCredentialsError as error:
        raise OSError("CredentialsNotFound") from error
    except ProfileNotFound as error:
        raise StoreError(f"{error}. Check AWS_PROFILE.") from error
    except BotoCoreError as error:
        raise OSError(str(error)) from error
