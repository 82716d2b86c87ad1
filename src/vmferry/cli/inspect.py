"""``vmferry inspect``: what a file is, what is in it, and whether it can be imported; by a few reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import typer

from vmferry import appliances, formats
from vmferry.blob import Blob, ByteRange, SupportsDataRanges
from vmferry.cli._output import print_json
from vmferry.cli._source import open_source
from vmferry.disk import Disk, SupportsStoredSize
from vmferry.errors import FormatError, UnsafeDiskError, VmferryError, quote
from vmferry.guest import Bootability, BootFacts, find_boot_facts, pick_root
from vmferry.machine import Machine
from vmferry.units import format_size

_SLOW_STORED_SIZE = frozenset({"qcow2"})
"""Formats that would have to read all their tables to say how much they store."""


@dataclass(slots=True)
class _FoundDisk:
    """One disk, as far as it could be read."""

    name: str | None
    """Its file's name inside an appliance."""
    file_size: int
    format: str | None = None
    virtual_size: int | None = None
    stored_size: int | None = None
    boot: BootFacts | None = None
    problem: VmferryError | None = None


@dataclass(slots=True)
class _Found:
    """What is in a file."""

    container: str | None = None
    machine: Machine | None = None
    disks: list[_FoundDisk] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: VmferryError | None = None
    """The first reason why it cannot be imported."""

    def root(self) -> int | None:
        """The index of the disk that the machine starts from; ``None`` where no disk could be read."""
        read = [(index, disk.boot) for index, disk in enumerate(self.disks) if disk.boot is not None]
        return read[pick_root([boot for _, boot in read])][0] if read else None


class _CountedBlob:
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


def inspect_file(
    source: str = typer.Argument(metavar="SRC", help="A disk image or an OVA: a file, or s3://bucket/key."),
    as_json: bool = typer.Option(False, "--json", help="One JSON document."),
) -> None:
    """Say what a file is, what is in it, and whether it can be imported; if not, why and what to do (exit code 1)."""
    blob = _CountedBlob(open_source(source))
    try:
        found = _look(blob)
        if as_json:
            print_json(_document(blob, found))
        else:
            print("\n".join(_lines(blob, found)), flush=True)
    finally:
        blob.close()
    if found.problem is not None:
        raise found.problem


COMMAND = inspect_file


def _look(blob: Blob) -> _Found:
    """Open everything that ``blob`` holds. What is wrong with its bytes is found; a store that fails is raised."""
    found = _Found()
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
    if root is not None and _boot(found.disks[root]).bootability is Bootability.NONE:
        why = _boot(found.disks[root]).why
        found.notes.append(f"No disk shows how it boots ({why}): its AMI will not start without further work.")
    return found


def _look_at_appliance(blob: Blob, found: _Found) -> None:
    appliance = appliances.open_appliance(blob)
    found.machine = appliance.machine
    found.notes += appliance.machine.notes
    found.disks += [_look_at_disk(appliance.blobs[disk.name], disk.name) for disk in appliance.machine.disks]
    if not found.disks:
        raise UnsafeDiskError("The machine has no disk with contents: export it again with its disks.")


def _look_at_disk(blob: Blob, name: str | None) -> _FoundDisk:
    found = _FoundDisk(name, blob.size)
    try:
        chosen = formats.detect(blob)
        found.format = chosen.name
        disk = formats.open_disk(blob, chosen)
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


def _boot(disk: _FoundDisk) -> BootFacts:
    assert disk.boot is not None  # only asked of disks that could be read
    return disk.boot


def _document(blob: _CountedBlob, found: _Found) -> dict[str, Any]:
    machine = found.machine
    return {
        "source": blob.name,
        "size": blob.size,
        "container": found.container,
        "machine": None if machine is None else _machine_document(machine),
        "disks": [_disk_document(number, disk) for number, disk in enumerate(found.disks, 1)],
        "root_disk": None if (root := found.root()) is None else root + 1,
        "importable": found.problem is None,
        "problem": None if found.problem is None else str(found.problem),
        "notes": found.notes,
        "bytes_read": blob.bytes_read,
    }


def _machine_document(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "cpus": machine.cpus,
        "memory": machine.memory,
        "firmware": None if machine.firmware is None else machine.firmware.value,
        "guest_os": machine.guest_os,
        "hardware_family": machine.hardware_family,
        "interfaces": [asdict(interface) for interface in machine.interfaces],
    }


def _disk_document(number: int, disk: _FoundDisk) -> dict[str, Any]:
    boot = disk.boot
    return {
        "number": number,
        "name": disk.name,
        "format": disk.format,
        "file_size": disk.file_size,
        "virtual_size": disk.virtual_size,
        "stored_size": disk.stored_size,
        "partition_table": None if boot is None else boot.table.scheme,
        "partitions": [] if boot is None else [asdict(partition) for partition in boot.table.partitions],
        "faults": [] if boot is None else list(boot.table.faults),
        "bootable": None if boot is None else boot.bootability.name.lower(),
        "firmware": [] if boot is None else [firmware.value for firmware in boot.firmwares],
        "why": None if boot is None else boot.why,
        "problem": None if disk.problem is None else str(disk.problem),
    }


def _lines(blob: Blob, found: _Found) -> Iterator[str]:
    what = (found.container or (found.disks[0].format if found.disks else None) or "not readable").lower()
    yield f"{quote(blob.name)}: {what}, {format_size(blob.size)}"
    if found.machine is not None:
        yield f"machine: {_machine_line(found.machine)}"
    root = found.root()
    for index, disk in enumerate(found.disks):
        title = f"disk {index + 1}" if found.container else "disk"
        yield f"{title}: {_disk_line(disk)}" + (", the root disk" if found.container and index == root else "")
        if disk.boot is not None:
            yield from (f"  fault: {quote(fault)}" for fault in disk.boot.table.faults)
    yield from (f"note: {quote(note)}" for note in found.notes)
    yield "can be imported: " + ("yes" if found.problem is None else "no")


def _machine_line(machine: Machine) -> str:
    cpus = f"{machine.cpus} CPU" + ("s" if machine.cpus != 1 else "")
    parts = [quote(machine.name), cpus, f"{format_size(machine.memory)} of memory"]
    if machine.firmware is not None:
        parts.append(f"firmware {machine.firmware.value}")
    parts += [quote(text) for text in (machine.guest_os, machine.hardware_family) if text]
    count = len(machine.interfaces)
    return ", ".join([*parts, f"{count} network card" + ("s" if count != 1 else "")])


def _disk_line(disk: _FoundDisk) -> str:
    named = "" if disk.name is None else f"{quote(disk.name)}: "
    if disk.boot is None or disk.virtual_size is None or disk.stored_size is None:
        return f"{named}{disk.format or 'not readable'}, {format_size(disk.file_size)}"
    boot = disk.boot
    table = f"{boot.table.scheme}, {len(boot.table.partitions)} partition(s)" if boot.table.scheme else "no partitions"
    sizes = f"{format_size(disk.virtual_size)} virtual, {format_size(disk.stored_size)} stored"
    verdict = {Bootability.NONE: "does not boot", Bootability.POSSIBLE: "may boot", Bootability.CERTAIN: "boots"}
    firmwares = " or ".join(firmware.value for firmware in boot.firmwares)
    by = f" by {firmwares}" if firmwares else ""
    return f"{named}{disk.format}, {sizes}; {table}; {verdict[boot.bootability]}{by}: {quote(boot.why)}"
