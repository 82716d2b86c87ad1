"""ExportImage, driven by botocore and the AWS CLI against the running server, its objects judged by qemu-img."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cli.material import qemu_img
from tests.server.harness import Server, running_server
from tests.server.material import make_disk
from tests.server.test_import import in_s3, read_metrics
from vmferry.appliances import open_appliance
from vmferry.blob import FileBlob
from vmferry.units import MIB

pytestmark = [pytest.mark.server, pytest.mark.slow]

BUCKET = "exports"
LARGE_DATA = 288 * MIB
"""What ``large_disk`` holds."""
OF_A_START = 160 * MIB
"""What the workers read when they start, Python and its libraries above all."""


@pytest.fixture(scope="module")
def image_id(server: Server, small_ova: Path) -> str:
    """An AMI of ``small_disk``; the bucket ``exports`` is there."""
    server.client("s3").create_bucket(Bucket=BUCKET)
    task = server.wait(server.import_image(in_s3(server.upload(small_ova, "imports"))))
    return str(task["ImageId"])


@pytest.fixture(scope="module")
def large_image_id(server: Server, image_id: str, large_ova: Path) -> str:
    """An AMI whose export takes some seconds."""
    return str(server.wait(server.import_image(in_s3(server.upload(large_ova, "imports"))))["ImageId"])


def export(server: Server, image_id: str, kind: str, prefix: str | None = "out/", **parameters: Any) -> str:
    location = {"S3Bucket": BUCKET, **({} if prefix is None else {"S3Prefix": prefix})}
    answer = server.client("ec2").export_image(
        ImageId=image_id, DiskImageFormat=kind, S3ExportLocation=location, **parameters
    )
    return str(answer["ExportImageTaskId"])


def describe(server: Server, task_id: str) -> dict[str, Any]:
    tasks = server.client("ec2").describe_export_image_tasks(ExportImageTaskIds=[task_id])["ExportImageTasks"]
    return dict(tasks[0])


def wait(server: Server, task_id: str, until: tuple[str, ...] = ("completed", "deleted")) -> dict[str, Any]:
    limit = time.monotonic() + 180
    while (task := describe(server, task_id))["Status"] not in until:
        assert time.monotonic() < limit, task
        time.sleep(0.1)
    return task


def keys(server: Server, prefix: str = "") -> list[str]:
    found = server.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return [entry["Key"] for entry in found]


def uploads(server: Server) -> list[str]:
    return [one["Key"] for one in server.client("s3").list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]


def upload_ids(server: Server) -> list[str]:
    return [one["UploadId"] for one in server.client("s3").list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]


def begun_upload(server: Server) -> str:
    """The id of the only upload, once it was begun."""
    limit = time.monotonic() + 60
    while not (found := upload_ids(server)):
        assert time.monotonic() < limit
        time.sleep(0.05)
    return found[0]


def packed(folder: Path) -> int:
    """How many bytes of an object were packed, as the notes of its export have it."""
    total = sum(int(path.name.split("-")[2]) for path in folder.glob("*/map-*-*") if path.suffix != ".new")
    for path in folder.glob("*/.slice-*.resume"):
        with suppress(FileNotFoundError):  # that slice was packed just now
            total += int(json.loads(path.read_text())["written"]["target"]["size"])
    return total


def bytes_read(pid: int) -> int:
    """What a process has read from files."""
    try:
        return int(Path(f"/proc/{pid}/io").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def refusal(server: Server, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        server.client("ec2").export_image(**parameters)
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.mark.parametrize(("kind", "judge"), [("VMDK", "vmdk"), ("RAW", "raw"), ("VHD", "vpc"), ("vhdx", "vhdx")])
def test_an_ami_goes_out_in_every_format(
    server: Server, image_id: str, small_disk: Path, tmp_path: Path, kind: str, judge: str
) -> None:
    task_id = export(server, image_id, kind)
    task = wait(server, task_id)
    assert task["Status"] == "completed", task
    assert "Progress" not in task
    assert "StatusMessage" not in task
    path = tmp_path / "exported"
    server.client("s3").download_file(BUCKET, f"out/{task_id}.{kind.lower()}", str(path))
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", judge, small_disk, path)


def test_an_exported_ova_comes_back(server: Server, image_id: str, small_disk: Path, tmp_path: Path) -> None:
    task_id = export(server, image_id, "OVA", prefix=None)
    assert wait(server, task_id)["Status"] == "completed"
    path = tmp_path / "machine.ova"
    server.client("s3").download_file(BUCKET, f"{task_id}.ova", str(path))
    with closing(open_appliance(FileBlob(path))) as appliance:  # as its own OVA had it
        assert (appliance.machine.cpus, appliance.machine.memory) == (2, 512 * MIB)
    again = server.vmferry("convert", str(path), str(tmp_path / "again.raw"))
    assert again.returncode == 0, again.stderr
    assert "manifest verified" in again.stdout
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", small_disk, tmp_path / "again.raw")


def test_the_aws_cli_exports(server: Server, image_id: str) -> None:
    started = server.aws(
        "ec2", "export-image", "--image-id", image_id, "--disk-image-format", "VMDK", "--description", "to ESXi",
        "--s3-export-location", f"S3Bucket={BUCKET},S3Prefix=by-cli-",
        "--tag-specifications", "ResourceType=export-image-task,Tags=[{Key=a,Value=b}]",
    )  # fmt: skip
    task_id = started["ExportImageTaskId"]
    assert (started["DiskImageFormat"], started["ImageId"], started["Status"]) == ("VMDK", image_id, "active")
    assert started["S3ExportLocation"] == {"S3Bucket": BUCKET, "S3Prefix": "by-cli-"}
    assert wait(server, task_id)["Status"] == "completed"
    assert keys(server, "by-cli-") == [f"by-cli-{task_id}.vmdk"]
    assert read_metrics(server)["vmferry_export_taskscompleted"] >= 1
    done = server.client("ec2").describe_export_image_tasks(Filters=[{"Name": "task-state", "Values": ["completed"]}])
    (task,) = [one for one in done["ExportImageTasks"] if one["ExportImageTaskId"] == task_id]
    assert (task["Description"], task["Tags"]) == ("to ESXi", [{"Key": "a", "Value": "b"}])


def test_requests_that_cannot_work_are_refused_at_once(server: Server, image_id: str) -> None:
    good = {"ImageId": image_id, "DiskImageFormat": "VMDK", "S3ExportLocation": {"S3Bucket": BUCKET}}
    assert refusal(server, **{**good, "ImageId": "ami-0123456789abcdef0"})[0] == "InvalidAMIID.NotFound"
    assert refusal(server, **{**good, "DiskImageFormat": "ISO"})[0] == "InvalidParameterValue"
    code, message = refusal(server, **{**good, "S3ExportLocation": {"S3Bucket": "no-such-bucket"}})
    assert code == "InvalidParameter"
    assert "no bucket no-such-bucket" in message
    assert refusal(server, **good, DryRun=True)[0] == "DryRunOperation"


def test_several_disks_go_into_an_ova_only(server: Server, image_id: str, small_disk: Path, tmp_path: Path) -> None:
    data = make_disk(tmp_path / "data.img", 16, 2, seed=5, boots=False)
    containers = [in_s3(server.upload(path, "imports"), "RAW") for path in (small_disk, data)]
    task = server.wait(server.import_image(*containers))
    good = {"ImageId": task["ImageId"], "DiskImageFormat": "VMDK", "S3ExportLocation": {"S3Bucket": BUCKET}}
    code, message = refusal(server, **good)
    assert code == "UnsupportedOperation"
    assert "2 disks" in message
    assert "OVA" in message
    task_id = export(server, task["ImageId"], "OVA", prefix="two/")
    assert wait(server, task_id)["Status"] == "completed"
    path = tmp_path / "two.ova"
    server.client("s3").download_file(BUCKET, f"two/{task_id}.ova", str(path))
    for number, disk in enumerate((small_disk, data), 1):
        out = tmp_path / f"{number}.raw"
        assert server.vmferry("convert", str(path), str(out), "--disk", str(number)).returncode == 0
        assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", disk, out)


def test_an_export_is_one_at_a_time_and_is_cancelled_without_a_trace(server: Server, large_image_id: str) -> None:
    task_id = export(server, large_image_id, "RAW", prefix="cancelled/", ClientToken="once")
    assert export(server, large_image_id, "RAW", prefix="cancelled/", ClientToken="once") == task_id
    location = {"S3Bucket": BUCKET}
    code, message = refusal(server, ImageId=large_image_id, DiskImageFormat="VMDK", S3ExportLocation=location)
    assert code == "IncorrectState"
    assert task_id in message
    begun_upload(server)
    server.client("ec2").cancel_export_task(ExportTaskId=task_id)
    ended = wait(server, task_id)
    assert (ended["Status"], ended["StatusMessage"]) == ("deleted", "User initiated task cancelation")
    assert keys(server, "cancelled/") == []
    assert uploads(server) == []
    assert list((server.data_dir / "exports").iterdir()) == []
    with pytest.raises(ClientError) as refused:
        server.client("ec2").cancel_export_task(ExportTaskId=task_id)
    assert refused.value.response["Error"]["Code"] == "IncorrectState"


def test_an_export_whose_upload_is_swept_away_begins_anew(server: Server, large_image_id: str) -> None:
    task_id = export(server, large_image_id, "RAW", prefix="swept/")
    upload = begun_upload(server)
    key = f"swept/{task_id}.raw"
    server.client("s3").abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload)
    ended = wait(server, task_id)
    assert ended["Status"] == "completed", ended
    assert keys(server, "swept/") == [key]
    assert uploads(server) == []


def test_an_export_survives_its_worker_and_leaves_one_object(tmp_path: Path, large_disk: Path, large_ova: Path) -> None:
    with running_server(tmp_path / "data") as server:
        server.client("s3").create_bucket(Bucket=BUCKET)
        task = server.wait(server.import_image(in_s3(server.upload(large_ova, "imports"))))
        task_id = export(server, task["ImageId"], "VMDK")
        limit = time.monotonic() + 60
        notes = tmp_path / "data" / "exports" / task_id
        while packed(notes) < LARGE_DATA // 2:
            assert time.monotonic() < limit
            time.sleep(0.02)
        (upload,) = upload_ids(server)
        killed = server.children(" worker ")
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert upload_ids(server) == [upload]
        done = packed(notes)
        read, seen = 0, {upload}
        while describe(server, task_id)["Status"] != "completed":
            assert time.monotonic() < limit + 120
            seen.update(upload_ids(server))
            read = max(read, sum(bytes_read(pid) for pid in server.children(" worker ") if pid not in killed))
            time.sleep(0.1)
        assert seen == {upload}  # it was gone on with
        # What is left of the disk, and what was packed, to send it.
        assert read < LARGE_DATA - done + LARGE_DATA // 50 + LARGE_DATA + OF_A_START
        assert uploads(server) == []
        while notes.exists():  # it goes when the task has ended
            assert time.monotonic() < limit + 120
            time.sleep(0.02)
        path = tmp_path / "disk.vmdk"
        server.client("s3").download_file(BUCKET, f"out/{task_id}.vmdk", str(path))
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "vmdk", large_disk, path)
