"""A slice whose worker is killed is gone on with where it was: the step over a real catalog and local stores."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from tests.cli.material import ROOT, qemu_img
from vmferry.catalog import open_catalog
from vmferry.catalog.import_tasks import DiskContainer, ImportRequest, ImportTask
from vmferry.catalog.places import Place
from vmferry.config import Config
from vmferry.convert import digest_disk
from vmferry.formats import open_disk
from vmferry.stores import Pin
from vmferry.stores.local import LocalBlob, LocalStore
from vmferry.tasks import Services
from vmferry.tasks._steps import CleanUp
from vmferry.tasks.import_image.activities import ImportImageActivities
from vmferry.tasks.import_image.workflow import Plan, SliceStep
from vmferry.units import MIB

PLACE = Place("us-east-1", "111122223333")
SIZE = 160 * MIB


class SlowBlob(LocalBlob):
    def read_at(self, offset: int, length: int) -> bytes:
        time.sleep(0.05)
        return super().read_at(offset, length)


class SlowStore(LocalStore):
    """One whose answers take their time: there is some in which to kill who waits for them."""

    def open(self, bucket: str, key: str, pin: Pin | None = None) -> LocalBlob:
        return SlowBlob(Path(super().locate(bucket, key)))


def steps(folder: Path, *, slow: bool = False) -> ImportImageActivities:
    """What a worker does, over what lies in ``folder``."""
    catalog = open_catalog(f"sqlite:///{folder / 'catalog.sqlite'}")
    catalog.migrate()
    store = (SlowStore if slow else LocalStore)(folder / "objects")
    return ImportImageActivities(
        Services(Config(data_dir=folder), catalog, lambda _: store, LocalStore(folder / "images"))
    )


def convert(folder: str, step: str) -> None:
    """Of another process: one slice, slowly."""
    ActivityEnvironment().run(steps(Path(folder), slow=True).convert_slice, SliceStep(**json.loads(step)))


def begin(folder: Path) -> tuple[ImportImageActivities, SliceStep]:
    """An import of ``objects/imports/disk.raw``, up to its only slice."""
    worker = steps(folder)
    container = DiskContainer(bucket="imports", key="disk.raw", format="RAW")
    task = ImportTask("import-ami-1", PLACE, datetime.now(UTC), ImportRequest((container,)))
    worker._tasks.add(task, {}, None, "", most=20)
    plan: Plan = ActivityEnvironment().run(worker.validate, task.id)
    (piece,) = plan.slices
    return worker, piece


def kill_half_way(folder: Path, piece: SliceStep) -> int:
    """Have the slice converted by a process that is killed; up to where it has noted that it was."""
    notes = folder / "slices" / piece.task_id / ".0-0.resume"
    words = json.dumps({name: getattr(piece, name) for name in ("task_id", "disk", "number", "start", "end")})
    script = "import sys; from tests.tasks.test_slices import convert; convert(*sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", script, folder, words], cwd=ROOT)
    limit = time.monotonic() + 60
    while not notes.exists() or json.loads(notes.read_text())["written"]["offset"] < SIZE // 2:
        assert process.poll() is None, "it was done before it was killed"
        assert time.monotonic() < limit
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return int(json.loads(notes.read_text())["written"]["offset"])


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "objects" / "imports" / "disk.raw"
    path.parent.mkdir(parents=True)
    (tmp_path / "images").mkdir()
    chance = random.Random(1)
    with path.open("wb") as file:
        file.truncate(SIZE)
        file.write(
            b"\xeb\x63\x90".ljust(446, b"\x90")
            + b"\x80\0\0\0\x83\0\0\0\0\x08\0\0\0\x10\0\0".ljust(64, b"\0")
            + b"\x55\xaa"
        )
        for place in range(2 * MIB, SIZE, 4 * MIB):
            file.seek(place)
            file.write(chance.randbytes(3 * MIB))
    return path


def test_a_slice_whose_worker_is_killed_is_gone_on_with(tmp_path: Path, raw: Path) -> None:
    worker, piece = begin(tmp_path)
    noted = kill_half_way(tmp_path, piece)
    before = worker._tasks.get(piece.task_id).bytes_read
    ActivityEnvironment().run(worker.convert_slice, piece)
    read = worker._tasks.get(piece.task_id).bytes_read - before
    assert noted >= SIZE // 2
    assert read <= SIZE - noted + 12 * MIB  # blocks of 4 MiB are read ahead
    ActivityEnvironment().run(worker.update, piece.task_id)
    (image,) = (path for path in (tmp_path / "images").rglob("*") if path.is_file())
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, image)
    disk = open_disk(LocalStore(tmp_path / "objects").open("imports", "disk.raw"))
    assert worker._tasks.get(piece.task_id).facts.disks[0].digest == digest_disk(disk)
    disk.close()
    assert not (tmp_path / "slices" / piece.task_id).exists()


def test_an_image_that_is_gone_is_begun_anew(tmp_path: Path, raw: Path) -> None:
    worker, piece = begin(tmp_path)
    kill_half_way(tmp_path, piece)
    (unfinished,) = (path for path in (tmp_path / "images").rglob("*") if path.is_file())
    unfinished.unlink()
    ActivityEnvironment().run(worker.convert_slice, piece)
    ActivityEnvironment().run(worker.update, piece.task_id)
    (image,) = (path for path in (tmp_path / "images").rglob("*") if path.is_file())
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, image)


def test_a_task_that_ends_takes_its_notes_with_it(tmp_path: Path, raw: Path) -> None:
    worker, piece = begin(tmp_path)
    kill_half_way(tmp_path, piece)
    ActivityEnvironment().run(worker.clean_up, CleanUp(piece.task_id, "enough"))
    assert not (tmp_path / "slices" / piece.task_id).exists()
