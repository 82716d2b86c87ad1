"""A guest is prepared before it is converted: on an overlay of its root disk, whose changes lie beside the images.

By our own means, or else by virt-v2v where that is installed; what that did is started before there is an AMI of it.
So whichever worker converts a slice sees the same prepared disk, and nothing is copied twice; the source is never
written to. The changes are removed once the task has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vmferry import own_tags
from vmferry.catalog.import_tasks import ImportChange, ImportedDisk, ImportFacts, ImportTask
from vmferry.disk import Disk
from vmferry.errors import GuestError, quote
from vmferry.guest import find_boot_facts, look
from vmferry.guest.evidence import DiskEvidence, Evidence
from vmferry.guest.guestfish import SECONDS, Guestfish
from vmferry.guest.hardware import choose_hardware
from vmferry.guest.linux.network_settings import KEEP
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.overlay_file import apply_changes, save_changes
from vmferry.guest.preparation import CHANGED, Preparation, Wishes
from vmferry.limits import MAX_FIRSTBOOT
from vmferry.stores.local import LocalStore
from vmferry.tasks import Services
from vmferry.tasks.import_image.choices import choice, is_chosen
from vmferry.units import format_size

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
    return is_chosen(services, task, own_tags.PREPARE, services.config.prepare)


def is_another_program_s(facts: ImportFacts) -> bool:
    """Whether virt-v2v has prepared the guest: that it ended well does not say that the guest starts."""
    return any(change.what == CHANGED for change in facts.changes)


def prepare_root(
    services: Services, task: ImportTask, facts: ImportFacts, disk: Disk, watching: Callable[[], None]
) -> ImportFacts:
    """Prepare the root ``disk`` of ``task``, and keep the changes; the facts with what was done, or why nothing was.

    Twice is as once, where no other program does it: the same source, and the same time of its files. A guest that
    cannot be prepared is imported as it is, with a note. ``watching`` is called again and again meanwhile; what it
    raises ends it. Raises ``StoreError`` and ``FormatError`` of reading.
    """
    # By the few tasks that want it: what writes to file systems is a tenth of all that a worker would load.
    from vmferry.guest.prepare import prepare_guest
    from vmferry.guest.virt_v2v import VirtV2v

    root, config = facts.disks[0], services.config
    guestfish = Guestfish(config.guestfish, min(config.prepare_seconds, SECONDS), watching)
    virt_v2v = VirtV2v(config.virt_v2v, config.prepare_seconds, watching)
    try:
        now = int(task.created_at.timestamp())
        overlay, done = prepare_guest(disk, _DRIVERS, now, guestfish, virt_v2v, _wishes(services, task))
    except GuestError as error:
        return _left_as_it_is(facts, disk, error)
    facts = replace(facts, notes=(*facts.notes, *done.notes), prepared="yes" if done.changes else "nothing to do")
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
    facts = replace(facts, changes=_recorded(done))
    return replace(facts, prepared="by virt-v2v") if is_another_program_s(facts) else facts


def _wishes(services: Services, task: ImportTask) -> Wishes:
    """What the request chooses. Raises as ``ObjectStore.open`` where the script that it names cannot be had."""
    addresses = choice(services, task, own_tags.NETWORK, KEEP)
    place = services.catalog.tags.of([task.id]).get(task.id, {}).get(own_tags.FIRSTBOOT)
    if not place:
        return Wishes(addresses)
    bucket, _, key = place.removeprefix("s3://").partition("/")
    script = services.objects(task.place).open(bucket, key)
    try:
        if script.size > MAX_FIRSTBOOT:
            size, most = format_size(script.size), format_size(MAX_FIRSTBOOT)
            raise GuestError(f"{quote(place)} has {size}; a script of the first start has {most} at the most.")
        return Wishes(addresses, bytes(script.read_at(0, script.size)))
    finally:
        script.close()


def _left_as_it_is(facts: ImportFacts, disk: Disk, error: GuestError) -> ImportFacts:
    """The facts of a guest that is not prepared, for ``error``; with what it starts on."""
    hardware = choose_hardware(Evidence([DiskEvidence(disk.size, find_boot_facts(disk))], look([disk])))
    parts = f"disks by {hardware.bus} and a network card of type {hardware.network_card}"
    as_it_is = f"It is imported as it is: give it {parts}; {hardware.why}."
    notes = (*facts.notes, f"The guest is not prepared: {error}", as_it_is)
    return replace(facts, notes=notes, prepared=f"no, give it {parts}")


def _recorded(done: Preparation) -> tuple[ImportChange, ...]:
    return tuple(ImportChange(one.path, one.what, one.before, one.after, one.why, one.kept_as) for one in done.changes)
