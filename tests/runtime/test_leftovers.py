"""What dead processes have left is removed, from a real store and a real catalog; what somebody has or makes stays."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from vmferry.catalog.places import Place
from vmferry.catalog.snapshot_uploads import SnapshotUpload
from vmferry.catalog.snapshots import COMPLETED, PENDING, Snapshot
from vmferry.catalog.volumes import AVAILABLE, CREATING, Volume
from vmferry.config import Config
from vmferry.runtime.leftovers import KEPT_FOR, remove_forgotten, remove_unfinished
from vmferry.runtime.sweeper import Sweeper
from vmferry.snapshot_blocks import begin_blocks
from vmferry.tasks import Services
from vmferry.units import GIB
from vmferry.work import open_services

HERE = Place("us-east-1", "111122223333")
NOW = datetime.now(UTC)
SOON, LATER = NOW + KEPT_FOR / 2, NOW + 2 * KEPT_FOR


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    opened = open_services(Config(tmp_path), "http://127.0.0.1:9")
    opened.catalog.migrate()
    yield opened
    opened.catalog.close()


def store(services: Services, name: str, region: str = HERE.region) -> str:
    """A disk image that is whole, and no more than that; its key."""
    key = f"{HERE.account_id}/{name}.qcow2"
    writer = services.images.create(region, key)
    writer.write_at(0, b"image")
    writer.finish()
    return key


def snapshot(
    services: Services, name: str, state: str = COMPLETED, task_id: str | None = None, begun: datetime = NOW
) -> Snapshot:
    key = f"{HERE.account_id}/{name}.qcow2"
    made = Snapshot(name, HERE, state, GIB, None, begun, HERE.region, key, task_id)
    services.catalog.snapshots.begin(made)
    return made


def volume(services: Services, name: str, state: str) -> None:
    key = f"{HERE.account_id}/{name}.qcow2"
    made = Volume(name, HERE, state, 1, "us-east-1a", None, "gp2", NOW, HERE.region, key)
    services.catalog.volumes.add(made, {})


def upload(services: Services, name: str, parent: Snapshot) -> None:
    """A snapshot that a client puts blocks into, over ``parent``, for days already."""
    begun, key = NOW - 3 * KEPT_FOR, f"{HERE.account_id}/{name}.qcow2"
    pending = Snapshot(name, HERE, PENDING, GIB, None, begun, HERE.region, key, None)
    made = SnapshotUpload(name, HERE, begun, GIB, HERE.region, key, parent.id, 60)
    services.catalog.snapshot_uploads.start(pending, made, {}, None, 10)
    begin_blocks(services.images, made, (parent.bucket, parent.key))


def left(services: Services, region: str = HERE.region) -> set[str]:
    """The names of all files in a region of the image store."""
    folder = services.config.images_dir / region
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_an_image_that_nobody_knows_goes_after_a_day(services: Services) -> None:
    for name, region in (("vol-lost", HERE.region), ("snap-lost", "us-west-2")):
        store(services, name, region)
    remove_forgotten(services, SOON)
    assert (left(services), left(services, "us-west-2")) == ({"vol-lost.qcow2"}, {"snap-lost.qcow2"})
    remove_forgotten(services, LATER)
    assert (left(services), left(services, "us-west-2")) == (set(), set())


def test_what_somebody_has_or_makes_stays(services: Services) -> None:
    for name in ("snap-whole", "snap-of-task", "vol-whole", "vol-of-task", "lost"):
        store(services, name)
    parent = snapshot(services, "snap-whole")
    snapshot(services, "snap-of-task", PENDING, task_id="import-ami-1", begun=NOW - 3 * KEPT_FOR)
    volume(services, "vol-whole", AVAILABLE)
    volume(services, "vol-of-task", CREATING)
    upload(services, "snap-open", parent)
    before = left(services)
    assert len(before) == 8
    remove_forgotten(services, LATER)
    remove_unfinished(services)
    assert before - left(services) == {"lost.qcow2"}
    assert {one.id for one in services.catalog.snapshots.describe(HERE)} == {"snap-whole", "snap-of-task", "snap-open"}


def test_a_new_name_of_old_bytes_is_young(services: Services) -> None:
    """A volume's image is a link to its snapshot's, until its record is written."""
    key = store(services, "snap-old")
    snapshot(services, "snap-old")
    past = (NOW - 30 * KEPT_FOR).timestamp()
    os.utime(services.images.locate(HERE.region, key), (past, past))
    services.images.link(HERE.region, key, HERE.region, f"{HERE.account_id}/vol-new.qcow2")
    remove_forgotten(services, SOON)
    assert left(services) == {"snap-old.qcow2", "vol-new.qcow2"}


def test_a_copy_whose_request_died_goes_with_its_record(services: Services) -> None:
    store(services, "snap-old")
    snapshot(services, "snap-old", PENDING, begun=NOW - 2 * KEPT_FOR)  # its bytes were there
    snapshot(services, "snap-older", PENDING, begun=NOW - 3 * KEPT_FOR)  # its bytes were not
    snapshot(services, "snap-young", PENDING)
    remove_forgotten(services, NOW)
    assert left(services) == set()
    assert [one.id for one in services.catalog.snapshots.describe(HERE)] == ["snap-young"]


def test_a_catalog_that_does_not_know_many_is_not_believed(services: Services) -> None:
    """It may be an empty one, or an old copy of the right one: the images are the users'."""
    for number in range(9):
        store(services, f"snap-{number}")
    with capture_logs() as logs:
        remove_forgotten(services, LATER)
    assert len(left(services)) == 9
    (said,) = logs
    assert (said["log_level"], said["unknown"], said["images"]) == ("warning", 9, 9)
    snapshot(services, "snap-8")
    remove_forgotten(services, LATER)
    assert left(services) == {"snap-8.qcow2"}


def test_a_sweeper_begins_at_once_where_it_is_told_to() -> None:
    done, late = threading.Event(), threading.Event()
    day = timedelta(days=1).total_seconds()
    sweepers = [Sweeper(done.set, day, at_once=True), Sweeper(late.set, day)]
    for sweeper in sweepers:
        sweeper.start()
    assert done.wait(10)
    for sweeper in sweepers:
        sweeper.stop()
    assert not late.is_set()


def test_a_sweeper_goes_on_after_a_fault() -> None:
    calls, thrice = list[int](), threading.Event()

    def job() -> None:
        calls.append(1)
        if len(calls) == 3:
            thrice.set()
        raise OSError("the disk is away")

    sweeper = Sweeper(job, 0.01)
    with capture_logs() as logs:
        sweeper.start()
        assert thrice.wait(10)
        sweeper.stop()
    assert {said["event"] for said in logs} == {"housekeeping failed"}
