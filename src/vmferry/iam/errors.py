"""IAM's codes for what goes wrong. Their HTTP statuses stand in botocore's model of IAM."""

from __future__ import annotations

from vmferry.aws.errors import ApiError
from vmferry.aws.model import Service
from vmferry.aws.policy import PolicyError
from vmferry.aws.signature import Fault, SignatureError
from vmferry.errors import VmferryError

_SIGNATURE = {
    Fault.MISSING: ("MissingAuthenticationToken", "Request is missing Authentication Token", 403),
    Fault.MALFORMED: ("IncompleteSignature", "The request signature does not conform to AWS standards", 400),
    Fault.UNKNOWN_KEY: ("InvalidClientTokenId", "The security token included in the request is invalid.", 403),
    Fault.MISMATCH: ("SignatureDoesNotMatch", "The request signature we calculated does not match the signature", 403),
    Fault.TOKEN: ("InvalidClientTokenId", "The security token included in the request is invalid.", 403),
    Fault.EXPIRED: ("RequestExpired", "Request has expired.", 400),
}
_VALIDATION = frozenset({"InvalidParameterValue", "MissingParameter", "UnknownParameter", "InvalidCharacter"})
"""What the reader of requests says; IAM has one code for all of it."""


def from_error(error: VmferryError, service: Service) -> ApiError | None:
    """What IAM calls ``error``; ``None`` where it is a fault of ours that must be logged."""
    if isinstance(error, ApiError):
        return ApiError("ValidationError", str(error)) if error.code in _VALIDATION else error
    if isinstance(error, SignatureError):
        code, sentence, status = _SIGNATURE[error.fault]
        return ApiError(code, f"{sentence} | {error}", status)
    if isinstance(error, PolicyError):
        return ApiError("MalformedPolicyDocument", str(error))
    if isinstance(known := error.facts.get("code"), str):
        return ApiError(known, str(error), service.errors.get(known, 400))
    return None


def internal_error(request_id: str) -> ApiError:
    return ApiError(
        "ServiceFailure",
        "The request processing has failed because of an unknown error"
        f" | This is a fault in vmferry; request id {request_id}",
        500,
    )
