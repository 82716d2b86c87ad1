"""The last step of a conversion, in which images go from snapshots to volumes: done twice, and too late."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from tests.cli.material import make_raw
from tests.tasks.material import PLACE
from vmferry.catalog import open_catalog
from vmferry.catalog.import_tasks import CONVERSION, DiskContainer, ImportRequest, ImportTask
from vmferry.catalog.volumes import CREATING, Volume
from vmferry.config import Config
from vmferry.errors import StoreError
from vmferry.import_manifest import ImportManifest, ManifestPart, render_manifest
from vmferry.stores.local import LocalStore
from vmferry.tasks import Services
from vmferry.tasks.import_image.activities import ImportImageActivities
from vmferry.units import MIB

SIZE = 8 * MIB
TASK = "import-vol-1"
VOLUME = Volume(
    "vol-1",
    PLACE,
    CREATING,
    1,
    "us-east-1a",
    None,
    "gp2",
    datetime.now(UTC),
    PLACE.region,
    "1/vol-1.qcow2",
    TASK,
)


@pytest.fixture
def worker(tmp_path: Path) -> ImportImageActivities:
    """One that has a conversion in hand, up to its last step."""
    objects = tmp_path / "objects" / "imports"
    objects.mkdir(parents=True)
    (tmp_path / "images").mkdir()
    make_raw(objects / "part", SIZE, bootable=True)
    part = ManifestPart(0, 0, SIZE - 1, "part", "s3://imports/part")
    (objects / "manifest").write_bytes(render_manifest(ImportManifest("RAW", SIZE, 1, (part,))))
    catalog = open_catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    catalog.migrate()
    store = LocalStore(tmp_path / "objects")
    images = LocalStore(tmp_path / "images")
    worker = ImportImageActivities(Services(Config(data_dir=tmp_path), catalog, lambda _: store, images))
    container = DiskContainer(
        "imports", "manifest", format="RAW", volume_id=VOLUME.id, volume_size_gib=1, said_bytes=SIZE
    )
    request = ImportRequest((container,), zone=VOLUME.zone)
    task = ImportTask(TASK, PLACE, datetime.now(UTC), request, CONVERSION)
    catalog.conversion_tasks.add(task, [VOLUME], None, most=20)
    run = ActivityEnvironment().run
    for piece in run(worker.validate, task.id).slices:
        run(worker.convert_slice, piece)
    run(worker.update, task.id)
    return worker


def test_a_worker_that_was_frozen_leaves_the_volume_alone_that_another_has_made(
    worker: ImportImageActivities, tmp_path: Path
) -> None:
    seen_before = worker._tasks.get(TASK)
    ActivityEnvironment().run(worker.register, TASK)
    (image,) = (path for path in (tmp_path / "images").rglob("*") if path.is_file())
    image.write_bytes(b"a guest's")
    with suppress(StoreError):
        worker._make_volumes(seen_before)
    assert image.read_bytes() == b"a guest's"


def test_an_image_that_went_over_to_its_volume_already_stays_there(
    worker: ImportImageActivities, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    (snapshot,) = (path for path in images.rglob("*") if path.is_file())
    LocalStore(images).link(PLACE.region, str(snapshot.relative_to(images / PLACE.region)), VOLUME.bucket, VOLUME.key)
    ActivityEnvironment().run(worker.register, TASK)
    assert [path for path in images.rglob("*") if path.is_file()] == [images / VOLUME.bucket / VOLUME.key]
