"""Conversions: import tasks that make volumes, and perhaps an instance that they hang on.

ImportInstance and ImportVolume begin them. They stand in the table of import tasks, and go the same way; what is their
own is what they leave.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmferry.catalog._outbox import COMPLETED, Outbox, check_active, check_quota
from vmferry.catalog._schema import ImportTaskRow, InstanceRow, SnapshotRow, VolumeRow
from vmferry.catalog.import_tasks import CONVERSION, ImportTask, import_task_of, import_task_row
from vmferry.catalog.instances import STOPPED, Instance, instance_row
from vmferry.catalog.snapshots import remove_snapshot
from vmferry.catalog.tags import drop_tags
from vmferry.catalog.volumes import Volume, add_volume, remove_volume, settle_volume


class ConversionTasks(Outbox[ImportTaskRow]):
    """The conversions of every region and account."""

    row = ImportTaskRow
    noun = "import"
    ended_code = "DeleteConversionTaskError"

    def add(self, task: ImportTask, volumes: Sequence[Volume], instance: Instance | None, most: int) -> None:
        """Record a conversion together with the volumes that it makes, and the instance, if it makes one.

        Raises ``ConflictError`` where the account has ``most`` in the region already that have not ended.
        """
        noun = "import volume" if instance is None else "import instance"
        with self._database.write() as session:
            check_quota(session, ImportTaskRow, task.place, most, noun, ImportTaskRow.kind == CONVERSION)
            session.add(import_task_row(task))
            if instance is not None:
                session.add(instance_row(instance))
            session.flush()
            for volume in volumes:
                add_volume(session, volume, {})

    def complete(self, task_id: str, receipt: str) -> None:
        """Complete a conversion: its volumes appear and hang on the instance, which is stopped; the snapshots that they
        were made of go. All or nothing; a task that is complete stays as it is.

        Raises ``TaskCancelledError`` when it was cancelled.
        """
        with self._database.write() as session:
            row = self._get(session, task_id)
            if row.status == COMPLETED:
                return
            check_active(row)
            task = import_task_of(row)
            instance = None if task.request.instance_id is None else session.get(InstanceRow, task.request.instance_id)
            if instance is not None:
                instance.state, instance.state_reason = STOPPED, None
                instance.root_device_name = task.facts.disks[0].device_name
                instance.boot_mode = task.facts.boot_mode or instance.boot_mode
            for disk in task.facts.disks:
                volume = session.get_one(VolumeRow, task.request.containers[disk.container].volume_id)
                settle_volume(volume, None if instance is None else instance.id, disk.device_name)
                snapshot = session.get(SnapshotRow, disk.snapshot_id)
                if snapshot is not None:
                    remove_snapshot(session, snapshot)
            row.status, row.progress, row.receipt = COMPLETED, 100, receipt
            row.waiting_for = row.waiting_since = None

    def discard_results(self, task_id: str) -> list[Volume]:
        """Forget what a conversion that failed was to make; its volumes, whose images are the caller's to delete."""
        with self._database.write() as session:
            task = import_task_of(self._get(session, task_id))
            ids = [one.volume_id for one in task.request.containers if one.volume_id is not None]
            rows = [row for volume_id in ids if (row := session.get(VolumeRow, volume_id)) is not None]
            gone = [remove_volume(session, row) for row in rows]
            session.flush()
            instance = None if task.request.instance_id is None else session.get(InstanceRow, task.request.instance_id)
            if instance is not None:
                drop_tags(session, instance.id)
                session.delete(instance)
            return gone
