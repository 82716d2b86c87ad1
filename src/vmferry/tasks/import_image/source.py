"""What an import reads: its containers opened, with the disks that are in them."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from vmferry import appliances, formats
from vmferry.appliances import HashedBlob
from vmferry.blob import Blob
from vmferry.catalog.import_tasks import CONVERSION, IMPORT_SNAPSHOT, DiskContainer, ImportedDisk, ImportTask, ObjectPin
from vmferry.catalog.snapshots import Snapshot
from vmferry.disk import Disk, SupportsFacts
from vmferry.errors import UnknownFormatError, UnsupportedFeatureError, quote
from vmferry.folder import ALONE, Companions
from vmferry.formats import Format
from vmferry.formats.qcow2.layout import Layout
from vmferry.keep import Keep
from vmferry.machine import Appliance, Digest, Machine
from vmferry.stores import Pin, PinnedBlob, ReadAheadBlob
from vmferry.tasks import Services
from vmferry.tasks.import_image.parts import open_parts
from vmferry.tasks.import_image.preparing import Changes, changes_of
from vmferry.tasks.import_image.snapshot_source import open_snapshot
from vmferry.tasks.import_image.traffic import Meter, MeteredBlob
from vmferry.units import MIB, SECTOR

_OPEN_SOURCES = 4
"""Sources a worker keeps open between steps: opening one again costs a few reads, keeping it a few MiB of tables."""


_PREPARED = " prepared"
"""Behind a task's id: its source with the changes to its guest is another one."""

_WINDOW = 16 * MIB
"""Bytes that wait for the manifest's digest, at most: half of what a conversion alone in its process may keep."""


@dataclass(frozen=True, slots=True)
class SourceDisk:
    """A disk to import, open."""

    container: int
    name: str | None
    """Its file's name inside an appliance."""
    format: Format
    blob: Blob
    disk: Disk
    digest: Digest | None
    """What the appliance's manifest says of its file."""
    beside: Companions = ALONE
    """What may be opened beside its file."""
    snapshot: Snapshot | None = None
    """What holds the disk, where it is not converted but taken over."""
    changes: Changes | None = None
    """What is changed in it while it is converted."""

    def reopen_hashed(self, saved: bytes | None) -> tuple[Disk, HashedBlob]:
        """The disk once more, and its file, which takes the manifest's digest from what is read of the disk.

        ``saved`` is how far the digest is already. Only for a disk that the manifest has a digest for. The bytes stay
        the appliance's: neither is to be closed.
        """
        assert self.digest is not None
        file = HashedBlob(self.blob, self.digest, _WINDOW, saved)
        disk = formats.open_disk(file, self.format, self.beside)
        return disk if self.changes is None else self.changes.apply_to(disk), file


@dataclass(slots=True)
class Source:
    """Everything an import reads, open, in the appliance's order. Thread-safe for reading."""

    pins: list[ObjectPin] = field(default_factory=list)
    disks: list[SourceDisk] = field(default_factory=list)
    machine: Machine | None = None
    """The first appliance's."""
    packages: list[tuple[str, str]] = field(default_factory=list)
    """Of each appliance its object's name, and our name of what it is."""
    read: Meter = field(default_factory=Meter)
    """Of what comes from the object store."""
    _open: list[Blob | Appliance | Disk] = field(default_factory=list)
    _layouts: dict[int, Layout] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def layout(self, disk: SourceDisk) -> Layout:
        """Where everything of ``disk`` goes in its qcow2. Made once: it takes a pass over the disk's map."""
        with self._lock:
            if id(disk) not in self._layouts:
                self._layouts[id(disk)] = Layout(disk.disk.size, disk.disk.extents())
            return self._layouts[id(disk)]

    def rest(self) -> None:
        """Let go of what was read ahead: nobody reads for a while."""
        for blob in self._open:
            if isinstance(blob, ReadAheadBlob):
                blob.rest()

    def close(self) -> None:
        """Close everything, the innermost first."""
        while self._open:
            self._open.pop().close()

    def change(self, found: ImportedDisk, changes: Changes) -> None:
        """Show the disk ``found`` with ``changes`` from now on."""
        index = next(
            i for i, one in enumerate(self.disks) if (one.container, one.name) == (found.container, found.name)
        )
        disk = self.disks[index]
        self.disks[index] = replace(disk, disk=changes.apply_to(disk.disk), changes=changes)

    def add(self, services: Services, task: ImportTask, index: int) -> None:
        """Open a container of ``task`` and what is in it. What was opened stays to be closed, whatever is raised."""
        container = task.request.containers[index]
        if container.snapshot_id is not None:
            self._add_snapshot(services, task, index)
            return
        known = task.facts.pins[index] if index < len(task.facts.pins) else None
        pin = None if known is None else Pin(known.size, known.etag, known.version)
        store, bucket, key = services.objects(task.place), container.bucket or "", container.key or ""
        if task.kind == CONVERSION:
            stored: PinnedBlob = open_parts(store, bucket, key, services.s3_endpoint, pin)
        else:
            stored = store.open(bucket, key, pin)
        blob = ReadAheadBlob(MeteredBlob(stored, self.read))
        self._open.append(blob)
        self.pins.append(ObjectPin(stored.pin.size, stored.pin.etag, stored.pin.version))
        if _is_appliance(blob, container):
            if task.kind in (IMPORT_SNAPSHOT, CONVERSION):
                raise UnsupportedFeatureError(
                    f"{quote(blob.name)} is a whole machine, where one disk is wanted: import it with ImportImage, "
                    "or unpack it and import each of its disks.",
                    declared="OVA",
                )
            self._add_appliance(blob, index, container.format)
        else:
            self._add_disk(blob, index, None, _declared(container.format), None)

    def _add_snapshot(self, services: Services, task: ImportTask, index: int) -> None:
        blob, snapshot = open_snapshot(services, task, index)
        self._open.append(blob)
        self.pins.append(ObjectPin(blob.size))
        disk = formats.open_disk(blob, formats.FORMATS["qcow2"])
        self._open.append(disk)
        self.disks.append(SourceDisk(index, None, formats.FORMATS["raw"], blob, disk, None, snapshot=snapshot))

    def _add_appliance(self, blob: Blob, index: int, declared: str | None) -> None:
        package = appliances.detect(blob)
        if declared is not None and package is not None and package.name.upper() != declared:
            raise UnknownFormatError(
                f"{quote(blob.name)} was declared as {declared}, but its bytes show {package.about.title}: pack the "
                "machine into an OVA.",
                declared=declared,
                shown=package.name,
            )
        appliance = appliances.open_appliance(blob)
        self._open.append(appliance)
        self.packages += [] if package is None else [(blob.name, package.name)]
        self.machine = self.machine or appliance.machine
        for described in appliance.machine.disks:
            hint = _fixed_format(described.format_hint or "")
            member = appliance.blobs[described.name]
            digest = appliance.digests.get(described.name)
            beside = appliance.companions.get(described.name, ALONE)
            self._add_disk(member, index, described.name, hint, digest, beside)

    def _add_disk(
        self,
        blob: Blob,
        container: int,
        name: str | None,
        declared: Format | None,
        digest: Digest | None,
        beside: Companions = ALONE,
    ) -> None:
        chosen = declared or formats.detect(blob)
        disk = formats.open_disk(blob, chosen, beside)
        self._open.append(disk)
        _check_sectors(disk, blob)
        self.disks.append(SourceDisk(container, name, chosen, blob, disk, digest, beside))


def open_source(services: Services, task: ImportTask) -> Source:
    """Open every container of ``task``, pinned to the bytes that the task first saw where it has seen them.

    Raises ``StoreError``, ``FormatError``, ``UnsafeDiskError``; nothing stays open then.
    """
    source = Source()
    try:
        for index in range(len(task.request.containers)):
            source.add(services, task, index)
        if task.facts.changes:
            source.change(task.facts.disks[0], changes_of(services, task, task.facts.disks[0]))
    except BaseException:
        source.close()
        raise
    return source


def _fixed_format(hint: str) -> Format | None:
    """The format that a package fixes for a disk's file: by our name of it, or by an OVF's link to VMware's."""
    return formats.FORMATS.get("vmdk" if "vmdk" in hint.lower() else hint)


def _check_sectors(disk: Disk, blob: Blob) -> None:
    """Partition tables count in sectors: one made for sectors of 4096 bytes says nothing on a volume of 512."""
    if isinstance(disk, SupportsFacts) and disk.facts.sector_size != SECTOR:
        raise UnsupportedFeatureError(
            f"{quote(blob.name)} has sectors of {disk.facts.sector_size:,} bytes; volumes have sectors of {SECTOR}, on "
            "which its partitions would not be found. Copy the guest to a disk with sectors of 512 bytes (512e), "
            "and import that."
        )


def _is_appliance(blob: Blob, container: DiskContainer) -> bool:
    if container.format is None:
        return appliances.detect(blob) is not None
    return container.format.lower() in appliances.PACKAGES


def _declared(ec2_name: str | None) -> Format | None:
    return None if ec2_name is None else formats.FORMATS[ec2_name.lower()]


class OpenSources:
    """The sources that a worker has open. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sources = Keep[Source](_OPEN_SOURCES, rest=Source.rest)

    def borrow(self, task: ImportTask) -> AbstractContextManager[Source]:
        """The source of ``task``, with what is changed in it; it stays open at least until the block ends."""
        key = task.id + (_PREPARED if task.facts.changes else "")
        return self._sources.borrow(key, lambda: open_source(self._services, task))

    def forget(self, task_id: str) -> None:
        """Close the source of a task that has ended, once nobody uses it."""
        self._sources.forget(task_id)
        self._sources.forget(task_id + _PREPARED)
