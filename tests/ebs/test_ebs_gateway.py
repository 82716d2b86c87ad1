"""The wire of the EBS direct API: how requests are signed, routed, refused, and what errors look like."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ebs.conftest import House, block, checksum, refusal
from tests.ec2.running_gateway import KEY, SECRET
from vmferry.ebs import errors
from vmferry.ebs.errors import from_error, internal_error
from vmferry.errors import ConflictError, OutOfSpaceError, StoreError
from vmferry.snapshot_blocks import EBS_BLOCK_SIZE
from vmferry.units import GIB, MIB

UNSIGNED = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}


def send(
    house: House,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    sent: bytes | None = None,
    late: Mapping[str, str] | None = None,
) -> tuple[int, dict[str, str], Any]:
    """A request signed by hand; ``sent`` goes out in place of ``body``, ``late`` are headers that are not signed."""
    request = AWSRequest(method=method, url=house.endpoint.url + path, data=body, headers=dict(headers or {}))
    SigV4Auth(Credentials(KEY, SECRET), "ebs", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", house.endpoint.port, timeout=10)
    try:
        wire = {**dict(request.headers.items()), **(late or {})}
        connection.request(method, path, body if sent is None else sent, wire)
        answer = connection.getresponse()
        content = answer.read()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, named, json.loads(content) if content else None
    finally:
        connection.close()


def put_headers(data: bytes) -> dict[str, str]:
    return {
        "x-amz-Data-Length": str(len(data)),
        "x-amz-Checksum": checksum(data),
        "x-amz-Checksum-Algorithm": "SHA256",
    }


@pytest.mark.parametrize("unsigned", [True, False])
def test_a_block_may_come_with_and_without_a_signed_body(house: House, unsigned: bool) -> None:
    """As the Rust SDK sends it, and as botocore does without TLS."""
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    headers = {**put_headers(block(1)), **(UNSIGNED if unsigned else {})}
    path = f"/snapshots/{snapshot_id}/blocks/0"
    status, named, _ = send(house, "PUT", path, block(1), headers)
    assert (status, named["x-amz-checksum"]) == (201, checksum(block(1)))
    status, named, _ = send(house, "PUT", path, block(1), headers, sent=block(2))
    assert status == (400 if unsigned else 403)
    assert named["x-amzn-errortype"] == ("ValidationException" if unsigned else "InvalidSignatureException")


def test_an_unsigned_body_needs_a_signed_checksum(house: House) -> None:
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    headers = put_headers(block(1))
    signed = {name: value for name, value in headers.items() if name != "x-amz-Checksum"} | UNSIGNED
    late = {"x-amz-Checksum": headers["x-amz-Checksum"]}
    path = f"/snapshots/{snapshot_id}/blocks/0"
    status, named, _ = send(house, "PUT", path, block(1), signed, late=late)
    assert (status, named["x-amzn-errortype"]) == (403, "InvalidSignatureException")


def test_no_other_body_may_be_unsigned(quiet: House) -> None:
    body = json.dumps({"VolumeSize": 1}).encode()
    headers = {**UNSIGNED, "x-amz-checksum": "AAAA"}
    status, named, _ = send(quiet, "POST", "/snapshots", body, headers)
    assert (status, named["x-amzn-errortype"]) == (403, "InvalidSignatureException")


def test_errors_are_those_of_the_model(quiet: House) -> None:
    with pytest.raises(quiet.ebs.exceptions.ResourceNotFoundException) as missing:
        quiet.ebs.list_snapshot_blocks(SnapshotId="snap-0123456789")
    answer = missing.value.response
    assert answer["Error"] == {
        "Code": "ResourceNotFoundException",
        "Message": "The snapshot 'snap-0123456789' does not exist.",
    }
    assert answer["Reason"] == "SNAPSHOT_NOT_FOUND"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 404
    with pytest.raises(quiet.ebs.exceptions.ValidationException) as wrong:
        quiet.ebs.list_snapshot_blocks(SnapshotId="snapshot")
    assert wrong.value.response["Error"]["Message"] == (
        "1 validation error detected: Value 'snapshot' at 'snapshotId' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: ^snap-[0-9a-f]+$"
    )
    assert wrong.value.response["Reason"] == "INVALID_SNAPSHOT_ID"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"aws_secret_access_key": "x" * 40}, "InvalidSignatureException"),
        ({"aws_access_key_id": "AKIANOBODYKNOWSTHIS1"}, "UnrecognizedClientException"),
        ({"aws_session_token": "temporary"}, "UnrecognizedClientException"),
        ({"region_name": "eu-west-1"}, "InvalidSignatureException"),
    ],
)
def test_whoever_is_not_known_is_told_so_in_json(quiet: House, options: dict[str, Any], code: str) -> None:
    client = quiet.endpoint.client("ebs", **options)
    with pytest.raises(client.exceptions.ClientError) as caught:
        client.list_snapshot_blocks(SnapshotId="snap-0123456789")
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, 403)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", b"", 404),
        ("DELETE", "/snapshots/snap-01234567", b"", 404),
        ("GET", "/snapshots/snap-01234567/blocks/x?blockToken=AAAA", b"", 400),
        ("GET", "/snapshots/snap-01234567/blocks/0", b"", 400),
        ("GET", "/snapshots/snap-01234567/blocks?maxResults=99", b"", 400),
        ("GET", "/snapshots/snap-01234567/blocks?maxResults=10001", b"", 400),
        ("GET", "/snapshots/snap-01234567/blocks?maxResults=", b"", 400),
        ("GET", "/snapshots/snap-01234567/blocks?startingBlockIndex=99999999999", b"", 400),
        ("GET", "/snapshots/snap-01234567/blocks?whatever=1", b"", 400),
        ("GET", "/snapshots/snap-01234567/blocks?maxResults=100&maxResults=200", b"", 400),
        ("GET", "/snapshots/snap-01234567/blocks", b"{}", 404),
        ("GET", "/snapshots/snap-01234567/blocks", b"x", 400),
        ("GET", "/snapshots/..%2f..%2fetc/blocks", b"", 400),
        ("POST", "/snapshots", b"", 400),
        ("POST", "/snapshots", b"[]", 400),
        ("POST", "/snapshots", b"{", 400),
        ("POST", "/snapshots", b"[" * 100_000, 400),
        ("POST", "/snapshots", b'{"VolumeSize": "1"}', 400),
        ("POST", "/snapshots", b'{"VolumeSize": true}', 400),
        ("POST", "/snapshots", b'{"VolumeSize": 1.5}', 400),
        ("POST", "/snapshots", b'{"VolumeSize": 1e999}', 400),
        ("POST", "/snapshots", b'{"VolumeSize": 99999999999999999999}', 400),
        ("POST", "/snapshots", b'{"VolumeSize": 1, "Whatever": 1}', 400),
        ("POST", "/snapshots", b'{"VolumeSize": 1, "Tags": {}}', 400),
        ("POST", "/snapshots", b'{"VolumeSize": 1, "Tags": ["x"]}', 400),
        ("POST", "/snapshots", b'{"VolumeSize": 1, "Tags": [{"Name": "x"}]}', 400),
        ("POST", "/snapshots", b'{"VolumeSize": 1, "Description": "\\ud800"}', 400),
        ("POST", "/snapshots", b"x" * (MIB + 1), 400),
        ("POST", "/snapshots/completion/snap-01234567", b"", 400),
        ("PUT", "/snapshots/snap-01234567/blocks/0", b"x", 400),
    ],
)
def test_what_is_not_a_request_is_refused(quiet: House, method: str, path: str, body: bytes, status: int) -> None:
    answered, named, error = send(quiet, method, path, body)
    assert answered == status, error
    code = {400: "ValidationException", 404: ("UnknownOperationException", "ResourceNotFoundException")}[status]
    assert named["x-amzn-errortype"] in code
    assert error["Message"]
    assert named["content-type"] == "application/json"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "PUT", "POST"]),
    tail=st.text(st.sampled_from("abx0/%?&=-._~+:;,snapblocks"), max_size=30),
    body=st.binary(max_size=20),
)
def test_no_request_is_a_fault_of_ours(quiet: House, method: str, tail: str, body: bytes) -> None:
    status, _, _ = send(quiet, method, "/snapshots/snap-0" + tail, body)
    assert status < 500


def test_every_error_has_its_name() -> None:
    expected = {
        ConflictError("x"): ("ConflictException", 409),
        ConflictError("x", code="PendingSnapshotLimitExceeded"): ("ServiceQuotaExceededException", 402),
        OutOfSpaceError("x"): ("InternalServerException", 500),
    }
    for error, (code, status) in expected.items():
        found = from_error(error)
        assert found is not None
        assert (found.code, found.status) == (code, status)
    assert from_error(StoreError("a fault of ours")) is None
    assert internal_error("id").status == 500
    assert set(errors._SIGNATURE) == set(type(next(iter(errors._SIGNATURE))))


@pytest.mark.slow
def test_the_aws_command_line_is_content(house: House, tmp_path: Path) -> None:
    snapshot_id = house.imported({0: block(1), MIB: block(2)}, GIB, "snap-00000000000000001")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL_EBS": house.endpoint.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }

    def aws(*arguments: str) -> Any:
        command = [str(Path(sys.executable).with_name("aws")), "ebs", *arguments, "--output", "json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    listed = aws("list-snapshot-blocks", "--snapshot-id", snapshot_id)
    assert [entry["BlockIndex"] for entry in listed["Blocks"]] == [0, 2]
    assert float(listed["ExpiryTime"]) > house.now().timestamp()
    token, target = listed["Blocks"][1]["BlockToken"], tmp_path / "block"
    got = aws(
        "get-snapshot-block", "--snapshot-id", snapshot_id, "--block-index=2", "--block-token", token, str(target)
    )
    assert target.read_bytes() == block(2)
    assert (got["Checksum"], int(got["DataLength"])) == (checksum(block(2)), EBS_BLOCK_SIZE)


def test_a_fault_of_ours_is_told_and_logged(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(house.catalog.snapshots), "describe", lambda *_: 1 / 0)
    code, _ = refusal(house.ebs.list_snapshot_blocks, SnapshotId="snap-0123456789")
    assert code == "InternalServerException"
