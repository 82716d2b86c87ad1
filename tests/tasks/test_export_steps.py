"""The steps of an export that no request can bring about at will, over a real S3 and a real catalog."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from tests.stores.running_s3 import READER, WRITER, RunningS3, running_s3
from tests.stores.test_s3 import uploads
from vmferry.blob import MemoryBlob
from vmferry.catalog import open_catalog
from vmferry.catalog.export_tasks import ExportTask
from vmferry.catalog.places import Place
from vmferry.config import Config
from vmferry.convert import Slice, copy
from vmferry.errors import BlobNotFoundError
from vmferry.formats import FORMATS, SupportsCreate
from vmferry.formats.raw import RawDisk
from vmferry.machine import Machine
from vmferry.stores.local import LocalStore
from vmferry.stores.s3 import STORE, S3Store
from vmferry.tasks import Services
from vmferry.tasks._steps import CleanUp
from vmferry.tasks.export_image import activities, sliced_object
from vmferry.tasks.export_image.activities import ExportImageActivities
from vmferry.tasks.export_image.plan import ExportPlan, make_folder
from vmferry.tasks.export_image.unfinished import SWEPT_FOR, find_store, remove_dead
from vmferry.tasks.export_image.workflow import BEGINS_ANEW, ExportStep
from vmferry.units import MIB

pytestmark = [pytest.mark.server, pytest.mark.slow]

PLACE = Place("us-east-1", "111122223333")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


def make_services(folder: Path, store: S3Store) -> Services:
    catalog = open_catalog(f"sqlite:///{folder / 'catalog.sqlite'}")
    catalog.migrate()
    return Services(Config(data_dir=folder), catalog, lambda _: store, LocalStore(folder / "images"))


def add_task(services: Services, key: str, task_id: str = "export-ami-1", begun: datetime | None = None) -> ExportTask:
    task = ExportTask(task_id, PLACE, begun or datetime.now(UTC), "ami-1", "RAW", "bucket", "", key)
    services.catalog.export_tasks.add(task, {}, None, "", 5)
    return task


def put(store: S3Store, key: str) -> None:
    writer = store.create("bucket", key)
    writer.write_at(0, b"whole")
    writer.finish()


def test_an_object_that_was_whole_when_the_task_was_cancelled_is_removed(s3: RunningS3, tmp_path: Path) -> None:
    store = STORE.connect(s3.options())
    services = make_services(tmp_path, store)
    task = add_task(services, "export-ami-1.raw")
    put(store, task.key)
    services.catalog.export_tasks.cancel(PLACE, task.id, "enough")
    ActivityEnvironment().run(ExportImageActivities(services).end_export, CleanUp(task.id, "enough"))
    assert services.catalog.export_tasks.get(task.id).status == "deleted"
    with pytest.raises(BlobNotFoundError):
        store.open("bucket", task.key)


def test_a_completed_export_keeps_its_object(s3: RunningS3, tmp_path: Path) -> None:
    store = STORE.connect(s3.options())
    services = make_services(tmp_path, store)
    task = add_task(services, "kept.raw")
    put(store, task.key)
    services.catalog.export_tasks.complete(task.id)
    ActivityEnvironment().run(ExportImageActivities(services).end_export, CleanUp(task.id, "late"))
    assert services.catalog.export_tasks.get(task.id).status == "completed"
    assert store.open("bucket", task.key).size == 5


def test_an_export_ends_though_nothing_may_be_removed(s3: RunningS3, tmp_path: Path) -> None:
    services = make_services(tmp_path, STORE.connect(s3.options(READER)))
    task = add_task(services, "denied.raw")
    ActivityEnvironment().run(ExportImageActivities(services).end_export, CleanUp(task.id, "no right to write"))
    ended = services.catalog.export_tasks.get(task.id)
    assert (ended.status, ended.reason) == ("deleted", "no right to write")


def begin(services: Services, task: ExportTask) -> ExportPlan:
    """What a worker had sent of ``task`` when it died."""
    target = find_store(services, task).upload_in_parts(task.bucket, task.key)
    plan = ExportPlan("0123", "as it was", target.begin(), 8 * MIB, (Slice(0, 8 * MIB, 8 * MIB),))
    make_folder(services.config.exports_dir / task.id / plan.token)
    plan.save(services.config.exports_dir / task.id)
    target.send(plan.upload, 1, bytes(8 * MIB))
    return plan


def test_what_a_dead_worker_has_sent_is_removed_without_the_right_to_list(s3: RunningS3, tmp_path: Path) -> None:
    services = make_services(tmp_path, STORE.connect(s3.options(WRITER)))
    task = add_task(services, "begun.raw")
    begin(services, task)
    assert uploads(s3) == [task.key]
    ActivityEnvironment().run(ExportImageActivities(services).end_export, CleanUp(task.id, "enough"))
    assert services.catalog.export_tasks.get(task.id).status == "deleted"
    assert uploads(s3) == []
    assert not (tmp_path / "exports" / task.id).exists()


def test_what_is_left_of_exports_that_have_ended_is_removed_later(s3: RunningS3, tmp_path: Path) -> None:
    store = STORE.connect(s3.options())
    services = make_services(tmp_path, store)
    now = datetime.now(UTC)
    finished = add_task(services, "zombie.ova", "export-ami-2")  # by another worker than the one that still sends
    services.catalog.export_tasks.complete(finished.id)
    old = add_task(services, "old.raw", "export-ami-4", now - 2 * SWEPT_FOR)
    services.catalog.export_tasks.complete(old.id)
    going = add_task(services, "going.ova", "export-ami-3")
    for task in (finished, going):
        store.upload("bucket", task.key, 64 * MIB, 0).write_at(0, bytes(8 * MIB))
    begin(services, old)
    remove_dead(services, now)
    assert uploads(s3) == [going.key]
    assert not (tmp_path / "exports" / old.id).exists()
    store.abort_uploads("bucket", going.key)


@contextmanager
def exported(services: Services, content: bytes, task_id: str) -> Iterator[ExportTask]:
    """A task of an AMI whose disk holds ``content``; its disk image is there while this lasts."""
    disk = MemoryBlob(content)
    image = services.images.create("us-east-1", task_id)
    maker = FORMATS["qcow2"]
    assert isinstance(maker, SupportsCreate)
    writer = maker.create(image, disk.size, RawDisk(disk).extents())
    copy(RawDisk(disk), writer)
    writer.finish()
    with patch.object(activities, "exported_image", lambda *_: (Machine("web"), [("us-east-1", task_id)])):
        yield add_task(services, f"{task_id}.raw", task_id)


def run_export(services: Services, task: ExportTask) -> None:
    """All steps of an export, in one worker."""
    steps, environment = ExportImageActivities(services), ActivityEnvironment()
    work = environment.run(steps.begin_export, task.id)
    for number in range(work.slices):
        environment.run(steps.write_slice, ExportStep(task.id, work.token, number))
    environment.run(steps.finish_export, ExportStep(task.id, work.token, work.slices))


@pytest.mark.parametrize("held", [0, 16 * MIB], ids=["streams", "memory"])
def test_parts_go_out_as_streams_or_from_memory(s3: RunningS3, tmp_path: Path, held: int) -> None:
    store = STORE.connect(s3.options())
    services = make_services(tmp_path, store)
    content = random.Random(1).randbytes(9 * MIB) + bytes(9 * MIB) + b"end".ljust(512)
    with exported(services, content, f"export-ami-{held}") as task, patch.object(sliced_object, "MAX_HELD", held):
        run_export(services, task)
    found = store.open("bucket", task.key)
    assert found.read_at(0, found.size) == content
    assert services.catalog.export_tasks.get(task.id).status == "completed"
    assert uploads(s3) == []
    assert not (tmp_path / "exports" / task.id).exists()


def begins_anew(services: Services, task: ExportTask, step: ExportStep, words: str) -> None:
    """The step fails, what was done is removed, and a new beginning ends well."""
    with pytest.raises(ApplicationError, match=words) as failed:
        ActivityEnvironment().run(ExportImageActivities(services).write_slice, step)
    assert (failed.value.type, failed.value.non_retryable) == (BEGINS_ANEW, True)
    assert not (services.config.exports_dir / task.id).exists()
    with pytest.raises(ApplicationError, match="was removed") as failed:  # whoever is at it still
        ActivityEnvironment().run(ExportImageActivities(services).write_slice, step)
    assert failed.value.type == BEGINS_ANEW
    run_export(services, task)


def test_an_upload_that_was_swept_away_and_a_disk_that_was_changed_have_the_export_begin_anew(
    s3: RunningS3, tmp_path: Path
) -> None:
    store = STORE.connect(s3.options())
    services = make_services(tmp_path, store)
    steps = ExportImageActivities(services)
    with exported(services, b"one".ljust(9 * MIB), "export-ami-7") as task:
        work = ActivityEnvironment().run(steps.begin_export, task.id)
        assert ActivityEnvironment().run(steps.begin_export, task.id) == work
        store.abort_uploads("bucket", task.key)
        begins_anew(services, task, ExportStep(task.id, work.token, 0), "swept away")
    with exported(services, b"two".ljust(9 * MIB), "export-ami-8") as task:
        work = ActivityEnvironment().run(steps.begin_export, task.id)
        os.utime(services.images.locate("us-east-1", task.id), (0, 0))
        begins_anew(services, task, ExportStep(task.id, work.token, 0), "was changed")
    assert uploads(s3) == []
