"""What to do about a code that AWS answers, where its message does not say it."""

from __future__ import annotations

_KEYS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names."
_EXPIRED = "Get new temporary keys, and call again."
_CLOCK = "Set this machine's clock."
_RIGHT = "Ask for a policy that allows it, or use other keys."
_LATER = "Call again in a minute."


def _other_region(what: str) -> str:
    return f"`vmferry {what}` lists yours; --region looks into another region."


_REMEDIES = {
    "AccessDenied": _RIGHT,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "InvalidAMIID.NotFound": _other_region("images"),
    "InvalidAccessKeyId": _KEYS,
    "InvalidClientTokenId": _KEYS,
    "InvalidConversionTaskId": _other_region("tasks"),
    "InvalidExportTaskID.NotFound": _other_region("tasks"),
    "InvalidInstanceID.NotFound": _other_region("instances"),
    "InvalidSnapshot.InUse": "Delete the AMI first: `vmferry images delete`.",
    "InvalidSnapshot.NotFound": _other_region("snapshots"),
    "InvalidVolume.NotFound": _other_region("volumes"),
    "NoCredentialsError": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with AWS_PROFILE.",
    "NoSuchBucket": "Make it, or name another.",
    "OptInRequired": "Switch the region on in the account, or name another with --region.",
    "RequestExpired": _CLOCK,
    "RequestLimitExceeded": _LATER,
    "RequestTimeTooSkewed": _CLOCK,
    "ResourceCountLimitExceeded": "Wait for one of your tasks (`vmferry tasks`) to end, and call again.",
    "SignatureDoesNotMatch": _KEYS,
    "UnauthorizedOperation": _RIGHT,
    "UnrecognizedClientException": _KEYS,
    "VolumeInUse": "Detach it first: `vmferry volumes detach`.",
}
"""Code, or botocore's own exception where there was no answer → a sentence."""

_BUCKET = (
    "Grant both on the bucket to the canonical id of VM Import/Export in your region, which the User Guide lists under"
    " 'Exporting an instance'; the bucket's ownership must not be enforced. An AMI is exported without that."
)


def find_remedy(code: str, message: str) -> str | None:
    """What to do; ``None`` where nothing is known, or where it stands there: vmferry says it behind a bar."""
    if " | " in message:
        return None
    if code == "AuthFailure":  # it has several meanings
        return _KEYS if "credentials" in message else _BUCKET if "READ_AC" in message else None
    return _REMEDIES.get(code)


REPEATED = frozenset(
    {"InternalError", "InternalFailure", "RequestLimitExceeded", "ServiceUnavailable", "SlowDown", "Throttling",
     "ThrottlingException", "Unavailable"}
)  # fmt: skip
"""Codes after which the same call may succeed."""
