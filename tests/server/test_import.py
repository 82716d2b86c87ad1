"""Imports through the running server: its API driven by botocore and the AWS CLI, its results judged by qemu-img."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from prometheus_client.parser import text_string_to_metric_families

from tests.server.harness import Server
from tests.server.material import holds, make_disk, make_ova, make_vmdk

pytestmark = [pytest.mark.server, pytest.mark.slow]

STAGES = ["pending", "validating", "validated", "converting", "updating", "updated", "preparing ami"]


def in_s3(key: str, image_format: str = "OVA", **others: Any) -> dict[str, Any]:
    return {"Format": image_format, "UserBucket": {"S3Bucket": "imports", "S3Key": key}, **others}


def follow_closely(server: Server, task_id: str) -> Iterator[dict[str, Any]]:
    """The task as it changes. The workers are held up after each look at its conversion: what they move next is
    recorded at once, so it is seen at several moments however fast it is."""
    for task in server.follow(task_id, pause=0.05):
        yield task
        if task.get("StatusMessage", "").startswith("converting"):
            with server.held_up():
                time.sleep(0.3)


def images_of(server: Server, task: dict[str, Any]) -> dict[str, Any]:
    (image,) = server.client("ec2").describe_images(ImageIds=[task["ImageId"]])["Images"]
    return dict(image)


def test_an_ova_becomes_an_ami_with_the_aws_cli_alone(server: Server, small_disk: Path, small_ova: Path) -> None:
    server.aws("s3", "mb", "s3://with-the-cli")
    server.aws("s3", "cp", str(small_ova), "s3://with-the-cli/web server.ova")
    started = server.aws(
        "ec2", "import-image", "--description", "web", "--disk-containers",
        json.dumps([{"Format": "ova", "UserBucket": {"S3Bucket": "with-the-cli", "S3Key": "web server.ova"}}]),
        "--tag-specifications", "ResourceType=import-image-task,Tags=[{Key=Name,Value=web é}]",
    )  # fmt: skip
    assert started["Status"] == "active"
    assert started["StatusMessage"] == "pending"
    assert started["Progress"] == "1"
    assert started["SnapshotDetails"][0]["Format"] == "OVA"
    assert started["Tags"] == [{"Key": "Name", "Value": "web é"}]
    server.wait(started["ImportTaskId"])
    answer = server.aws("ec2", "describe-import-image-tasks", "--import-task-ids", started["ImportTaskId"])
    (task,) = answer["ImportImageTasks"]
    assert task["Status"] == "completed"
    assert "Progress" not in task
    assert "StatusMessage" not in task
    (image,) = server.aws("ec2", "describe-images", "--image-ids", task["ImageId"])["Images"]
    assert image["State"] == "available"
    assert image["RootDeviceName"] == "/dev/sda1"
    assert image["BootMode"] == "legacy-bios"
    snapshot_id = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    (snapshot,) = server.aws("ec2", "describe-snapshots", "--snapshot-ids", snapshot_id)["Snapshots"]
    assert (snapshot["State"], snapshot["Progress"], snapshot["VolumeId"]) == ("completed", "100%", "vol-ffffffff")
    assert holds(server, snapshot_id, small_disk)


def test_stages_come_in_order_and_progress_never_falls(server: Server, large_disk: Path, large_ova: Path) -> None:
    key = server.upload(large_ova, "imports")
    seen = list(follow_closely(server, server.import_image(in_s3(key))))
    assert seen[-1]["Status"] == "completed", seen[-1]
    messages = [task["StatusMessage"].partition(" | ")[0] for task in seen if task["Status"] == "active"]
    assert [STAGES.index(message) for message in messages] == sorted(STAGES.index(m) for m in messages)
    assert "converting" in messages
    progress = [int(task["Progress"]) for task in seen if task["Status"] == "active"]
    assert progress == sorted(progress)
    assert len({p for p, m in zip(progress, messages, strict=True) if m == "converting"}) > 2
    (device,) = images_of(server, seen[-1])["BlockDeviceMappings"]
    assert device["Ebs"]["VolumeSize"] == 1
    assert holds(server, device["Ebs"]["SnapshotId"], large_disk)


def test_two_disks_give_two_mappings_and_two_right_snapshots(server: Server, tmp_path: Path) -> None:
    """The disk that boots is the second of the appliance and its name sorts last: it is the root all the same."""
    data = make_disk(tmp_path / "a-data.img", 96, 10, seed=3, boots=False)
    root = make_disk(tmp_path / "z-root.img", 64, 8, seed=4)
    ova = make_ova(tmp_path / "two.ova", [make_vmdk(data), make_vmdk(root)])
    task = server.wait(server.import_image(in_s3(server.upload(ova, "imports"))))
    assert task["Status"] == "completed", task
    image = images_of(server, task)
    devices = {d["DeviceName"]: d["Ebs"] for d in image["BlockDeviceMappings"]}
    assert image["RootDeviceName"] == "/dev/sda1"
    assert list(devices) == ["/dev/sda1", "/dev/sdf"]
    assert holds(server, devices["/dev/sda1"]["SnapshotId"], root)
    assert holds(server, devices["/dev/sdf"]["SnapshotId"], data)
    details = task["SnapshotDetails"]
    assert [d["DeviceName"] for d in details] == ["/dev/sda1", "/dev/sdf"]
    assert [d["Status"] for d in details] == ["completed", "completed"]
    assert [d["Format"] for d in details] == ["VMDK", "VMDK"]


def test_loose_disks_by_url_and_bucket_keep_the_device_names_asked_for(server: Server, tmp_path: Path) -> None:
    root = make_disk(tmp_path / "root.img", 48, 6, seed=5)
    data = make_disk(tmp_path / "data.img", 32, 4, seed=6, boots=False)
    server.upload(make_vmdk(root, "monolithicSparse"), "imports")
    server.upload(data, "imports")
    task_id = server.import_image(
        in_s3("root.vmdk", "vmdk", DeviceName="/dev/xvda"),
        {"Format": "RAW", "Url": "s3://imports/data.img", "DeviceName": "/dev/sdh", "Description": "data"},
    )
    task = server.wait(task_id)
    assert task["Status"] == "completed", task
    assert task["SnapshotDetails"][1]["Url"] == "s3://imports/data.img"
    assert task["SnapshotDetails"][1]["UserBucket"] == {"S3Bucket": "imports", "S3Key": "data.img"}
    devices = {d["DeviceName"]: d["Ebs"]["SnapshotId"] for d in images_of(server, task)["BlockDeviceMappings"]}
    assert holds(server, devices["/dev/xvda"], root)
    assert holds(server, devices["/dev/sdh"], data)


def test_a_presigned_url_of_the_configured_store_is_taken(server: Server, small_disk: Path) -> None:
    key = server.upload(small_disk, "imports", "signed/root disk.raw")
    url = server.client("s3").generate_presigned_url("get_object", Params={"Bucket": "imports", "Key": key})
    task = server.wait(server.import_image({"Format": "RAW", "Url": url}))
    assert task["Status"] == "completed", task


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://example.com/x.ova",
        "file:///etc/passwd",
        "http://127.0.0.1:1/b/k",
    ],
)
def test_no_other_url_is_fetched(server: Server, url: str) -> None:
    with pytest.raises(ClientError) as refused:
        server.import_image({"Format": "OVA", "Url": url})
    assert refused.value.response["Error"]["Code"] == "InvalidParameter"
    assert refused.value.response["Error"]["Message"].startswith("Invalid S3 source location | ")


def test_the_format_is_found_when_none_is_given(server: Server, small_disk: Path, small_ova: Path) -> None:
    for path in (small_ova, small_disk.with_suffix(".vmdk")):
        key = server.upload(path, "imports")
        task = server.wait(server.import_image({"UserBucket": {"S3Bucket": "imports", "S3Key": key}}))
        assert task["Status"] == "completed", task


@pytest.mark.parametrize(
    ("declared", "name", "options"),
    [
        ("VHD", "vpc", "subformat=dynamic,force_size=on"),
        ("VHD", "vpc", "subformat=fixed,force_size=on"),
        ("VHDX", "vhdx", "subformat=dynamic"),
        ("VHDX", "vhdx", "subformat=fixed"),
        ("vmdk", "vmdk", "subformat=streamOptimized"),
        (None, "vhdx", "subformat=dynamic"),
    ],
)
def test_every_format_that_ec2_names_becomes_an_ami(
    server: Server, small_disk: Path, tmp_path: Path, declared: str | None, name: str, options: str
) -> None:
    image = tmp_path / f"disk.{name}"
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", name, "-o", options, str(small_disk), str(image)], check=True
    )
    container = in_s3(server.upload(image, "imports"), declared or "")
    if declared is None:
        del container["Format"]
    task = server.wait(server.import_image(container))
    assert task["Status"] == "completed", task
    assert holds(server, task["SnapshotDetails"][0]["SnapshotId"], small_disk)


def read_metrics(server: Server) -> dict[str, float]:
    """The value of each figure; of a task's the sum over its disks."""
    with urllib.request.urlopen(f"{server.ready['endpoint']}/metrics") as answer:
        text = answer.read().decode()
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name + sample.labels.get("status", "")
            values[name] = values.get(name, 0) + sample.value
    return values


def test_metrics_tell_how_far_an_import_is(server: Server, large_ova: Path) -> None:
    completed = read_metrics(server).get("vmferry_import_taskscompleted", 0)
    task_id = server.import_image(in_s3(server.upload(large_ova, "imports")))
    seen, disks = [], []
    for task in follow_closely(server, task_id):
        disks += [detail["Progress"] for detail in task["SnapshotDetails"] if "Progress" in detail]
        if (values := read_metrics(server)).get("vmferry_task_converted_bytes"):
            seen.append(values)
    assert seen, "it was never seen at work"
    last = seen[-1]
    assert 0 < last["vmferry_task_converted_bytes"] <= last["vmferry_task_data_bytes"]
    assert last["vmferry_task_read_bytes"] > 0
    assert 0 < last["vmferry_task_written_bytes"] <= last["vmferry_task_data_bytes"]
    assert last["vmferry_task_bytes_per_second"] > 0
    assert last["vmferry_task_seconds_left"] >= 0
    assert [int(percent) for percent in disks] == sorted(int(percent) for percent in disks)
    after = read_metrics(server)
    assert after["vmferry_import_taskscompleted"] == completed + 1
    assert "vmferry_task_converted_bytes" not in after


@pytest.mark.parametrize(("declared", "said"), [("VHDX", "vhd"), ("VMDK", "vhd"), ("VHD", "vmdk")])
def test_a_format_that_the_bytes_deny_is_refused(
    server: Server, small_disk: Path, tmp_path: Path, declared: str, said: str
) -> None:
    name = {"vhd": "vpc"}.get(said, said)
    image = tmp_path / f"disk.{said}"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", name, str(small_disk), str(image)], check=True)
    task = server.wait(server.import_image(in_s3(server.upload(image, "imports"), declared)))
    assert task["Status"] == "deleted"
    assert f"[Unsupported {declared} File Format]" in task["StatusMessage"]
    assert f"its bytes show a {said} image" in task["StatusMessage"]


@pytest.mark.parametrize("target", ["generic", "xen", "hyperv"])
def test_an_appliance_that_vmferry_made_comes_back(
    server: Server, small_disk: Path, tmp_path: Path, target: str
) -> None:
    ova = tmp_path / "made.ova"
    vmferry = Path(sys.executable).with_name("vmferry")
    subprocess.run([vmferry, "convert", small_disk, ova, "--for", target], check=True, capture_output=True, timeout=120)
    task = server.wait(server.import_image(in_s3(server.upload(ova, "imports"))))
    assert task["Status"] == "completed", task
    assert holds(server, task["SnapshotDetails"][0]["SnapshotId"], small_disk)


def test_the_same_token_makes_one_task(server: Server, small_ova: Path) -> None:
    key = server.upload(small_ova, "imports")
    first = server.import_image(in_s3(key), ClientToken="once")
    assert server.import_image(in_s3(key), ClientToken="once") == first
    with pytest.raises(ClientError) as refused:
        server.import_image(in_s3(key), ClientToken="once", Description="other")
    assert refused.value.response["Error"]["Code"] == "IdempotentParameterMismatch"
    server.wait(first)


def test_a_deregistered_image_frees_its_snapshots(server: Server, small_ova: Path) -> None:
    ec2 = server.client("ec2")
    task = server.wait(server.import_image(in_s3(server.upload(small_ova, "imports"))))
    snapshot_id = images_of(server, task)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    path = server.locate(snapshot_id)
    with pytest.raises(ClientError) as refused:
        ec2.delete_snapshot(SnapshotId=snapshot_id)
    assert refused.value.response["Error"]["Code"] == "InvalidSnapshot.InUse"
    ec2.deregister_image(ImageId=task["ImageId"])
    with pytest.raises(ClientError) as gone:
        ec2.describe_images(ImageIds=[task["ImageId"]])
    assert gone.value.response["Error"]["Code"] == "InvalidAMIID.NotFound"
    assert path.exists()
    ec2.delete_snapshot(SnapshotId=snapshot_id)
    assert not path.exists()
    with pytest.raises(ClientError) as missing:
        ec2.describe_snapshots(SnapshotIds=[snapshot_id])
    assert missing.value.response["Error"]["Code"] == "InvalidSnapshot.NotFound"


def test_a_cancelled_import_leaves_nothing_but_its_record(server: Server, large_ova: Path) -> None:
    before = server.settled()
    task_id = server.import_image(in_s3(server.upload(large_ova, "imports")))
    server.wait_for_progress(task_id, 20)
    with server.amid_conversion():
        answer = server.client("ec2").cancel_import_task(ImportTaskId=task_id, CancelReason="a mistake")
    assert (answer["PreviousState"], answer["State"]) == ("active", "deleting")
    task = server.wait(task_id, 30)
    assert task["Status"] == "deleted"
    assert task["StatusMessage"] == "User initiated task cancelation | a mistake"
    assert set(server.leftovers()) == before
    with pytest.raises(ClientError) as refused:
        server.client("ec2").cancel_import_task(ImportTaskId=task_id)
    assert refused.value.response["Error"]["Code"] == "DeleteConversionTaskError"


def test_another_region_is_another_namespace(server: Server, small_ova: Path) -> None:
    task_id = server.import_image(in_s3(server.upload(small_ova, "imports")))
    west = server.client("ec2", region_name="us-west-2")
    assert west.describe_import_image_tasks()["ImportImageTasks"] == []
    with pytest.raises(ClientError) as missing:
        west.describe_import_image_tasks(ImportTaskIds=[task_id])
    assert missing.value.response["Error"]["Code"] == "InvalidConversionTaskId"
    server.wait(task_id)


def test_secrets_are_for_their_owner_alone(server: Server) -> None:
    for name in ("credentials.json", "endpoint.json"):
        assert stat.S_IMODE((server.data_dir / name).stat().st_mode) == 0o600


def test_tasks_are_listed_in_pages_and_by_state(server: Server, small_ova: Path) -> None:
    key = server.upload(small_ova, "imports")
    ids = [server.import_image(in_s3(key)) for _ in range(6)]
    for task_id in ids:
        server.wait(task_id)
    ec2 = server.client("ec2")
    pages = list(ec2.get_paginator("describe_import_image_tasks").paginate(PaginationConfig={"PageSize": 5}))
    assert len(pages) > 1
    listed = [task["ImportTaskId"] for page in pages for task in page["ImportImageTasks"]]
    assert len(listed) == len(set(listed))
    assert set(ids) <= set(listed)
    done = ec2.describe_import_image_tasks(Filters=[{"Name": "task-state", "Values": ["completed"]}])
    assert set(ids) <= {task["ImportTaskId"] for task in done["ImportImageTasks"]}
    assert {task["Status"] for task in done["ImportImageTasks"]} == {"completed"}
