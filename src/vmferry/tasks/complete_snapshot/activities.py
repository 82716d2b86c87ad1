"""The steps. Each may run again, in any worker: twice is the same as once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from temporalio import activity

from vmferry.catalog.snapshot_uploads import ACTIVE, COMPLETED, SnapshotUpload
from vmferry.convert import digest_disk
from vmferry.errors import ConflictError, NotFoundError, StoreUnavailableError, TaskCancelledError
from vmferry.formats import FORMATS, open_disk
from vmferry.snapshot_blocks import open_blocks, remove_blocks
from vmferry.tasks import Services
from vmferry.tasks._border import border
from vmferry.tasks._held import held_notes
from vmferry.tasks._pulse import QUIET_SECONDS, Pulse
from vmferry.tasks._steps import CleanUp

_DIGEST_THREADS = 2


class CompleteSnapshotActivities:
    """The steps, bound to what they work with. Thread-safe: a worker runs several at once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._uploads = services.catalog.snapshot_uploads
        self._images = services.images

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every step, for a worker to register."""
        return [self.find_snapshot_owner, self.make_snapshot, self.end_snapshot]

    @activity.defn(no_thread_cancel_exception=True)
    def find_snapshot_owner(self, snapshot_id: str) -> str:
        """The account, whose turn it is."""
        with border(self._services, snapshot_id, tasks=self._uploads):
            return self._get(snapshot_id).place.account_id

    @activity.defn(no_thread_cancel_exception=True)
    def make_snapshot(self, snapshot_id: str) -> None:
        """Check what was put, fill up from the parent, let the image appear, and complete the snapshot."""
        with border(self._services, snapshot_id, tasks=self._uploads), self._pulse(snapshot_id) as pulse:
            with self._alone(snapshot_id):
                self._make(self._get(snapshot_id), pulse)
            shutil.rmtree(self._notes(snapshot_id), ignore_errors=True)

    @activity.defn(no_thread_cancel_exception=True)
    def end_snapshot(self, step: CleanUp) -> None:
        """Remove every file of a snapshot that did not complete; it is in error, unless it was deleted."""
        with border(self._services, step.task_id, tasks=self._uploads):
            upload = self._get(step.task_id)
            if upload.status != COMPLETED:
                remove_blocks(self._images, upload, image=True)
                self._uploads.end(step.task_id, step.reason)
            shutil.rmtree(self._notes(step.task_id), ignore_errors=True)

    @contextmanager
    def _alone(self, snapshot_id: str) -> Iterator[None]:
        """Hold the snapshot against other steps. One that was frozen would empty, when it wakes, blocks that another
        has filled from the parent meanwhile. Raises ``StoreUnavailableError`` where such a one has it."""
        with held_notes(self._notes(snapshot_id), "image") as notes:
            if notes is None:
                raise StoreUnavailableError(
                    f"A worker that shows no life has {snapshot_id} in hand: it goes on with it, or end it."
                )
            yield

    def _notes(self, snapshot_id: str) -> Path:
        return self._services.config.slices_dir / snapshot_id

    def _make(self, upload: SnapshotUpload, pulse: Pulse) -> None:
        if upload.status == ACTIVE:
            try:
                self._make_image(upload, pulse)
            except ConflictError as error:  # what the client has put cannot be completed, and never will
                remove_blocks(self._images, upload, image=True)
                self._uploads.end(upload.id, str(error))
                return
            self._uploads.complete(upload.id, self._digest(upload, pulse))
        elif upload.status != COMPLETED:
            raise TaskCancelledError("The snapshot was deleted.")
        remove_blocks(self._images, upload, image=False)

    def _make_image(self, upload: SnapshotUpload, pulse: Pulse) -> None:
        def go() -> None:
            pulse.moved()
            pulse.raise_if_stopped()

        with open_blocks(self._images, upload) as blocks:
            if blocks.is_finished:
                return
            blocks.check(go)
            blocks.inherit(go)
            blocks.finish()
            pulse.moved()

    def _digest(self, upload: SnapshotUpload, pulse: Pulse) -> str:
        disk = open_disk(self._images.open(upload.bucket, upload.key), FORMATS["qcow2"])

        def read(_: int) -> None:
            pulse.moved()
            pulse.raise_if_stopped()

        try:
            return digest_disk(disk, workers=_DIGEST_THREADS, progress=read)
        finally:
            disk.close()

    def _get(self, snapshot_id: str) -> SnapshotUpload:
        upload = self._uploads.find(snapshot_id)
        if upload is None:
            raise NotFoundError(f"The snapshot '{snapshot_id}' does not exist.", resource_id=snapshot_id)
        return upload

    def _pulse(self, snapshot_id: str) -> Pulse:
        def say() -> None:
            self._uploads.wait(snapshot_id, f"waiting for the disk: nothing has moved for {QUIET_SECONDS:.0f} s")

        return Pulse(self._services.config.stall_seconds, say)
