"""The steps of an import whose disks lie in snapshots already, over a real catalog and a real local store."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from tests.server.material import make_disk
from tests.tasks.material import PLACE, put_object
from vmferry.blob import FileBlob
from vmferry.catalog.import_tasks import DiskContainer, ImportRequest, ImportTask
from vmferry.catalog.places import Place
from vmferry.catalog.snapshots import COMPLETED, Snapshot
from vmferry.convert import copy, digest_disk
from vmferry.formats import FORMATS, SupportsCreate, open_disk
from vmferry.formats.raw import RawDisk
from vmferry.receipt import read
from vmferry.tasks import Services
from vmferry.tasks._steps import CleanUp
from vmferry.tasks.import_image.activities import ImportImageActivities

pytestmark = pytest.mark.slow

OTHER = replace(PLACE, account_id="444455556666")
IN_S3 = DiskContainer(bucket="imports", key="disk.raw", format="RAW")


def make_snapshot(services: Services, raw: Path, snapshot_id: str, *, place: Place = PLACE, known: bool = True) -> str:
    """A snapshot of the disk ``raw``, whose digest is ``known`` or not; that digest."""
    disk, maker = RawDisk(FileBlob(raw)), FORMATS["qcow2"]
    assert isinstance(maker, SupportsCreate)
    key = f"{place.account_id}/{snapshot_id}.qcow2"
    writer: Any = maker.create(services.images.create(place.region, key), disk.size, disk.extents())
    copy(disk, writer)
    writer.finish()
    digest = digest_disk(disk)
    disk.close()
    made = Snapshot(snapshot_id, place, COMPLETED, raw.stat().st_size, None, datetime.now(UTC), place.region, key, None)
    services.catalog.snapshots.begin(made)
    services.catalog.snapshots.complete(snapshot_id, digest if known else None)
    return digest


def begin(services: Services, *containers: DiskContainer) -> str:
    task = ImportTask("import-ami-1", PLACE, datetime.now(UTC), ImportRequest(containers))
    return services.catalog.import_tasks.add(task, {}, None, "", most=20)


def run(activities: ImportImageActivities, task_id: str) -> str | None:
    """All steps; the AMI."""
    plan = ActivityEnvironment().run(activities.validate, task_id)
    for piece in plan.slices:
        ActivityEnvironment().run(activities.convert_slice, piece)
    ActivityEnvironment().run(activities.update, task_id)
    return ActivityEnvironment().run(activities.register, task_id)


def same_file(services: Services, one: Snapshot, other: Snapshot) -> bool:
    paths = [Path(services.images.locate(snapshot.bucket, snapshot.key)) for snapshot in (one, other)]
    return paths[0].samefile(paths[1])


def found(services: Services, snapshot_id: str) -> Snapshot:
    snapshot = services.catalog.snapshots.find(snapshot_id)
    assert snapshot is not None
    return snapshot


def test_a_snapshot_becomes_an_ami_over_the_same_bytes(services: Services, tmp_path: Path) -> None:
    digest = make_snapshot(services, make_disk(tmp_path / "root.raw", 16, 4), "snap-root")
    task_id = begin(services, DiskContainer(snapshot_id="snap-root", device_name="/dev/xvda"))
    activities = ImportImageActivities(services)
    assert ActivityEnvironment().run(activities.validate, task_id).slices == []
    image_id = run(activities, task_id)
    (image,) = services.catalog.images.describe(PLACE, [str(image_id)])
    (device,) = image.block_devices
    assert (device.device_name, image.root_device_name, device.volume_size_gib) == ("/dev/xvda", "/dev/xvda", 1)
    made = found(services, device.snapshot_id)
    assert made.id != "snap-root"
    assert (made.state, made.digest, made.task_id) == (COMPLETED, digest, task_id)
    assert same_file(services, made, found(services, "snap-root"))
    task = services.catalog.import_tasks.get(task_id)
    assert (task.status, task.bytes_read, task.bytes_written) == (COMPLETED, 0, 0)
    text = services.catalog.import_tasks.receipt(task_id)
    assert text is not None
    (source,) = read(text.encode(), "receipt")["sources"]
    assert (source["snapshot"], source["bucket"]) == ("snap-root", None)
    assert json.loads(text)["disks"][0]["format"] == "RAW"


@pytest.mark.parametrize("boots", ["snapshot", "object"])
def test_a_snapshot_beside_an_object_and_the_one_that_boots_is_the_root(
    services: Services, tmp_path: Path, boots: str
) -> None:
    in_snapshot = make_disk(tmp_path / "snapshot.raw", 16, 4, boots=boots == "snapshot")
    in_object = make_disk(tmp_path / "object.raw", 16, 5, seed=2, boots=boots == "object")
    digests = {"snapshot": make_snapshot(services, in_snapshot, "snap-1")}
    put_object(services, in_object)
    disk = RawDisk(FileBlob(in_object))
    digests["object"] = digest_disk(disk)
    disk.close()
    image_id = run(ImportImageActivities(services), begin(services, IN_S3, DiskContainer(snapshot_id="snap-1")))
    (image,) = services.catalog.images.describe(PLACE, [str(image_id)])
    root, data = image.block_devices
    assert (root.device_name, data.device_name) == ("/dev/sda1", "/dev/sdf")
    other = "object" if boots == "snapshot" else "snapshot"
    assert found(services, root.snapshot_id).digest == digests[boots]
    assert found(services, data.snapshot_id).digest == digests[other]


def test_a_digest_that_is_not_known_is_taken(services: Services, tmp_path: Path) -> None:
    digest = make_snapshot(services, make_disk(tmp_path / "root.raw", 16, 4), "snap-root", known=False)
    run(ImportImageActivities(services), begin(services, DiskContainer(snapshot_id="snap-root")))
    (made,) = services.catalog.snapshots.of_task("import-ami-1")
    assert made.digest == digest


def test_the_named_snapshot_may_go_once_it_is_taken_over(services: Services, tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "root.raw", 16, 4)
    make_snapshot(services, raw, "snap-root")
    task_id = begin(services, DiskContainer(snapshot_id="snap-root"))
    ActivityEnvironment().run(ImportImageActivities(services).validate, task_id)
    gone = services.catalog.snapshots.remove(PLACE, "snap-root")
    services.images.delete(gone.bucket, gone.key)
    assert run(ImportImageActivities(services), task_id)  # another worker, which has nothing open
    (made,) = services.catalog.snapshots.of_task(task_id)
    disk = open_disk(services.images.open(made.bucket, made.key), FORMATS["qcow2"])
    assert bytes(disk.read_at(0, disk.size)) == raw.read_bytes()
    disk.close()


def test_the_named_snapshot_went_before(services: Services, tmp_path: Path) -> None:
    make_snapshot(services, make_disk(tmp_path / "root.raw", 16, 4), "snap-root")
    task_id = begin(services, DiskContainer(snapshot_id="snap-root"))
    services.catalog.snapshots.remove(PLACE, "snap-root")
    with pytest.raises(ApplicationError, match=r"Reason 404 Not Found\] \| The snapshot snap-root was deleted") as why:
        ActivityEnvironment().run(ImportImageActivities(services).validate, task_id)
    assert why.value.non_retryable


def test_a_snapshot_that_is_shared_is_taken_over_and_one_that_is_not_is_not(services: Services, tmp_path: Path) -> None:
    make_snapshot(services, make_disk(tmp_path / "root.raw", 16, 4), "snap-theirs", place=OTHER)
    task_id = begin(services, DiskContainer(snapshot_id="snap-theirs"))
    with pytest.raises(ApplicationError, match="no longer shared with this account"):
        ActivityEnvironment().run(ImportImageActivities(services).validate, task_id)
    services.catalog.permissions.change(OTHER, "snap-theirs", [PLACE.account_id], [])
    assert run(ImportImageActivities(services), task_id)
    (made,) = services.catalog.snapshots.of_task(task_id)
    assert (made.place, made.key) == (PLACE, f"{PLACE.account_id}/{made.id}.qcow2")


def test_a_cancelled_import_leaves_the_named_snapshot_alone(services: Services, tmp_path: Path) -> None:
    make_snapshot(services, make_disk(tmp_path / "root.raw", 16, 4), "snap-root")
    task_id = begin(services, DiskContainer(snapshot_id="snap-root"))
    activities = ImportImageActivities(services)
    ActivityEnvironment().run(activities.validate, task_id)
    services.catalog.import_tasks.cancel(PLACE, task_id, "enough")
    ActivityEnvironment().run(activities.clean_up, CleanUp(task_id, "enough"))
    assert services.catalog.snapshots.of_task(task_id) == []
    assert list(services.images.keys(PLACE.region)) == [found(services, "snap-root").key]


def test_a_turn_ends_only_where_another_task_waits(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    activities = ImportImageActivities(services)
    begin(services, IN_S3)
    monkeypatch.setattr("vmferry.tasks.import_image.activities._TURN_SECONDS", -1)
    is_over = activities._begin_turn()
    assert not is_over()
    other = ImportTask("import-ami-2", OTHER, datetime.now(UTC), ImportRequest((IN_S3,)))
    services.catalog.import_tasks.add(other, {}, None, "", most=20)
    assert is_over()
    monkeypatch.setattr("vmferry.tasks.import_image.activities._TURN_SECONDS", 1000)
    assert not activities._begin_turn()()
