"""A slice whose worker is killed is gone on with where it was: the step over a real catalog and local stores."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from tests.cli.material import ROOT, call_vmferry, qemu_img
from vmferry.catalog import open_catalog
from vmferry.catalog.import_tasks import DiskContainer, ImportRequest, ImportTask
from vmferry.catalog.places import Place
from vmferry.config import Config
from vmferry.convert import digest_disk, plan_slices
from vmferry.errors import StoreUnavailableError
from vmferry.formats import open_disk
from vmferry.stores import Pin
from vmferry.stores.local import LocalBlob, LocalStore
from vmferry.tasks import Services
from vmferry.tasks._steps import CleanUp
from vmferry.tasks.import_image import facts
from vmferry.tasks.import_image.activities import ImportImageActivities
from vmferry.tasks.import_image.slice_notes import noted_digest
from vmferry.tasks.import_image.workflow import DiskStep, Plan, SliceStep
from vmferry.units import MIB

pytestmark = pytest.mark.slow

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


def convert(folder: str, name: str, step: str) -> None:
    """Of another process: one step, slowly."""
    worker = steps(Path(folder), slow=True)
    if name == "convert_slice":
        ActivityEnvironment().run(worker.convert_slice, SliceStep(**json.loads(step)))
    else:
        ActivityEnvironment().run(worker.convert_disk, DiskStep(**json.loads(step)))


def plan_import(folder: Path, key: str, declared: str) -> tuple[ImportImageActivities, Plan]:
    """An import of ``objects/imports/KEY``, up to what there is to convert."""
    worker = steps(folder)
    container = DiskContainer(bucket="imports", key=key, format=declared)
    task = ImportTask("import-ami-1", PLACE, datetime.now(UTC), ImportRequest((container,)))
    worker._tasks.add(task, {}, None, "", most=20)
    plan: Plan = ActivityEnvironment().run(worker.validate, task.id)
    return worker, plan


def begin(folder: Path) -> tuple[ImportImageActivities, SliceStep]:
    """An import of ``objects/imports/disk.raw``, up to its only slice."""
    worker, (piece,) = begin_all(folder)
    return worker, piece


def begin_all(folder: Path) -> tuple[ImportImageActivities, list[SliceStep]]:
    """The same, up to all its slices."""
    worker, plan = plan_import(folder, "disk.raw", "RAW")
    return worker, list(plan.slices)


def stop_half_way(folder: Path, step: SliceStep | DiskStep, number: signal.Signals) -> subprocess.Popen[bytes]:
    """Have the step done by a process that gets the signal ``number`` in the middle of it."""
    notes = folder / "slices" / step.task_id
    name = "convert_slice" if isinstance(step, SliceStep) else "convert_disk"
    script = "import sys; from tests.tasks.test_slices import convert; convert(*sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", script, folder, name, json.dumps(asdict(step))], cwd=ROOT)
    limit = time.monotonic() + 60
    while noted_offset(notes) < SIZE // 2:
        assert process.poll() is None, "it was done before it was killed"
        assert time.monotonic() < limit
        time.sleep(0.002)
    process.send_signal(number)
    return process


def kill_half_way(folder: Path, step: SliceStep | DiskStep) -> int:
    """Have the step done by a process that is killed; up to where it has noted that it was."""
    stop_half_way(folder, step, signal.SIGKILL).wait()
    return noted_offset(folder / "slices" / step.task_id)


def noted_offset(notes: Path) -> int:
    """Before which guest offset everything is done, by what is noted of slices in hand."""
    offsets = [0]
    for path in notes.glob(".0-*.resume"):
        with suppress(FileNotFoundError):  # its slice was kept just now
            offsets.append(json.loads(path.read_text())["written"]["offset"])
    return max(offsets)


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


def test_a_worker_that_was_frozen_writes_nothing_to_an_image_that_is_whole(tmp_path: Path, raw: Path) -> None:
    worker, piece = begin(tmp_path)
    frozen = stop_half_way(tmp_path, piece, signal.SIGSTOP)
    try:
        ActivityEnvironment().run(worker.convert_slice, piece)
        ActivityEnvironment().run(worker.update, piece.task_id)
        (image,) = (path for path in (tmp_path / "images").rglob("*") if path.is_file())
        assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, image)
        image.write_bytes(b"a guest's")  # that has it as its volume
    finally:
        frozen.send_signal(signal.SIGCONT)
        frozen.wait()
    assert image.read_bytes() == b"a guest's"


@pytest.mark.parametrize("data", [SIZE, 40 * MIB], ids=["one slice", "several slices"])
def test_a_disk_with_a_digest_in_a_manifest_is_gone_on_with_inside_a_slice(
    data: int, tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "plan_slices", partial(plan_slices, target=data))
    ova = raw.with_name("machine.ova")
    packed = call_vmferry("convert", raw, ova, "--compress", "fast")
    assert packed.returncode == 0, packed.stderr
    worker, plan = plan_import(tmp_path, ova.name, "OVA")
    assert (plan.slices, plan.verified) == ([], [0])
    step = DiskStep(plan.task_id, 0)
    noted = kill_half_way(tmp_path, step)
    if data == SIZE:  # all that is known of the digest is what was noted
        assert worker._tasks.file_digest(step.task_id, 0) is None
        assert noted_digest(tmp_path / "slices" / step.task_id, 0) is not None
    before = worker._tasks.get(step.task_id).bytes_read
    while ActivityEnvironment().run(worker.convert_disk, step):
        pass  # another turn
    read = worker._tasks.get(step.task_id).bytes_read - before
    # Notes of the slice and of the digest are 16 MiB apart each, and blocks of 4 MiB are read ahead.
    assert read <= ova.stat().st_size * (SIZE - noted) // SIZE + 2 * 16 * MIB + 12 * MIB
    (image,) = (path for path in (tmp_path / "images").rglob("*") if path.is_file())
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, image)
    assert not ActivityEnvironment().run(worker.convert_disk, step)  # it was done, but nobody heard of it
    ova.unlink()
    ActivityEnvironment().run(steps(tmp_path).update, step.task_id)  # another worker, which need not open the source
    assert worker._tasks.get(step.task_id).facts.disks[0].digest == call_vmferry("verify", raw).stdout.strip()
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, image)
    assert worker._tasks.get(step.task_id).facts.disks[0].manifest_digest is not None


def test_a_note_of_a_digest_that_was_not_written_whole_is_none(tmp_path: Path) -> None:
    assert noted_digest(tmp_path, 0) is None
    for content in (b"", b"abc", b"0123456789", bytes(8)):
        (tmp_path / "0.digest").write_bytes(content)
        assert noted_digest(tmp_path, 0) is None


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


class CutOffBlob(LocalBlob):
    def read_at(self, offset: int, length: int) -> bytes:
        if offset > 3 * SIZE // 4:
            raise StoreUnavailableError("The store is away.")
        return super().read_at(offset, length)


def test_what_the_kernel_could_not_write_of_a_slice_is_written_again(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, piece = begin(tmp_path)
    real = os.fdatasync

    def fdatasync(fd: int) -> None:  # of a full file system of a network, which took more than it can hold
        monkeypatch.setattr(os, "fdatasync", real)
        length = os.fstat(fd).st_size
        os.truncate(fd, MIB)
        os.truncate(fd, length)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "open", lambda store, bucket, key, pin=None: CutOffBlob(raw))
        monkeypatch.setattr(os, "fdatasync", fdatasync)
        with pytest.raises(ApplicationError):
            ActivityEnvironment().run(steps(tmp_path).convert_slice, piece)
    worker = steps(tmp_path)
    ActivityEnvironment().run(worker.convert_slice, piece)
    ActivityEnvironment().run(worker.update, piece.task_id)
    (image,) = (path for path in (tmp_path / "images").rglob("*") if path.is_file())
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, image)


def test_an_image_that_is_gone_with_slices_that_were_converted_ends_the_task(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "plan_slices", partial(plan_slices, target=64 * MIB))
    worker, pieces = begin_all(tmp_path)
    ActivityEnvironment().run(worker.convert_slice, pieces[0])
    (unfinished,) = (path for path in (tmp_path / "images").rglob("*") if path.is_file())
    unfinished.unlink()
    with pytest.raises(ApplicationError, match="was removed while it was made") as ended:
        ActivityEnvironment().run(worker.convert_slice, pieces[1])
    assert ended.value.non_retryable
    with pytest.raises(ApplicationError, match="was removed while it was made"):
        ActivityEnvironment().run(worker.update, pieces[1].task_id)


def test_slices_of_zeros_alone_leave_nothing_in_the_image_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "plan_slices", partial(plan_slices, target=8 * MIB))
    path = tmp_path / "objects" / "imports" / "disk.raw"
    path.parent.mkdir(parents=True)
    (tmp_path / "images").mkdir()
    path.write_bytes(bytes(16 * MIB) + bytes(range(256)) * 4096)  # zeros that were written, and are no holes
    worker, pieces = begin_all(tmp_path)
    for piece in pieces:
        ActivityEnvironment().run(worker.convert_slice, piece)
    ActivityEnvironment().run(worker.update, pieces[0].task_id)
    (image,) = (found for found in (tmp_path / "images").rglob("*") if found.is_file())
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", path, image)
