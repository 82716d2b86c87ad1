"""The steps of an import. Each may run again, in any worker: twice is the same as once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from temporalio import activity

from vmferry import own_tags
from vmferry.appliances import furthest
from vmferry.catalog.import_tasks import COMPLETED, CONVERSION, IMPORT_IMAGE, ImportFacts, ImportTask, Slice
from vmferry.catalog.snapshots import Snapshot
from vmferry.catalog.volumes import Volume
from vmferry.convert import digest_disk
from vmferry.digest import DigestTree
from vmferry.errors import ConflictError, StoreError, TaskCancelledError, UnsafeDiskError, quote
from vmferry.formats.qcow2.layout import Layout
from vmferry.formats.qcow2.writer import Qcow2Writer
from vmferry.guest import SpareLooker
from vmferry.receipt import load_key, sign
from vmferry.stores import ResumableBlobWriter, copy_blob
from vmferry.stores.local import SharedFileWriter
from vmferry.tasks import STEPS_AT_ONCE, Services
from vmferry.tasks._border import border
from vmferry.tasks._held import held_notes
from vmferry.tasks._pulse import QUIET_SECONDS, Pulse
from vmferry.tasks._steps import CleanUp
from vmferry.tasks.import_image import booting
from vmferry.tasks.import_image.conversion import Conversion, Way
from vmferry.tasks.import_image.facts import (
    find_facts,
    find_slices,
    new_image,
    pending_snapshots,
    receipt_facts,
    source_disk,
)
from vmferry.tasks.import_image.preflight import ready_to_look
from vmferry.tasks.import_image.preparing import changes_of, is_wanted, prepare_root
from vmferry.tasks.import_image.slice_notes import noted_digest
from vmferry.tasks.import_image.snapshot_source import is_there, take_over
from vmferry.tasks.import_image.source import OpenSources, Source, SourceDisk
from vmferry.tasks.import_image.stages import Stage
from vmferry.tasks.import_image.workflow import DiskStep, Plan, SliceStep
from vmferry.units import format_size

_SLICE_THREADS = 2
"""Threads of one slice: one decodes while the other waits for the store."""

_DISK_THREADS = 3
"""Threads of a disk that is converted in order: some wait for the store while others decode. More would take more
memory than a worker may."""

_TURN_SECONDS = 2.0
"""How long a step goes on with slices of one disk before it lets other tasks have their turn."""


class ImportImageActivities:
    """The steps, bound to what they work with. Thread-safe: a worker runs several at once."""

    def __init__(self, services: Services, spare: SpareLooker | None = None) -> None:
        """``spare`` looks into the guests; else a looker is started for each."""
        self._services = services
        self._spare = spare
        self._tasks = services.catalog.import_tasks
        self._conversions = services.catalog.conversion_tasks
        self._sources = OpenSources(services)

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every step, for a worker to register."""
        return [
            self.validate,
            self.convert_slice,
            self.convert_disk,
            self.update,
            self.boot,
            self.register,
            self.clean_up,
        ]

    @activity.defn(no_thread_cancel_exception=True)
    def validate(self, task_id: str) -> Plan:
        """Check everything that metadata can tell, before a byte is copied; plan the slices, begin the snapshots."""
        task = self._tasks.get(task_id)
        declared = task.request.containers[0].format or "disk image"
        with border(self._services, task_id, declared), self._pulse(task_id) as pulse:
            self._tasks.advance(task_id, Stage.VALIDATING.message, Stage.VALIDATING.first)
            with ready_to_look(task, self._spare) as looker, self._sources.borrow(task) as source:
                config = self._services.config
                facts = find_facts(task, source, config.limits, config.preflight, looker)
                # First what the source is: a second run then reads the same bytes and keeps the same ids.
                self._tasks.advance(task_id, Stage.VALIDATING.message, Stage.VALIDATING.last, facts)
                facts = self._prepare(task, facts, source, pulse)
            task = self._tasks.get(task_id)
            with self._sources.borrow(task) as source:
                slices = find_slices(source, facts)
                self._check_room(sum(piece.data for piece in slices))
                self._tasks.plan(task_id, slices)
                for snapshot, found in zip(pending_snapshots(task, facts), facts.disks, strict=True):
                    self._services.catalog.snapshots.begin(snapshot)
                    if (named := source_disk(source, found).snapshot) is not None:
                        take_over(self._services.images, named, snapshot)
                self._tasks.advance(task_id, Stage.VALIDATED.message, Stage.VALIDATED.first)
                verified = [i for i, found in enumerate(facts.disks) if source_disk(source, found).digest is not None]
            pieces = [piece for piece in self._tasks.slices(task_id) if piece.disk not in verified]
            steps = [SliceStep(task_id, p.disk, p.number, p.start, p.end) for p in pieces]
            at_once = self._services.config.workers * STEPS_AT_ONCE
            boots = task.kind == IMPORT_IMAGE and booting.is_wanted(self._services, task)
            return Plan(task_id, task.place.account_id, at_once, steps, verified, boots)

    @activity.defn(no_thread_cancel_exception=True)
    def convert_slice(self, step: SliceStep) -> None:
        """Convert one slice into the disk image that lies ready for it; the image stays unfinished."""
        task = self._tasks.get(step.task_id)
        with border(self._services, task.id, task.facts.disks[step.disk].format), self._pulse(task.id) as pulse:
            self._tasks.advance(task.id, Stage.CONVERTING.message, Stage.CONVERTING.first)
            with self._sources.borrow(task) as source:
                opened = source_disk(source, task.facts.disks[step.disk])
                way = Way(opened.disk, source.layout(opened), _SLICE_THREADS, source.read)
                piece = self._tasks.slice(task.id, step.disk, step.number)
                with held_notes(self._notes(task.id), f"{step.disk}-{step.number}") as notes:
                    self._convert(task, [piece], way, pulse, notes=notes)

    @activity.defn(no_thread_cancel_exception=True)
    def convert_disk(self, step: DiskStep) -> bool:
        """Convert a disk, slice after slice, with its image's tables; check its file against the manifest's digest.

        Both take the same reads. After some time other tasks, if there are any, have their turn; whether there is more
        to do. How far the digest is is kept with each slice, and noted in between, so any worker goes on.
        """
        task = self._tasks.get(step.task_id)
        with border(self._services, task.id, "OVA"), self._pulse(task.id) as pulse:
            self._tasks.advance(task.id, Stage.CONVERTING.message, Stage.CONVERTING.first)
            folder = self._notes(task.id)
            with self._sources.borrow(task) as source, held_notes(folder, str(step.disk)) as notes:
                opened = source_disk(source, task.facts.disks[step.disk])
                states = self._tasks.file_digest(task.id, step.disk), noted_digest(folder, step.disk)
                disk, file = opened.reopen_hashed(furthest(*states))
                way = Way(disk, source.layout(opened), _DISK_THREADS, source.read, file)
                left = self._tasks.unconverted(task.id, step.disk)
                if left and not self._convert(task, left, way, pulse, self._begin_turn(), notes):
                    return True
                file.finish(partial(_go_on, pulse))
                self._write_tables(task, step.disk, way.layout)  # another worker would have to open the source for that
        return False

    @activity.defn(no_thread_cancel_exception=True)
    def update(self, task_id: str) -> None:
        """See to it that the image of every disk is whole, and record its guest digest."""
        with border(self._services, task_id), self._pulse(task_id, "the disk") as pulse:
            self._tasks.advance(task_id, Stage.UPDATING.message, Stage.UPDATING.first)
            task = self._tasks.get(task_id)
            for index in range(len(task.facts.disks)):
                self._tasks.complete_disk(task_id, index, self._complete_image(task, index, pulse))
                pulse.moved()
            shutil.rmtree(self._notes(task_id), ignore_errors=True)
            self._tasks.advance(task_id, Stage.UPDATED.message, Stage.UPDATED.first)

    @activity.defn(no_thread_cancel_exception=True)
    def boot(self, task_id: str) -> None:
        """Start the machine on a throw-away overlay of its disks, and see that it shows a login."""
        with border(self._services, task_id), self._pulse(task_id, "the machine") as pulse:
            self._tasks.advance(task_id, Stage.PREPARING_TO_BOOT.message, Stage.PREPARING_TO_BOOT.first)
            task = self._tasks.get(task_id)
            self._tasks.advance(task_id, Stage.BOOTING.message, Stage.BOOTING.first)
            booting.start_machine(self._services, task, partial(_go_on, pulse, 0))
            self._tasks.advance(task_id, Stage.BOOTED.message, Stage.BOOTED.first)

    @activity.defn(no_thread_cancel_exception=True)
    def register(self, task_id: str) -> str | None:
        """Let what was made appear, together with the end of the task: snapshots, and the AMI where one is wanted."""
        with border(self._services, task_id), self._pulse(task_id, "the catalog"):
            task = self._tasks.get(task_id)
            if task.status != COMPLETED:
                self._tasks.advance(task_id, Stage.PREPARING_AMI.message, Stage.PREPARING_AMI.first)
            if task.kind == CONVERSION:
                self._make_volumes(task)
                return None
            image = new_image(task) if task.kind == IMPORT_IMAGE else None
            receipt = sign(receipt_facts(task, image), load_key(self._services.config.receipt_key_path))
            image_id = self._tasks.complete(task_id, image, receipt)
            self._drop_changes(task)
            self._sources.forget(task_id)
            return image_id

    @activity.defn(no_thread_cancel_exception=True)
    def clean_up(self, step: CleanUp) -> None:
        """Remove everything that the task has made but its record, which keeps the reason."""
        with border(self._services, step.task_id):
            self._tasks.fail(step.task_id, step.reason)
            self._sources.forget(step.task_id)
            shutil.rmtree(self._notes(step.task_id), ignore_errors=True)
            self._drop_changes(self._tasks.get(step.task_id))
            if self._tasks.get(step.task_id).status == COMPLETED:
                return  # what it has made is the user's
            for snapshot in self._services.catalog.snapshots.of_task(step.task_id):
                self._services.images.resume(snapshot.bucket, snapshot.key).abort()
                self._services.images.delete(snapshot.bucket, snapshot.key)
                self._services.catalog.snapshots.discard(snapshot.id)
            for volume in self._conversions.discard_results(step.task_id):
                self._services.images.delete(volume.bucket, volume.key)
            self._tasks.mark_deleted(step.task_id)

    def _prepare(self, task: ImportTask, facts: ImportFacts, source: Source, pulse: Pulse) -> ImportFacts:
        """Prepare the guest where that is wanted; what was done is recorded."""
        root = source_disk(source, facts.disks[0])
        if facts.changes:
            return facts
        if task.kind != IMPORT_IMAGE or root.snapshot is not None or not is_wanted(self._services, task):
            return facts
        facts = prepare_root(self._services, task, facts, root.disk, partial(_go_on, pulse, 0))
        if booting.is_declined(self._services, replace(task, facts=facts)):
            facts = replace(facts, notes=(*facts.notes, booting.UNKNOWN))
        with suppress(ConflictError):  # it has as many tags as one may have
            self._services.catalog.tags.put(task.place, [task.id], {own_tags.PREPARED: str(facts.prepared)})
        self._tasks.advance(task.id, Stage.VALIDATING.message, Stage.VALIDATING.last, facts)
        return facts

    def _drop_changes(self, task: ImportTask) -> None:
        """Remove the changes to the guest: they are in the image, or nobody wants them any more."""
        for disk in task.facts.disks[:1]:
            kept = changes_of(self._services, task, disk)
            self._services.images.delete(kept.bucket, kept.key)

    def _make_volumes(self, task: ImportTask) -> None:
        """The end of a conversion: each disk's image goes from its snapshot to its volume, which then appears."""
        snapshots = {snapshot.id: snapshot for snapshot in pending_snapshots(task, task.facts)}
        if task.status != COMPLETED:
            for disk in task.facts.disks:
                snapshot = snapshots[disk.snapshot_id]
                volume = self._volume(task.request.containers[disk.container].volume_id)
                # What an earlier attempt has made is whole, and may be in use: this one may have been frozen meanwhile.
                if not is_there(self._services.images, volume):
                    copy_blob(self._services.images, snapshot.bucket, snapshot.key, volume.bucket, volume.key)
            receipt = sign(receipt_facts(task, None), load_key(self._services.config.receipt_key_path))
            self._conversions.complete(task.id, receipt)
        self._sources.forget(task.id)
        for snapshot in snapshots.values():
            self._services.images.delete(snapshot.bucket, snapshot.key)

    def _convert(
        self,
        task: ImportTask,
        slices: Sequence[Slice],
        way: Way,
        pulse: Pulse,
        is_over: Callable[[], bool] = lambda: False,
        notes: Path | None = None,
    ) -> bool:
        """Copy slices of a disk to their place in its unfinished image; see ``Conversion.run``."""
        with self._unfinished_image(task, slices[0].disk) as target:
            try:
                return Conversion(self._tasks, task.id, slices, way, pulse).run(target, is_over, notes)
            except TaskCancelledError:
                pulse.raise_if_stopped()
                raise

    def _complete_image(self, task: ImportTask, index: int, pulse: Pulse) -> str | None:
        """Let the image of a disk appear, unless who converted it has done so; its guest digest, where it is known."""
        found = task.facts.disks[index]
        is_converted = task.request.containers[found.container].snapshot_id is None
        if is_converted and is_there(self._services.images, self._snapshot(found.snapshot_id)):
            return self._digest(task, index)
        with self._sources.borrow(task) as source:
            opened = source_disk(source, found)
            if not is_converted:
                return found.digest or self._digest_whole(opened, pulse)
            self._write_tables(task, index, source.layout(opened))
            return self._digest(task, index)

    def _write_tables(self, task: ImportTask, index: int, layout: Layout) -> None:
        """Write the tables of a disk's image, all of which is converted: it appears whole."""
        with self._unfinished_image(task, index) as target:
            Qcow2Writer(target, layout).finish()

    def _notes(self, task_id: str) -> Path:
        """Where it is kept how far slices are that workers have in hand."""
        return self._services.config.slices_dir / task_id

    def _begin_turn(self) -> Callable[[], bool]:
        """Whether the turn that begins now is over; it takes a tenth of a second to hand over to another step."""
        ends_at = time.monotonic() + _TURN_SECONDS
        catalog = self._services.catalog
        kinds = (catalog.import_tasks, catalog.export_tasks, catalog.snapshot_uploads)
        return lambda: time.monotonic() > ends_at and sum(len(tasks.unfinished()) for tasks in kinds) > 1

    def _digest(self, task: ImportTask, disk: int) -> str | None:
        """The guest digest of a disk, put together from its slices'; ``None`` where one is not known any more."""
        tree = DigestTree(task.facts.disks[disk].size)
        for nodes in self._tasks.digests(task.id, disk):
            if nodes is None:
                return None
            tree.merge(nodes)
        return tree.finish()

    def _digest_whole(self, opened: SourceDisk, pulse: Pulse) -> str:
        """The guest digest of a disk that was taken over from a snapshot of which it is not known."""
        return digest_disk(opened.disk, workers=_SLICE_THREADS, progress=partial(_go_on, pulse))

    def _pulse(self, task_id: str, awaited: str = "the object store") -> Pulse:
        """Signs of life of a step; where it does not move, the task says that it waits for ``awaited``."""

        def say() -> None:
            self._tasks.wait(task_id, f"waiting for {awaited}: nothing has moved for {QUIET_SECONDS:.0f} s")

        return Pulse(self._services.config.stall_seconds, say)

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self._services.config.images_dir).free
        if needed > free:
            raise StoreError(
                f"The disks hold {format_size(needed)} of data, but {quote(self._services.config.images_dir)} has "
                f"{format_size(free)} free: make room on its file system and import again."
            )

    def _snapshot(self, snapshot_id: str) -> Snapshot:
        snapshot = self._services.catalog.snapshots.find(snapshot_id)
        if snapshot is None:
            raise UnsafeDiskError(f"The snapshot {snapshot_id} was removed while its image was made.")
        return snapshot

    def _volume(self, volume_id: str | None) -> Volume:
        volume = None if volume_id is None else self._services.catalog.volumes.find(volume_id)
        if volume is None:
            raise UnsafeDiskError(f"The volume {volume_id} was removed while its image was made.")
        return volume

    @contextmanager
    def _unfinished_image(self, task: ImportTask, disk: int) -> Iterator[ResumableBlobWriter]:
        """The unfinished disk image of a disk; whatever happens, this process lets go of it in the end."""
        snapshot = self._snapshot(task.facts.disks[disk].snapshot_id)
        target: ResumableBlobWriter = self._services.images.resume(snapshot.bucket, snapshot.key)
        try:
            self._check_same(task, disk, target)
            yield target
        finally:
            target.detach()

    def _check_same(self, task: ImportTask, disk: int, target: ResumableBlobWriter) -> None:
        """Raise ``StoreError`` where ``target`` was begun just now, though slices of it were converted: they would be
        holes, and nobody would know."""

        def is_new() -> bool:
            return isinstance(target, SharedFileWriter) and not target.size

        # What it holds is asked once more behind the slices: one may have been converted meanwhile.
        if is_new() and any(self._tasks.digests(task.id, disk)) and is_new():
            snapshot_id = task.facts.disks[disk].snapshot_id
            raise StoreError(f"The unfinished image of {snapshot_id} was removed while it was made: import again.")


def _go_on(pulse: Pulse, _: int) -> None:
    """A step got further, by any number of bytes; it ends here when it was told to."""
    pulse.moved()
    pulse.raise_if_stopped()
