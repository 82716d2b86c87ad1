"""Errors on the wire: ``Ec2Error``, and the one table that makes vmferry's own errors into EC2's codes.

Sources: the EC2 API's list of error codes, and what the service really answers. A wrong request never gets a 5xx, for
clients repeat those; what is not well with us always does.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmferry import errors
from vmferry.aws.errors import ApiError
from vmferry.aws.signature import Fault, SignatureError
from vmferry.ec2.resources import kind_of


class Ec2Error(ApiError):
    """What an action answers instead of a result: ``Ec2Error("InvalidAMIName.Duplicate", "AMI name …")``."""


_SIGNATURE = {
    Fault.MISSING: ("MissingAuthenticationToken", "Request is missing Authentication Token", 403),
    Fault.MALFORMED: ("IncompleteSignature", "The request signature does not conform to AWS standards", 400),
    Fault.UNKNOWN_KEY: ("AuthFailure", "AWS was not able to validate the provided access credentials", 401),
    Fault.MISMATCH: ("AuthFailure", "AWS was not able to validate the provided access credentials", 401),
    Fault.TOKEN: ("AuthFailure", "AWS was not able to validate the provided access credentials", 401),
    Fault.EXPIRED: ("RequestExpired", "Request has expired.", 400),
}

_CODES: tuple[tuple[type[errors.VmferryError], str, int], ...] = (
    (errors.NotFoundError, "InvalidID", 400),
    (errors.ConflictError, "IncorrectState", 400),
    (errors.TaskCancelledError, "IncorrectState", 400),
    (errors.BlobNotFoundError, "InvalidParameter", 400),
    (errors.AccessDeniedError, "InvalidParameter", 400),
    (errors.BlobChangedError, "InvalidParameter", 400),
    (errors.OutOfSpaceError, "InsufficientCapacity", 503),
    (errors.StoreUnavailableError, "Unavailable", 503),
    (errors.UnsupportedFeatureError, "Unsupported", 400),
    (errors.FormatError, "InvalidParameter", 400),
    (errors.UnsafeDiskError, "InvalidParameter", 400),
    (errors.LimitExceededError, "InvalidParameterValue", 400),
    (errors.GuestError, "Unsupported", 400),
)
"""The first that fits; none fits what is our own fault, and that is ``InternalError``."""


def from_signature(error: SignatureError) -> Ec2Error:
    """AWS's sentence first, then what is wrong here."""
    code, sentence, status = _SIGNATURE[error.fault]
    return Ec2Error(code, f"{sentence} | {error}", status)


def from_error(error: errors.VmferryError) -> ApiError | None:
    """What EC2 calls ``error``, with its own sentence; ``None`` where it is a fault of ours that must be logged.

    An error that knows its code (the fact ``code``), or the resource that is missing (``resource_id``), says so.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, SignatureError):
        return from_signature(error)
    if isinstance(code := error.facts.get("code"), str):
        return Ec2Error(code, str(error))
    if isinstance(error, errors.NotFoundError) and (missing := kind_of(str(error.facts.get("resource_id", "")))):
        return Ec2Error(missing.not_found, str(error))
    for kind, code, status in _CODES:
        if isinstance(error, kind):
            return Ec2Error(code, str(error), status)
    if error.client_fault and not isinstance(error, errors.ConfigError):
        return Ec2Error("InvalidRequest", str(error))
    return None


def dry_run_succeeded(notes: Sequence[str] = ()) -> Ec2Error:
    """What a DryRun is answered with where the request is good, and what is to be said of it all the same."""
    behind = f" | {' '.join(notes)}" if notes else ""
    return Ec2Error("DryRunOperation", f"Request would have succeeded, but DryRun flag is set.{behind}", 412)


def internal_error(request_id: str) -> Ec2Error:
    """What is answered when something happened that nobody foresaw. The log has the rest, under the request's id."""
    return Ec2Error(
        "InternalError", f"An internal error has occurred | This is a fault in vmferry; request id {request_id}", 500
    )
