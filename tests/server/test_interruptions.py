"""Tasks cut off in their middle by what dies, or cancelled in each of their states: they end well, or leave nothing.

Imports of images and snapshots have their own tests (``test_survival``, ``test_import``, ``test_snapshots``).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cli.material import qemu_img
from tests.server.harness import Server, running_server
from tests.server.material import make_disk, same_guest
from tests.server.test_conversions import BUCKET, Upload, image_of, made, wait
from tests.server.test_ebs import Client

pytestmark = [pytest.mark.server, pytest.mark.slow]


@dataclass(frozen=True)
class Stage:
    """A server that may be killed, and what there is to convert, large enough to be caught in the middle."""

    server: Server
    large: Path
    """A disk whose conversion or export takes some seconds."""
    upload: Upload
    """``large``, all of it there."""
    instance_id: str
    """An instance that was imported from it."""

    @property
    def ec2(self) -> Any:
        return self.server.client("ec2")

    def import_volume(self, upload: Upload) -> str:
        started = self.ec2.import_volume(AvailabilityZone="us-east-1a", Image=upload.image(), Volume={"Size": 1})
        return str(started["ConversionTask"]["ConversionTaskId"])

    def import_instance(self, upload: Upload) -> tuple[str, str]:
        """The ids of the task and of the instance."""
        disks = [{"Image": upload.image(), "Volume": {"Size": 1}}]
        task = self.ec2.import_instance(Platform="Linux", DiskImages=disks)["ConversionTask"]
        return task["ConversionTaskId"], task["ImportInstance"]["InstanceId"]

    def export_instance(self) -> str:
        target = {"S3Bucket": BUCKET, "S3Prefix": "out/"}
        started = self.ec2.create_instance_export_task(
            InstanceId=self.instance_id, TargetEnvironment="microsoft", ExportToS3Task=target
        )
        return str(started["ExportTask"]["ExportTaskId"])

    def conversion(self, task_id: str) -> dict[str, Any]:
        (task,) = self.ec2.describe_conversion_tasks(ConversionTaskIds=[task_id])["ConversionTasks"]
        return dict(task)

    def export(self, task_id: str) -> dict[str, Any]:
        (task,) = self.ec2.describe_export_tasks(ExportTaskIds=[task_id])["ExportTasks"]
        return dict(task)

    def is_converting(self, task_id: str) -> bool:
        task = self.conversion(task_id)
        assert task["State"] == "active", f"it ended before it was caught: {task}"
        volumes = [task["ImportVolume"]] if "ImportVolume" in task else task["ImportInstance"]["Volumes"]
        return any(0 < one["BytesConverted"] < self.upload.size for one in volumes)

    def is_waiting(self, task_id: str) -> bool:
        return "waiting for the upload" in self.conversion(task_id)["StatusMessage"]

    def is_sending(self, task_id: str) -> bool:
        assert self.export(task_id)["State"] == "active", "it ended before it was caught"
        return any(task_id in key for key in self.sent())

    def sent(self) -> list[str]:
        """The keys of uploads that are not whole."""
        found = self.server.client("s3").list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return [one["Key"] for one in found]

    def exported(self) -> list[str]:
        found = self.server.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="out/").get("Contents", [])
        return [one["Key"] for one in found]

    def catalogued(self) -> set[str]:
        """The ids of all that was made, and may be paid for."""
        instances = [one for entry in self.ec2.describe_instances()["Reservations"] for one in entry["Instances"]]
        return {
            *(one["InstanceId"] for one in instances),
            *(one["VolumeId"] for one in self.ec2.describe_volumes()["Volumes"]),
            *(one["SnapshotId"] for one in self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]),
        }


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("interruptions")
    large = make_disk(folder / "large.raw", 160, 144, seed=7)
    with running_server(folder / "data") as server:
        upload = Upload(server, large, "large", "RAW")
        upload.send()
        stage = Stage(server, large, upload, "")
        task_id, instance_id = stage.import_instance(upload)
        assert wait(server, task_id)["State"] == "completed"
        yield Stage(server, large, upload, instance_id)


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "it did not come to that"
        time.sleep(0.05)


def kill_workers(server: Server) -> None:
    for pid in server.children(" worker "):
        os.kill(pid, signal.SIGKILL)


def test_what_dies_costs_no_task(stage: Stage, small_disk: Path, tmp_path: Path) -> None:
    """A conversion that waits, one that converts, one just cancelled, an export of an instance, and a snapshot that is
    put together: the workers die in the middle of the conversion, everything in the middle of the export."""
    server = stage.server
    before, catalogued = made(server), stage.catalogued()
    late, never = Upload(server, small_disk, "late", "RAW"), Upload(server, small_disk, "never", "RAW")
    late.send(without=3)
    ebs = Client(server)
    put = ebs.put(small_disk, 1)
    waiting, cancelled = stage.import_volume(late), stage.import_instance(never)
    until(lambda: stage.is_waiting(waiting))
    converting = stage.import_volume(stage.upload)
    until(lambda: stage.is_converting(converting))
    kill_workers(server)
    export = stage.export_instance()
    until(lambda: stage.is_sending(export))
    ebs.complete(*put)
    stage.ec2.cancel_conversion_task(ConversionTaskId=cancelled[0])
    server.kill_everything()
    server.start()

    late = Upload(server, small_disk, "late", "RAW")  # the server may be at other ports
    late.send_part(3)
    volumes = []
    for task_id, disk in ((waiting, small_disk), (converting, stage.large)):
        ended = wait(server, task_id)
        assert ended["State"] == "completed", ended
        volumes.append(ended["ImportVolume"]["Volume"]["Id"])
        assert same_guest(image_of(server, volumes[-1]), disk)
    assert wait(server, cancelled[0])["State"] == "cancelled"
    until(lambda: stage.export(export)["State"] == "completed")
    server.client("s3").download_file(BUCKET, f"out/{export}.vhd", str(tmp_path / "out.vhd"))
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "vpc", stage.large, tmp_path / "out.vhd")
    stage.ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[put[0]], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    snapshot = server.locate(put[0])  # of whole GiB: longer than the disk
    assert "identical" in qemu_img("compare", "-f", "qcow2", "-F", "raw", snapshot, small_disk)
    until(lambda: made(server) - before == {f"{one}.qcow2" for one in (*volumes, put[0])})
    assert stage.catalogued() - catalogued == {*volumes, put[0]}
    assert stage.sent() == []


@pytest.mark.parametrize("state", ["begun", "waiting", "converting"])
def test_a_conversion_is_cancelled_in_each_state(stage: Stage, small_disk: Path, state: str) -> None:
    server = stage.server
    before, catalogued = made(server), stage.catalogued()
    upload = stage.upload if state == "converting" else Upload(server, small_disk, f"cancelled-{state}", "RAW")
    task_id, instance_id = stage.import_instance(upload)
    if state != "begun":
        until(lambda: stage.is_waiting(task_id) if state == "waiting" else stage.is_converting(task_id))
    stage.ec2.cancel_conversion_task(ConversionTaskId=task_id, ReasonMessage="a mistake")
    ended = wait(server, task_id)
    assert (ended["State"], ended["StatusMessage"]) == ("cancelled", "User initiated task cancelation | a mistake")
    assert [one["Status"] for one in ended["ImportInstance"]["Volumes"]] == ["cancelled"]
    assert (made(server), stage.catalogued()) == (before, catalogued)
    with pytest.raises(ClientError, match="does not exist"):
        stage.ec2.describe_instances(InstanceIds=[instance_id])
    assert upload.kept() == (len(upload.parts()) if state == "converting" else 0), "parts are the user's"


@pytest.mark.parametrize("state", ["begun", "converting"])
def test_an_export_of_an_instance_is_cancelled_in_each_state(stage: Stage, state: str) -> None:
    before = stage.exported()
    task_id = stage.export_instance()
    if state == "converting":
        until(lambda: stage.is_sending(task_id))
    stage.ec2.cancel_export_task(ExportTaskId=task_id)
    until(lambda: stage.export(task_id)["State"] == "cancelled")
    assert stage.export(task_id)["StatusMessage"] == "User initiated task cancelation"
    assert (stage.exported(), stage.sent()) == (before, [])
    with pytest.raises(ClientError) as refused:
        stage.ec2.cancel_export_task(ExportTaskId=task_id)
    assert refused.value.response["Error"]["Code"] == "IncorrectState"


@pytest.mark.parametrize("state", ["pending", "completing"])
def test_a_snapshot_that_is_put_together_is_deleted_in_each_state(stage: Stage, small_disk: Path, state: str) -> None:
    server, ebs = stage.server, Client(stage.server)
    before, catalogued = made(server), stage.catalogued()
    put = ebs.put(small_disk, 1)
    if state == "completing":
        ebs.complete(*put)
    stage.ec2.delete_snapshot(SnapshotId=put[0])
    with pytest.raises(ClientError, match="does not exist"):
        ebs.complete(*put)
    until(lambda: made(server) == before)
    assert stage.catalogued() == catalogued
