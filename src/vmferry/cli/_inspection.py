"""What ``vmferry inspect`` finds in a file: the facts, before they become text or JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from vmferry.blob import Blob, ByteRange, SupportsDataRanges, WrappedBlob
from vmferry.cli._container import Container, Said, open_container
from vmferry.disk import Disk, DiskFacts, SupportsFacts, SupportsStoredSize
from vmferry.errors import FormatError, UnsafeDiskError, VmferryError, quote
from vmferry.guest import BootFacts, Looker, find_boot_facts, look, pick_root
from vmferry.guest.evidence import DiskEvidence, Evidence
from vmferry.guest.facts import GuestFacts
from vmferry.machine import Machine, MachineDisk
from vmferry.units import format_size

_SLOW_STORED_SIZE = frozenset({"qcow2"})
"""Formats that would have to read all their tables to say how much they store."""
_TITLES = {"vmdk": "VMDK", "vhd": "VHD", "vhdx": "VHDX", "vdi": "VDI", "raw": "raw disk"}


@dataclass(slots=True)
class FoundDisk:
    """One disk, as far as it could be read."""

    file_size: int
    described: MachineDisk | None = None
    """What the appliance's descriptor says of it."""
    format: str | None = None
    facts: DiskFacts = field(default_factory=DiskFacts)
    """What the image says of itself."""
    chain: tuple[tuple[str, int], ...] = ()
    """Format and size of its parents, the nearest first."""
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
        name = _TITLES.get(self.format, self.format)
        return f"{name} ({quote(self.facts.subformat)})" if self.facts.subformat else name


@dataclass(slots=True)
class Found:
    """What is in a file."""

    container: str | None = None
    """The kind of appliance, where it is one."""
    wrapper: str | None = None
    """What it is packed by."""
    size: int = 0
    """Bytes of the file once unpacked."""
    machine: Machine | None = None
    disks: list[FoundDisk] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: VmferryError | None = None
    """The first reason why it cannot be imported."""
    evidence: Evidence | None = None
    """What preflight judges by; ``None`` where not every disk could be read."""

    @property
    def importable(self) -> bool:
        """Whether ImportImage takes it as it is: one object, not packed."""
        return self.problem is None and self.wrapper is None and self.container in (None, "ova", "xva")

    def root(self) -> int | None:
        """The index of the disk that the machine starts from; ``None`` where no disk could be read."""
        read = [(index, disk.boot) for index, disk in enumerate(self.disks) if disk.boot is not None]
        return read[pick_root([boot for _, boot in read])][0] if read else None


class CountedBlob(WrappedBlob):
    """A blob that counts what is read of it. One thread only."""

    def __init__(self, blob: Blob) -> None:
        super().__init__(blob)
        self.bytes_read = 0
        self.allocated: int | None = None
        """Bytes that a local file takes on its disk, its holes left out; ``None`` in a store that does not tell."""
        if isinstance(blob, SupportsDataRanges):
            self.allocated = sum(high - low for low, high in blob.data_ranges(0, blob.size))

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._blob.read_at(offset, length)
        self.bytes_read += length
        return data

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        if isinstance(self._blob, SupportsDataRanges):
            return self._blob.data_ranges(start, end)
        return iter([(start, end)] if start < end else [])


def look_at(source: str, said: Said, counted: Callable[[Blob], Blob]) -> Found:
    """Open everything that ``source`` holds. What is wrong with its bytes is found; a store that fails is raised."""
    found = Found()
    try:
        with ExitStack() as life:
            # What comes from S3 is waited for: the child starts meanwhile.
            looker = life.enter_context(Looker()) if source.startswith("s3://") else None
            container = life.enter_context(open_container(source, said, counted))
            found.container, found.wrapper = container.package, container.wrapper
            found.size, found.machine = container.blob.size, container.machine
            found.notes += () if container.machine is None else container.machine.notes
            opened = [_look_at_disk(container, index) for index in range(len(container.names))]
            found.disks = [disk for disk, _ in opened]
            found.notes += [note for disk in found.disks for note in _capacity_note(disk)]
            found.evidence = _evidence(container, opened, look if looker is None else looker.look)
    except (FormatError, UnsafeDiskError) as error:
        found.problem = error
    problems = [disk.problem for disk in found.disks if disk.problem is not None]
    if found.problem is None and problems:
        found.problem = problems[0]
    if found.problem is None and not found.importable:
        found.notes.append("To import it, convert it first, for example: vmferry convert SRC machine.ova.")
    return found


def _capacity_note(disk: FoundDisk) -> list[str]:
    described = disk.described
    if described is None or described.capacity is None or disk.virtual_size in (None, described.capacity):
        return []
    said, real = format_size(described.capacity), format_size(disk.virtual_size or 0)
    return [f"The descriptor says {said} for {quote(described.name)}, which has {real}: the disk's own size counts."]


def _evidence(
    container: Container,
    opened: list[tuple[FoundDisk, Disk | None]],
    look_into: Callable[[Sequence[Disk]], GuestFacts],
) -> Evidence | None:
    """What is in the disks, if all of them could be opened."""
    disks = [disk for _, disk in opened if disk is not None]
    known = [
        DiskEvidence(disk.size, found.boot) for found, disk in opened if disk is not None and found.boot is not None
    ]
    if not known or len(known) != len(opened):
        return None
    return Evidence(known, look_into(disks), container.machine)


def _look_at_disk(container: Container, index: int) -> tuple[FoundDisk, Disk | None]:
    blob = container.file(index)
    found = FoundDisk(blob.size, container.described(index))
    disk = None
    try:
        chosen = container.kind(index)
        found.format = chosen.name
        disk = container.open_disk(index)
        found.virtual_size = disk.size
        if isinstance(disk, SupportsFacts):
            found.facts = disk.facts
            found.chain = tuple(_parents(disk.facts))
        found.stored_size = _stored_size(disk, chosen.name, blob)
        found.boot = find_boot_facts(disk)
    except (FormatError, UnsafeDiskError) as error:
        found.problem = error
    return found, disk


def _parents(facts: DiskFacts) -> Iterator[tuple[str, int]]:
    parent = facts.parent
    while parent is not None:
        facts = parent.facts if isinstance(parent, SupportsFacts) else DiskFacts()
        yield facts.subformat or "raw", parent.size
        parent = facts.parent


def _stored_size(disk: Disk, format_name: str, blob: Blob) -> int:
    if isinstance(disk, SupportsStoredSize) and format_name not in _SLOW_STORED_SIZE:
        return disk.stored_size()
    return blob.size
