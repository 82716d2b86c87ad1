"""Policy documents of requests: checked by IAM's rules, and refused where vmferry could not judge by them."""

from __future__ import annotations

from urllib.parse import quote as percent_encode

from vmferry.aws.errors import ApiError
from vmferry.aws.policy import PolicyError, parse_policy

MAX_TRUST_SIZE = 2_048
MAX_MANAGED_SIZE = 6_144
"""Characters, white space aside."""


def check_trust(document: str) -> None:
    """Raise ``PolicyError`` or ``ApiError`` for what is no trust policy, or none that vmferry can judge."""
    _check(document, trust=True)
    _check_size(document, "ACLSizePerRole", MAX_TRUST_SIZE)


def check_permissions(document: str) -> None:
    """The same for a policy that gives permissions; its size is counted with the role's others."""
    _check(document, trust=False)


def check_managed(document: str) -> None:
    """The same for a managed policy."""
    _check(document, trust=False)
    _check_size(document, "PolicySize", MAX_MANAGED_SIZE)


def encoded(document: str) -> str:
    """As IAM answers documents: percent-encoded (RFC 3986)."""
    return percent_encode(document, safe="")


def _check(document: str, *, trust: bool) -> None:
    unjudged = parse_policy(document, trust=trust).unjudged()
    if unjudged is not None:
        raise PolicyError(
            f"Syntax errors in policy. | vmferry cannot judge {unjudged}. It judges String… and Arn… conditions on "
            "sts:ExternalId, aws:SourceAccount and aws:SourceArn: leave the others out."
        )


def _check_size(document: str, quota: str, limit: int) -> None:
    if len("".join(document.split())) > limit:
        raise ApiError("LimitExceeded", f"Cannot exceed quota for {quota}: {limit}", 409)
