"""An import that is only tried: what its disks would make of it is said, and nothing is recorded or kept."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.server.material import make_disk
from tests.tasks.material import PLACE, put_object
from tests.tasks.test_preflight import ruled_by
from vmferry.catalog.import_tasks import IMPORT_SNAPSHOT, DiskContainer, ImportRequest, ImportTask
from vmferry.catalog.places import Place
from vmferry.errors import GuestError, UnknownFormatError
from vmferry.stores import Store
from vmferry.tasks import Services
from vmferry.tasks.import_image.preview import Previewer, RefusedError

NOT_LOOKED = "The disks were not looked into: "
AMPLE = 60.0
"""Seconds: a busy machine may take more than a request should."""


def asked(key: str = "disk.raw", declared: str = "RAW") -> ImportTask:
    named = DiskContainer(bucket="imports", key=key, format=declared)
    return ImportTask("import-ami-1", PLACE, datetime.now(UTC), ImportRequest((named,)))


@pytest.fixture
def disk(services: Services, tmp_path: Path) -> Path:
    path = make_disk(tmp_path / "data.raw", 8, 2, boots=False)
    put_object(services, path)
    return path


@pytest.mark.usefixtures("disk")
def test_what_would_be_found_is_said_and_nothing_is_kept(services: Services, tmp_path: Path) -> None:
    before = sorted(path for path in tmp_path.rglob("*") if "catalog.sqlite" not in path.name)
    said = Previewer(services, AMPLE).preview(asked())
    assert any(sentence.startswith("will not boot: ") for sentence in said), said
    assert services.catalog.import_tasks.newest(PLACE, "import-image-task", 10) == []
    assert services.catalog.snapshots.describe(PLACE) == []
    assert sorted(path for path in tmp_path.rglob("*") if "catalog.sqlite" not in path.name) == before


@pytest.mark.usefixtures("disk")
def test_what_would_end_the_task_is_refused_in_the_task_s_words(services: Services) -> None:
    with pytest.raises(RefusedError) as refused:
        Previewer(services, AMPLE).preview(asked(declared="VMDK"))
    assert str(refused.value).startswith(
        "Disk validation failed [Unsupported VMDK File Format] | memory:imports/disk.raw"
    )
    assert isinstance(refused.value.reason, UnknownFormatError)
    with pytest.raises(RefusedError) as refused:
        Previewer(ruled_by(services, "aws"), AMPLE).preview(asked())
    assert isinstance(refused.value.reason, GuestError)
    assert not str(refused.value).startswith("ClientError")


@pytest.mark.usefixtures("disk")
def test_a_snapshot_needs_no_system(services: Services) -> None:
    task = replace(asked(), kind=IMPORT_SNAPSHOT)
    assert Previewer(ruled_by(services, "aws"), AMPLE).preview(task) == []


def test_what_is_not_there_yet_or_takes_too_long_is_left_to_the_task(services: Services, disk: Path) -> None:
    (said,) = Previewer(services, AMPLE).preview(asked(key="later.raw"))
    assert said.startswith(NOT_LOOKED)
    assert "later.raw" in said
    assert disk.exists()
    (said,) = Previewer(services, seconds=0).preview(asked())
    assert said == f"{NOT_LOOKED}that would take longer than a request may. The task looks at all of them."


@pytest.mark.usefixtures("disk")
def test_a_few_at_a_time_are_looked_into(services: Services) -> None:
    opened, go_on = threading.Semaphore(0), threading.Event()

    def objects(place: Place) -> Store:
        opened.release()
        assert go_on.wait(30)
        return services.objects(place)

    previewer = Previewer(replace(services, objects=objects), seconds=0.1)
    threads = [threading.Thread(target=previewer.preview, args=[asked()]) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert opened.acquire(timeout=30)
    assert opened.acquire(timeout=30)
    (said,) = previewer.preview(asked())
    assert said == f"{NOT_LOOKED}others are looked into just now. Try again."
    go_on.set()
    for thread in threads:
        thread.join(30)
