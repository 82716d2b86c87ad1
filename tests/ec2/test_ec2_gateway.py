"""The EC2 endpoint as its clients meet it: boto3, the AWS CLI, and those who mean no good."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import structlog
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ec2.running_gateway import ACCOUNT, KEY, SECRET, Endpoint, GatewayRunner
from tests.ec2.wire import UUID, error_in, post, raw
from vmferry.aws.model import load_service, snake_case
from vmferry.ec2.actions import ACTIONS, Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.errors import NotFoundError, StoreUnavailableError


def refused(call: Any, **arguments: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["Error"]["Message"], answer["ResponseMetadata"]["HTTPStatusCode"]


# --- the actions that need nothing but the gateway


def test_regions_are_described(endpoint: Endpoint) -> None:
    answer = endpoint.client().describe_regions()
    assert [region["RegionName"] for region in answer["Regions"]] == ["us-east-1", "us-west-2"]
    assert {region["Endpoint"] for region in answer["Regions"]} == {f"127.0.0.1:{endpoint.port}"}
    assert UUID.fullmatch(answer["ResponseMetadata"]["RequestId"])
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-requestid"] == answer["ResponseMetadata"]["RequestId"]
    assert headers["cache-control"] == "no-cache, no-store"
    assert headers["content-type"] == "text/xml;charset=UTF-8"


def test_regions_can_be_named_and_filtered(endpoint: Endpoint) -> None:
    client = endpoint.client()
    named = client.describe_regions(RegionNames=["us-west-2"])["Regions"]
    filtered = client.describe_regions(Filters=[{"Name": "region-name", "Values": ["*west*"]}])["Regions"]
    assert [region["RegionName"] for region in named] == ["us-west-2"]
    assert filtered == named
    assert refused(client.describe_regions, RegionNames=["moon-1"])[:2] == (
        "InvalidParameterValue",
        "Invalid region name: 'moon-1'",
    )


def test_zones_are_those_of_the_region_of_the_signature(endpoint: Endpoint) -> None:
    answer = endpoint.client(region_name="us-west-2").describe_availability_zones()
    assert [(zone["ZoneName"], zone["ZoneId"], zone["State"]) for zone in answer["AvailabilityZones"]] == [
        ("us-west-2a", "usw2-az1", "available")
    ]
    assert answer["AvailabilityZones"][0]["Messages"] == []
    code, message, _ = refused(endpoint.client().describe_availability_zones, ZoneNames=["us-west-2a"])
    assert (code, message) == ("InvalidParameterValue", "Invalid availability zone: [us-west-2a]")


@pytest.mark.slow
def test_the_aws_command_line_is_content(endpoint: Endpoint, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("aws")), "--endpoint-url", endpoint.url, "ec2", "describe-regions"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    done = subprocess.run([*command, "--output", "json"], env=environment, capture_output=True, check=True, timeout=60)
    assert [region["RegionName"] for region in json.loads(done.stdout)["Regions"]] == ["us-east-1", "us-west-2"]
    failed = subprocess.run([*command, "--region", "eu-west-1"], env=environment, capture_output=True, timeout=60)
    assert failed.returncode not in (0, None)
    assert b"Credential should be scoped to a valid region, not 'eu-west-1'." in failed.stderr


# --- who asks


def test_a_wrong_secret_and_an_unknown_key_are_an_authentication_failure(endpoint: Endpoint) -> None:
    sentence = "AWS was not able to validate the provided access credentials | "
    for options in ({"aws_secret_access_key": "x" * 40}, {"aws_access_key_id": "AKIAUNKNOWN"}):
        code, message, status = refused(endpoint.client(**options).describe_regions)
        assert (code, status) == ("AuthFailure", 401)
        assert message.startswith(sentence)


def test_an_unsigned_request_is_told_so(endpoint: Endpoint) -> None:
    status, headers, body = raw(endpoint, "GET", "/?Action=DescribeRegions", b"", {})
    code, message = error_in(body)
    assert (status, code) == (403, "MissingAuthenticationToken")
    assert message.startswith("Request is missing Authentication Token")
    assert headers["content-type"] == "text/xml;charset=UTF-8"


def test_a_presigned_url_is_answered(endpoint: Endpoint) -> None:
    url = endpoint.client().generate_presigned_url("describe_regions", HttpMethod="GET")
    status, _, body = raw(endpoint, "GET", url.removeprefix(endpoint.url), b"", {})
    assert status == 200
    assert b"<regionName>us-west-2</regionName>" in body


def test_another_region_is_named(endpoint: Endpoint) -> None:
    code, message, status = refused(endpoint.client(region_name="eu-west-1").describe_regions)
    assert (code, status) == ("AuthFailure", 401)
    assert message == (
        "Credential should be scoped to a valid region, not 'eu-west-1'. | Regions here: us-east-1, us-west-2."
    )


def test_a_service_that_is_not_offered_says_so(endpoint: Endpoint) -> None:
    status, _, body = post(endpoint, b"Action=ListBuckets", service="s3")
    assert status == 400
    assert error_in(body) == (
        "UnsupportedOperation",
        "This endpoint answers EC2's API; S3 (its endpoint is another one, see `vmferry env`) is not offered here yet.",
    )


# --- what is asked


def test_an_action_nobody_knows_is_invalid(endpoint: Endpoint) -> None:
    status, _, body = post(endpoint, b"Action=ImportFerry&Version=2016-11-15")
    assert (status, *error_in(body)) == (
        400,
        "InvalidAction",
        "The action ImportFerry is not valid for this web service.",
    )


def test_an_action_that_vmferry_lacks_is_not_valid_as_terraform_wants_it(endpoint: Endpoint) -> None:
    code, message, status = refused(endpoint.client().describe_vpn_gateways)
    assert (code, status) == ("InvalidAction", 400)
    sentence, _, ours = message.partition(" | ")
    assert sentence == "The action DescribeVpnGateways is not valid for this web service."
    assert ours == "It is part of EC2, but vmferry does not have it."


def test_a_call_without_an_action_misses_it(endpoint: Endpoint) -> None:
    assert error_in(post(endpoint, b"")[2])[0] == "MissingAction"
    assert error_in(post(endpoint, b"Action=&Version=2016-11-15")[2])[0] == "MissingAction"


def test_any_date_is_a_version_and_stands_in_the_answer(endpoint: Endpoint) -> None:
    body = post(endpoint, b"Action=DescribeRegions&Version=2014-10-01")[2]
    assert b'<DescribeRegionsResponse xmlns="http://ec2.amazonaws.com/doc/2014-10-01/"><requestId>' in body
    assert b"doc/2016-11-15/" in post(endpoint, b"Action=DescribeRegions")[2]
    assert error_in(post(endpoint, b"Action=DescribeRegions&Version=latest")[2])[0] == "NoSuchVersion"


def test_a_missing_content_type_counts_as_a_form_and_another_is_refused(endpoint: Endpoint) -> None:
    body = b"Action=DescribeRegions&Version=2016-11-15"
    assert post(endpoint, body)[0] == 200
    assert post(endpoint, body, {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"})[0] == 200
    status, _, answer = post(endpoint, body, {"Content-Type": "application/json"})
    assert (status, error_in(answer)[0]) == (415, "MalformedQueryString")


def test_the_query_will_do_for_the_parameters(endpoint: Endpoint) -> None:
    path = "/?Action=DescribeRegions&Version=2016-11-15&RegionName.1=us-west-2"
    for method in ("GET", "POST"):
        status, _, body = post(endpoint, b"", method=method, path=path)
        assert status == 200
        assert b"us-east-1" not in body


def test_a_parameter_of_body_and_query_is_refused(endpoint: Endpoint) -> None:
    body = post(endpoint, b"Action=DescribeRegions", path="/?Action=DescribeImages")[2]
    assert error_in(body) == ("MalformedQueryString", "The parameter Action occurs more than once")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_get_the_envelope_too(endpoint: Endpoint, method: str) -> None:
    status, _, body = post(endpoint, b"", method=method)
    assert (status, error_in(body)[0]) == (405, "UnsupportedProtocol")


def test_a_body_that_is_too_long_is_cut_off(endpoint: Endpoint) -> None:
    status, _, body = post(endpoint, b"Action=" + b"A" * (1 << 20))
    assert (status, error_in(body)[0]) == (413, "RequestEntityTooLarge")


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        st.binary(max_size=120),
        st.dictionaries(
            st.one_of(
                st.text(max_size=8), st.sampled_from(["DryRun", "RegionName.1", "Filter.1.Name", "Filter.1.Value.1"])
            ),
            st.text(max_size=8),
            max_size=6,
        ).map(lambda form: urlencode({"Action": "DescribeRegions", **form}, errors="replace").encode()),
    )
)
def test_no_form_breaks_the_server(body: bytes) -> None:
    status, _, answer = post(_RUNNING[-1], body)
    assert status == 200 or 400 <= status < 500
    assert ET.fromstring(answer) is not None


_RUNNING: list[Endpoint] = []


@pytest.fixture(autouse=True, scope="module")
def _running(endpoint: Endpoint) -> Iterator[None]:
    """Hypothesis takes no fixtures of a function; this one is the module's."""
    _RUNNING.append(endpoint)
    yield
    _RUNNING.clear()


@pytest.mark.parametrize("line", [b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n"])
def test_what_is_not_http_is_no_fault_of_the_server(endpoint: Endpoint, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=5) as connection:
        connection.sendall(line)
        first = connection.recv(64)
    assert b" 5" not in first[:13]
    assert endpoint.client().describe_regions()


# --- actions of our own: what the gateway makes of what they do


def _answer_images(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    image = {
        "ImageId": "ami-0123456789abcdef0",
        "Name": "web & co",
        "State": "available",
        "Public": False,
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-1", "VolumeSize": 8}}],
        "Tags": [],
    }
    return {"Images": [image] * 100}


def _echo_task(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Description": f"{context.account_id} {context.access_key_id} {context.region} {request['Description']}",
        "SnapshotDetails": [
            {"DiskImageSize": 652312064.0, "Format": container["Format"]} for container in request["DiskContainers"]
        ],
        "Tags": request["TagSpecifications"][0]["Tags"],
        "StatusMessage": None,
    }


def _check_permission(context: RequestContext, request: Mapping[str, Any]) -> None:
    if request.get("TaskId") or request.get("CancelReason") == "no":
        raise Ec2Error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)


def _cancel(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    match request.get("CancelReason"):
        case "unknown":
            raise NotFoundError("The import task ID 'x' does not exist", resource_id="import-ami-01234567")
        case "away":
            raise StoreUnavailableError("The store is away; try again.")
        case "bug":
            raise ZeroDivisionError("a secret of the inside")
        case "strange":
            return {"Strange": 1}
    return {"ImportTaskId": "import-ami-1"}


def _nothing(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _snapshots(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    return {"Snapshots": [{"StartTime": datetime(2026, 11, 23, 10, tzinfo=UTC)}]}


@pytest.fixture(scope="module")
def own(serve: GatewayRunner) -> Iterator[Endpoint]:
    actions = (
        Action("DescribeImages", _answer_images),
        Action("ImportImage", _echo_task),
        Action("CancelImportTask", _cancel, _check_permission),
        Action("CreateTags", _nothing),
        Action("DescribeSnapshots", _snapshots),
    )
    with serve({snake_case(action.name): action for action in actions}) as running:
        yield running


def test_an_action_gets_what_was_asked_and_answers_by_the_model(own: Endpoint) -> None:
    answer = own.client().import_image(
        Description="web é",
        DiskContainers=[{"Format": "vmdk"}, {"Format": "raw"}],
        TagSpecifications=[{"ResourceType": "import-image-task", "Tags": [{"Key": "Name", "Value": ""}]}],
    )
    answer.pop("ResponseMetadata")
    assert answer == {
        "Description": f"{ACCOUNT} {KEY} us-east-1 web é",
        "SnapshotDetails": [{"DiskImageSize": 652312064.0, "Format": kind} for kind in ("vmdk", "raw")],
        "Tags": [{"Key": "Name", "Value": ""}],
    }


def test_a_client_token_is_short_and_ascii(own: Endpoint) -> None:
    client = own.client()
    for token in ("t" * 65, "é", "a\tb"):
        code, message, _ = refused(client.import_image, ClientToken=token)
        assert (code, message) == ("InvalidClientToken", "A client token has at most 64 printable ASCII characters")


def test_times_come_back_as_times(own: Endpoint) -> None:
    (snapshot,) = own.client().describe_snapshots()["Snapshots"]
    assert snapshot["StartTime"] == datetime(2026, 11, 23, 10, tzinfo=UTC)


def test_an_action_without_an_output_is_answered(own: Endpoint) -> None:
    answer = own.client().create_tags(Resources=["ami-1"], Tags=[{"Key": "a", "Value": "b"}])
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_dry_run_checks_permission_and_then_says_it_would_have_succeeded(own: Endpoint) -> None:
    client = own.client()
    message = "Request would have succeeded, but DryRun flag is set."
    assert refused(client.cancel_import_task, DryRun=True, CancelReason="bug") == ("DryRunOperation", message, 412)
    assert refused(client.describe_images, DryRun=True) == ("DryRunOperation", message, 412)
    assert refused(client.cancel_import_task, DryRun=True, CancelReason="no")[::2] == ("UnauthorizedOperation", 403)
    assert client.cancel_import_task(DryRun=False)["ImportTaskId"] == "import-ami-1"


def test_errors_of_ours_have_codes_of_ec2(own: Endpoint) -> None:
    cancel = own.client().cancel_import_task
    assert refused(cancel, CancelReason="unknown") == (
        "InvalidConversionTaskId",
        "The import task ID 'x' does not exist",
        400,
    )
    assert refused(cancel, CancelReason="away") == ("Unavailable", "The store is away; try again.", 503)


@pytest.mark.parametrize("reason", ["bug", "strange"])
def test_a_fault_of_ours_is_logged_and_tells_nothing(own: Endpoint, reason: str) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(ClientError) as caught:
        own.client().cancel_import_task(CancelReason=reason)
    answer = caught.value.response
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert answer["Error"]["Code"] == "InternalError"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert answer["Error"]["Message"] == (
        f"An internal error has occurred | This is a fault in vmferry; request id {request_id}"
    )
    fault = next(line for line in logs if line["event"] == "fault")
    assert (fault["request_id"], fault["action"]) == (request_id, "CancelImportTask")


def test_each_request_is_one_line_of_the_access_log(own: Endpoint) -> None:
    with structlog.testing.capture_logs() as logs:
        own.client().describe_images()
        with contextlib.suppress(ClientError):
            own.client(aws_secret_access_key="x" * 40).describe_images()
    first, second = logs
    assert uuid.UUID(first.pop("request_id"))
    assert first.pop("ms") >= 0
    assert first == {
        "event": "request",
        "log_level": "info",
        "service": "ec2",
        "action": "DescribeImages",
        "account": ACCOUNT,
        "region": "us-east-1",
        "status": 200,
        "code": None,
    }
    assert (second["status"], second["code"], second["account"]) == (401, "AuthFailure", None)


def test_a_hundred_images_take_a_few_milliseconds(own: Endpoint) -> None:
    client = own.client()
    assert len(client.describe_images()["Images"]) == 100
    with structlog.testing.capture_logs() as logs:
        for _ in range(10):
            post(own, b"Action=DescribeImages&Version=2016-11-15")
    assert sorted(line["ms"] for line in logs)[5] < 60


# --- the contract of the room


def test_every_action_is_one_that_ec2_has_under_the_name_of_its_file() -> None:
    for module, action in ACTIONS.items():
        assert snake_case(action.name) == module
        assert load_service("ec2").operation(action.name) is not None


def test_sts_says_who_asks(endpoint: Endpoint) -> None:
    found = endpoint.client("sts").get_caller_identity()
    assert (found["Account"], found["Arn"]) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")
    assert found["ResponseMetadata"]["RequestId"]


def test_sts_refuses_in_its_own_envelope(endpoint: Endpoint) -> None:
    with pytest.raises(ClientError) as caught:
        endpoint.client("sts").get_session_token()
    error = caught.value.response["Error"]
    assert (error["Code"], error["Type"]) == ("InvalidAction", "Sender")
    assert "GetCallerIdentity alone" in error["Message"]
    code, _, status = refused(endpoint.client("sts", aws_secret_access_key="wrong").get_caller_identity)
    assert (code, status) == ("AuthFailure", 401)
