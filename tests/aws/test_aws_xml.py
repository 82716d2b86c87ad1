"""Answers: ours writes them, botocore's own parser reads them back."""

from __future__ import annotations

import math
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.aws.model import Kind, Operation, Shape, load_service
from vmferry.aws.xml import error_document, format_double, format_timestamp, response_document

REQUEST_ID = "3f9c2d5e-0a1b-4c6d-8e7f-001122334455"
FAMILY = [
    "CancelImportTask",
    "CopyImage",
    "CopySnapshot",
    "CreateImage",
    "CreateInstanceExportTask",
    "CreateVolume",
    "DeregisterImage",
    "DescribeConversionTasks",
    "DescribeExportImageTasks",
    "DescribeExportTasks",
    "DescribeImages",
    "DescribeImportImageTasks",
    "DescribeImportSnapshotTasks",
    "DescribeRegions",
    "DescribeSnapshots",
    "DescribeTags",
    "DescribeVolumes",
    "ExportImage",
    "ImportImage",
    "ImportInstance",
    "ImportSnapshot",
    "ImportVolume",
    "RegisterImage",
]

_MODEL = ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")
_PARSER = create_parser("ec2")


def operation(name: str) -> Operation:
    found = load_service("ec2").operation(name)
    assert found is not None
    return found


def write(name: str, output: dict[str, Any]) -> bytes:
    return response_document(operation(name), output, REQUEST_ID, "2016-11-15")


def read_by_botocore(name: str, body: bytes, status: int = 200) -> dict[str, Any]:
    response = {"body": body, "headers": {}, "status_code": status}
    parsed: dict[str, Any] = _PARSER.parse(response, _MODEL.operation_model(name).output_shape)
    return parsed


def test_an_answer_stands_in_the_namespace_of_the_version_with_the_request_id_first() -> None:
    root = ET.fromstring(response_document(operation("RegisterImage"), {"ImageId": "ami-1"}, REQUEST_ID, "2014-10-01"))
    assert root.tag == "{http://ec2.amazonaws.com/doc/2014-10-01/}RegisterImageResponse"
    assert [(child.tag.partition("}")[2], child.text) for child in root] == [
        ("requestId", REQUEST_ID),
        ("imageId", "ami-1"),
    ]


def test_an_action_without_an_output_answers_true() -> None:
    root = ET.fromstring(write("CreateTags", {}))
    assert [(child.tag.partition("}")[2], child.text) for child in root][1:] == [("return", "true")]


def test_an_import_task_looks_as_the_service_writes_it() -> None:
    body = write(
        "ImportImage",
        {
            "Description": None,
            "ImportTaskId": "import-ami-1",
            "SnapshotDetails": [{"DiskImageSize": 652312064, "UserBucket": {"S3Bucket": "b", "S3Key": "a&b<c"}}],
            "Encrypted": False,
            "Tags": [],
        },
    ).decode()
    assert body.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<ImportImageResponse xmlns=')
    assert "description" not in body
    assert "<diskImageSize>6.52312064E8</diskImageSize>" in body
    assert "<s3Key>a&amp;b&lt;c</s3Key>" in body
    assert "<encrypted>false</encrypted>" in body
    assert "<tagSet/>" in body


_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff", min_codepoint=32), max_size=12
)


def values_of(shape: Shape) -> st.SearchStrategy[Any]:
    match shape.kind:
        case Kind.STRING:
            return _TEXT | st.sampled_from(["\t\r\n ", "&amp;", "]]>"])
        case Kind.BOOLEAN:
            return st.booleans()
        case Kind.INTEGER | Kind.LONG:
            return st.integers(-(2**63), 2**63 - 1)
        case Kind.FLOAT | Kind.DOUBLE:
            return st.floats(allow_nan=False, allow_infinity=False)
        case Kind.TIMESTAMP:
            moments = st.datetimes(
                datetime.fromisoformat("0001-01-02"), datetime.fromisoformat("9999-12-30"), timezones=st.just(UTC)
            )
            return moments.map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))
        case Kind.BLOB:
            return st.binary(max_size=20)
        case Kind.LIST:
            assert shape.element is not None
            return st.lists(values_of(shape.element), max_size=3)
        case Kind.STRUCTURE:
            members = {name: member.shape for name, member in shape.members.items()}
            few = st.sets(st.sampled_from(sorted(members)), max_size=5)
            return few.flatmap(lambda names: st.fixed_dictionaries({name: values_of(members[name]) for name in names}))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_botocore_reads_what_we_write(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(FAMILY))
    shape = operation(name).output
    assert shape is not None
    output = data.draw(values_of(shape))
    parsed = read_by_botocore(name, write(name, output))
    assert parsed.pop("ResponseMetadata")["RequestId"] == REQUEST_ID
    assert parsed == output


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_no_text_breaks_the_document(text: str) -> None:
    parsed = read_by_botocore("RegisterImage", write("RegisterImage", {"ImageId": text}))["ImageId"]
    assert len(parsed) == len(text)
    assert all(ours in (theirs, "\ufffd") for ours, theirs in zip(parsed, text, strict=True))


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=()), min_size=1, max_size=30))
def test_botocore_reads_our_errors(message: str) -> None:
    parsed = read_by_botocore("ImportImage", error_document("InvalidParameter", "m" + message, REQUEST_ID), 400)
    assert parsed["Error"]["Code"] == "InvalidParameter"
    assert len(parsed["Error"]["Message"]) == len(message) + 1
    assert parsed["ResponseMetadata"]["RequestId"] == REQUEST_ID


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0"),
        (-0.0, "-0.0"),
        (1.5, "1.5"),
        (9999999.0, "9999999.0"),
        (1e7, "1.0E7"),
        (652312064, "6.52312064E8"),
        (705638400.0, "7.056384E8"),
        (4702863360.0, "4.70286336E9"),
        (0.001, "0.001"),
        (0.00099, "9.9E-4"),
        (-1234567890.5, "-1.2345678905E9"),
        (1e300, "1.0E300"),
        (5e-324, "5.0E-324"),
    ],
)
def test_doubles_are_written_as_java_does(value: float, text: str) -> None:
    assert format_double(value) == text


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_double_is_the_same_number(value: float) -> None:
    assert float(format_double(value)) == value


def test_times_are_written_in_utc_to_the_millisecond() -> None:
    moment = datetime(2026, 11, 23, 12, 0, 0, 987654, tzinfo=timezone(timedelta(hours=2)))
    assert format_timestamp(moment) == "2026-11-23T10:00:00.987Z"


@pytest.mark.parametrize(
    "output",
    [
        {"Nonsense": 1},
        {"ImportTaskId": 7},
        {"Encrypted": "true"},
        {"SnapshotDetails": "text"},
        {"SnapshotDetails": [{"DiskImageSize": math.nan}]},
        {"SnapshotDetails": {"DiskImageSize": 1.0}},
    ],
)
def test_an_answer_that_the_model_does_not_allow_is_a_fault(output: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        write("ImportImage", output)


def test_a_time_without_a_zone_is_a_fault() -> None:
    with pytest.raises(ValueError, match="zone"):
        format_timestamp(datetime.fromisoformat("2026-01-01"))


def test_a_hundred_images_are_written_quickly() -> None:
    image = {
        "ImageId": "ami-0123456789abcdef0",
        "Name": "web",
        "State": "available",
        "OwnerId": "111122223333",
        "Public": False,
        "CreationDate": "2026-11-23T10:00:00.000Z",
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-1", "VolumeSize": 8, "DeleteOnTermination": True}}
        ],
        "Tags": [{"Key": "Name", "Value": "web"}],
    }
    started = time.process_time()
    for _ in range(5):
        write("DescribeImages", {"Images": [image] * 100})
    assert (time.process_time() - started) / 5 < 0.05
