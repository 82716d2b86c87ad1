"""The steps of an export that no request can bring about at will, over a real S3 and a real catalog."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from tests.stores.running_s3 import READER, WRITER, RunningS3, running_s3
from tests.stores.test_s3 import uploads
from vmferry.catalog import open_catalog
from vmferry.catalog.export_tasks import ExportTask
from vmferry.catalog.places import Place
from vmferry.config import Config
from vmferry.errors import BlobNotFoundError
from vmferry.stores.local import LocalStore
from vmferry.stores.s3 import STORE, S3Store
from vmferry.tasks import Services
from vmferry.tasks._steps import CleanUp
from vmferry.tasks.export_image.activities import ExportImageActivities
from vmferry.tasks.export_image.unfinished import SWEPT_FOR, remove_dead
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


def test_what_a_dead_worker_has_sent_is_removed_without_the_right_to_list(s3: RunningS3, tmp_path: Path) -> None:
    store = STORE.connect(s3.options(WRITER))
    services = make_services(tmp_path, store)
    task = add_task(services, "begun.raw")
    kept = tmp_path / "exports" / task.id
    upload = store.keep_upload("bucket", task.key, kept, 64 * MIB)
    upload.begin()
    upload.write_at(0, bytes(8 * MIB))
    assert uploads(s3) == [task.key]
    with pytest.raises(ApplicationError, match="Another process writes"):  # it may live still
        ActivityEnvironment().run(ExportImageActivities(services).end_export, CleanUp(task.id, "enough"))
    upload.detach()
    ActivityEnvironment().run(ExportImageActivities(services).end_export, CleanUp(task.id, "enough"))
    assert services.catalog.export_tasks.get(task.id).status == "deleted"
    assert uploads(s3) == []
    assert not kept.exists()


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
    kept = store.keep_upload("bucket", old.key, tmp_path / "exports" / old.id, 64 * MIB)
    kept.begin()
    kept.write_at(0, bytes(8 * MIB))
    remove_dead(services, now)
    assert sorted(uploads(s3)) == [going.key, old.key]  # whoever holds the folder may live still
    kept.detach()
    remove_dead(services, now)
    assert uploads(s3) == [going.key]
    assert not (tmp_path / "exports" / old.id).exists()
    store.abort_uploads("bucket", going.key)
