"""Disks that lie in snapshots already: opened where they lie, and taken over into the image's own without a copy."""

from __future__ import annotations

from dataclasses import replace

from vmferry.catalog.import_tasks import ImportTask
from vmferry.catalog.snapshots import Snapshot
from vmferry.catalog.volumes import Volume
from vmferry.errors import BlobNotFoundError, NotFoundError
from vmferry.stores import copy_blob
from vmferry.stores.local import LocalBlob, LocalStore
from vmferry.tasks import Services


def open_snapshot(services: Services, task: ImportTask, index: int) -> tuple[LocalBlob, Snapshot]:
    """The disk image of a container's snapshot, and the snapshot: the task's own as soon as it has taken it over.

    From then on the one that was named may be deleted. Raises ``BlobNotFoundError`` where it was before that.
    """
    found = next((disk for disk in task.facts.disks if disk.container == index), None)
    own = None if found is None else services.catalog.snapshots.find(found.snapshot_id)
    if found is not None and own is not None and is_there(services.images, own):
        return services.images.open(own.bucket, own.key), replace(own, digest=found.digest)
    named = _find_named(services, task, task.request.containers[index].snapshot_id or "")
    return services.images.open(named.bucket, named.key), named


def take_over(images: LocalStore, source: Snapshot, target: Snapshot) -> None:
    """Let the disk image of ``source`` stand as that of ``target``, too; a second time changes nothing.

    Raises ``BlobNotFoundError`` for a source that is gone, ``StoreError``.
    """
    if not is_there(images, target):
        copy_blob(images, source.bucket, source.key, target.bucket, target.key)


def is_there(images: LocalStore, made: Snapshot | Volume) -> bool:
    """Whether the disk image of ``made`` is whole."""
    try:
        images.locate(made.bucket, made.key)
    except BlobNotFoundError:
        return False
    return True


def _find_named(services: Services, task: ImportTask, snapshot_id: str) -> Snapshot:
    try:
        (named,) = services.catalog.snapshots.describe(task.place, [snapshot_id], shared=True)
    except NotFoundError as error:  # it was there when the import was asked for
        raise BlobNotFoundError(
            f"The snapshot {snapshot_id} was deleted, or is no longer shared with this account: name another one."
        ) from error
    return named
