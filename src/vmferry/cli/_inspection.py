"""What ``vmferry inspect`` finds in a file: the facts, before they become text or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vmferry import appliances, formats
from vmferry.blob import Blob, ByteRange, SupportsDataRanges
from vmferry.disk import Disk, SupportsFacts, SupportsStoredSize
from vmferry.errors import FormatError, UnsafeDiskError, VmferryError, quote
from vmferry.guest import Bootability, BootFacts, find_boot_facts, pick_root
from vmferry.machine import Machine, MachineDisk
from vmferry.units import format_size

_SLOW_STORED_SIZE = frozenset({"qcow2"})
"""Formats that would have to read all their tables to say how much they store."""


@dataclass(slots=True)
class FoundDisk:
    """One disk, as far as it could be read."""

    file_size: int
    described: MachineDisk | None = None
    """What the appliance's descriptor says of it."""
    format: str | None = None
    subformat: str | None = None
    virtual_size: int | None = None
    stored_size: int | None = None
    boot: BootFacts | None = None
    problem: VmferryError | None = None

    def device(self) -> str | None:
        """Where it is attached: ``scsi0:1``."""
        described = self.described
        if described is None or not described.bus:
            return None
        return f"{described.bus}{described.controller}:{described.unit}"

    def kind(self) -> str:
        """What the file is, in words: ``VMDK (streamOptimized)``, ``a gzip file``."""
        if self.format is None:
            return str(self.problem.facts.get("shown", "not readable")) if self.problem else "not readable"
        name = {"vmdk": "VMDK", "raw": "raw disk"}.get(self.format, self.format)
        return f"{name} ({self.subformat})" if self.subformat else name


@dataclass(slots=True)
class Found:
    """What is in a file."""

    container: str | None = None
    machine: Machine | None = None
    disks: list[FoundDisk] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: VmferryError | None = None
    """The first reason why it cannot be imported."""

    def root(self) -> int | None:
        """The index of the disk that the machine starts from; ``None`` where no disk could be read."""
        read = [(index, disk.boot) for index, disk in enumerate(self.disks) if disk.boot is not None]
        return read[pick_root([boot for _, boot in read])][0] if read else None


class CountedBlob:
    """A blob that counts what is read of it. One thread only."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self.bytes_read = 0

    @property
    def size(self) -> int:
        return self._blob.size

    @property
    def name(self) -> str:
        return self._blob.name

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._blob.read_at(offset, length)
        self.bytes_read += length
        return data

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        if isinstance(self._blob, SupportsDataRanges):
            return self._blob.data_ranges(start, end)
        return iter([(start, end)] if start < end else [])

    def close(self) -> None:
        self._blob.close()


def look(blob: Blob) -> Found:
    """Open everything that ``blob`` holds. What is wrong with its bytes is found; a store that fails is raised."""
    found = Found()
    try:
        package = appliances.detect(blob)
        if package is None:
            found.disks.append(_look_at_disk(blob, None))
        else:
            found.container = package.name
            _look_at_appliance(blob, found)
    except (FormatError, UnsafeDiskError) as error:
        found.problem = error
    problems = [disk.problem for disk in found.disks if disk.problem is not None]
    if found.problem is None and problems:
        found.problem = problems[0]
    root = found.root()
    boot = None if root is None else found.disks[root].boot
    if boot is not None and boot.bootability is Bootability.NONE:
        found.notes.append(f"No disk shows how it boots ({boot.why}): its AMI will not start without further work.")
    return found


def _look_at_appliance(blob: Blob, found: Found) -> None:
    appliance = appliances.open_appliance(blob)
    found.machine = appliance.machine
    found.notes += appliance.machine.notes
    for described in appliance.machine.disks:
        disk = _look_at_disk(appliance.blobs[described.name], described)
        found.disks.append(disk)
        if described.capacity is not None and disk.virtual_size not in (None, described.capacity):
            found.notes.append(
                f"The descriptor says {format_size(described.capacity)} for {quote(described.name)}, which has "
                f"{format_size(disk.virtual_size or 0)}: the disk's own size counts."
            )


def _look_at_disk(blob: Blob, described: MachineDisk | None) -> FoundDisk:
    found = FoundDisk(blob.size, described)
    try:
        chosen = formats.detect(blob)
        found.format = chosen.name
        disk = formats.open_disk(blob, chosen)
        found.subformat = disk.facts.subformat if isinstance(disk, SupportsFacts) else None
        found.virtual_size = disk.size
        found.stored_size = _stored_size(disk, chosen.name, blob)
        found.boot = find_boot_facts(disk)
    except (FormatError, UnsafeDiskError) as error:
        found.problem = error
    return found


def _stored_size(disk: Disk, format_name: str, blob: Blob) -> int:
    if isinstance(disk, SupportsStoredSize) and format_name not in _SLOW_STORED_SIZE:
        return disk.stored_size()
    return blob.size
