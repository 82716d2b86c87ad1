"""ImportSnapshot, and AMIs made of snapshots, driven by botocore and the AWS CLI against the running server."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.server.harness import Server
from tests.server.material import holds, same_guest

pytestmark = [pytest.mark.server, pytest.mark.slow]


def container(key: str, declared: str | None = "RAW") -> dict[str, Any]:
    named = {} if declared is None else {"Format": declared}
    return {**named, "UserBucket": {"S3Bucket": "imports", "S3Key": key}}


def import_snapshot(server: Server, key: str, declared: str | None = "RAW", **parameters: Any) -> str:
    answer = server.client("ec2").import_snapshot(DiskContainer=container(key, declared), **parameters)
    return str(answer["ImportTaskId"])


def describe(server: Server, task_id: str) -> dict[str, Any]:
    tasks = server.client("ec2").describe_import_snapshot_tasks(ImportTaskIds=[task_id])["ImportSnapshotTasks"]
    return dict(tasks[0])


def follow(server: Server, task_id: str) -> Iterator[dict[str, Any]]:
    """The details of a task as they change, until it has ended; the state of an import, whatever its kind."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        detail = describe(server, task_id)["SnapshotTaskDetail"]
        yield detail
        if detail["Status"] in ("completed", "deleted"):
            return
        time.sleep(0.05)
    raise AssertionError(f"{task_id} did not end: {detail}")


def wait(server: Server, task_id: str) -> dict[str, Any]:
    return list(follow(server, task_id))[-1]


@pytest.fixture(scope="module")
def snapshot_id(server: Server, small_disk: Path) -> str:
    """A snapshot of ``small_disk``."""
    detail = wait(server, import_snapshot(server, server.upload(small_disk, "imports")))
    return str(detail["SnapshotId"])


def refusal(call: Any, **parameters: Any) -> tuple[str, str]:
    """Code and message of the error that ``call`` ends in."""
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_disk_becomes_a_snapshot_with_the_aws_cli_alone(server: Server, small_disk: Path) -> None:
    server.aws("s3", "mb", "s3://snapshots-by-cli")
    server.aws("s3", "cp", str(small_disk), "s3://snapshots-by-cli/root.img")
    started = server.aws(
        "ec2", "import-snapshot", "--description", "root",
        "--disk-container", "Format=raw,Url=s3://snapshots-by-cli/root.img",
        "--tag-specifications", "ResourceType=import-snapshot-task,Tags=[{Key=who,Value=cli}]",
    )  # fmt: skip
    task_id = started["ImportTaskId"]
    assert task_id.startswith("import-snap-")
    assert started["Description"] == "root"
    assert started["SnapshotTaskDetail"]["StatusMessage"] == "pending"
    assert started["SnapshotTaskDetail"]["UserBucket"] == {"S3Bucket": "snapshots-by-cli", "S3Key": "root.img"}
    server.aws("ec2", "wait", "snapshot-imported", "--import-task-ids", task_id)
    (task,) = server.aws("ec2", "describe-import-snapshot-tasks", "--import-task-ids", task_id)["ImportSnapshotTasks"]
    detail = task["SnapshotTaskDetail"]
    assert task["Tags"] == [{"Key": "who", "Value": "cli"}]
    assert detail["Format"] == "RAW"
    assert detail["DiskImageSize"] == small_disk.stat().st_size
    assert "Progress" not in detail
    assert "StatusMessage" not in detail
    assert holds(server, detail["SnapshotId"], small_disk)
    (snapshot,) = server.client("ec2").describe_snapshots(SnapshotIds=[detail["SnapshotId"]])["Snapshots"]
    assert (snapshot["State"], snapshot["VolumeId"], snapshot["VolumeSize"]) == ("completed", "vol-ffffffff", 1)
    assert any(tag["Key"] == "vmferry:guest-digest" for tag in snapshot["Tags"])


@pytest.mark.parametrize(
    ("declared", "name", "options"),
    [
        ("VHD", "vpc", "subformat=dynamic,force_size=on"),
        ("vhdx", "vhdx", "subformat=dynamic"),
        ("VMDK", "vmdk", "subformat=streamOptimized"),
        (None, "vmdk", "subformat=monolithicSparse"),
    ],
)
def test_every_disk_format_becomes_a_snapshot(
    server: Server, small_disk: Path, tmp_path: Path, declared: str | None, name: str, options: str
) -> None:
    image = tmp_path / f"snapshot.{name}"
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", name, "-o", options, str(small_disk), str(image)], check=True
    )
    detail = wait(server, import_snapshot(server, server.upload(image, "imports"), declared))
    assert detail["Status"] == "completed", detail
    assert holds(server, detail["SnapshotId"], small_disk)


def test_its_stages_are_those_of_ec2_and_progress_never_falls(
    server: Server, large_disk: Path, large_vmdk: Path
) -> None:
    task_id = import_snapshot(server, server.upload(large_vmdk, "imports"), "VMDK")
    seen = list(follow(server, task_id))
    stages = ["pending", "validating", "validated", "downloading/converting", "updating", "updated"]
    stages.append("preparing snapshot")
    said = list(dict.fromkeys(detail["StatusMessage"] for detail in seen if "StatusMessage" in detail))
    assert [stage for stage in stages if stage in said] == said
    assert "downloading/converting" in said
    percents = [int(detail["Progress"]) for detail in seen if "Progress" in detail]
    assert percents == sorted(percents)
    assert {detail.get("SnapshotId") for detail in seen[:-1]} <= {None, ""}
    assert holds(server, seen[-1]["SnapshotId"], large_disk)


def test_an_appliance_is_no_snapshot(server: Server, small_ova: Path) -> None:
    key = server.upload(small_ova, "imports")
    code, message = refusal(server.client("ec2").import_snapshot, DiskContainer=container(key, "OVA"))
    assert code == "InvalidParameterValue"
    assert "ImportImage" in message
    before = server.settled()
    detail = wait(server, import_snapshot(server, key, None))
    assert detail["Status"] == "deleted"
    assert detail["StatusMessage"].startswith("ClientError: Disk validation failed [Unsupported OVA File Format]")
    assert "SnapshotId" not in detail
    assert set(server.leftovers()) == before


def test_requests_that_cannot_work_are_refused_at_once(server: Server, small_disk: Path) -> None:
    call = server.client("ec2").import_snapshot
    key = server.upload(small_disk, "imports")
    assert refusal(call) == ("MissingParameter", "The request must contain the parameter DiskContainer")
    assert refusal(call, DiskContainer=container("nothing-here"))[0] == "InvalidParameter"
    assert refusal(call, DiskContainer=container(key, "ISO"))[0] == "InvalidParameter"
    assert refusal(call, DiskContainer=container(key), Encrypted=True)[0] == "UnsupportedOperation"
    assert refusal(call, DiskContainer=container(key), DryRun=True)[0] == "DryRunOperation"
    wrong = [{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}]
    assert refusal(call, DiskContainer=container(key), TagSpecifications=wrong)[0] == "InvalidParameterValue"


def test_the_same_token_makes_one_snapshot_and_is_none_of_import_image(server: Server, small_disk: Path) -> None:
    key = server.upload(small_disk, "imports")
    first = import_snapshot(server, key, ClientToken="snapshot-once")
    assert import_snapshot(server, key, ClientToken="snapshot-once") == first
    assert server.import_image(container(key), ClientToken="snapshot-once") != first
    wait(server, first)


def test_a_cancelled_import_leaves_nothing(server: Server, large_vmdk: Path) -> None:
    key = server.upload(large_vmdk, "imports")
    before = server.settled()
    task_id = import_snapshot(server, key, "VMDK")
    for detail in follow(server, task_id):
        if detail.get("StatusMessage") == "downloading/converting":
            break
    with server.amid_conversion():
        server.client("ec2").cancel_import_task(ImportTaskId=task_id)
    assert wait(server, task_id)["StatusMessage"] == "User initiated task cancelation"
    assert set(server.leftovers()) == before


def test_each_kind_of_task_has_its_own_list(server: Server, snapshot_id: str) -> None:
    ec2 = server.client("ec2")
    images = [task["ImportTaskId"] for task in ec2.describe_import_image_tasks()["ImportImageTasks"]]
    done = [{"Name": "task-state", "Values": ["completed"]}]
    snapshots = ec2.describe_import_snapshot_tasks(Filters=done)["ImportSnapshotTasks"]
    assert snapshot_id in [task["SnapshotTaskDetail"]["SnapshotId"] for task in snapshots]
    assert all(task["ImportTaskId"].startswith("import-snap-") for task in snapshots)
    assert all(task_id.startswith("import-ami-") for task_id in images)
    assert refusal(ec2.describe_import_snapshot_tasks, ImportTaskIds=["import-ami-0123456789abcdef0"])[0] == (
        "InvalidConversionTaskId.Malformed"
    )


def test_a_snapshot_has_a_receipt(server: Server, small_disk: Path, tmp_path: Path) -> None:
    task_id = import_snapshot(server, server.upload(small_disk, "imports"))
    detail = wait(server, task_id)
    printed = server.vmferry("receipt", task_id, "--data-dir", str(server.data_dir))
    assert printed.returncode == 0, printed.stderr
    path = tmp_path / "receipt.json"
    path.write_text(printed.stdout)
    facts = json.loads(printed.stdout)
    assert facts["image"] is None
    assert facts["disks"][0]["snapshot"] == detail["SnapshotId"]
    checked = server.vmferry("verify", str(path), str(small_disk))
    assert checked.returncode == 0, checked.stderr
    assert f"is disk 1 of {task_id}" in checked.stdout
    alone = server.vmferry("verify", str(path))
    assert alone.returncode == 0, alone.stderr
    assert f"of {task_id}: snapshot, " in alone.stdout


def root(snapshot_id: str, **ebs: Any) -> list[dict[str, Any]]:
    return [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot_id, **ebs}}]


def test_a_snapshot_becomes_an_ami(server: Server, snapshot_id: str) -> None:
    ec2 = server.client("ec2")
    image_id = ec2.register_image(
        Name="from a snapshot",
        Description="mine",
        Architecture="x86_64",
        RootDeviceName="/dev/sda1",
        VirtualizationType="hvm",
        EnaSupport=True,
        BootMode="uefi",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": snapshot_id, "DeleteOnTermination": False}},
            *root(snapshot_id, VolumeSize=8, VolumeType="gp3"),
            {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"},
        ],
        TagSpecifications=[{"ResourceType": "image", "Tags": [{"Key": "Name", "Value": "web"}]}],
    )["ImageId"]
    ec2.get_waiter("image_available").wait(ImageIds=[image_id])
    (image,) = ec2.describe_images(ImageIds=[image_id])["Images"]
    assert (image["Name"], image["Description"], image["BootMode"]) == ("from a snapshot", "mine", "uefi")
    assert image["Tags"] == [{"Key": "Name", "Value": "web"}]
    devices = [(d["DeviceName"], d["Ebs"]["VolumeSize"], d["Ebs"]["VolumeType"]) for d in image["BlockDeviceMappings"]]
    assert devices == [("/dev/sda1", 8, "gp3"), ("/dev/sdf", 1, "gp2")]
    assert image["BlockDeviceMappings"][1]["Ebs"]["DeleteOnTermination"] is False
    assert refusal(ec2.delete_snapshot, SnapshotId=snapshot_id)[0] == "InvalidSnapshot.InUse"
    hvm = {"VirtualizationType": "hvm", "BlockDeviceMappings": root(snapshot_id)}
    assert refusal(ec2.register_image, Name="from a snapshot", **hvm)[0] == "InvalidAMIName.Duplicate"
    ec2.deregister_image(ImageId=image_id)


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"Name": "n" * 129}, "InvalidAMIName.Malformed", "between 3 and 128"),
        ({"Name": "a;b;c"}, "InvalidAMIName.Malformed", "letters"),
        ({"VirtualizationType": "paravirtual"}, "UnsupportedOperation", "VirtualizationType=hvm"),
        ({"KernelId": "aki-12345678"}, "UnsupportedOperation", "KernelId"),
        ({"TpmSupport": "v2.0"}, "InvalidParameterCombination", "BootMode uefi"),
        ({"Architecture": "arm64"}, "InvalidParameterValue", "x86_64"),
        ({"RootDeviceName": "/dev/xvda"}, "InvalidBlockDeviceMapping", "/dev/xvda"),
        ({"BlockDeviceMappings": []}, "InvalidBlockDeviceMapping", "No root snapshot"),
    ],
)
def test_images_that_cannot_be_are_refused(
    server: Server, snapshot_id: str, changes: dict[str, Any], code: str, said: str
) -> None:
    good = {"Name": "never made", "VirtualizationType": "hvm", "BlockDeviceMappings": root(snapshot_id)}
    found, message = refusal(server.client("ec2").register_image, **{**good, **changes})
    assert found == code
    assert said in message


@pytest.mark.parametrize(
    ("ebs", "code"),
    [
        ({"VolumeSize": 8, "Encrypted": True}, "UnsupportedOperation"),
        ({"Iops": 3000}, "UnsupportedOperation"),
        ({"SnapshotId": "snap-0123456789abcdef0"}, "InvalidSnapshot.NotFound"),
        ({"SnapshotId": "snapshot"}, "InvalidSnapshotID.Malformed"),
        ({"VolumeType": "fast"}, "InvalidParameterValue"),
    ],
)
def test_devices_that_cannot_be_are_refused(server: Server, snapshot_id: str, ebs: dict[str, Any], code: str) -> None:
    mapping = root(**{"snapshot_id": snapshot_id, **{k: v for k, v in ebs.items() if k != "SnapshotId"}})
    if "SnapshotId" in ebs:
        mapping[0]["Ebs"]["SnapshotId"] = ebs["SnapshotId"]
    call = server.client("ec2").register_image
    assert refusal(call, Name="never made", VirtualizationType="hvm", BlockDeviceMappings=mapping)[0] == code


def test_a_copied_snapshot_lives_by_itself_in_its_own_region(server: Server, small_disk: Path) -> None:
    original = wait(server, import_snapshot(server, server.upload(small_disk, "imports")))["SnapshotId"]
    west = server.client("ec2", region_name="us-west-2")
    answer = west.copy_snapshot(
        SourceRegion="us-east-1",
        SourceSnapshotId=original,
        Description="in the west",
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}],
    )
    assert answer["Tags"] == [{"Key": "a", "Value": "b"}]
    server.client("ec2").delete_snapshot(SnapshotId=original)
    (copied,) = west.describe_snapshots(SnapshotIds=[answer["SnapshotId"]])["Snapshots"]
    assert (copied["State"], copied["Description"], copied["VolumeId"]) == ("completed", "in the west", "vol-ffffffff")
    assert {tag["Key"] for tag in copied["Tags"]} == {"a", "vmferry:guest-digest"}
    assert same_guest(server.locate(answer["SnapshotId"]), small_disk)
    west.delete_snapshot(SnapshotId=answer["SnapshotId"])
    assert refusal(west.copy_snapshot, SourceRegion="us-east-1", SourceSnapshotId=original)[0] == (
        "InvalidSnapshot.NotFound"
    )
    assert refusal(west.copy_snapshot, SourceRegion="mars-1", SourceSnapshotId=original)[0] == "InvalidRegion"


def test_packers_way_an_ami_is_copied_to_its_name_and_the_first_one_removed(
    server: Server, small_disk: Path, small_ova: Path
) -> None:
    ec2 = server.client("ec2")
    server.upload(small_ova, "imports")
    first = server.wait(server.import_image(container(small_ova.name, "OVA")))
    ec2.create_tags(Resources=[first["ImageId"]], Tags=[{"Key": "kept", "Value": "yes"}])
    asked = {"SourceRegion": "us-east-1", "SourceImageId": first["ImageId"], "Name": "packer web"}
    asked["ClientToken"] = "copy"
    copied = ec2.copy_image(**asked, CopyImageTags=True)["ImageId"]
    assert ec2.copy_image(**asked, CopyImageTags=True)["ImageId"] == copied
    assert refusal(ec2.copy_image, **{**asked, "Name": "other"})[0] == "IdempotentParameterMismatch"
    before = server.settled()
    assert refusal(ec2.copy_image, **{**asked, "ClientToken": "again"})[0] == "InvalidAMIName.Duplicate"
    assert set(server.leftovers()) == before
    ec2.get_waiter("image_available").wait(ImageIds=[copied])
    ec2.deregister_image(ImageId=first["ImageId"])
    for detail in first["SnapshotDetails"]:
        ec2.delete_snapshot(SnapshotId=detail["SnapshotId"])
    (image,) = ec2.describe_images(ImageIds=[copied])["Images"]
    assert (image["Name"], image["Tags"]) == ("packer web", [{"Key": "kept", "Value": "yes"}])
    snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert snapshot != first["SnapshotDetails"][0]["SnapshotId"]
    assert holds(server, snapshot, small_disk)
    ec2.deregister_image(ImageId=copied)
    ec2.delete_snapshot(SnapshotId=snapshot)


def test_tasks_of_every_kind_take_tags(server: Server, snapshot_id: str) -> None:
    ec2 = server.client("ec2")
    tasks = ec2.describe_import_snapshot_tasks()["ImportSnapshotTasks"]
    task_id = next(one["ImportTaskId"] for one in tasks if one["SnapshotTaskDetail"].get("SnapshotId") == snapshot_id)
    ec2.create_tags(Resources=[task_id], Tags=[{"Key": "late", "Value": "1"}])
    assert describe(server, task_id)["Tags"] == [{"Key": "late", "Value": "1"}]


def test_an_ami_is_imported_from_a_snapshot_and_an_object(server: Server, small_disk: Path, snapshot_id: str) -> None:
    key = server.upload(small_disk, "imports", "data.raw")
    asked = [{"SnapshotId": snapshot_id, "DeviceName": "/dev/sda1"}, {**container(key), "DeviceName": "/dev/sdf"}]
    task = server.wait(server.import_image(*asked))
    assert task["Status"] == "completed", task
    (image,) = server.client("ec2").describe_images(ImageIds=[task["ImageId"]])["Images"]
    made = {device["DeviceName"]: device["Ebs"]["SnapshotId"] for device in image["BlockDeviceMappings"]}
    assert snapshot_id not in made.values()
    assert holds(server, made["/dev/sda1"], small_disk)
    assert holds(server, made["/dev/sdf"], small_disk)
    assert server.locate(made["/dev/sda1"]).samefile(server.locate(snapshot_id))
    assert server.vmferry("receipt", task["ImportTaskId"], "--data-dir", str(server.data_dir)).returncode == 0
