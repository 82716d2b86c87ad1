"""The classic way: a disk goes up in parts, and becomes a volume, or a stopped instance; with presigned URLs."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.material import VMFERRY
from tests.server.harness import Server
from tests.server.material import make_vmdk, same_guest
from vmferry.import_manifest import ImportManifest, ManifestPart, render_manifest

pytestmark = [pytest.mark.server, pytest.mark.slow]

BUCKET = "classic"
PART = 1 << 20


class Upload:
    """A disk image that goes up in parts."""

    def __init__(self, server: Server, disk: Path, name: str, file_format: str) -> None:
        self._s3 = server.client("s3")
        self._disk = disk
        self._name = name
        self._format = file_format
        with suppress(self._s3.exceptions.BucketAlreadyOwnedByYou):
            self._s3.create_bucket(Bucket=BUCKET)
        self.size = disk.stat().st_size
        self.manifest_url = self._url(f"{name}.manifest.xml")

    def parts(self) -> list[ManifestPart]:
        starts = range(0, self.size, PART)
        return [
            ManifestPart(index, start, min(start + PART, self.size) - 1, self._key(index), self._url(self._key(index)))
            for index, start in enumerate(starts)
        ]

    def send(self, *, without: int | None = None) -> None:
        """Upload the parts, all but one where that is wanted, and then the manifest."""
        with self._disk.open("rb") as file:
            for part in self.parts():
                data = file.read(part.length)
                if part.index != without:
                    self._s3.put_object(Bucket=BUCKET, Key=part.key, Body=data)
        self.send_manifest(self.parts())

    def send_manifest(self, parts: list[ManifestPart]) -> None:
        manifest = ImportManifest(self._format, self.size, 1, tuple(parts))
        self._s3.put_object(Bucket=BUCKET, Key=f"{self._name}.manifest.xml", Body=render_manifest(manifest))

    def drop_manifest(self) -> None:
        self._s3.delete_object(Bucket=BUCKET, Key=f"{self._name}.manifest.xml")

    def send_part(self, index: int) -> None:
        part = self.parts()[index]
        with self._disk.open("rb") as file:
            file.seek(part.start)
            self._s3.put_object(Bucket=BUCKET, Key=part.key, Body=file.read(part.length))

    def image(self) -> dict[str, Any]:
        return {"Format": self._format, "Bytes": self.size, "ImportManifestUrl": self.manifest_url}

    def kept(self) -> int:
        """How many parts are still there."""
        listed = self._s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self._name}.part")
        return int(listed["KeyCount"])

    def _key(self, index: int) -> str:
        return f"{self._name}.part{index}"

    def _url(self, key: str) -> str:
        return str(self._s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": key}))


def wait(server: Server, task_id: str) -> dict[str, Any]:
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        (task,) = server.client("ec2").describe_conversion_tasks(ConversionTaskIds=[task_id])["ConversionTasks"]
        if task["State"] in ("completed", "cancelled"):
            return dict(task)
        time.sleep(0.1)
    raise AssertionError(f"{task_id} did not end: {task}")


def image_of(server: Server, resource_id: str) -> Path:
    (path,) = (server.data_dir / "images").rglob(f"{resource_id}.qcow2")
    return path


def made(server: Server) -> set[str]:
    return {path.name for path in (server.data_dir / "images").rglob("*") if path.is_file()}


def test_an_instance_comes_out_stopped_with_its_volumes(server: Server, small_disk: Path) -> None:
    ec2 = server.client("ec2")
    before = made(server)
    root, data = Upload(server, make_vmdk(small_disk), "root", "VMDK"), Upload(server, small_disk, "data", "RAW")
    disks = [{"Image": one.image(), "Volume": {"Size": 2}} for one in (root, data)]
    task = ec2.import_instance(Platform="Linux", DiskImages=disks)["ConversionTask"]  # before the upload
    instance_id = task["ImportInstance"]["InstanceId"]
    root.send()
    data.send()
    ended = wait(server, task["ConversionTaskId"])
    assert ended["State"] == "completed", ended
    assert "StatusMessage" not in ended
    ec2.get_waiter("conversion_task_completed").wait(ConversionTaskIds=[task["ConversionTaskId"]])
    (reservation,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    instance = reservation["Instances"][0]
    assert instance["State"]["Name"] == "stopped"
    volumes = [one["Volume"]["Id"] for one in ended["ImportInstance"]["Volumes"]]
    assert {one["Ebs"]["VolumeId"] for one in instance["BlockDeviceMappings"]} == set(volumes)
    assert all(one["BytesConverted"] == one["Image"]["Size"] for one in ended["ImportInstance"]["Volumes"])
    for volume_id in volumes:
        assert same_guest(image_of(server, volume_id), small_disk)
    assert root.kept() == len(root.parts()), "AWS keeps the parts"
    assert made(server) - before == {f"{volume_id}.qcow2" for volume_id in volumes}, "no snapshot stays behind"
    image_id = ec2.create_image(InstanceId=instance_id, Name=f"of-{instance_id}")["ImageId"]
    copy = server.client("ec2", region_name="us-west-2").copy_image(
        Name=image_id, SourceImageId=image_id, SourceRegion="us-east-1"
    )["ImageId"]
    (there,) = server.client("ec2", region_name="us-west-2").describe_images(ImageIds=[copy])["Images"]
    for mapping in there["BlockDeviceMappings"]:
        assert same_guest(image_of(server, mapping["Ebs"]["SnapshotId"]), small_disk)


def test_a_volume_waits_for_its_last_part(server: Server, small_disk: Path) -> None:
    ec2 = server.client("ec2")
    upload = Upload(server, small_disk, "late", "RAW")
    upload.send(without=1)
    task_id = ec2.import_volume(AvailabilityZone="us-east-1a", Image=upload.image(), Volume={"Size": 1})[
        "ConversionTask"
    ]["ConversionTaskId"]
    time.sleep(1.5)
    (task,) = ec2.describe_conversion_tasks(ConversionTaskIds=[task_id])["ConversionTasks"]
    assert task["State"] == "active"
    upload.send_part(1)
    ended = wait(server, task_id)
    assert ended["State"] == "completed", ended
    volume_id = ended["ImportVolume"]["Volume"]["Id"]
    (volume,) = ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"]
    assert (volume["State"], volume["Attachments"]) == ("available", [])
    assert same_guest(image_of(server, volume_id), small_disk)


def test_what_is_cancelled_or_cannot_be_leaves_nothing(server: Server, small_disk: Path) -> None:
    ec2 = server.client("ec2")
    before = made(server)
    never = Upload(server, small_disk, "never", "RAW")
    disks = [{"Image": never.image(), "Volume": {"Size": 1}}]
    task = ec2.import_instance(Platform="Linux", DiskImages=disks)["ConversionTask"]
    ec2.cancel_conversion_task(ConversionTaskId=task["ConversionTaskId"])
    assert wait(server, task["ConversionTaskId"])["State"] == "cancelled"
    with pytest.raises(ec2.exceptions.ClientError, match="does not exist"):
        ec2.describe_instances(InstanceIds=[task["ImportInstance"]["InstanceId"]])
    wrong = Upload(server, small_disk, "wrong", "RAW")
    wrong.send()
    parts = wrong.parts()
    for bad in (
        [*parts[:-1], ManifestPart(parts[-1].index, parts[-1].start, parts[-1].end + 1, "k", parts[-1].get_url)],
        [*parts[:-1], ManifestPart(parts[-1].index, parts[-1].start, parts[-1].end, "k", "http://10.0.0.1/secret")],
        [parts[0], *parts[2:]],
    ):
        wrong.drop_manifest()
        made_task = ec2.import_volume(AvailabilityZone="us-east-1a", Image=wrong.image(), Volume={"Size": 1})
        wrong.send_manifest(bad)  # after the call, which would else have said so itself
        ended = wait(server, made_task["ConversionTask"]["ConversionTaskId"])
        assert ended["State"] == "cancelled"
        assert ended["StatusMessage"].startswith("ClientError: ")
    assert made(server) == before
    with pytest.raises(ec2.exceptions.ClientError, match="cannot be cancelled"):
        ec2.cancel_conversion_task(ConversionTaskId=task["ConversionTaskId"])


def export(server: Server, instance_id: str, **asked: Any) -> dict[str, Any]:
    ec2 = server.client("ec2")
    target = {"S3Bucket": BUCKET, "S3Prefix": "out/", **asked.pop("to", {})}
    task = ec2.create_instance_export_task(InstanceId=instance_id, ExportToS3Task=target, **asked)["ExportTask"]
    assert task["State"] == "active"
    assert "StatusMessage" not in task
    ec2.get_waiter("export_task_completed").wait(
        ExportTaskIds=[task["ExportTaskId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    (ended,) = ec2.describe_export_tasks(ExportTaskIds=[task["ExportTaskId"]])["ExportTasks"]
    return dict(ended)


def test_an_imported_instance_goes_out_again(server: Server, small_disk: Path, tmp_path: Path) -> None:
    ec2 = server.client("ec2")
    upload = Upload(server, small_disk, "out-and-in", "RAW")
    upload.send()
    disks = [{"Image": upload.image(), "Volume": {"Size": 1}}]
    task = ec2.import_instance(Platform="Linux", DiskImages=disks)["ConversionTask"]
    wait(server, task["ConversionTaskId"])
    instance_id = task["ImportInstance"]["InstanceId"]
    for target, asked, suffix in (
        ("vmware", {"DiskImageFormat": "vmdk", "ContainerFormat": "ova"}, "ova"),
        ("vmware", {}, "vmdk"),
        ("microsoft", {"DiskImageFormat": "VHD"}, "vhd"),
        ("citrix", {}, "vhd"),
    ):
        ended = export(server, instance_id, TargetEnvironment=target, to=asked)
        where = ended["ExportToS3Task"]
        assert where["S3Key"] == f"out/{ended['ExportTaskId']}.{suffix}"
        assert ended["InstanceExportDetails"] == {"InstanceId": instance_id, "TargetEnvironment": target}
        out, back = tmp_path / f"{target}.{suffix}", tmp_path / f"{target}-{suffix}.qcow2"
        server.client("s3").download_file(BUCKET, where["S3Key"], str(out))
        subprocess.run([VMFERRY, "convert", out, back], check=True, capture_output=True)
        assert same_guest(back, small_disk)
    refused = ec2.exceptions.ClientError
    to = {"S3Bucket": BUCKET}
    with pytest.raises(refused, match="is not for the target environment"):
        ec2.create_instance_export_task(
            InstanceId=instance_id, TargetEnvironment="microsoft", ExportToS3Task={**to, "DiskImageFormat": "VMDK"}
        )
    with pytest.raises(refused, match="An OVA is for vmware"):
        ec2.create_instance_export_task(
            InstanceId=instance_id, TargetEnvironment="citrix", ExportToS3Task={**to, "ContainerFormat": "ova"}
        )
    image = ec2.create_image(InstanceId=instance_id, Name="launched-here")["ImageId"]
    other = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    with pytest.raises(refused, match="NotExportable"):
        ec2.create_instance_export_task(InstanceId=other, TargetEnvironment="vmware", ExportToS3Task=to)
    with pytest.raises(refused, match="cannot be cancelled"):
        ec2.cancel_export_task(ExportTaskId=ended["ExportTaskId"])
    with pytest.raises(refused, match="NotFound"):
        ec2.describe_export_tasks(ExportTaskIds=["export-i-00000000"])
