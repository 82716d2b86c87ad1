"""The steps of an export. Each may run again, in any worker: twice is the same as once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import structlog
from temporalio import activity

from vmferry.catalog.export_tasks import COMPLETED, ExportTask
from vmferry.convert import count_granules
from vmferry.disk import Disk
from vmferry.errors import AccessDeniedError, BlobNotFoundError, TaskCancelledError
from vmferry.formats import FORMATS, open_disk
from vmferry.formats.qcow2.layout import CLUSTER_SIZE
from vmferry.machine import Machine
from vmferry.tasks import Services
from vmferry.tasks._border import border
from vmferry.tasks._pulse import QUIET_SECONDS, Pulse
from vmferry.tasks._steps import CleanUp
from vmferry.tasks.export_image.exported import exported_image, exported_instance
from vmferry.tasks.export_image.formats import EXPORT_FORMATS
from vmferry.tasks.export_image.unfinished import (
    UPLOAD_MEMORY,
    abort_kept,
    abort_uploads,
    find_folder,
    find_store,
)
from vmferry.tasks.export_image.writing import Listener, write_disk, write_ova

_RECORD_SECONDS = 0.5
_VALIDATING, _CONVERTING = "validating", "converting"
_CONVERTING_FIRST, _CONVERTING_LAST = 21, 95


class ExportImageActivities:
    """The steps, bound to what they work with. Thread-safe: a worker runs several at once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tasks = services.catalog.export_tasks

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every step, for a worker to register."""
        return [self.check_export, self.write_export, self.end_export]

    @activity.defn(no_thread_cancel_exception=True)
    def check_export(self, task_id: str) -> str:
        """Whether the object may be written: known before the work, not after it. The account, whose turn it is."""
        task = self._tasks.get(task_id)
        with border(self._services, task_id, tasks=self._tasks), self._pulse(task_id):
            self._tasks.advance(task_id, _VALIDATING, 1)
            find_store(self._services, task).check_upload(task.bucket, task.key)
            return task.place.account_id

    @activity.defn(no_thread_cancel_exception=True)
    def write_export(self, task_id: str) -> None:
        """Write the object, and complete the task. What an earlier attempt has sent of a disk is gone on with, of an
        OVA it is removed."""
        task = self._tasks.get(task_id)
        with border(self._services, task_id, tasks=self._tasks), self._pulse(task_id) as pulse:
            if task.status == COMPLETED:
                return
            self._tasks.advance(task_id, _CONVERTING, _CONVERTING_FIRST)
            with self._open_disks(task) as (machine, disks, identities):
                try:
                    self._write(task, machine, disks, identities, pulse)
                except TaskCancelledError:
                    pulse.raise_if_stopped()
                    raise
            self._tasks.complete(task_id)

    @activity.defn(no_thread_cancel_exception=True)
    def end_export(self, step: CleanUp) -> None:
        """Remove what was sent, the object too, if it was whole when the task was cancelled; of the task its record
        stays, with the reason."""
        with border(self._services, step.task_id, tasks=self._tasks), self._pulse(step.task_id):
            self._tasks.fail(step.task_id, step.reason)
            task = self._tasks.get(step.task_id)
            if task.status != COMPLETED:
                abort_kept(self._services, task)
                abort_uploads(self._services, task)
                self._delete(task)
                self._tasks.mark_deleted(step.task_id)

    def _write(
        self, task: ExportTask, machine: Machine, disks: Sequence[Disk], identities: Sequence[str], pulse: Pulse
    ) -> None:
        data = sum(count_granules(disk, CLUSTER_SIZE) for disk in disks)
        listener = Listener(self._recorder(task.id, max(data, 1), pulse), pulse.stop)
        expected = sum(disk.size for disk in disks) if task.format == "RAW" else data + data // 8
        if task.format != "OVA":
            self._write_disk(task, disks[0], identities[0], expected, listener)
            return
        abort_uploads(self._services, task)
        target = find_store(self._services, task).upload(task.bucket, task.key, UPLOAD_MEMORY, expected)
        try:
            write_ova(machine, disks, target, listener)
        finally:
            target.abort()  # harmless once it is whole

    def _write_disk(self, task: ExportTask, disk: Disk, identity: str, expected: int, listener: Listener) -> None:
        """Write a disk's object, or go on writing it where an earlier attempt ended."""
        folder = find_folder(self._services, task.id)
        if not folder.exists():
            abort_uploads(self._services, task)
        store = find_store(self._services, task)
        target = store.keep_upload(task.bucket, task.key, folder, UPLOAD_MEMORY, expected)
        try:
            write_disk(disk, EXPORT_FORMATS[task.format], target, folder, identity, listener)
        finally:
            target.detach()  # harmless once it is whole

    def _recorder(self, task_id: str, planned: int, pulse: Pulse) -> Callable[[int], None]:
        """Takes the progress of a copy of ``planned`` bytes, of one thread at a time, and writes it to the catalog now
        and then."""
        done, recorded_at = 0, time.monotonic()

        def record(copied: int) -> None:
            nonlocal done, recorded_at
            done += copied
            pulse.moved()
            if time.monotonic() - recorded_at >= _RECORD_SECONDS:
                recorded_at = time.monotonic()
                share = (_CONVERTING_LAST - _CONVERTING_FIRST) * min(done, planned) // planned
                self._tasks.advance(task_id, _CONVERTING, _CONVERTING_FIRST + share)

        return record

    @contextmanager
    def _open_disks(self, task: ExportTask) -> Iterator[tuple[Machine, list[Disk], list[str]]]:
        """What is exported, its disks, the root's first, and what tells each from itself when it was changed.

        Raises ``NotFoundError`` where they were removed.
        """
        find = exported_image if task.instance_id is None else exported_instance
        machine, images = find(self._services, task)
        with ExitStack() as opened:
            disks, identities = [], []
            for bucket, key in images:
                blob = self._services.images.open(bucket, key)
                opened.callback(blob.close)
                disks.append(open_disk(blob, FORMATS["qcow2"]))
                identities.append(str(blob.pin.etag))
            yield machine, disks, identities

    def _delete(self, task: ExportTask) -> None:
        """Remove the object that was whole when the task was cancelled."""
        try:
            self._services.objects(task.place).delete(task.bucket, task.key)
        except (AccessDeniedError, BlobNotFoundError) as error:  # it may be what the export failed for
            structlog.get_logger("vmferry.tasks").warning("the object stays", key=task.key, error=str(error))

    def _pulse(self, task_id: str) -> Pulse:
        def say() -> None:
            self._tasks.wait(task_id, f"waiting for the object store: nothing has moved for {QUIET_SECONDS:.0f} s")

        return Pulse(self._services.config.stall_seconds, say)
