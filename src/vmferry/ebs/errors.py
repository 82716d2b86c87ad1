"""Errors on the wire: ``EbsError``, and the one table that makes vmferry's own errors into the service's.

Source: the exceptions of botocore's model of ``ebs``; what the model does not know (signatures) is named as AWS' other
REST services name it.
"""

from __future__ import annotations

from vmferry import errors
from vmferry.aws.errors import ApiError
from vmferry.aws.model import load_service
from vmferry.aws.rest_json import InvalidMemberError
from vmferry.aws.signature import Fault, SignatureError

SERVICE = "ebs"
VALIDATION = "ValidationException"
NOT_FOUND = "ResourceNotFoundException"
CONFLICT = "ConflictException"
QUOTA = "ServiceQuotaExceededException"


class EbsError(ApiError):
    """``EbsError("ValidationException", "…", "INVALID_BLOCK_TOKEN")``: the status is the model's, so is the reason."""

    def __init__(self, code: str, message: str, reason: str | None = None, status: int | None = None) -> None:
        super().__init__(code, message, load_service(SERVICE).errors[code] if status is None else status)
        self.reason = reason


_SIGNATURE = {
    Fault.MISSING: ("MissingAuthenticationTokenException", "Missing Authentication Token"),
    Fault.MALFORMED: ("IncompleteSignatureException", "The request signature does not conform to AWS standards"),
    Fault.UNKNOWN_KEY: ("UnrecognizedClientException", "The security token included in the request is invalid."),
    Fault.TOKEN: ("UnrecognizedClientException", "The security token included in the request is invalid."),
    Fault.EXPIRED: ("InvalidSignatureException", "Signature expired."),
    Fault.MISMATCH: (
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided.",
    ),
}

_REASONS = {
    "BlockIndex": "INVALID_BLOCK",
    "BlockToken": "INVALID_BLOCK_TOKEN",
    "FirstSnapshotId": "INVALID_SNAPSHOT_ID",
    "KmsKeyArn": "INVALID_CUSTOMER_KEY",
    "NextToken": "INVALID_PAGE_TOKEN",
    "ParentSnapshotId": "INVALID_SNAPSHOT_ID",
    "SecondSnapshotId": "INVALID_SNAPSHOT_ID",
    "SnapshotId": "INVALID_SNAPSHOT_ID",
    "Tags": "INVALID_TAG",
    "VolumeSize": "INVALID_VOLUME_SIZE",
}
"""The reason of a member that is not what the model allows; of the others it is the parameter's value."""


def invalid(message: str, reason: str = "INVALID_PARAMETER_VALUE") -> EbsError:
    """A request that is wrong."""
    return EbsError(VALIDATION, message, reason)


def from_error(error: errors.VmferryError) -> ApiError | None:
    """What the service calls ``error``, with its own sentence; ``None`` where it is a fault of ours."""
    match error:
        case EbsError():
            return error
        case SignatureError():
            code, sentence = _SIGNATURE[error.fault]
            return EbsError(code, f"{sentence} | {error}", status=400 if error.fault is Fault.MALFORMED else 403)
        case ApiError():
            return _from_api_error(error)
        case errors.NotFoundError():
            return EbsError(NOT_FOUND, str(error), "SNAPSHOT_NOT_FOUND")
        case errors.BlobNotFoundError():
            return EbsError(NOT_FOUND, "The snapshot was deleted meanwhile.", "SNAPSHOT_NOT_FOUND")
        case errors.ConflictError() if error.facts.get("code") == "PendingSnapshotLimitExceeded":
            return EbsError(QUOTA, str(error), "DEPENDENCY_SERVICE_QUOTA_EXCEEDED")
        case errors.ConflictError() | errors.TaskCancelledError():
            return EbsError(CONFLICT, str(error))
        case errors.OutOfSpaceError() | errors.StoreUnavailableError():  # what all clients try again
            return EbsError("InternalServerException", str(error))
        case errors.StoreError() if error.facts.get("too_large"):
            return invalid(str(error), "INVALID_VOLUME_SIZE")
    return None


def _from_api_error(error: ApiError) -> EbsError:
    """What the service calls an error that knows no service."""
    match error:
        case InvalidMemberError():
            return invalid(str(error), _REASONS.get(error.member, "INVALID_PARAMETER_VALUE"))
        case ApiError(code="AuthFailure"):
            return EbsError("InvalidSignatureException", str(error), status=403)
        case ApiError(code="ValidationException" | "RequestEntityTooLarge"):
            return invalid(str(error))
        case ApiError(code="RequestTimeout"):
            return invalid(str(error), "WRITE_REQUEST_TIMEOUT")
    return EbsError(error.code, str(error), status=error.status)


def internal_error(request_id: str) -> EbsError:
    """What is answered when something happened that nobody foresaw. The log has the rest, under the request's id."""
    return EbsError(
        "InternalServerException",
        f"An internal error has occurred | This is a fault in vmferry; request id {request_id}",
    )
