"""What obstore and S3 say went wrong, as our errors. The order in which causes are told apart stands in ``translate``.

obstore gives S3's answer only as the text of its exception: ``… status code: 403 Forbidden: <Error><Code>…``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from obstore.exceptions import BaseError, InvalidPathError

from vmferry.errors import (
    AccessDeniedError,
    BlobChangedError,
    BlobNotFoundError,
    OutOfSpaceError,
    StoreError,
    StoreUnavailableError,
    VmferryError,
    quote,
)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z.]+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_REGION = re.compile(r"<(?:Region|Endpoint)>([^<]*)</")
_FOREIGN = (BaseError, OSError, ValueError)
"""What obstore raises: its own, ``FileNotFoundError`` for any 404, ``ValueError`` for what it cannot put in a URL."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of S3: enough to say what failed."""

    endpoint: str
    bucket: str
    key: str
    permission: str
    """What the credentials need for it: ``s3:GetObject``."""

    @property
    def name(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@contextmanager
def translated(request: Request) -> Iterator[None]:
    """Errors of obstore inside become ours."""
    try:
        yield
    except _FOREIGN as error:
        raise translate(error, request) from error


def status_of(error: BaseException) -> int | None:
    """The HTTP status that S3 answered with, or ``None`` when no answer came."""
    match = _STATUS.search(str(error))
    return int(match[1]) if match else None


def code_of(error: BaseException) -> str:
    """S3's error code (``NoSuchKey``), or an empty string."""
    match = _CODE.search(str(error))
    return match[1] if match else ""


def translate(error: Exception, request: Request) -> VmferryError:
    """Our error for ``error``: unreachable, then bucket, region, key, permission, change, ranges, and all else."""
    status, code = status_of(error), code_of(error)
    if _no_credentials(error):
        return AccessDeniedError(
            f"No S3 credentials were found for {quote(request.name)}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if isinstance(error, ValueError | InvalidPathError):
        return BlobNotFoundError(
            f"The key {quote(request.key)!r} cannot be asked for. Copy the object to a plain name."
        )
    if "redirect without LOCATION" in str(error):
        return _wrong_region(error, request)
    if status is None and "non-partial response" in str(error):
        return StoreError(
            f"{quote(request.endpoint)} does not serve byte ranges of {quote(request.name)}: a proxy may hold them "
            "back. Use an S3 endpoint that honours the Range header."
        )
    if status is None or status >= 500 or status in (408, 429):
        return _unavailable(error, status, code, request)
    if code == "NoSuchBucket":
        return BlobNotFoundError(
            f"There is no bucket {quote(request.bucket)} at {quote(request.endpoint)}. Check its name, or make it.",
            bucket=request.bucket,
        )
    if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect") or status in (301, 307):
        return _wrong_region(error, request)
    if status in (401, 403):
        return _denied(error, code, request)
    if status == 412:
        return changed(request)
    if status == 404:
        return _missing(code, request)
    return _refused(error, status, code, request)


def changed(request: Request) -> BlobChangedError:
    """The object is another one now."""
    return BlobChangedError(
        f"{quote(request.name)}: the object changed during the import: it was replaced or removed after it was opened. "
        "Start the import again, and leave the object alone until it ends."
    )


def _unavailable(error: Exception, status: int | None, code: str, request: Request) -> StoreError:
    if status == 507 or "no space left" in str(error).lower():
        return OutOfSpaceError(f"No room left at {quote(request.endpoint)} for {quote(request.name)}: free some space.")
    answer = f"it answers {status} {code}".rstrip() if status else "it cannot be reached"
    return StoreUnavailableError(
        f"{quote(request.endpoint)} does not serve {quote(request.name)}: {answer}, after several attempts. Check that "
        "the S3 service runs there, and try again."
    )


def _missing(code: str, request: Request) -> StoreError:
    if code in ("NoSuchKey", "NoSuchVersion"):
        return BlobNotFoundError(
            f"There is no object {quote(request.key)} in the bucket {quote(request.bucket)}. Check the key; keys are "
            "case-sensitive.",
            bucket=request.bucket,
            key=request.key,
        )
    if code == "NoSuchUpload":
        return StoreError(
            f"{quote(request.name)}: the upload was swept away before it was finished. Upload it again.", code=code
        )
    return StoreError(
        f"{quote(request.endpoint)} answers 404 to a request for {quote(request.name)}, but not as S3 does. Check that "
        "the endpoint is an S3 service."
    )


def _denied(error: Exception, code: str, request: Request) -> AccessDeniedError:
    message = _MESSAGE.search(str(error))
    if code == "SignatureDoesNotMatch":
        reason = "the signature does not match. Check the secret access key"
    elif code == "InvalidAccessKeyId":
        reason = "it does not know the access key id. Check the credentials and the endpoint"
    elif code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired"):
        reason = "the session token is invalid or has expired. Get new credentials"
    elif code == "RequestTimeTooSkewed":
        reason = "the clocks differ by more than 15 minutes. Set this machine's clock"
    elif message and "kms" in message[1].lower():
        reason = "the object's KMS key may not be used. Grant kms:Decrypt on it"
    else:
        target = f"{request.bucket}/{request.key}" if request.key else request.bucket
        reason = f"access denied. Grant {request.permission} on arn:aws:s3:::{quote(target)}"
    return AccessDeniedError(f"{quote(request.endpoint)} refuses {quote(request.name)}: {reason}.", code=code)


def _wrong_region(error: Exception, request: Request) -> StoreError:
    where = _REGION.search(str(error))
    place = f"; it lies at {quote(where[1])}" if where else ""
    return StoreError(
        f"The bucket {quote(request.bucket)} is not in the region of {quote(request.endpoint)}{place}. Set the store's "
        "region and endpoint to the bucket's."
    )


def _refused(error: Exception, status: int, code: str, request: Request) -> StoreError:
    message = _MESSAGE.search(str(error))
    detail = f": {quote(message[1])}" if message else ""
    return StoreError(
        f"{quote(request.endpoint)} answers {status} {code} for {quote(request.name)}{detail}.", code=code
    )


def _no_credentials(error: Exception) -> bool:
    """Without keys obstore asks the address of the cloud's instance metadata, and fails there."""
    text = str(error)
    return "169.254.169.254" in text or "CredentialsNotFound" in text or "MissingAccessKeyId" in text
