"""Signature Version 4, the server's side: who signed this request, and is it what was signed.

Two forms: the ``Authorization`` header and the presigned query. Source: AWS General Reference, "Create a signed AWS API
request". Nothing of the request is trusted before ``verify`` returns. Pure: the clock and the keys are handed in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Protocol
from urllib.parse import parse_qsl
from urllib.parse import quote as percent_encode

from vmferry.errors import VmferryError, quote

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW = timedelta(minutes=15)
MAX_EXPIRES_SECONDS = 604_800
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

_DATE_FORM = "%Y%m%dT%H%M%SZ"
_CREDENTIAL = re.compile(
    r"(?P<key>[^\s,]{1,128})/(?P<date>[0-9]{8})/(?P<region>[^/\s,]{0,64})/(?P<service>[^/\s,]{0,64})/aws4_request"
)
_SIGNED_HEADERS = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(;[a-z0-9!#$%&'*+.^_`|~-]+)*")


class Fault(Enum):
    """What is wrong with a signature; each front end has its own code for each."""

    MISSING = auto()
    MALFORMED = auto()
    UNKNOWN_KEY = auto()
    MISMATCH = auto()
    TOKEN = auto()
    EXPIRED = auto()


class SignatureError(VmferryError):
    """The request is not one that a known caller signed, just now, as it stands."""

    client_fault = True

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it came over the wire. ``path`` and ``query`` are still percent-encoded; header names lower case."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The values of ``name`` as they are signed: trimmed, runs of spaces as one, joined by commas."""
        values = [" ".join(value.split()) for key, value in self.headers if key == name]
        return ",".join(values) if values else None


@dataclass(frozen=True, slots=True)
class Credential:
    """What the server knows of an access key. ``session_token`` belongs to temporary keys alone."""

    secret_access_key: str = field(repr=False)
    account_id: str
    session_token: str | None = field(default=None, repr=False)


class CredentialLookup(Protocol):
    """Where access keys are known."""

    def __call__(self, access_key_id: str, /) -> Credential | None:
        """The active key with that id, or ``None``. Called from several threads."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who signed, and for which region and service: the signature's scope, which the server still has to accept."""

    access_key_id: str
    account_id: str
    region: str
    service: str


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a request says of its own signature."""

    credential: str
    signed_headers: str
    signature: str
    date: str
    expires: timedelta | None
    """How long a presigned request stays good; ``None`` for the header form."""
    token: str | None
    pairs: Sequence[tuple[str, str]]
    """The query's parameters without the signature."""


def claimed_service(request: HttpRequest) -> str | None:
    """The service that ``request`` claims to be signed for, which nobody has verified; ``None`` where it says none."""
    try:
        scope = _CREDENTIAL.fullmatch(_claim(request).credential)
    except SignatureError:
        return None
    return None if scope is None else scope["service"]


def verify(request: HttpRequest, lookup: CredentialLookup, now: datetime, vouching: str | None = None) -> Caller:
    """Who signed ``request``. ``now`` is aware. Raises ``SignatureError``.

    The body may be left unsigned where the header ``vouching`` is signed: the caller holds the body against it.
    """
    claim = _claim(request)
    scope = _CREDENTIAL.fullmatch(claim.credential)
    if scope is None:
        raise _malformed("Credential must be KEY/YYYYMMDD/REGION/SERVICE/aws4_request")
    if scope["date"] != claim.date[:8]:
        raise _malformed(f"the scope's date {scope['date']} is not that of the request, {claim.date[:8]}")
    _check_signed_headers(request, claim)
    _check_clock(claim, now)
    credential = lookup(scope["key"])
    if credential is None:
        raise SignatureError(Fault.UNKNOWN_KEY, f"The access key {quote(scope['key'])} is not known here.")
    expected = _sign(credential.secret_access_key, scope, claim.date, _canonical_request(request, claim, vouching))
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise SignatureError(
            Fault.MISMATCH,
            "The signature is not the one computed here: check the secret access key; "
            "a proxy in between must leave host, path and body as they are.",
        )
    _check_token(credential, claim)
    return Caller(scope["key"], credential.account_id, scope["region"], scope["service"])


def canonical_query(pairs: Sequence[tuple[str, str]]) -> str:
    """Parameters percent-encoded (RFC 3986) and sorted: a function of the decoded pairs, so no two readings exist."""
    encoded = sorted((percent_encode(key, safe="-_.~"), percent_encode(value, safe="-_.~")) for key, value in pairs)
    return "&".join(f"{key}={value}" for key, value in encoded)


def canonical_path(path: str) -> str:
    """The path without ``.``, ``..`` and empty segments, encoded once more (every service but S3 does so)."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    tail = "/" if kept and path.endswith("/") else ""
    return percent_encode("/" + "/".join(kept) + tail, safe="/~")


def _claim(request: HttpRequest) -> _Claim:
    pairs = _query_pairs(request.query)
    header = request.header("authorization")
    presigned = [key for key, _ in pairs if key in ("X-Amz-Signature", "X-Amz-Algorithm")]
    if header is not None and presigned:
        raise _malformed("a request is signed by its header or by its query, not by both")
    if header is not None:
        return _header_claim(request, header, pairs)
    if presigned:
        return _query_claim(pairs)
    if any(key == "SignatureVersion" for key, _ in pairs) or b"SignatureVersion=" in request.body[:4096]:
        raise _malformed("signature version 2 is not accepted, sign with version 4")
    raise SignatureError(Fault.MISSING, "Sign the request with Signature Version 4.")


def _query_pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=10_000)
    except ValueError as error:
        raise _malformed("the query is not UTF-8, or has too many parameters") from error


def _header_claim(request: HttpRequest, header: str, pairs: Sequence[tuple[str, str]]) -> _Claim:
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise _malformed(f"the Authorization header must begin with {ALGORITHM}, not {quote(algorithm)}")
    fields = [part.strip().partition("=") for part in rest.split(",")]
    found = {key: value for key, _, value in fields}
    if len(fields) != 3 or found.keys() != {"Credential", "SignedHeaders", "Signature"}:
        raise _malformed("the Authorization header must have Credential, SignedHeaders and Signature, each once")
    return _Claim(
        found["Credential"],
        found["SignedHeaders"],
        found["Signature"],
        _date(request),
        None,
        request.header("x-amz-security-token"),
        pairs,
    )


def _query_claim(pairs: Sequence[tuple[str, str]]) -> _Claim:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _malformed("a parameter of the presigned query occurs more than once")
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        if not found.get(f"X-Amz-{name}"):
            raise _malformed(f"a presigned query needs X-Amz-{name}")
    if found["X-Amz-Algorithm"] != ALGORITHM:
        raise _malformed(f"X-Amz-Algorithm must be {ALGORITHM}")
    expires = found["X-Amz-Expires"]
    if not re.fullmatch("[0-9]{1,6}", expires) or not 1 <= int(expires) <= MAX_EXPIRES_SECONDS:
        raise _malformed(f"X-Amz-Expires must be a number from 1 to {MAX_EXPIRES_SECONDS} seconds")
    return _Claim(
        found["X-Amz-Credential"],
        found["X-Amz-SignedHeaders"],
        found["X-Amz-Signature"],
        found["X-Amz-Date"],
        timedelta(seconds=int(expires)),
        found.get("X-Amz-Security-Token"),
        [(key, value) for key, value in pairs if key != "X-Amz-Signature"],
    )


def _date(request: HttpRequest) -> str:
    """When the request says it was signed, in the form of ``X-Amz-Date``; clients may send ``Date`` instead."""
    if (stamp := request.header("x-amz-date")) is not None:
        return stamp
    try:
        moment = parsedate_to_datetime(request.header("date") or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).strftime(_DATE_FORM)
    except (ValueError, OverflowError) as error:
        raise _malformed("the request needs an X-Amz-Date or a Date header") from error


def _check_signed_headers(request: HttpRequest, claim: _Claim) -> None:
    if not _SIGNED_HEADERS.fullmatch(claim.signed_headers):
        raise _malformed("SignedHeaders must be header names in lower case, with ; between them")
    names = claim.signed_headers.split(";")
    if "host" not in names:
        raise _malformed("the host header must be signed")
    if names != sorted(set(names)):
        raise _malformed("SignedHeaders must be sorted, each name once")
    present = {name for name, _ in request.headers}
    for name in names:
        if name not in present:
            raise _malformed(f"the header {quote(name)} is signed but did not arrive")
    if claim.expires is None and claim.token is not None and "x-amz-security-token" not in names:
        raise _malformed("the header x-amz-security-token must be signed")


def _check_clock(claim: _Claim, now: datetime) -> None:
    try:
        signed = datetime.strptime(claim.date, _DATE_FORM).replace(tzinfo=UTC)
    except ValueError as error:
        raise _malformed("X-Amz-Date must have the form 20261123T100000Z") from error
    # The expiry of a presigned request gets the same 15 minutes of grace as the date of a plain one.
    too_old = now - signed > MAX_SKEW + (claim.expires or timedelta())
    if too_old or signed - now > MAX_SKEW:
        raise SignatureError(
            Fault.EXPIRED,
            f"The server's time is {now:%Y-%m-%dT%H:%M:%SZ}, the request was signed at {signed:%Y-%m-%dT%H:%M:%SZ}: "
            + ("set the clocks right." if claim.expires is None else "make a new presigned request."),
        )


def _check_token(credential: Credential, claim: _Claim) -> None:
    if credential.session_token is None and claim.token is None:
        return
    if credential.session_token is None:
        raise SignatureError(Fault.TOKEN, "The access key is a permanent one: unset AWS_SESSION_TOKEN.")
    if claim.token is None:
        raise SignatureError(Fault.TOKEN, "The access key is a temporary one: send its session token too.")
    if not hmac.compare_digest(credential.session_token.encode(), claim.token.encode()):
        raise SignatureError(Fault.TOKEN, "The session token is not that of the access key.")


def _canonical_request(request: HttpRequest, claim: _Claim, vouching: str | None) -> str:
    headers = "".join(f"{name}:{request.header(name)}\n" for name in claim.signed_headers.split(";"))
    return "\n".join(
        (
            request.method.upper(),
            canonical_path(request.path),
            canonical_query(claim.pairs),
            headers,
            claim.signed_headers,
            _payload_hash(request, claim, vouching),
        )
    )


def _payload_hash(request: HttpRequest, claim: _Claim, vouching: str | None) -> str:
    """The body's hash, which ``x-amz-content-sha256`` may repeat; a presigned request without a body may sign none."""
    declared = request.header("x-amz-content-sha256") or dict(claim.pairs).get("X-Amz-Content-Sha256")
    if declared == UNSIGNED_PAYLOAD:
        if (claim.expires is not None and not request.body) or vouching in claim.signed_headers.split(";"):
            return declared
        raise SignatureError(Fault.MISMATCH, "The body must be signed: send its SHA-256 as x-amz-content-sha256.")
    actual = hashlib.sha256(request.body).hexdigest()
    if declared is None or hmac.compare_digest(declared.encode(), actual.encode()):
        return actual
    raise SignatureError(Fault.MISMATCH, "The body is not the one whose SHA-256 x-amz-content-sha256 gives.")


def _sign(secret: str, scope: re.Match[str], date: str, canonical_request: str) -> str:
    key = b"AWS4" + secret.encode()
    for part in (scope["date"], scope["region"], scope["service"], "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    digest = hashlib.sha256(canonical_request.encode()).hexdigest()
    text = f"{ALGORITHM}\n{date}\n{scope['date']}/{scope['region']}/{scope['service']}/aws4_request\n{digest}"
    return hmac.digest(key, text.encode(), "sha256").hex()


def _malformed(why: str) -> SignatureError:
    return SignatureError(Fault.MALFORMED, f"{why[:1].upper()}{why[1:]}.")
