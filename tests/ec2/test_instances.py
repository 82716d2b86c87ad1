"""Instances, by botocore's client: launched and kept stopped, changed, made into AMIs, ended."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ec2.material import HERE, first_bytes, has_image, make_image, make_snapshot
from tests.ec2.running_gateway import ACCOUNT, Endpoint
from vmferry.catalog.hardware import Hardware
from vmferry.ec2.ids import new_id
from vmferry.ec2.services import Services
from vmferry.machine import NetworkInterface


@pytest.fixture(scope="module")
def ec2(endpoint: Endpoint) -> Any:
    return endpoint.client()


@pytest.fixture
def image_id(ec2: Any, services: Services) -> str:
    return make_image(ec2, make_snapshot(services, b"guest"))


def launch(ec2: Any, image_id: str, **parameters: Any) -> dict[str, Any]:
    answer = ec2.run_instances(**{"ImageId": image_id, "MinCount": 1, "MaxCount": 1, **parameters})
    return dict(answer["Instances"][0])


def describe(ec2: Any, instance_id: str) -> dict[str, Any]:
    (reservation,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    return dict(reservation["Instances"][0])


def refusal(call: Callable[..., Any], **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def volume_keys(services: Services) -> set[str]:
    return {key for key in services.images.keys("us-east-1") if "/vol-" in key}


def test_what_is_launched_is_stopped_and_says_why(ec2: Any, services: Services, image_id: str) -> None:
    instance = launch(ec2, image_id, InstanceType="m5.large")
    assert instance["State"] == {"Code": 80, "Name": "stopped"}
    assert "no hypervisor" in instance["StateReason"]["Message"]
    assert instance == describe(ec2, instance["InstanceId"])
    (device,) = instance["BlockDeviceMappings"]
    assert device["DeviceName"] == "/dev/sda1"
    assert first_bytes(services, f"{ACCOUNT}/{device['Ebs']['VolumeId']}.qcow2") == b"guest"
    waiter = ec2.get_waiter("instance_stopped")
    waiter.wait(InstanceIds=[instance["InstanceId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 1})
    code, message = refusal(ec2.start_instances, InstanceIds=[instance["InstanceId"]])
    assert code == "UnsupportedOperation"
    assert "no hypervisor to start" in message
    (stopped,) = ec2.stop_instances(InstanceIds=[instance["InstanceId"]])["StoppingInstances"]
    assert stopped["CurrentState"] == stopped["PreviousState"] == {"Code": 80, "Name": "stopped"}


def test_the_same_request_twice_launches_once(ec2: Any, services: Services, image_id: str) -> None:
    before = volume_keys(services)
    asked = {"ImageId": image_id, "MinCount": 2, "MaxCount": 3, "ClientToken": new_id("t-")}
    one, other = ec2.run_instances(**asked), ec2.run_instances(**asked)
    assert one["ReservationId"] == other["ReservationId"]
    assert [i["InstanceId"] for i in one["Instances"]] == [i["InstanceId"] for i in other["Instances"]]
    assert [i["AmiLaunchIndex"] for i in one["Instances"]] == [0, 1, 2]
    assert len(volume_keys(services) - before) == 3
    assert refusal(ec2.run_instances, **{**asked, "MaxCount": 2})[0] == "IdempotentParameterMismatch"


def test_a_launch_changes_the_devices_of_its_ami(ec2: Any, services: Services, image_id: str) -> None:
    other = make_snapshot(services, b"other")
    instance = launch(
        ec2,
        image_id,
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 9, "DeleteOnTermination": False}},
            {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": other, "VolumeType": "gp3"}},
            {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 4}},
            {"DeviceName": "/dev/sdh", "VirtualName": "ephemeral0"},
        ],
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]},
            {"ResourceType": "volume", "Tags": [{"Key": "of", "Value": "web"}]},
        ],
    )
    assert instance["Tags"] == [{"Key": "Name", "Value": "web"}]
    volumes = {
        one["Attachments"][0]["Device"]: one
        for one in ec2.describe_volumes(
            Filters=[{"Name": "attachment.instance-id", "Values": [instance["InstanceId"]]}]
        )["Volumes"]
    }
    assert {device: one["Size"] for device, one in volumes.items()} == {"/dev/sda1": 9, "/dev/sdf": 1, "/dev/sdg": 4}
    assert all(one["Tags"] == [{"Key": "of", "Value": "web"}] for one in volumes.values())
    assert first_bytes(services, f"{ACCOUNT}/{volumes['/dev/sdf']['VolumeId']}.qcow2") == b"other"
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    (kept,) = ec2.describe_volumes(VolumeIds=[volumes["/dev/sda1"]["VolumeId"]])["Volumes"]
    assert kept["State"] == "available"
    for device in ("/dev/sdf", "/dev/sdg"):
        assert not has_image(services, f"{ACCOUNT}/{volumes[device]['VolumeId']}.qcow2")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"ImageId": "ami-00000000"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "web"}, "InvalidAMIID.Malformed"),
        ({"MinCount": 3, "MaxCount": 2}, "InvalidParameterValue"),
        ({"MinCount": 21, "MaxCount": 21}, "InstanceLimitExceeded"),
        ({"InstanceType": "z9.huge"}, "InvalidParameterValue"),
        ({"KeyName": "mine"}, "InvalidKeyPair.NotFound"),
        ({"SubnetId": "subnet-00000000"}, "InvalidSubnetID.NotFound"),
        ({"SecurityGroupIds": ["sg-00000000"]}, "InvalidGroup.NotFound"),
        ({"SecurityGroups": ["web"]}, "InvalidGroup.NotFound"),
        ({"Placement": {"AvailabilityZone": "us-east-1f"}}, "InvalidZone.NotFound"),
        ({"Placement": {"HostId": "h-1"}}, "UnsupportedOperation"),
        ({"IamInstanceProfile": {"Name": "web"}}, "UnsupportedOperation"),
        ({"Monitoring": {"Enabled": True}}, "UnsupportedOperation"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "NoDevice": ""}]}, "InvalidBlockDeviceMapping"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"Encrypted": True}}]}, "UnsupportedOperation"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {}}]}, "MissingParameter"),
        ({"UserData": "x" * 16385}, "InvalidParameterValue"),
        ({"DryRun": True}, "DryRunOperation"),
    ],
)
def test_a_launch_that_cannot_be_leaves_nothing(
    ec2: Any, services: Services, image_id: str, asked: dict[str, Any], code: str
) -> None:
    before = volume_keys(services)
    parameters = {"ImageId": image_id, "MinCount": 1, "MaxCount": 1, **asked}
    assert refusal(ec2.run_instances, **parameters)[0] == code
    assert volume_keys(services) == before


def test_attributes_are_kept(ec2: Any, image_id: str) -> None:
    instance_id = launch(ec2, image_id, UserData="#!/bin/sh", DisableApiTermination=True)["InstanceId"]

    def attribute(name: str) -> Any:
        answer = ec2.describe_instance_attribute(InstanceId=instance_id, Attribute=name)
        return answer[name[0].upper() + name[1:]]

    assert base64.b64decode(attribute("userData")["Value"]) == b"#!/bin/sh"
    assert attribute("disableApiTermination") == {"Value": True}
    code, message = refusal(ec2.terminate_instances, InstanceIds=[instance_id])
    assert code == "OperationNotPermitted"
    assert "disableApiTermination" in message
    for changes in (
        {"DisableApiTermination": {"Value": False}},
        {"InstanceType": {"Value": "c5.large"}},
        {"Attribute": "instanceInitiatedShutdownBehavior", "Value": "terminate"},
        {"UserData": {"Value": b"other"}},
        {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"DeleteOnTermination": False}}]},
    ):
        ec2.modify_instance_attribute(InstanceId=instance_id, **changes)
    assert attribute("instanceType") == {"Value": "c5.large"}
    assert attribute("instanceInitiatedShutdownBehavior") == {"Value": "terminate"}
    assert base64.b64decode(attribute("userData")["Value"]) == b"other"
    (device,) = ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="blockDeviceMapping")[
        "BlockDeviceMappings"
    ]
    assert device["Ebs"]["DeleteOnTermination"] is False
    modify = ec2.modify_instance_attribute
    assert refusal(modify, InstanceId=instance_id)[0] == "InvalidParameterCombination"
    assert refusal(modify, InstanceId=instance_id, SourceDestCheck={"Value": False})[0] == "UnsupportedOperation"
    assert refusal(modify, InstanceId=instance_id, InstanceType={"Value": "z9"})[0] == "InvalidParameterValue"
    attribute_of = ec2.describe_instance_attribute
    assert refusal(attribute_of, InstanceId=instance_id, Attribute="colour")[0] == "InvalidParameterValue"
    ec2.terminate_instances(InstanceIds=[instance_id])
    assert describe(ec2, instance_id)["State"]["Name"] == "terminated"
    ec2.terminate_instances(InstanceIds=[instance_id])
    assert refusal(ec2.stop_instances, InstanceIds=[instance_id])[0] == "IncorrectInstanceState"
    assert refusal(modify, InstanceId=instance_id, EbsOptimized={"Value": True})[0] == "IncorrectInstanceState"


def test_an_ami_of_an_instance_holds_its_volumes(ec2: Any, services: Services, image_id: str) -> None:
    instance_id = launch(ec2, image_id)["InstanceId"]
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", SnapshotId=make_snapshot(services, b"data!"))["VolumeId"]
    ec2.attach_volume(VolumeId=volume, InstanceId=instance_id, Device="/dev/sdf")
    name = new_id("copy-")
    made = ec2.create_image(InstanceId=instance_id, Name=name)["ImageId"]
    (image,) = ec2.describe_images(ImageIds=[made])["Images"]
    devices = {one["DeviceName"]: one["Ebs"]["SnapshotId"] for one in image["BlockDeviceMappings"]}
    assert list(devices) == ["/dev/sda1", "/dev/sdf"]
    assert first_bytes(services, f"{ACCOUNT}/{devices['/dev/sda1']}.qcow2") == b"guest"
    assert first_bytes(services, f"{ACCOUNT}/{devices['/dev/sdf']}.qcow2") == b"data!"
    before = set(services.images.keys("us-east-1"))
    assert refusal(ec2.create_image, InstanceId=instance_id, Name=name)[0] == "InvalidAMIName.Duplicate"
    assert set(services.images.keys("us-east-1")) == before
    ec2.terminate_instances(InstanceIds=[instance_id])
    assert refusal(ec2.create_image, InstanceId=instance_id, Name=new_id("x-"))[0] == "IncorrectState"
    assert launch(ec2, made)["ImageId"] == made


def test_instances_are_found_by_what_they_are(ec2: Any, image_id: str) -> None:
    instance = launch(ec2, image_id)
    for name, value in {
        "instance-id": instance["InstanceId"],
        "image-id": image_id,
        "vpc-id": instance["VpcId"],
        "block-device-mapping.volume-id": instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"],
    }.items():
        found = ec2.describe_instances(Filters=[{"Name": name, "Values": [value]}])["Reservations"]
        assert instance["InstanceId"] in [one["InstanceId"] for each in found for one in each["Instances"]], name
    assert refusal(ec2.describe_instances, InstanceIds=["i-00000000"])[0] == "InvalidInstanceID.NotFound"
    assert refusal(ec2.describe_instances, InstanceIds=["x"])[0] == "InvalidInstanceID.Malformed"
    pages = list(ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5}))
    assert all(sum(len(one["Instances"]) for one in page["Reservations"]) <= 5 for page in pages)


def test_what_clients_ask_before_a_launch(ec2: Any) -> None:
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"]
    (subnet,) = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["Subnets"]
    (group,) = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
    assert subnet["VpcId"] == group["VpcId"] == vpc["VpcId"]
    assert ec2.describe_key_pairs()["KeyPairs"] == []
    assert refusal(ec2.describe_key_pairs, KeyNames=["mine"])[0] == "InvalidKeyPair.NotFound"
    (kind,) = ec2.describe_instance_types(InstanceTypes=["t3.micro"])["InstanceTypes"]
    assert (kind["VCpuInfo"]["DefaultVCpus"], kind["MemoryInfo"]["SizeInMiB"]) == (2, 1024)
    assert refusal(ec2.describe_instance_types, InstanceTypes=["z9.huge"])[0] == "InvalidInstanceType"
    attributes = {
        one["AttributeName"]: one["AttributeValues"][0]["AttributeValue"]
        for one in ec2.describe_account_attributes()["AccountAttributes"]
    }
    assert attributes == {"supported-platforms": "VPC", "default-vpc": vpc["VpcId"]}
    assert refusal(ec2.describe_subnets, SubnetIds=["subnet-00000000"])[0] == "InvalidSubnetID.NotFound"
    assert refusal(ec2.describe_vpcs, VpcIds=["vpc-00000000"])[0] == "InvalidVpcID.NotFound"


@pytest.mark.parametrize(
    ("cpus", "memory_gib", "kind"),
    [(1, 1, "t2.micro"), (1, 2, "t3.small"), (2, 8, "t3.large"), (3, 6, "c5.xlarge"), (4, 32, "r5.xlarge"),
     (16, 64, "m5.4xlarge"), (96, 768, "m5.4xlarge")],
)  # fmt: skip
def test_a_launch_without_a_type_gets_the_smallest_that_the_imported_machine_fits_in(
    ec2: Any, services: Services, cpus: int, memory_gib: int, kind: str
) -> None:
    image_id = make_image(ec2, make_snapshot(services))
    (image,) = services.catalog.images.describe(HERE, [image_id])
    known = Hardware(cpus, memory_gib << 30, "x", (NetworkInterface("blue", "VmxNet3", "00:50:56:00:00:01"),))
    own = replace(image, id=new_id("ami-"), name=new_id("of-an-ova-"), hardware=known)
    services.catalog.images.register(own, {})
    instance = launch(ec2, own.id)
    assert instance["InstanceType"] == kind
    assert launch(ec2, own.id, InstanceType="t3.nano")["InstanceType"] == "t3.nano"
    assert launch(ec2, image_id)["InstanceType"] == "m1.small"  # EC2's own, where nothing is known
    again = ec2.create_image(InstanceId=instance["InstanceId"], Name=new_id("again-"))["ImageId"]
    (copied,) = services.catalog.images.describe(HERE, [again])
    assert copied.hardware == replace(known, interfaces=(NetworkInterface("blue", "VmxNet3"),))


_OWN_WINDOWS = "RunInstances:0800"


def test_an_image_of_an_instance_is_billed_as_the_instances_own_was(ec2: Any, services: Services) -> None:
    (image,) = services.catalog.images.describe(HERE, [make_image(ec2, make_snapshot(services))])
    own = replace(image, id=new_id("ami-"), name=new_id("own-"), platform="Windows", usage_operation=_OWN_WINDOWS)
    services.catalog.images.register(own, {})
    instance = launch(ec2, own.id)
    assert instance["UsageOperation"] == _OWN_WINDOWS
    again = ec2.create_image(InstanceId=instance["InstanceId"], Name=new_id("again-"))["ImageId"]
    (copied,) = ec2.describe_images(ImageIds=[again])["Images"]
    assert (copied["Platform"], copied["UsageOperation"]) == ("windows", _OWN_WINDOWS)
    assert launch(ec2, image.id)["UsageOperation"] == "RunInstances"
