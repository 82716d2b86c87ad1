"""Signatures: botocore makes them, we check them."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.aws.signature import (
    Credential,
    Fault,
    HttpRequest,
    SignatureError,
    canonical_path,
    claimed_service,
    verify,
)

KEY = "AKIAABCDEFGHIJKLMNOP"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ACCOUNT = "111122223333"
URL = "http://127.0.0.1:8773/"
BODY = b"Action=DescribeImages&Version=2016-11-15&Filter.1.Name=name&Filter.1.Value.1=x%2A+y"
FORM = "application/x-www-form-urlencoded; charset=utf-8"


def lookup(access_key_id: str) -> Credential | None:
    keys = {KEY: Credential(SECRET, ACCOUNT), "ASIATEMPORARY": Credential(SECRET, ACCOUNT, "session/token+=")}
    return keys.get(access_key_id)


def signed(
    method: str = "POST",
    url: str = URL,
    body: bytes = BODY,
    headers: dict[str, str] | None = None,
    secret: str = SECRET,
    key: str = KEY,
    token: str | None = None,
    presigned_seconds: int | None = None,
) -> HttpRequest:
    """A request as it goes over the wire, signed by botocore just now."""
    request = AWSRequest(method=method, url=url, data=body, headers={"Content-Type": FORM, **(headers or {})})
    credentials = Credentials(key, secret, token)
    if presigned_seconds is None:
        SigV4Auth(credentials, "ec2", "us-east-1").add_auth(request)
    else:
        SigV4QueryAuth(credentials, "ec2", "us-east-1", expires=presigned_seconds).add_auth(request)
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    wire: dict[str, Any] = {"Host": parts.netloc, **prepared.headers}
    return HttpRequest(
        method,
        parts.path,
        parts.query,
        [(name.lower(), value.decode() if isinstance(value, bytes) else str(value)) for name, value in wire.items()],
        prepared.body or b"",
    )


def now() -> datetime:
    return datetime.now(UTC)


def fault_of(request: HttpRequest, at: datetime | None = None) -> Fault:
    with pytest.raises(SignatureError) as caught:
        verify(request, lookup, at or now())
    assert SECRET not in str(caught.value)
    return caught.value.fault


def with_header(request: HttpRequest, name: str, value: str | None) -> HttpRequest:
    kept = [(key, text) for key, text in request.headers if key != name]
    return dataclasses.replace(request, headers=kept if value is None else [*kept, (name, value)])


def test_a_request_that_botocore_signed_names_its_caller() -> None:
    caller = verify(signed(), lookup, now())
    assert (caller.access_key_id, caller.account_id, caller.region, caller.service) == (
        KEY,
        ACCOUNT,
        "us-east-1",
        "ec2",
    )


@pytest.mark.parametrize(
    "url",
    [
        URL + "?Action=DescribeImages&ImageId.1=a%20b%2Bc~d&Empty=",
        URL + "services/compute/",
        URL + "snapshots/snap-1/blocks/0",
        URL + "a%20b/c",
    ],
)
def test_paths_and_queries_are_canonical_as_botocore_has_them(url: str) -> None:
    assert verify(signed("GET", url, b""), lookup, now()).account_id == ACCOUNT


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), st.text(max_size=6)))
def test_any_parameters_may_be_presigned(parameters: dict[str, str]) -> None:
    request = AWSRequest(method="GET", url=URL, params={**parameters, "Action": "x"})
    SigV4QueryAuth(Credentials(KEY, SECRET), "ec2", "us-east-1").add_auth(request)
    parts = urlsplit(request.url)
    http = HttpRequest("GET", parts.path, parts.query, [("host", parts.netloc)])
    assert verify(http, lookup, now()).account_id == ACCOUNT


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_presigned_request_holds_until_it_expires(method: str) -> None:
    request = signed(method, URL + "?Action=DescribeImages&Version=2016-11-15", b"", presigned_seconds=3600)
    assert not request.body
    assert verify(request, lookup, now() + timedelta(seconds=3500)).account_id == ACCOUNT
    assert fault_of(request, now() + timedelta(seconds=3600 + 15 * 60 + 5)) is Fault.EXPIRED
    assert fault_of(request, now() - timedelta(minutes=16)) is Fault.EXPIRED


@pytest.mark.parametrize("seconds", [0, 604_801, -1])
def test_a_presigned_request_may_not_last_longer_than_a_week(seconds: int) -> None:
    assert fault_of(signed("GET", URL + "?Action=x", b"", presigned_seconds=seconds)) is Fault.MALFORMED


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_clock_that_is_off_is_told_both_times(minutes: int) -> None:
    with pytest.raises(SignatureError, match=r"server's time is .*Z, the request was signed at .*Z") as caught:
        verify(signed(), lookup, now() + timedelta(minutes=minutes))
    assert caught.value.fault is Fault.EXPIRED


@pytest.mark.parametrize("minutes", [-14, 14])
def test_a_quarter_of_an_hour_is_forgiven(minutes: int) -> None:
    assert verify(signed(), lookup, now() + timedelta(minutes=minutes)).account_id == ACCOUNT


def test_a_wrong_secret_and_an_unknown_key_are_refused() -> None:
    assert fault_of(signed(secret="x" * 40)) is Fault.MISMATCH
    assert fault_of(signed(key="AKIAUNKNOWN")) is Fault.UNKNOWN_KEY


def test_nothing_that_is_signed_can_be_changed() -> None:
    request = signed(url=URL + "?a=b")
    assert fault_of(dataclasses.replace(request, body=request.body + b"&x=y")) is Fault.MISMATCH
    assert fault_of(dataclasses.replace(request, query="a=c")) is Fault.MISMATCH
    assert fault_of(dataclasses.replace(request, query="")) is Fault.MISMATCH
    assert fault_of(dataclasses.replace(request, method="GET")) is Fault.MISMATCH
    assert fault_of(dataclasses.replace(request, path="/x")) is Fault.MISMATCH
    assert fault_of(with_header(request, "host", "evil:8773")) is Fault.MISMATCH
    assert fault_of(with_header(request, "content-type", "text/plain")) is Fault.MISMATCH


@pytest.mark.parametrize(("ours", "theirs"), [("/us-east-1/", "/us-west-2/"), ("/ec2/", "/sts/")])
def test_the_scope_is_signed(ours: str, theirs: str) -> None:
    request = signed()
    header = request.header("authorization") or ""
    assert ours in header
    assert fault_of(with_header(request, "authorization", header.replace(ours, theirs))) is Fault.MISMATCH


def test_a_plus_is_a_space_in_a_presigned_query_and_never_a_plus() -> None:
    request = signed("GET", URL + "?Action=x&V=a%20b", b"", presigned_seconds=60)
    assert verify(dataclasses.replace(request, query=request.query.replace("a%20b", "a+b")), lookup, now())
    tampered = signed("GET", URL + "?Action=x&V=a%2Bb", b"", presigned_seconds=60)
    assert fault_of(dataclasses.replace(tampered, query=tampered.query.replace("a%2Bb", "a+b"))) is Fault.MISMATCH


def test_temporary_keys_need_their_token_and_permanent_ones_none() -> None:
    assert verify(signed(key="ASIATEMPORARY", token="session/token+="), lookup, now()).account_id == ACCOUNT
    presigned = signed("GET", URL + "?A=b", b"", key="ASIATEMPORARY", token="session/token+=", presigned_seconds=9)
    assert verify(presigned, lookup, now()).account_id == ACCOUNT
    assert fault_of(signed(key="ASIATEMPORARY", token="other")) is Fault.TOKEN
    assert fault_of(signed(key="ASIATEMPORARY")) is Fault.TOKEN
    assert fault_of(signed(token="session/token+=")) is Fault.TOKEN
    assert fault_of(with_header(signed(), "x-amz-security-token", "unsigned")) is Fault.MALFORMED


def test_a_declared_hash_must_be_that_of_the_body() -> None:
    unsigned = signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    assert fault_of(unsigned) is Fault.MISMATCH
    presigned = signed("GET", URL, b"", {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, presigned_seconds=60)
    assert verify(presigned, lookup, now()).account_id == ACCOUNT
    assert fault_of(dataclasses.replace(presigned, body=b"Action=x")) is Fault.MISMATCH


def test_a_body_may_stay_unsigned_where_a_signed_header_vouches_for_it() -> None:
    named = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD", "x-amz-checksum": "c2hhMjU2"}
    vouched = signed("PUT", headers=named)
    assert verify(vouched, lookup, now(), "x-amz-checksum").account_id == ACCOUNT
    other_body = dataclasses.replace(vouched, body=b"other")
    assert verify(other_body, lookup, now(), "x-amz-checksum").account_id == ACCOUNT  # the caller looks at the header
    assert fault_of(vouched) is Fault.MISMATCH
    changed = with_header(vouched, "x-amz-checksum", "b3RoZXI=")
    with pytest.raises(SignatureError):
        verify(changed, lookup, now(), "x-amz-checksum")
    alone = signed("PUT", headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    with pytest.raises(SignatureError):
        verify(with_header(alone, "x-amz-checksum", "b3RoZXI="), lookup, now(), "x-amz-checksum")


def test_the_service_is_claimed_before_it_is_verified() -> None:
    request = signed()
    assert claimed_service(request) == "ec2"
    assert claimed_service(with_header(request, "authorization", "Bearer x")) is None
    assert claimed_service(dataclasses.replace(request, headers=[])) is None


def test_the_host_must_be_signed() -> None:
    request = signed()
    header = (request.header("authorization") or "").replace("content-type;host;", "content-type;")
    assert fault_of(with_header(request, "authorization", header)) is Fault.MALFORMED


def test_the_date_header_will_do() -> None:
    request = signed(headers={"Date": "any"})
    assert request.header("x-amz-date") is None
    assert verify(request, lookup, now()).account_id == ACCOUNT


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic dXNlcg==",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=x",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=" + "0" * 64,
        "AWS4-HMAC-SHA256 Credential=A/19991231/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=" + "0" * 64,
    ],
)
def test_a_header_of_another_form_is_refused(header: str) -> None:
    assert fault_of(with_header(signed(), "authorization", header)) is Fault.MALFORMED


def test_a_header_to_sign_that_is_missing_is_named() -> None:
    with pytest.raises(SignatureError, match="content-type is signed but did not arrive"):
        verify(with_header(signed(), "content-type", None), lookup, now())


def test_no_signature_and_an_old_one_are_told_apart() -> None:
    assert fault_of(HttpRequest("POST", "/", "", [("host", "h")], b"Action=x")) is Fault.MISSING
    with pytest.raises(SignatureError, match="version 2"):
        verify(HttpRequest("GET", "/", "Action=x&SignatureVersion=2&Signature=a", [("host", "h")]), lookup, now())


def test_one_of_two_ways_to_sign_is_enough() -> None:
    request = signed("GET", URL + "?Action=x", b"", presigned_seconds=60)
    both = with_header(request, "authorization", signed().header("authorization"))
    assert fault_of(both) is Fault.MALFORMED


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_mangled_signature_is_refused_and_nothing_worse(data: st.DataObject) -> None:
    request = signed("GET", URL + "?Action=x", b"", presigned_seconds=60)
    at = data.draw(st.integers(0, len(request.query) - 1))
    character = data.draw(st.characters(min_codepoint=32, max_codepoint=255))
    query = request.query[:at] + character + request.query[at + 1 :]
    with contextlib.suppress(SignatureError):
        verify(dataclasses.replace(request, query=query), lookup, now())
        decoded = re.sub("%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), query)
        assert decoded == re.sub("%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), request.query)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=80), st.text(max_size=80))
def test_any_header_and_query_are_refused(header: str, query: str) -> None:
    request = HttpRequest("GET", "/", query, [("host", "h"), ("authorization", "AWS4-HMAC-SHA256 " + header)])
    with pytest.raises(SignatureError):
        verify(request, lookup, now())


@pytest.mark.parametrize(
    ("path", "canonical"),
    [("", "/"), ("/", "/"), ("//a/./b/../c/", "/a/c/"), ("/../..", "/"), ("/a%20b", "/a%2520b"), ("/~x", "/~x")],
)
def test_paths_are_normalised_and_encoded_once_more(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical


def test_a_credential_does_not_show_its_secrets() -> None:
    assert SECRET not in repr(Credential(SECRET, ACCOUNT, "token-xyz"))
    assert "token-xyz" not in repr(Credential(SECRET, ACCOUNT, "token-xyz"))
