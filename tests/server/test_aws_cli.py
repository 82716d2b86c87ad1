"""The AWS CLI as people script it: in the classic way and out again, with its own waiters, on a real server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.server.harness import Server
from tests.server.material import holds
from tests.server.test_conversions import BUCKET, Upload

pytestmark = [pytest.mark.server, pytest.mark.slow]


def object_size(server: Server, key: str) -> int:
    return int(server.client("s3").head_object(Bucket=BUCKET, Key=key)["ContentLength"])


def test_an_instance_is_imported_waited_for_and_exported(server: Server, small_disk: Path) -> None:
    upload = Upload(server, small_disk, "aws-cli", "RAW")
    upload.send()
    # The CLI has no import-instance of its own: AWS took it out, for the classic tools to do it.
    disks = [{"Image": upload.image(), "Volume": {"Size": 1}}]
    task = server.client("ec2").import_instance(Platform="Linux", DiskImages=disks)["ConversionTask"]
    server.aws("ec2", "wait", "conversion-task-completed", "--conversion-task-ids", task["ConversionTaskId"])
    instance_id = task["ImportInstance"]["InstanceId"]
    server.aws("ec2", "wait", "instance-stopped", "--instance-ids", instance_id)
    made = server.aws(
        "ec2", "create-instance-export-task", "--instance-id", instance_id, "--target-environment", "vmware",
        "--export-to-s3-task", f"DiskImageFormat=VMDK,ContainerFormat=ova,S3Bucket={BUCKET},S3Prefix=cli/",
    )["ExportTask"]  # fmt: skip
    server.aws("ec2", "wait", "export-task-completed", "--export-task-ids", made["ExportTaskId"])
    (ended,) = server.aws("ec2", "describe-export-tasks", "--export-task-ids", made["ExportTaskId"])["ExportTasks"]
    assert ended["State"] == "completed"
    assert object_size(server, f"cli/{made['ExportTaskId']}.ova") > 0


def test_an_image_is_imported_copied_and_exported(server: Server, small_ova: Path, small_disk: Path) -> None:
    upload = Upload(server, small_ova, "aws-cli-image", "VMDK")  # makes the bucket
    assert upload.size
    server.aws("s3", "cp", str(small_ova), f"s3://{BUCKET}/web.ova")
    containers = f"Format=ova,UserBucket={{S3Bucket={BUCKET},S3Key=web.ova}}"
    task_id = server.aws("ec2", "import-image", "--disk-containers", containers)["ImportTaskId"]
    for _ in range(120):
        (task,) = server.aws("ec2", "describe-import-image-tasks", "--import-task-ids", task_id)["ImportImageTasks"]
        if task["Status"] != "active":
            break
        time.sleep(1)
    assert task["Status"] == "completed"
    server.aws("ec2", "wait", "image-available", "--image-ids", task["ImageId"])
    assert holds(server, task["SnapshotDetails"][0]["SnapshotId"], small_disk)
    made = server.aws(
        "ec2", "export-image", "--image-id", task["ImageId"], "--disk-image-format", "VMDK",
        "--s3-export-location", f"S3Bucket={BUCKET},S3Prefix=cli/",
    )  # fmt: skip
    for _ in range(120):
        (ended,) = server.aws(
            "ec2", "describe-export-image-tasks", "--export-image-task-ids", made["ExportImageTaskId"]
        )["ExportImageTasks"]
        if ended["Status"] != "active":
            break
        time.sleep(1)
    assert ended["Status"] == "completed"
    assert object_size(server, f"cli/{made['ExportImageTaskId']}.vmdk") > 0
