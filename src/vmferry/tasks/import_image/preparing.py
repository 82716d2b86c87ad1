"""A guest is prepared before it is converted: on an overlay of its root disk, whose changes lie beside the images.

So whichever worker converts a slice sees the same prepared disk, and nothing is copied twice; the source is never
written to. The changes are removed once the task has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vmferry.catalog.import_tasks import ImportChange, ImportedDisk, ImportFacts, ImportTask
from vmferry.disk import Disk
from vmferry.errors import GuestError
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.overlay_file import apply_changes, save_changes
from vmferry.guest.preparation import Preparation
from vmferry.guest.prepare import prepare_linux
from vmferry.stores.local import LocalStore
from vmferry.tasks import Services

PREPARE_TAG = "vmferry:prepare"
"""The tag of a request by which it chooses for itself: ``auto`` or ``none``."""
AUTO = "auto"
_DRIVERS = ("virtio",)


@dataclass(frozen=True, slots=True)
class Changes:
    """Where the changes to a disk are kept."""

    images: LocalStore
    bucket: str
    key: str

    def apply_to(self, disk: Disk) -> Disk:
        """``disk`` as it is once prepared. Raises ``StoreError``, ``CorruptDiskError``, ``DifferentError``."""
        overlay = OverlayDisk(disk)
        blob = self.images.open(self.bucket, self.key)
        try:
            apply_changes(overlay, blob)
        finally:
            blob.close()
        return overlay


def changes_of(services: Services, task: ImportTask, found: ImportedDisk) -> Changes:
    """Where the changes to the disk ``found`` of ``task`` are, or will be."""
    return Changes(services.images, task.place.region, f"{task.place.account_id}/{found.snapshot_id}.changes")


def is_wanted(services: Services, task: ImportTask) -> bool:
    """Whether the guest of ``task`` is to be prepared: as the request says, or the configuration where it does not."""
    asked = services.catalog.tags.of([task.id]).get(task.id, {}).get(PREPARE_TAG)
    return (asked or services.config.prepare).lower() == AUTO


def prepare_root(services: Services, task: ImportTask, facts: ImportFacts, disk: Disk) -> ImportFacts:
    """Prepare the root ``disk`` of ``task``, and keep the changes; the facts with what was done, or why nothing was.

    Twice is as once: the same source, and the same time of its files. A guest that cannot be prepared is imported as
    it is, with a note. Raises ``StoreError`` and ``FormatError`` of reading.
    """
    root = facts.disks[0]
    overlay = OverlayDisk(disk)
    try:
        done = prepare_linux(overlay, _DRIVERS, int(task.created_at.timestamp()))
    except GuestError as error:
        return replace(facts, notes=(*facts.notes, f"The guest is not prepared: {error}"))
    facts = replace(facts, notes=(*facts.notes, *done.notes))
    if not done.changes:
        return facts
    kept = changes_of(services, task, root)
    writer = services.images.create(kept.bucket, kept.key)
    try:
        save_changes(overlay, writer)
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    return replace(facts, changes=_recorded(done))


def _recorded(done: Preparation) -> tuple[ImportChange, ...]:
    return tuple(ImportChange(one.path, one.what, one.before, one.after, one.why, one.kept_as) for one in done.changes)
