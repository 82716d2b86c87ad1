"""ImportInstance and ImportVolume as requests: what is recorded, what is shown, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ec2.material import HERE
from tests.ec2.running_gateway import Endpoint
from vmferry.ec2.services import Services
from vmferry.import_manifest import ImportManifest, ManifestPart, render_manifest

IMAGE = {"Format": "VMDK", "Bytes": 1 << 20, "ImportManifestUrl": "s3://imports/disk.manifest.xml"}
VOLUME = {"Size": 1}


@pytest.fixture(scope="module")
def ec2(endpoint: Endpoint) -> Any:
    return endpoint.client()


def refusal(call: Callable[..., Any], **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def import_instance(ec2: Any, **parameters: Any) -> dict[str, Any]:
    disks = [{"Image": IMAGE, "Volume": VOLUME, "Description": "root"}]
    return dict(ec2.import_instance(**{"Platform": "Windows", "DiskImages": disks, **parameters})["ConversionTask"])


def test_an_instance_is_there_from_the_start(ec2: Any) -> None:
    task = import_instance(ec2, Description="old web", LaunchSpecification={"InstanceType": "m5.large"})
    assert task["ConversionTaskId"].startswith("import-i-")
    assert (task["State"], task["StatusMessage"]) == ("active", "Pending")
    assert task["ExpirationTime"].endswith("Z")
    (volume,) = task["ImportInstance"]["Volumes"]
    assert (volume["Status"], volume["StatusMessage"]) == ("active", "Pending : Downloaded 0")
    assert volume["Image"] == {
        "Format": "VMDK", "ImportManifestUrl": IMAGE["ImportManifestUrl"], "Size": 1 << 20,
    }  # fmt: skip
    assert "Id" not in volume["Volume"]
    instance_id = task["ImportInstance"]["InstanceId"]
    (reservation,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    instance = reservation["Instances"][0]
    assert (instance["State"]["Name"], instance["Platform"]) == ("pending", "windows")
    assert instance["InstanceType"] == "m5.large"
    (described,) = ec2.describe_conversion_tasks(ConversionTaskIds=[task["ConversionTaskId"]])["ConversionTasks"]
    assert described == task


def test_a_volume_is_creating_until_its_parts_are_there(ec2: Any, services: Services) -> None:
    task = ec2.import_volume(AvailabilityZone="us-east-1a", Image=IMAGE, Volume={"Size": 3}, Description="data")
    made = task["ConversionTask"]
    assert made["ConversionTaskId"].startswith("import-vol-")
    assert made["ImportVolume"]["Description"] == "data"
    assert made["ImportVolume"]["BytesConverted"] == 0
    (volume,) = [
        one
        for one in services.catalog.volumes.describe(services.catalog.import_tasks.get(made["ConversionTaskId"]).place)
        if one.task_id == made["ConversionTaskId"]
    ]
    assert (volume.state, volume.size_gib) == ("creating", 3)
    assert refusal(ec2.delete_volume, VolumeId=volume.id)[0] == "IncorrectState"
    ec2.cancel_conversion_task(ConversionTaskId=made["ConversionTaskId"], ReasonMessage="wrong disk")
    (cancelled,) = ec2.describe_conversion_tasks(ConversionTaskIds=[made["ConversionTaskId"]])["ConversionTasks"]
    assert cancelled["State"] == "cancelling"
    assert cancelled["StatusMessage"] == "User initiated task cancelation | wrong disk"


@pytest.mark.parametrize(
    ("image", "volume", "code"),
    [
        ({"Format": "QCOW2"}, {}, "InvalidFormat"),
        ({"Bytes": 0}, {}, "InvalidParameterValue"),
        ({"ImportManifestUrl": "http://169.254.169.254/latest"}, {}, "InaccessibleStorageLocation"),
        ({"ImportManifestUrl": "file:///etc/passwd"}, {}, "InaccessibleStorageLocation"),
        ({"ImportManifestUrl": "s3://imports/../x"}, {}, "InaccessibleStorageLocation"),
        ({}, {"Size": 0}, "InvalidParameterValue"),
        ({}, {"Size": 20000}, "InvalidParameterValue"),
        ({"Format": "RAW", "Bytes": (1 << 30) + 1}, {}, "InvalidParameterValue"),
    ],
)
def test_a_disk_image_that_cannot_be_is_refused(
    ec2: Any, image: dict[str, Any], volume: dict[str, Any], code: str
) -> None:
    asked = {"AvailabilityZone": "us-east-1a", "Image": {**IMAGE, **image}, "Volume": {**VOLUME, **volume}}
    assert refusal(ec2.import_volume, **asked)[0] == code


def part(index: int, start: int, end: int, url: str = "s3://imports/part") -> ManifestPart:
    return ManifestPart(index, start, end, f"part{index}", url)


@pytest.mark.parametrize(
    ("parts", "kind", "code"),
    [
        ([part(0, 0, 99), part(2, 100, 199)], "RAW", "InvalidManifest"),  # one is missing
        ([part(0, 0, 99), part(1, 150, 199)], "RAW", "InvalidManifest"),  # a gap
        ([part(0, 0, 99), part(1, 50, 199)], "RAW", "InvalidManifest"),  # an overlap
        ([part(0, 0, 99, "http://10.0.0.1/secret")], "RAW", "InaccessibleStorageLocation"),
        ([part(0, 0, 99, "file:///etc/passwd")], "RAW", "InaccessibleStorageLocation"),
        ([part(0, 0, 99)], "VHD", "InvalidFormat"),  # which the request does not say
        ([part(0, 0, 1 << 30)], "RAW", "InvalidParameterValue"),  # more than the volume holds
    ],
)
def test_a_manifest_that_is_there_and_cannot_be_used_is_refused_at_once(
    ec2: Any, services: Services, parts: list[ManifestPart], kind: str, code: str
) -> None:
    """A client that names the disk itself, say, would else wait for a week."""
    put(services, "bad.manifest.xml", render_manifest(ImportManifest(kind, 200, 1, tuple(parts))))
    asked = {"AvailabilityZone": "us-east-1a", "Volume": VOLUME}
    image = {**IMAGE, "Format": "RAW", "ImportManifestUrl": "s3://imports/bad.manifest.xml"}
    for dry in (False, True):
        assert refusal(ec2.import_volume, **asked, Image=image, DryRun=dry)[0] == code
        disks = [{"Image": image, "Volume": VOLUME}]
        assert refusal(ec2.import_instance, Platform="Linux", DiskImages=disks, DryRun=dry)[0] == code


@pytest.mark.parametrize("content", [b"KDMV", b"<!DOCTYPE m [<!ENTITY a 'b'>]><manifest>&a;</manifest>", b""])
def test_what_is_no_manifest_is_refused_at_once(ec2: Any, services: Services, content: bytes) -> None:
    put(services, "none.manifest.xml", content)
    image = {**IMAGE, "ImportManifestUrl": "s3://imports/none.manifest.xml"}
    code, message = refusal(ec2.import_volume, AvailabilityZone="us-east-1a", Image=image, Volume=VOLUME)
    assert (code, message[:37]) == ("InvalidManifest", "The import manifest cannot be used: i")


def put(services: Services, key: str, content: bytes) -> None:
    writer = services.objects(HERE).create("imports", key)
    writer.write_at(0, content)
    writer.set_size(len(content))
    writer.finish()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"DiskImages": []}, "MissingParameter"),
        ({"DiskImages": [{"Image": IMAGE}]}, "MissingParameter"),
        ({"Platform": "BeOS"}, "InvalidParameterValue"),
        ({"LaunchSpecification": {"Architecture": "i386"}}, "Unsupported"),
        ({"LaunchSpecification": {"Monitoring": True}}, "UnsupportedOperation"),
        ({"LaunchSpecification": {"PrivateIpAddress": "10.0.0.5"}}, "UnsupportedOperation"),
        ({"LaunchSpecification": {"AdditionalInfo": "x"}}, "UnsupportedOperation"),
        ({"LaunchSpecification": {"GroupNames": ["web"]}}, "InvalidGroup.NotFound"),
        ({"LaunchSpecification": {"InstanceType": "z9"}}, "InvalidParameterValue"),
        ({"LaunchSpecification": {"UserData": {"Data": "not base64!"}}}, "InvalidUserData.Malformed"),
        ({"DryRun": True}, "DryRunOperation"),
    ],
)
def test_an_instance_that_cannot_be_is_refused(ec2: Any, asked: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        import_instance(ec2, **asked)
    assert caught.value.response["Error"]["Code"] == code


def test_ids_of_other_tasks_are_told_apart(ec2: Any) -> None:
    describe, cancel = ec2.describe_conversion_tasks, ec2.cancel_conversion_task
    assert refusal(describe, ConversionTaskIds=["import-i-00000000"])[0] == "InvalidConversionTaskId"
    assert refusal(describe, ConversionTaskIds=["import-ami-00000000"])[0] == "InvalidConversionTaskId.Malformed"
    assert refusal(cancel, ConversionTaskId="import-vol-00000000")[0] == "InvalidConversionTaskId"
    assert refusal(ec2.import_volume, Image=IMAGE, Volume=VOLUME)[0] == "MissingParameter"
