"""The steps of an export. Each may run again, in any worker: twice is the same as once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from vmferry.catalog.export_tasks import COMPLETED, ExportTask
from vmferry.convert import count_granules
from vmferry.disk import Disk
from vmferry.errors import AccessDeniedError, BlobNotFoundError, StoreError, TaskCancelledError
from vmferry.formats import FORMATS, open_disk
from vmferry.formats.qcow2.layout import CLUSTER_SIZE
from vmferry.machine import Machine
from vmferry.tasks import STEPS_AT_ONCE, Services
from vmferry.tasks._border import border
from vmferry.tasks._pulse import QUIET_SECONDS, Pulse
from vmferry.tasks._steps import CleanUp
from vmferry.tasks.export_image.exported import exported_image, exported_instance
from vmferry.tasks.export_image.formats import EXPORT_FORMATS
from vmferry.tasks.export_image.listener import Listener, Recorder
from vmferry.tasks.export_image.packer import Ends, new_packer
from vmferry.tasks.export_image.plan import (
    ExportPlan,
    PlanLostError,
    load_plan,
    make_folder,
    plan_export,
    with_upload,
)
from vmferry.tasks.export_image.sliced_object import SlicedObject
from vmferry.tasks.export_image.slices import open_slices
from vmferry.tasks.export_image.unfinished import UPLOAD_MEMORY, abort_uploads, discard, find_folder, find_store
from vmferry.tasks.export_image.workflow import BEGINS_ANEW, ExportStep, Work
from vmferry.tasks.export_image.writing import write_ova

_VALIDATING, _CONVERTING = "validating", "converting"
_CONVERTING_FIRST, _CONVERTING_LAST = 21, 95


class ExportImageActivities:
    """The steps, bound to what they work with. Thread-safe: a worker runs several at once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tasks = services.catalog.export_tasks

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every step, for a worker to register."""
        return [self.begin_export, self.write_slice, self.finish_export, self.write_export, self.end_export]

    @activity.defn(no_thread_cancel_exception=True)
    def begin_export(self, task_id: str) -> Work:
        """Whether the object may be written: known before the work, not after it. What there is to do."""
        task = self._tasks.get(task_id)
        with border(self._services, task_id, tasks=self._tasks), self._pulse(task_id):
            self._tasks.advance(task_id, _VALIDATING, 1)
            account, at_once = task.place.account_id, self._services.config.workers * STEPS_AT_ONCE
            if task.format == "OVA":
                find_store(self._services, task).check_upload(task.bucket, task.key)
                return Work(account, at_once, "", 0)
            plan = self._plan(task)
            return Work(account, at_once, plan.token, len(plan.slices))

    @activity.defn(no_thread_cancel_exception=True)
    def write_slice(self, step: ExportStep) -> None:
        """Pack one slice of an object's disk, and send the parts that can be sent by then."""
        task = self._tasks.get(step.task_id)
        with border(self._services, task.id, tasks=self._tasks), self._pulse(task.id) as pulse:
            self._tasks.advance(task.id, _CONVERTING, _CONVERTING_FIRST)
            with self._open_object(task, step, pulse) as target:
                target.write_slice(step.number)

    @activity.defn(no_thread_cancel_exception=True)
    def finish_export(self, step: ExportStep) -> None:
        """Send what stands before and behind the slices, let the object appear, and complete the task."""
        task = self._tasks.get(step.task_id)
        with border(self._services, task.id, tasks=self._tasks), self._pulse(task.id) as pulse:
            if task.status != COMPLETED:
                self._tasks.advance(task.id, _CONVERTING, _CONVERTING_FIRST)
                with self._open_object(task, step, pulse) as target:
                    target.finish(partial(self._is_there, task))
                self._tasks.complete(task.id)
            shutil.rmtree(find_folder(self._services, task.id), ignore_errors=True)

    @activity.defn(no_thread_cancel_exception=True)
    def write_export(self, task_id: str) -> None:
        """Write an OVA, and complete the task. What an earlier attempt has sent is removed."""
        task = self._tasks.get(task_id)
        with border(self._services, task_id, tasks=self._tasks), self._pulse(task_id) as pulse:
            if task.status == COMPLETED:
                return
            self._tasks.advance(task_id, _CONVERTING, _CONVERTING_FIRST)
            with self._open_disks(task) as (machine, disks, _), _stopping(pulse):
                self._write_ova(task, machine, disks, pulse)
            self._tasks.complete(task_id)

    @activity.defn(no_thread_cancel_exception=True)
    def end_export(self, step: CleanUp) -> None:
        """Remove what was sent, the object too, if it was whole when the task was cancelled; of the task its record
        stays, with the reason."""
        with border(self._services, step.task_id, tasks=self._tasks), self._pulse(step.task_id):
            self._tasks.fail(step.task_id, step.reason)
            task = self._tasks.get(step.task_id)
            if task.status != COMPLETED:
                discard(self._services, task)
                self._delete(task)
                self._tasks.mark_deleted(step.task_id)

    def _plan(self, task: ExportTask) -> ExportPlan:
        """The plan of ``task``: the one that there is, unless the disk was changed since, or a new one."""
        folder = find_folder(self._services, task.id)
        known = load_plan(folder)
        with self._open_disks(task) as (_, (disk, *_), (identity, *_)):
            if known is not None and known.identity == identity:
                return known
            packer = new_packer(EXPORT_FORMATS[task.format], Ends(0, 0), disk)
            plan = plan_export(disk, identity, packer)
        discard(self._services, task)
        target = find_store(self._services, task).upload_in_parts(task.bucket, task.key)
        plan = with_upload(plan, target.begin())
        make_folder(folder / plan.token)
        plan.save(folder)
        return plan

    @contextmanager
    def _open_object(self, task: ExportTask, step: ExportStep, pulse: Pulse) -> Iterator[SlicedObject]:
        """The object of ``task``, by the plan of ``step``. What shows within that the plan is good for nothing any
        more becomes the failure that has the export begin anew."""
        folder = find_folder(self._services, task.id)
        plan = load_plan(folder)
        if plan is None or plan.token != step.token:
            raise _begins_anew("What was done of the export was removed.")
        recorder = Recorder(sum(piece.data for piece in plan.slices), partial(self._record, task.id), pulse.moved)
        listener = Listener(recorder, pulse.stop)
        target = find_store(self._services, task).upload_in_parts(task.bucket, task.key)
        with self._open_disks(task) as (_, (disk, *_), (identity, *_)), _stopping(pulse):
            try:
                if identity != plan.identity:
                    raise PlanLostError("The disk was changed after its export had begun: that begins anew.")
                own = folder / plan.token
                slices = open_slices(own, plan, disk, EXPORT_FORMATS[task.format], listener)
                made = SlicedObject(plan, own, slices, target, listener)
                recorder.others = partial(made.done, step.number)
                yield made
            except (StoreError, OSError) as error:
                if not isinstance(error, PlanLostError) and not _is_gone(error) and load_plan(folder) == plan:
                    raise
                if load_plan(folder) == plan:
                    discard(self._services, task)
                raise _begins_anew(str(error)) from error

    def _is_there(self, task: ExportTask, size: int) -> bool:
        """Whether the object stands where it shall: nobody else uses a key with the task's id."""
        try:
            found = self._services.objects(task.place).open(task.bucket, task.key)
        except (AccessDeniedError, BlobNotFoundError):
            return False
        found.close()
        return found.size == size

    def _write_ova(self, task: ExportTask, machine: Machine, disks: Sequence[Disk], pulse: Pulse) -> None:
        data = sum(count_granules(disk, CLUSTER_SIZE) for disk in disks)
        listener = Listener(Recorder(data, partial(self._record, task.id), pulse.moved), pulse.stop)
        abort_uploads(self._services, task)
        store = find_store(self._services, task)
        target = store.upload(task.bucket, task.key, UPLOAD_MEMORY, data + data // 8)
        try:
            write_ova(machine, disks, target, listener)
        finally:
            target.abort()  # harmless once it is whole

    def _record(self, task_id: str, share: float) -> None:
        """Write to the catalog that ``share`` of the copying is done."""
        self._tasks.advance(
            task_id, _CONVERTING, _CONVERTING_FIRST + int((_CONVERTING_LAST - _CONVERTING_FIRST) * share)
        )

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


@contextmanager
def _stopping(pulse: Pulse) -> Iterator[None]:
    """A step that was told to end says so in the words of the workflow server."""
    try:
        yield
    except TaskCancelledError:
        pulse.raise_if_stopped()
        raise


def _is_gone(error: StoreError | OSError) -> bool:
    """Whether the upload is none any more."""
    return isinstance(error, StoreError) and error.facts.get("code") == "NoSuchUpload"


def _begins_anew(reason: str) -> ApplicationError:
    return ApplicationError(reason, type=BEGINS_ANEW, non_retryable=True)
