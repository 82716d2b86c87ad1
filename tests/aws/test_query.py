"""Requests: botocore's own serialiser writes them, ours reads them back."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.serialize import create_serializer
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.aws.errors import ApiError
from vmferry.aws.model import Kind, Member, Shape, load_service
from vmferry.aws.query import _WORDS, MAX_LIST, parse_form, parse_request

FAMILY = [
    "CancelConversionTask",
    "CancelExportTask",
    "CancelImportTask",
    "CopyImage",
    "CopySnapshot",
    "CreateImage",
    "CreateInstanceExportTask",
    "CreateTags",
    "CreateVolume",
    "DeleteSnapshot",
    "DeleteTags",
    "DeregisterImage",
    "DescribeConversionTasks",
    "DescribeExportImageTasks",
    "DescribeExportTasks",
    "DescribeImages",
    "DescribeImportImageTasks",
    "DescribeImportSnapshotTasks",
    "DescribeInstances",
    "DescribeRegions",
    "DescribeSnapshots",
    "DescribeTags",
    "DescribeVolumes",
    "ExportImage",
    "ImportImage",
    "ImportInstance",
    "ImportSnapshot",
    "ImportVolume",
    "ModifyImageAttribute",
    "ModifySnapshotAttribute",
    "RegisterImage",
    "RunInstances",
]

_MODEL = ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")
_SERIALIZER = create_serializer("ec2", include_validation=False)


def written_by_botocore(action: str, parameters: dict[str, Any]) -> bytes:
    """The body that botocore sends."""
    return urlencode(_SERIALIZER.serialize_to_request(parameters, _MODEL.operation_model(action))["body"]).encode()


def read(action: str, body: bytes | str) -> dict[str, Any]:
    operation = load_service("ec2").operation(action)
    assert operation is not None
    return parse_request(operation.input, parse_form(body if isinstance(body, bytes) else body.encode()))


def code_of(action: str, body: bytes | str) -> tuple[str, str]:
    with pytest.raises(ApiError) as caught:
        read(action, body)
    assert caught.value.status == 400
    return caught.value.code, str(caught.value)


IMPORT_IMAGE: dict[str, Any] = {
    "ClientData": {
        "Comment": "c",
        "UploadEnd": datetime(2026, 11, 23, 10, 0, 0, 123000, tzinfo=UTC),
        "UploadSize": 1.5,
        "UploadStart": datetime(2026, 11, 23, 9, tzinfo=UTC),
    },
    "ClientToken": "t-1",
    "Description": "two disks",
    "DiskContainers": [
        {
            "DeviceName": "/dev/sda1",
            "Description": "root",
            "Format": "vmdk",
            "UserBucket": {"S3Bucket": "imports", "S3Key": "web/root disk.vmdk"},
        },
        {"Format": "raw", "SnapshotId": "snap-0123456789abcdef0"},
    ],
    "Encrypted": True,
    "KmsKeyId": "alias/k",
    "Hypervisor": "xen",
    "LicenseType": "BYOL",
    "Platform": "Linux",
    "RoleName": "vmimport",
    "LicenseSpecifications": [{"LicenseConfigurationArn": "arn:aws:license-manager:us-east-1:1:x:lic-1"}],
    "TagSpecifications": [
        {
            "ResourceType": "import-image-task",
            "Tags": [{"Key": "Name", "Value": "web é"}, {"Key": "e", "Value": ""}],
        }
    ],
    "UsageOperation": "RunInstances",
    "BootMode": "uefi",
}


@pytest.mark.parametrize(
    ("action", "parameters"),
    [
        ("ImportImage", IMPORT_IMAGE),
        ("ImportImage", {}),
        (
            "DescribeImportImageTasks",
            {
                "ImportTaskIds": ["import-ami-1"],
                "Filters": [{"Name": "task-state", "Values": ["active", "completed"]}],
                "MaxResults": 5,
            },
        ),
        ("DescribeExportImageTasks", {"ExportImageTaskIds": ["export-ami-1"], "Filters": [{"Name": "a"}]}),
        ("ImportSnapshot", {"DiskContainer": {"Format": "raw", "UserBucket": {"S3Bucket": "b", "S3Key": "k"}}}),
        ("CreateTags", {"Resources": ["ami-1", "snap-1"], "Tags": [{"Key": "k", "Value": "v"}]}),
        (
            "RunInstances",
            {
                "ImageId": "ami-1",
                "MinCount": 1,
                "MaxCount": 1,
                "UserData": "aGk=",
                "BlockDeviceMappings": [{"DeviceName": "/dev/sdb", "NoDevice": ""}],
            },
        ),
        (
            "ModifyImageAttribute",
            {"ImageId": "ami-1", "LaunchPermission": {"Add": [{"UserId": "1"}]}, "Description": {"Value": "d"}},
        ),
    ],
)
def test_what_botocore_writes_is_read_back(action: str, parameters: dict[str, Any]) -> None:
    assert read(action, written_by_botocore(action, parameters)) == parameters


_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=12)


def _deferred(shape: Shape) -> st.SearchStrategy[Any]:
    return st.deferred(lambda: values_of(shape))


def values_of(shape: Shape) -> st.SearchStrategy[Any]:
    """Values that ``shape`` allows and that a request can carry (it has no empty lists or structures)."""
    match shape.kind:
        case Kind.STRING:
            return st.sampled_from(shape.enum) if shape.enum else _TEXT
        case Kind.BOOLEAN:
            return st.booleans()
        case Kind.INTEGER | Kind.LONG:
            bits = 31 if shape.kind is Kind.INTEGER else 63
            low = -(1 << bits) if shape.minimum is None else int(shape.minimum)
            high = (1 << bits) - 1 if shape.maximum is None else int(shape.maximum)
            return st.integers(low, high)
        case Kind.FLOAT | Kind.DOUBLE:
            return st.floats(allow_nan=False, allow_infinity=False)
        case Kind.TIMESTAMP:
            return st.datetimes(
                datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2200-01-01"), timezones=st.just(UTC)
            )
        case Kind.BLOB:
            return st.binary(min_size=1, max_size=20)
        case Kind.LIST:
            assert shape.element is not None
            return st.lists(values_of(shape.element), min_size=1, max_size=3)
        case Kind.STRUCTURE:
            members = {name: _deferred(member.shape) for name, member in shape.members.items()}
            members |= {name: _TEXT.filter(bool) for name in members if name in _WORDS}
            required = {name: members[name] for name in shape.required}
            optional = {name: value for name, value in members.items() if name not in required}
            few = (
                st.sets(st.sampled_from(sorted(optional)), min_size=0 if required else 1, max_size=4)
                if optional
                else st.just(set())
            )
            return few.flatmap(lambda names: st.fixed_dictionaries(required | {name: optional[name] for name in names}))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_request_of_the_family_is_read_back(data: st.DataObject) -> None:
    action = data.draw(st.sampled_from(FAMILY))
    operation = load_service("ec2").operation(action)
    assert operation is not None
    parameters = data.draw(values_of(operation.input))
    assert read(action, written_by_botocore(action, parameters)) == parameters


def test_list_numbers_only_order_and_may_have_gaps() -> None:
    assert read("DescribeImages", "ImageId.10=c&ImageId.2=b&ImageId.0=a&ImageId=z") == {
        "ImageIds": ["z", "a", "b", "c"]
    }


def test_an_empty_value_is_absent_unless_it_is_a_free_string() -> None:
    assert read("ImportImage", "Platform=&Encrypted=&Description=&DiskContainer=") == {"Description": ""}
    assert read("DescribeImages", "MaxResults=&Filter.1.Name=a&Filter.1.Value.1=") == {
        "Filters": [{"Name": "a", "Values": [""]}]
    }


def test_booleans_come_in_any_case_and_nothing_else() -> None:
    assert read("ImportImage", "Encrypted=TRUE")["Encrypted"] is True
    assert read("ImportImage", "Encrypted=False")["Encrypted"] is False
    assert code_of("ImportImage", "Encrypted=1")[0] == "InvalidParameterValue"


def test_an_enum_may_hold_anything() -> None:
    assert read("ImportImage", "Platform=BeOS") == {"Platform": "BeOS"}


def test_parameters_of_the_protocol_are_no_parameters_of_the_action() -> None:
    body = "Action=ImportImage&Version=2016-11-15&X-Amz-Algorithm=x&X-Amz-Signature=y&Description=d"
    assert read("ImportImage", body) == {"Description": "d"}


@pytest.mark.parametrize(
    ("action", "body", "code", "message"),
    [
        ("ImportImage", "Foo=1", "UnknownParameter", "The parameter Foo is not recognized"),
        (
            "ImportImage",
            "Platfrom=Linux",
            "UnknownParameter",
            "The parameter Platfrom is not recognized | did you mean Platform?",
        ),
        (
            "ImportImage",
            "DiskContainer.1.UserBucket.S3Bukket=b",
            "UnknownParameter",
            "The parameter DiskContainer.1.UserBucket.S3Bukket is not recognized | did you mean S3Bucket?",
        ),
        (
            "ImportImage",
            "DiskContainer.x.Format=b",
            "UnknownParameter",
            "The parameter DiskContainer.x is not recognized",
        ),
        ("ImportImage", "Description.1=b", "UnknownParameter", "The parameter Description.1 is not recognized"),
        ("RegisterImage", "", "MissingParameter", "The request must contain the parameter Name"),
        ("CreateTags", "ResourceId.1=ami-1", "MissingParameter", "The request must contain the parameter Tag"),
        (
            "ImportInstance",
            "Platform=Windows&DiskImage.1.Image.Format=VMDK",
            "MissingParameter",
            "The request must contain the parameter DiskImage.1.Image.Bytes",
        ),
        (
            "DescribeImportImageTasks",
            "MaxResults=abc",
            "InvalidParameterValue",
            "Value (abc) for parameter MaxResults is invalid. Expected an integer.",
        ),
        (
            "DescribeExportImageTasks",
            "MaxResults=501",
            "InvalidParameterValue",
            "Value (501) for parameter MaxResults is invalid. Expected at least 1 and at most 500.",
        ),
        (
            "ImportImage",
            "ClientData.UploadSize=nan",
            "InvalidParameterValue",
            "Value (nan) for parameter ClientData.UploadSize is invalid. Expected a number.",
        ),
        (
            "ImportImage",
            "ClientData.UploadEnd=now",
            "InvalidParameterValue",
            "Value (now) for parameter ClientData.UploadEnd is invalid. Expected a time such as 2026-11-23T10:00:00Z.",
        ),
        (
            "ImportImage",
            "DiskContainer.1=vmdk",
            "InvalidParameterValue",
            "The parameter DiskContainer.1 is a structure and takes no value",
        ),
    ],
)
def test_what_is_wrong_is_named(action: str, body: str, code: str, message: str) -> None:
    assert code_of(action, body) == (code, message)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("Description=a&Description=b", "MalformedQueryString"),
        (b"Description=%ff%fe", "MalformedQueryString"),
        (b"Description=\xff", "MalformedQueryString"),
        ("&".join(f"ImageId.{n}=a" for n in range(10_001)), "MalformedQueryString"),
        ("A" * 513 + "=1", "MalformedQueryString"),
        ("a." * 20 + "a=1", "MalformedQueryString"),
        ("Description=%00", "InvalidCharacter"),
        ("&".join(f"DiskContainer.{n}.Format=raw" for n in range(MAX_LIST + 1)), "InvalidParameterValue"),
        ("DiskContainer.99999999999999999999.Format=raw", "UnknownParameter"),
        ("ClientData.UploadStart=0001-01-01T00:00:00%2B14:00", "InvalidParameterValue"),
    ],
)
def test_hostile_forms_are_refused(body: bytes | str, code: str) -> None:
    assert code_of("ImportImage", body)[0] == code


def test_a_number_that_its_type_cannot_hold_is_refused() -> None:
    body = "AvailabilityZone=a&Image.Format=RAW&Image.ImportManifestUrl=u&Volume.Size=1&Image.Bytes="
    assert read("ImportVolume", body + "9223372036854775807")["Image"]["Bytes"] == 2**63 - 1
    assert code_of("ImportVolume", body + "9223372036854775808")[0] == "InvalidParameterValue"


def test_the_value_of_a_secret_is_never_quoted() -> None:
    secret = Member("Key", "Key", "key", Shape("Key", Kind.BLOB, sensitive=True))
    with pytest.raises(ApiError) as caught:
        parse_request(Shape("Input", Kind.STRUCTURE, requested={"Key": secret}), {"Key": "hunter2!"})
    assert str(caught.value) == "Value (…) for parameter Key is invalid. Expected base64."


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(FAMILY),
    st.dictionaries(
        st.lists(
            st.sampled_from(["DiskContainer", "Filter", "Filters", "1", "0", "-1", "", "Name", "Value", "Tag", "x"])
        ).map(".".join),
        st.text(max_size=5),
        max_size=8,
    ),
)
def test_any_form_is_parsed_or_refused(action: str, form: dict[str, str]) -> None:
    with contextlib.suppress(ApiError):
        assert isinstance(read(action, urlencode(form, errors="replace")), dict)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_refused(body: bytes) -> None:
    with contextlib.suppress(ApiError):
        assert all(isinstance(key, str) for key in parse_form(body))
