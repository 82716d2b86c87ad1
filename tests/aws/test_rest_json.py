"""REST-JSON by the model of EBS; the gateway's tests have the rest, by botocore's own client."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from vmferry.aws.model import Operation, load_service
from vmferry.aws.rest_json import InvalidMemberError, Router, parse_request, render_answer
from vmferry.aws.signature import HttpRequest


def operation(name: str) -> Operation:
    found = load_service("ebs").operation(name)
    assert found is not None
    return found


def test_a_path_means_one_operation() -> None:
    router = Router(load_service("ebs"))
    cases = {
        ("GET", "/snapshots/snap-1/blocks"): "ListSnapshotBlocks",
        ("GET", "/snapshots/snap-1/changedblocks"): "ListChangedBlocks",
        ("GET", "/snapshots/snap-1/blocks/7"): "GetSnapshotBlock",
        ("PUT", "/snapshots/snap-1/blocks/7"): "PutSnapshotBlock",
        ("POST", "/snapshots"): "StartSnapshot",
        ("POST", "/snapshots/completion/snap-1"): "CompleteSnapshot",
    }
    for (method, path), name in cases.items():
        found = router.find(method, path)
        assert found is not None
        assert found[0].name == name
    assert router.find("GET", "/snapshots/a%2Fb/blocks/7")[1] == {  # type: ignore[index]
        "snapshotId": "a/b",
        "blockIndex": "7",
    }
    for method, path in (("GET", "/snapshots/a/b/blocks"), ("PUT", "/snapshots"), ("GET", "/snapshots/a/blocks/")):
        assert router.find(method, path) is None


def test_members_come_from_everywhere() -> None:
    headers = [("x-amz-data-length", "3"), ("x-amz-checksum", "AAAA"), ("x-amz-checksum-algorithm", "SHA256")]
    http = HttpRequest("PUT", "", "X-Amz-Signature=x", headers, b"abc")
    labels = {"snapshotId": "snap-1", "blockIndex": "7"}
    assert parse_request(operation("PutSnapshotBlock"), labels, http) == {
        "SnapshotId": "snap-1",
        "BlockIndex": 7,
        "BlockData": b"abc",
        "DataLength": 3,
        "Checksum": "AAAA",
        "ChecksumAlgorithm": "SHA256",
    }


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InvalidMemberError, match="Value null at 'VolumeSize' failed") as caught:
        parse_request(operation("StartSnapshot"), {}, HttpRequest("POST", "/snapshots", "", []))
    assert caught.value.member == "VolumeSize"


def test_what_is_secret_is_not_repeated() -> None:
    http = HttpRequest("POST", "/snapshots", "", [], b'{"VolumeSize": 1, "KmsKeyArn": "secret"}')
    with pytest.raises(InvalidMemberError) as caught:
        parse_request(operation("StartSnapshot"), {}, http)
    assert "secret" not in str(caught.value)


def test_an_answer_is_what_the_model_allows() -> None:
    listing = operation("ListSnapshotBlocks")
    moment = datetime(2026, 11, 23, 10, 0, 0, 500_000, tzinfo=UTC)
    answer = render_answer(
        listing, {"Blocks": [{"BlockIndex": 1, "BlockToken": "AA"}], "ExpiryTime": moment, "NextToken": None}
    )
    assert json.loads(answer.content) == {
        "Blocks": [{"BlockIndex": 1, "BlockToken": "AA"}],
        "ExpiryTime": moment.timestamp(),
    }
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"Blocks": [{"Index": 1}]}, ValueError),
        ({"Whatever": 1}, KeyError),
        ({"VolumeSize": "1"}, TypeError),
        ({"VolumeSize": True}, TypeError),
        ({"ExpiryTime": 1}, TypeError),
    ]
    for output, error in wrong:
        with pytest.raises(error):
            render_answer(listing, output)
