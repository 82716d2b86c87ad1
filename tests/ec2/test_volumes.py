"""Volumes, by botocore's client: made, attached, kept as snapshots, deleted; and what is refused, in EC2's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ec2.material import first_bytes, has_image, make_image, make_snapshot
from tests.ec2.running_gateway import ACCOUNT, Endpoint
from vmferry.ec2.services import Services

ZONE = "us-east-1a"


@pytest.fixture(scope="module")
def ec2(endpoint: Endpoint) -> Any:
    return endpoint.client()


@pytest.fixture
def instance_id(ec2: Any, services: Services) -> str:
    image = make_image(ec2, make_snapshot(services))
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
    return str(made["Instances"][0]["InstanceId"])


def refusal(call: Callable[..., Any], **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def key_of(volume_id: str) -> str:
    return f"{ACCOUNT}/{volume_id}.qcow2"


def test_a_volume_of_a_snapshot_outlives_it(ec2: Any, services: Services) -> None:
    snapshot = make_snapshot(services, b"hello")
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "data"}]}]
    made = ec2.create_volume(AvailabilityZone=ZONE, SnapshotId=snapshot, VolumeType="gp3", TagSpecifications=tags)
    assert (made["Size"], made["SnapshotId"], made["VolumeType"]) == (1, snapshot, "gp3")
    ec2.get_waiter("volume_available").wait(VolumeIds=[made["VolumeId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 2})
    ec2.delete_snapshot(SnapshotId=snapshot)
    assert first_bytes(services, key_of(made["VolumeId"])) == b"hello"
    (volume,) = ec2.describe_volumes(Filters=[{"Name": "tag:Name", "Values": ["data"]}])["Volumes"]
    assert volume["VolumeId"] == made["VolumeId"]
    ec2.delete_volume(VolumeId=made["VolumeId"])
    assert not has_image(services, key_of(made["VolumeId"]))
    assert refusal(ec2.describe_volumes, VolumeIds=[made["VolumeId"]])[0] == "InvalidVolume.NotFound"
    ec2.get_waiter("volume_deleted").wait(VolumeIds=[made["VolumeId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 1})


def test_an_empty_volume_reads_as_zeros(ec2: Any, services: Services) -> None:
    made = ec2.create_volume(AvailabilityZone=ZONE, Size=40)
    assert made["SnapshotId"] == ""
    assert first_bytes(services, key_of(made["VolumeId"])) == bytes(5)


def test_the_same_request_twice_makes_one_volume(ec2: Any, services: Services) -> None:
    before = set(services.images.keys("us-east-1"))
    asked = {"AvailabilityZone": ZONE, "Size": 2, "ClientToken": "once"}
    one, other = ec2.create_volume(**asked), ec2.create_volume(**asked)
    assert one["VolumeId"] == other["VolumeId"]
    assert refusal(ec2.create_volume, **{**asked, "Size": 3})[0] == "IdempotentParameterMismatch"
    assert set(services.images.keys("us-east-1")) - before == {key_of(one["VolumeId"])}


@pytest.mark.parametrize(
    ("asked", "code", "sentence"),
    [
        ({"Size": 1, "AvailabilityZone": "mars-1a"}, "InvalidZone.NotFound", "does not exist"),
        ({"Size": 1}, "MissingParameter", "zone"),
        ({"AvailabilityZone": ZONE}, "MissingParameter", "size or snapshotId"),
        ({"AvailabilityZone": ZONE, "Size": 16385}, "InvalidParameterValue", "from 1 to 16384"),
        ({"AvailabilityZone": ZONE, "Size": 1, "Encrypted": True}, "UnsupportedOperation", "encrypt"),
        ({"AvailabilityZone": ZONE, "Size": 1, "KmsKeyId": "k"}, "InvalidParameterDependency", "Encrypted"),
        ({"AvailabilityZone": ZONE, "Size": 1, "VolumeType": "gp9"}, "InvalidParameterValue", "gp3"),
        ({"AvailabilityZone": ZONE, "Size": 1, "Iops": 3000}, "UnsupportedOperation", "rate"),
        ({"AvailabilityZone": ZONE, "SnapshotId": "snap-00000000"}, "InvalidSnapshot.NotFound", "does not exist"),
        ({"AvailabilityZone": ZONE, "SnapshotId": "vol-00000000"}, "InvalidSnapshotID.Malformed", "snap-"),
    ],
)
def test_a_volume_that_cannot_be_is_refused(ec2: Any, asked: dict[str, Any], code: str, sentence: str) -> None:
    found, message = refusal(ec2.create_volume, **asked)
    assert found == code
    assert sentence in message


def test_a_volume_is_no_smaller_than_its_snapshot(ec2: Any, services: Services) -> None:
    snapshot = make_snapshot(services, size=3 << 30)
    code, message = refusal(ec2.create_volume, AvailabilityZone=ZONE, SnapshotId=snapshot, Size=2)
    assert code == "InvalidParameterValue"
    assert "expect size >= 3GB" in message
    pending = make_snapshot(services, whole=False)
    code, message = refusal(ec2.create_volume, AvailabilityZone=ZONE, SnapshotId=pending)
    assert code == "IncorrectState"
    assert "Snapshot is in invalid state - pending" in message


def test_a_volume_hangs_on_one_instance_at_one_device(ec2: Any, instance_id: str) -> None:
    volume = ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
    hang = {"VolumeId": volume, "InstanceId": instance_id}
    assert refusal(ec2.attach_volume, **hang, Device="/dev/sda1")[0] == "InvalidParameterValue"
    assert refusal(ec2.attach_volume, **hang, Device="../sda")[0] == "InvalidBlockDeviceMapping"
    held = ec2.attach_volume(**hang, Device="/dev/sdf")
    assert (held["State"], held["InstanceId"], held["DeleteOnTermination"]) == ("attached", instance_id, False)
    ec2.get_waiter("volume_in_use").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1, "MaxAttempts": 1})
    assert refusal(ec2.attach_volume, **hang, Device="/dev/sdg")[0] == "VolumeInUse"
    code, message = refusal(ec2.delete_volume, VolumeId=volume)
    assert (code, message) == ("VolumeInUse", f"Volume {volume} is currently attached to {instance_id}")
    assert refusal(ec2.detach_volume, VolumeId=volume, Device="/dev/sdz")[0] == "InvalidAttachment.NotFound"
    assert ec2.detach_volume(VolumeId=volume)["State"] == "detached"
    assert refusal(ec2.detach_volume, VolumeId=volume)[0] == "IncorrectState"
    assert refusal(ec2.detach_volume, **hang)[0] == "InvalidAttachment.NotFound"
    ec2.delete_volume(VolumeId=volume)


def test_a_snapshot_of_a_volume_holds_what_it_does(ec2: Any, services: Services) -> None:
    volume = ec2.create_volume(AvailabilityZone=ZONE, SnapshotId=make_snapshot(services, b"kept!"))["VolumeId"]
    made = ec2.create_snapshot(VolumeId=volume, Description="before the change")
    assert (made["State"], made["VolumeId"], made["Progress"]) == ("completed", volume, "100%")
    ec2.delete_volume(VolumeId=volume)
    assert first_bytes(services, f"{ACCOUNT}/{made['SnapshotId']}.qcow2") == b"kept!"
    (found,) = ec2.describe_snapshots(Filters=[{"Name": "volume-id", "Values": [volume]}])["Snapshots"]
    assert found["Description"] == "before the change"
    assert refusal(ec2.create_snapshot, VolumeId=volume)[0] == "InvalidVolume.NotFound"


def test_volumes_come_in_pages(ec2: Any) -> None:
    for _ in range(6):
        ec2.create_volume(AvailabilityZone=ZONE, Size=7)
    wanted = [{"Name": "size", "Values": ["7"]}]
    pages = list(ec2.get_paginator("describe_volumes").paginate(Filters=wanted, PaginationConfig={"PageSize": 5}))
    assert [len(page["Volumes"]) for page in pages] == [5, 1]
    assert ec2.describe_volumes(Filters=[{"Name": "availability-zone-id", "Values": ["use1-az1"]}])["Volumes"]
    assert refusal(ec2.describe_volumes, Filters=[{"Name": "colour", "Values": ["red"]}])[0] == "InvalidParameterValue"
    assert refusal(ec2.create_volume, AvailabilityZone=ZONE, Size=1, DryRun=True)[0] == "DryRunOperation"
