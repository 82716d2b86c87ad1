"""The steps of an export. Each may run again, in any worker: twice is the same as once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import structlog
from temporalio import activity

from vmferry.catalog.export_tasks import COMPLETED, ExportTask
from vmferry.convert import find_granules
from vmferry.disk import Disk
from vmferry.errors import AccessDeniedError, BlobNotFoundError, StoreError, TaskCancelledError
from vmferry.formats import FORMATS, open_disk
from vmferry.formats.qcow2.layout import CLUSTER_SIZE
from vmferry.machine import Machine
from vmferry.stores import SupportsUpload
from vmferry.tasks import Services
from vmferry.tasks._border import border
from vmferry.tasks._pulse import QUIET_SECONDS, Pulse
from vmferry.tasks._steps import CleanUp
from vmferry.tasks.export_image.exported import exported_image, exported_instance
from vmferry.tasks.export_image.formats import EXPORT_FORMATS
from vmferry.tasks.export_image.writing import Listener, write_disk, write_ova
from vmferry.units import MIB

_UPLOAD_MEMORY = 24 * MIB
"""A worker has two exports in hand, and 256 MiB for all."""
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
            self._store(task).check_upload(task.bucket, task.key)
            return task.place.account_id

    @activity.defn(no_thread_cancel_exception=True)
    def write_export(self, task_id: str) -> None:
        """Write the object, and complete the task. What an earlier attempt has sent is removed first."""
        task = self._tasks.get(task_id)
        with border(self._services, task_id, tasks=self._tasks), self._pulse(task_id) as pulse:
            if task.status == COMPLETED:
                return
            self._tasks.advance(task_id, _CONVERTING, _CONVERTING_FIRST)
            self._abort_uploads(task)
            with self._open_disks(task) as (machine, disks):
                try:
                    self._write(task, machine, disks, pulse)
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
                self._abort_uploads(task)
                self._delete(task)
                self._tasks.mark_deleted(step.task_id)

    def _write(self, task: ExportTask, machine: Machine, disks: Sequence[Disk], pulse: Pulse) -> None:
        ranges = (find_granules(disk.extents(), CLUSTER_SIZE, disk.size) for disk in disks)
        data = sum(end - start for found in ranges for start, end in found)
        listener = Listener(self._recorder(task.id, max(data, 1), pulse), pulse.stop)
        expected = sum(disk.size for disk in disks) if task.format == "RAW" else data + data // 8
        target = self._store(task).upload(task.bucket, task.key, _UPLOAD_MEMORY, expected)
        try:
            if task.format == "OVA":
                write_ova(machine, disks, target, listener)
            else:
                write_disk(disks[0], EXPORT_FORMATS[task.format], target, listener)
        finally:
            target.abort()  # harmless once it is whole

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
    def _open_disks(self, task: ExportTask) -> Iterator[tuple[Machine, list[Disk]]]:
        """What is exported and its disks, the root's first. Raises ``NotFoundError`` where they were removed."""
        find = exported_image if task.instance_id is None else exported_instance
        machine, images = find(self._services, task)
        with ExitStack() as opened:
            disks = []
            for bucket, key in images:
                blob = self._services.images.open(bucket, key)
                opened.callback(blob.close)
                disks.append(open_disk(blob, FORMATS["qcow2"]))
            yield machine, disks

    def _abort_uploads(self, task: ExportTask) -> None:
        """Remove what earlier attempts have sent: nobody else uses a key with the task's id."""
        try:
            self._store(task).abort_uploads(task.bucket, task.key)
        except (AccessDeniedError, BlobNotFoundError) as error:  # EC2's role for exports has no right to list them
            structlog.get_logger("vmferry.tasks").warning("unfinished uploads stay", key=task.key, error=str(error))

    def _delete(self, task: ExportTask) -> None:
        """Remove the object that was whole when the task was cancelled."""
        try:
            self._services.objects(task.place).delete(task.bucket, task.key)
        except (AccessDeniedError, BlobNotFoundError) as error:  # it may be what the export failed for
            structlog.get_logger("vmferry.tasks").warning("the object stays", key=task.key, error=str(error))

    def _store(self, task: ExportTask) -> SupportsUpload:
        store = self._services.objects(task.place)
        if not isinstance(store, SupportsUpload):
            raise StoreError("The object store takes no uploads in parts: exports need S3.")
        return store

    def _pulse(self, task_id: str) -> Pulse:
        def say() -> None:
            self._tasks.wait(task_id, f"waiting for the object store: nothing has moved for {QUIET_SECONDS:.0f} s")

        return Pulse(self._services.config.stall_seconds, say)
