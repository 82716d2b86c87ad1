"""The classic commands, end to end: in, stopped, made an AMI, copied, out again, and the same guest."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.material import VMFERRY
from tests.server.harness import Server
from tests.server.material import make_vmdk, same_guest

pytestmark = [pytest.mark.server, pytest.mark.slow]

BUCKET = "classic-tools"


def call(server: Server, name: str, *words: str | Path, code: int = 0) -> str:
    command = [str(VMFERRY.with_name(f"ec2-{name}")), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=server.environment, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def fields(line: str) -> dict[str, str]:
    """``A<tab>1<tab>B<tab>2`` → ``{"A": "1", "B": "2"}``, from the second word on where the first is a label alone."""
    words = line.split("\t")
    words = words[1:] if len(words) % 2 else words
    return dict(zip(words[::2], words[1::2], strict=True))


def wait(server: Server, task_id: str) -> tuple[dict[str, str], dict[str, str]]:
    """The task's line and its disk's, once it has ended."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        task, disk = call(server, "describe-conversion-tasks", task_id).splitlines()[:2]
        if fields(task)["Status"] in ("completed", "cancelled"):
            return fields(task), fields(disk)
        time.sleep(0.3)
    raise AssertionError(task)


def exported(ec2: Any, task_id: str) -> dict[str, Any]:
    """The task of an AMI's export, once it has ended."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        (task,) = ec2.describe_export_image_tasks(ExportImageTaskIds=[task_id])["ExportImageTasks"]
        if task["Status"] != "active":
            return dict(task)
        time.sleep(0.3)
    raise AssertionError(task)


def image_of(server: Server, resource_id: str) -> Path:
    (path,) = (server.data_dir / "images").rglob(f"{resource_id}.qcow2")
    return path


def test_in_stopped_image_copy_out_and_the_same_guest(server: Server, small_disk: Path, tmp_path: Path) -> None:
    ec2 = server.client("ec2")
    vmdk = make_vmdk(small_disk)
    kind = ["-t", "m1.small", "-f", "VMDK", "-a", "x86_64", "-p", "Linux"]
    said = call(server, "import-instance", vmdk, *kind, "-b", BUCKET)
    lines = said.splitlines()
    assert lines[0] == "Requesting volume size: 1 GB"
    begun = lines[1].split("\t")
    assert begun[:2] == ["TaskType", "IMPORTINSTANCE"]
    assert begun[2] == "TaskId", "scripts cut word 4 of line 2"
    task_id = begun[3]
    assert begun[6:8] == ["Status", "active"], "and word 8"
    task, disk = wait(server, task_id)
    assert task["Status"] == "completed"
    assert "StatusMessage" not in task
    instance_id = fields(lines[1])["InstanceID"]
    (reservation,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    assert reservation["Instances"][0]["State"]["Name"] == "stopped"
    assert same_guest(image_of(server, disk["VolumeId"]), small_disk)

    image_id = ec2.create_image(InstanceId=instance_id, Name=instance_id)["ImageId"]
    west = server.client("ec2", region_name="us-west-2")
    copy = west.copy_image(Name=instance_id, SourceImageId=image_id, SourceRegion="us-east-1")["ImageId"]
    (copied,) = west.describe_images(ImageIds=[copy])["Images"]
    assert same_guest(image_of(server, copied["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]), small_disk)

    out = west.export_image(
        ImageId=copy, DiskImageFormat="VMDK", S3ExportLocation={"S3Bucket": BUCKET, "S3Prefix": "west/"}
    )["ExportImageTaskId"]

    line = call(
        server, "create-instance-export-task", instance_id, "-e", "vmware", "-f", "vmdk", "-c", "ova", "-b", BUCKET
    )
    words = line.rstrip("\n").split("\t")
    assert words[0] == "EXPORTTASK"
    ec2.get_waiter("export_task_completed").wait(ExportTaskIds=[words[1]], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    ended = call(server, "describe-export-tasks", words[1]).rstrip("\n").split("\t")
    assert ended[3:] == ["completed", instance_id, "vmware", "vmdk", "ova", BUCKET, f"{words[1]}.ova"]
    assert exported(west, out)["Status"] == "completed"
    for key in (ended[-1], f"west/{out}.vmdk"):  # the instance, and the copy of its image
        there, back = tmp_path / key.replace("/", "-"), tmp_path / f"{key.replace('/', '-')}.qcow2"
        server.client("s3").download_file(BUCKET, key, str(there))
        subprocess.run([VMFERRY, "convert", there, back], check=True, capture_output=True)
        assert same_guest(back, small_disk)

    before = server.client("s3").list_objects_v2(Bucket=BUCKET)["KeyCount"]
    assert call(server, "delete-disk-image", "-t", task_id).startswith("DELETE-TASK\t")
    assert server.client("s3").list_objects_v2(Bucket=BUCKET)["KeyCount"] < before


def test_an_upload_is_gone_on_with_or_cancelled(server: Server, small_disk: Path) -> None:
    zone = ["-z", "us-east-1a", "-f", "RAW", "-b", BUCKET]
    begun = call(server, "import-volume", small_disk, *zone, "--no-upload").splitlines()
    task_id = next(line for line in begun if line.startswith("TaskType")).split("\t")[3]
    assert "still active" in call(server, "delete-disk-image", "-t", task_id, code=1)
    call(server, "resume-import", small_disk, "-t", task_id)
    task, disk = wait(server, task_id)
    assert task["Status"] == "completed"
    assert same_guest(image_of(server, disk["VolumeId"]), small_disk)
    other = call(server, "import-volume", small_disk, *zone, "--no-upload").splitlines()
    other_id = next(line for line in other if line.startswith("TaskType")).split("\t")[3]
    assert call(server, "cancel-conversion-task", other_id) == f"CONVERSION-TASK\t{other_id}\n"
    assert wait(server, other_id)[0]["Status"] == "cancelled"
    assert "InvalidConversionTaskId" in call(server, "describe-conversion-tasks", "import-vol-00000000", code=1)
    assert "required" in call(server, "import-volume", small_disk, code=2)
