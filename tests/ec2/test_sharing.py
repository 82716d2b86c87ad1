"""AMIs and snapshots shared between accounts, by botocore's clients of two: who sees, uses and changes what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ec2.material import make_image, make_snapshot
from tests.ec2.running_gateway import ACCOUNT, OTHER_ACCOUNT, OTHER_KEY, Endpoint
from vmferry.ec2.services import Services

THIRD_ACCOUNT = "777788889999"


@pytest.fixture(scope="module")
def ec2(endpoint: Endpoint) -> Any:
    return endpoint.client()


@pytest.fixture(scope="module")
def other(endpoint: Endpoint) -> Any:
    return endpoint.client(aws_access_key_id=OTHER_KEY)


@pytest.fixture
def snapshot_id(services: Services) -> str:
    return make_snapshot(services)


@pytest.fixture
def image_id(ec2: Any, snapshot_id: str) -> str:
    return make_image(ec2, snapshot_id)


def refusal(call: Callable[..., Any], **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def images(client: Any, **parameters: Any) -> set[str]:
    return {one["ImageId"] for one in client.describe_images(**parameters)["Images"]}


def snapshots(client: Any, **parameters: Any) -> set[str]:
    return {one["SnapshotId"] for one in client.describe_snapshots(**parameters)["Snapshots"]}


def launchers(client: Any, image_id: str) -> list[str]:
    answer = client.describe_image_attribute(ImageId=image_id, Attribute="launchPermission")
    return [one.get("UserId") or one["Group"] for one in answer["LaunchPermissions"]]


def share(client: Any, image_id: str) -> None:
    client.modify_image_attribute(ImageId=image_id, LaunchPermission={"Add": [{"UserId": OTHER_ACCOUNT}]})


def test_only_the_owner_sees_an_ami_that_is_not_shared(ec2: Any, other: Any, image_id: str) -> None:
    assert image_id in images(ec2)
    assert image_id not in images(other)
    for call in (other.deregister_image, other.modify_image_attribute):
        assert refusal(call, ImageId=image_id)[0] == "InvalidAMIID.NotFound"
    assert refusal(other.run_instances, ImageId=image_id, MinCount=1, MaxCount=1)[0] == "InvalidAMIID.NotFound"
    copy = {"Name": "taken", "SourceImageId": image_id, "SourceRegion": "us-east-1"}
    assert refusal(other.copy_image, **copy)[0] == "InvalidAMIID.NotFound"


def test_a_shared_ami_is_seen_launched_and_copied_but_not_changed(ec2: Any, other: Any, image_id: str) -> None:
    ec2.create_tags(Resources=[image_id], Tags=[{"Key": "secret", "Value": "owner's"}])
    ec2.modify_image_attribute(
        ImageId=image_id, LaunchPermission={"Add": [{"UserId": OTHER_ACCOUNT}, {"UserId": THIRD_ACCOUNT}]}
    )
    (seen,) = other.describe_images(ImageIds=[image_id])["Images"]
    assert (seen["OwnerId"], seen.get("Tags", [])) == (ACCOUNT, [])
    for named in ({"ExecutableUsers": ["self"]}, {"Owners": [ACCOUNT]}):
        assert image_id in images(other, **named)
    for named in ({"Owners": ["self"]}, {"ExecutableUsers": [THIRD_ACCOUNT]}, {"ExecutableUsers": ["all"]}):
        assert image_id not in images(other, **named)
    assert image_id in images(ec2, ExecutableUsers=[OTHER_ACCOUNT])
    assert image_id not in images(ec2, ExecutableUsers=["self"])

    (made,) = other.run_instances(ImageId=image_id, MinCount=1, MaxCount=1)["Instances"]
    (reservation,) = other.describe_instances(InstanceIds=[made["InstanceId"]])["Reservations"]
    assert reservation["OwnerId"] == OTHER_ACCOUNT
    assert refusal(ec2.describe_instances, InstanceIds=[made["InstanceId"]])[0] == "InvalidInstanceID.NotFound"

    copied = other.copy_image(Name=image_id, SourceImageId=image_id, SourceRegion="us-east-1", CopyImageTags=True)
    (copy,) = other.describe_images(ImageIds=[copied["ImageId"]])["Images"]
    assert (copy["OwnerId"], copy.get("Tags", [])) == (OTHER_ACCOUNT, [])
    assert launchers(other, copied["ImageId"]) == []

    for call, more in (
        (other.deregister_image, {}),
        (other.modify_image_attribute, {"Description": {"Value": "mine"}}),
        (other.describe_image_attribute, {"Attribute": "launchPermission"}),
        (other.reset_image_attribute, {"Attribute": "launchPermission"}),
    ):
        expected = ("AuthFailure", f"Not authorized for images: [{image_id}]")
        assert refusal(call, ImageId=image_id, **more) == expected


def test_launch_permissions_come_and_go_in_both_spellings(ec2: Any, other: Any, image_id: str) -> None:
    old = {"ImageId": image_id, "Attribute": "launchPermission", "UserIds": [OTHER_ACCOUNT]}
    for _ in range(2):
        ec2.modify_image_attribute(OperationType="add", **old)
    assert launchers(ec2, image_id) == [OTHER_ACCOUNT]
    ec2.modify_image_attribute(OperationType="remove", **old)
    assert launchers(ec2, image_id) == []
    share(ec2, image_id)
    ec2.modify_image_attribute(ImageId=image_id, LaunchPermission={"Remove": [{"UserId": OTHER_ACCOUNT}]})
    assert image_id not in images(other)
    share(ec2, image_id)
    ec2.reset_image_attribute(ImageId=image_id, Attribute="launchPermission")
    assert image_id not in images(other)


def test_permissions_go_with_their_ami(ec2: Any, services: Services, image_id: str) -> None:
    share(ec2, image_id)
    ec2.deregister_image(ImageId=image_id)
    assert services.catalog.permissions.of([image_id]) == {image_id: []}


def test_an_ami_is_described_anew(ec2: Any, image_id: str) -> None:
    def described() -> str:
        answer = ec2.describe_image_attribute(ImageId=image_id, Attribute="description")
        return str(answer["Description"].get("Value", ""))

    ec2.modify_image_attribute(ImageId=image_id, Description={"Value": "first"})
    assert described() == "first"
    ec2.modify_image_attribute(ImageId=image_id, Attribute="description", Value="second")
    assert described() == "second"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "InvalidParameterCombination"),
        ({"LaunchPermission": {"Add": [{"Group": "everyone"}]}}, "InvalidAMIAttributeItemValue"),
        ({"LaunchPermission": {"Add": [{"OrganizationArn": "arn:aws:x"}]}}, "UnsupportedOperation"),
        ({"LaunchPermission": {"Add": [{"UserId": "bob"}]}}, "InvalidAMIAttributeItemValue"),
        ({"OperationType": "add", "UserGroups": ["everyone"]}, "InvalidAMIAttributeItemValue"),
        ({"UserGroups": ["all"]}, "MissingParameter"),
        ({"OperationType": "add", "OrganizationArns": ["arn:aws:x"]}, "UnsupportedOperation"),
        ({"UserIds": [OTHER_ACCOUNT]}, "MissingParameter"),
        ({"OperationType": "swap", "UserIds": [OTHER_ACCOUNT]}, "InvalidParameterValue"),
        ({"Attribute": "kernel", "Value": "x"}, "InvalidParameterCombination"),
        ({"Attribute": "colour"}, "InvalidParameterValue"),
        (
            {"Attribute": "description", "OperationType": "add", "UserIds": [OTHER_ACCOUNT]},
            "InvalidParameterCombination",
        ),
    ],
)
def test_what_cannot_be_changed_is_refused(ec2: Any, image_id: str, given: dict[str, Any], code: str) -> None:
    assert refusal(ec2.modify_image_attribute, ImageId=image_id, **given)[0] == code
    assert launchers(ec2, image_id) == []


def test_a_shared_snapshot_is_seen_and_used_but_not_changed(ec2: Any, other: Any, snapshot_id: str) -> None:
    volume = {"AvailabilityZone": "us-east-1a", "SnapshotId": snapshot_id}
    copy = {"SourceRegion": "us-east-1", "SourceSnapshotId": snapshot_id}
    for call, given in ((other.create_volume, volume), (other.copy_snapshot, copy)):
        assert refusal(call, **given)[0] == "InvalidSnapshot.NotFound"
    old = {"SnapshotId": snapshot_id, "Attribute": "createVolumePermission"}
    ec2.modify_snapshot_attribute(OperationType="add", UserIds=[OTHER_ACCOUNT], **old)
    assert ec2.describe_snapshot_attribute(**old)["CreateVolumePermissions"] == [{"UserId": OTHER_ACCOUNT}]
    assert snapshot_id in snapshots(other, RestorableByUserIds=["self"])
    assert snapshot_id in snapshots(other, OwnerIds=[ACCOUNT])
    assert snapshot_id not in snapshots(other, OwnerIds=["self"])
    made = other.create_volume(**volume)
    assert refusal(ec2.describe_volumes, VolumeIds=[made["VolumeId"]])[0] == "InvalidVolume.NotFound"
    assert other.copy_snapshot(**copy)["SnapshotId"] in snapshots(other, OwnerIds=["self"])
    assert refusal(other.describe_snapshot_attribute, **old)[0] == "AuthFailure"
    assert refusal(other.reset_snapshot_attribute, **old)[0] == "AuthFailure"
    assert refusal(other.delete_snapshot, SnapshotId=snapshot_id)[0] == "AuthFailure"
    ec2.reset_snapshot_attribute(**old)
    assert snapshot_id not in snapshots(other)


def is_public(client: Any, image_id: str) -> bool:
    """What the AMI says; the filter must agree."""
    (image,) = client.describe_images(ImageIds=[image_id])["Images"]
    found = images(client, Filters=[{"Name": "is-public", "Values": ["true"]}])
    assert (image_id in found) == image["Public"]
    return bool(image["Public"])


def test_a_public_ami_is_everybodys_to_see_launch_and_copy(ec2: Any, other: Any, image_id: str) -> None:
    share(ec2, image_id)
    assert not is_public(ec2, image_id)
    ec2.modify_image_attribute(ImageId=image_id, LaunchPermission={"Remove": [{"UserId": OTHER_ACCOUNT}]})
    ec2.modify_image_attribute(ImageId=image_id, LaunchPermission={"Add": [{"Group": "all"}]})
    assert is_public(ec2, image_id)
    assert is_public(other, image_id)
    assert launchers(ec2, image_id) == ["all"]
    for client in (ec2, other):
        assert image_id in images(client, ExecutableUsers=["all"])
        assert image_id not in images(client, ExecutableUsers=["self"])
    assert image_id not in images(other, Owners=["self"])
    assert len(other.run_instances(ImageId=image_id, MinCount=1, MaxCount=1)["Instances"]) == 1
    copied = other.copy_image(Name=image_id, SourceImageId=image_id, SourceRegion="us-east-1")["ImageId"]
    assert not is_public(other, copied)
    assert refusal(other.deregister_image, ImageId=image_id)[0] == "AuthFailure"
    ec2.reset_image_attribute(ImageId=image_id, Attribute="launchPermission")
    assert not is_public(ec2, image_id)
    assert image_id not in images(other)


def test_an_ami_is_public_and_shared_at_once(ec2: Any, other: Any, image_id: str) -> None:
    share(ec2, image_id)
    old = {"ImageId": image_id, "Attribute": "launchPermission", "UserGroups": ["all"]}
    ec2.modify_image_attribute(OperationType="add", **old)
    assert launchers(ec2, image_id) == [OTHER_ACCOUNT, "all"]
    seen = [one["ImageId"] for one in other.describe_images()["Images"]]
    assert seen.count(image_id) == 1
    assert image_id in images(other, ExecutableUsers=["self"])
    ec2.modify_image_attribute(OperationType="remove", **old)
    assert launchers(ec2, image_id) == [OTHER_ACCOUNT]
    assert not is_public(other, image_id)


def test_a_public_snapshot_is_everybodys_to_read(ec2: Any, other: Any, snapshot_id: str) -> None:
    old = {"SnapshotId": snapshot_id, "Attribute": "createVolumePermission"}
    ec2.modify_snapshot_attribute(OperationType="add", GroupNames=["all"], **old)
    assert ec2.describe_snapshot_attribute(**old)["CreateVolumePermissions"] == [{"Group": "all"}]
    assert snapshot_id in snapshots(other)
    for client in (ec2, other):
        assert snapshot_id in snapshots(client, RestorableByUserIds=["all"])
    assert snapshot_id in snapshots(ec2, RestorableByUserIds=["self"])
    assert snapshot_id not in snapshots(other, RestorableByUserIds=["self"])
    other.create_volume(AvailabilityZone="us-east-1a", SnapshotId=snapshot_id)
    assert refusal(other.delete_snapshot, SnapshotId=snapshot_id)[0] == "AuthFailure"
    ec2.modify_snapshot_attribute(SnapshotId=snapshot_id, CreateVolumePermission={"Remove": [{"Group": "all"}]})
    assert snapshot_id not in snapshots(other)
