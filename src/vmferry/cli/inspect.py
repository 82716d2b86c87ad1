"""``vmferry inspect``: what a file is, what is in it, and whether it can be imported; by a few reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import typer

from vmferry.blob import Blob
from vmferry.cli._container import Said, source_format
from vmferry.cli._ec2_verdict import ec2_refusals
from vmferry.cli._inspection import CountedBlob, Found, FoundDisk, look_at
from vmferry.cli._options import EXTENT, PARENT, READ_AS
from vmferry.cli._output import print_facts, print_json
from vmferry.cli._source import read_nearby
from vmferry.errors import quote
from vmferry.guest import Bootability, BootFacts, Partition
from vmferry.guest.evidence import Evidence, name_system
from vmferry.guest.facts_json import to_json
from vmferry.guest.findings import Finding, RuleSet
from vmferry.guest.hardware import HardwareProfile, choose_hardware
from vmferry.guest.preflight import Verdict, judge
from vmferry.machine import Machine, NetworkInterface
from vmferry.units import SECTOR, format_size

_KINDS = {
    "82": "Linux swap",
    "83": "Linux",
    "8e": "Linux LVM",
    "07": "NTFS",
    "0b": "FAT32",
    "0c": "FAT32",
    "05": "extended",
    "0f": "extended",
    "a5": "FreeBSD",
    "ef": "EFI system",
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "Linux extended boot",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Windows data",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
}
"""Types of partitions that are met most, those of MBR and of GPT. From UEFI 2.10 and Discoverable Partitions."""

_SHOWN_SNAPSHOTS = 10

_VERDICTS = {Bootability.NONE: "does not boot", Bootability.POSSIBLE: "may boot", Bootability.CERTAIN: "boots"}


def inspect_file(
    source: str = typer.Argument(
        metavar="SRC", help="A disk image, an appliance or a folder that holds a machine: a path, or s3://bucket/key."
    ),
    read_as: str | None = READ_AS,
    parent: list[str] = PARENT,
    extent: list[str] = EXTENT,
    as_json: bool = typer.Option(False, "--json", help="One JSON document."),
) -> None:
    """Say what a file is, what is in it, and whether it can be imported; if not, why and what to do (exit code 1)."""
    counted: list[CountedBlob] = []

    def count(blob: Blob) -> Blob:
        counted.append(CountedBlob(blob))
        return read_nearby(counted[-1], source)

    found = look_at(source, Said(source_format(read_as), parent, extent), count)
    if found.problem is not None and not counted:
        raise found.problem  # a folder without a machine: there is no file to say anything of
    if as_json:
        print_json(_document(counted[0], found))
    else:
        print_facts(_lines(counted[0], found))
    if found.problem is not None:
        raise found.problem


COMMAND = inspect_file


def _document(blob: CountedBlob, found: Found) -> dict[str, Any]:
    machine = found.machine
    return {
        "source": blob.name,
        "size": blob.size,
        "allocated": blob.allocated,
        "wrapper": found.wrapper,
        "container": found.container,
        "machine": None if machine is None else _machine_document(machine),
        "disks": [_disk_document(number, disk) for number, disk in enumerate(found.disks, 1)],
        "root_disk": None if (root := found.root()) is None else root + 1,
        "importable": found.importable,
        "guest": None if found.evidence is None else to_json(found.evidence.guest),
        "hardware": None if (advised := _hardware(found.evidence)) is None else _hardware_document(advised),
        "preflight": {name.value: list(map(_finding_document, verdict.findings)) for name, verdict in _verdicts(found)},
        "ec2": {"accepts": not (refusals := list(ec2_refusals(found))), "refusals": refusals},
        "problem": None if found.problem is None else str(found.problem),
        "notes": found.notes,
        "bytes_read": blob.bytes_read,
    }


def _hardware(evidence: Evidence | None) -> HardwareProfile | None:
    """What the system starts on as it is; ``None`` where none was found."""
    if evidence is None or (evidence.linux is None and evidence.windows is None):
        return None
    return choose_hardware(evidence)


def _hardware_document(hardware: HardwareProfile) -> dict[str, Any]:
    return {
        "firmware": hardware.firmware.value,
        "bus": hardware.bus,
        "bus_reason": hardware.why,
        "network_card": hardware.network_card,
    }


def _verdicts(found: Found) -> Iterator[tuple[RuleSet, Verdict]]:
    if found.evidence is not None:
        yield from ((rule_set, judge(found.evidence, rule_set)) for rule_set in RuleSet)


def _finding_document(finding: Finding) -> dict[str, Any]:
    document = asdict(finding)
    return {**document, "severity": finding.severity.words}


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


def _disk_document(number: int, disk: FoundDisk) -> dict[str, Any]:
    boot = disk.boot
    return {
        "number": number,
        "name": None if disk.described is None else disk.described.name,
        "device": disk.device(),
        "format": disk.format,
        "subformat": disk.facts.subformat,
        "creator": disk.facts.creator,
        "sector_size": disk.facts.sector_size,
        "chain": [{"kind": kind, "virtual_size": size} for kind, size in disk.chain],
        "snapshots": list(disk.facts.snapshots),
        "warnings": list(disk.facts.warnings),
        "kind": disk.kind(),
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


def _lines(blob: CountedBlob, found: Found) -> Iterator[tuple[str, str]]:
    """The human form: what a line is about, and what it says."""
    yield quote(blob.name), _file_line(blob, found)
    if found.machine is not None:
        yield "machine", _machine_line(found.machine)
        yield from (("network card", _card_line(card)) for card in found.machine.interfaces)
    root = found.root()
    for index, disk in enumerate(found.disks):
        title = f"disk {index + 1}" if found.container else "disk"
        yield title, _disk_line(disk) + (", the root disk" if found.container and index == root else "")
        yield from _image_lines(disk)
        if disk.boot is not None:
            yield "  boot", _boot_line(disk.boot)
            yield from (("  partition", _partition_line(partition)) for partition in disk.boot.table.partitions)
            yield from (("  fault", quote(fault)) for fault in disk.boot.table.faults)
    if found.evidence is not None:
        yield from _guest_lines(found.evidence)
    yield from (("note", quote(note)) for note in found.notes)
    refusals = list(ec2_refusals(found))
    yield "EC2 would take it", "yes" if not refusals else "no: " + "; ".join(refusals)
    yield "can be imported", "yes" if found.importable else "no"


def _guest_lines(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The system that will start, and what our own compute has against it."""
    if evidence.system is not None:
        yield "system", f"{name_system(evidence) or 'not known'}, on {quote(evidence.system.root)}"
    if evidence.linux is not None and evidence.linux.kernels:
        yield "  kernel", quote(evidence.linux.kernels[0].version)
    if (hardware := _hardware(evidence)) is not None:
        yield "  hardware", f"{_hardware_line(hardware)}: what it starts on as it is"
    for finding in judge(evidence, RuleSet.VMFERRY).findings:
        yield finding.severity.words, f"{finding.sentence} [{finding.id}]"


def _hardware_line(hardware: HardwareProfile) -> str:
    return f"{hardware.firmware.value}, disks by {hardware.bus}, network by {hardware.network_card}"


def _file_line(blob: CountedBlob, found: Found) -> str:
    what = (found.container or "").upper() or (found.disks[0].kind() if found.disks else "not readable")
    packed = f" packed by {found.wrapper}" if found.wrapper else ""
    size = f", {format_size(blob.size)}"
    if blob.allocated is not None and blob.allocated < blob.size * 9 // 10:
        size += f" ({format_size(blob.allocated)} allocated)"
    return what + packed + size


def _image_lines(disk: FoundDisk) -> Iterator[tuple[str, str]]:
    """What the image says of itself."""
    facts = disk.facts
    if facts.creator:
        yield "  made by", quote(facts.creator)
    if facts.sector_size != SECTOR:
        yield "  sectors", f"{facts.sector_size} bytes"
    yield from (("  parent", f"{quote(kind)}, {format_size(size)} virtual") for kind, size in disk.chain)
    yield from (("  snapshot", quote(name)) for name in facts.snapshots[:_SHOWN_SNAPSHOTS])
    if len(facts.snapshots) > _SHOWN_SNAPSHOTS:
        yield "  snapshot", f"… and {len(facts.snapshots) - _SHOWN_SNAPSHOTS:,} more"
    yield from (("  warning", quote(warning)) for warning in facts.warnings)


def _machine_line(machine: Machine) -> str:
    cpus = f"{machine.cpus} CPU" + ("s" if machine.cpus != 1 else "")
    parts = [quote(machine.name), cpus, f"{format_size(machine.memory)} of memory"]
    if machine.firmware is not None:
        parts.append(f"firmware {machine.firmware.value}")
    parts += [quote(text) for text in (machine.guest_os, machine.hardware_family) if text]
    return ", ".join(parts)


def _card_line(card: NetworkInterface) -> str:
    named = [quote(fact) for fact in (card.network, card.model, card.mac) if fact]
    return ", ".join(named) or "of a kind that the descriptor does not tell"


def _disk_line(disk: FoundDisk) -> str:
    named = "" if disk.described is None else f"{quote(disk.described.name)}: "
    parts = [f"{named}{disk.kind()}"]
    if disk.virtual_size is None or disk.stored_size is None:
        parts.append(format_size(disk.file_size))
    else:
        parts += [f"{format_size(disk.virtual_size)} virtual", f"{format_size(disk.stored_size)} stored"]
    device = disk.device()
    return ", ".join(parts) + (f", at {quote(device)}" if device else "")


def _boot_line(boot: BootFacts) -> str:
    table = {"mbr": "MBR", "gpt": "GPT"}.get(boot.table.scheme or "", "no partition table")
    by = f" by {' or '.join(firmware.value for firmware in boot.firmwares)}" if boot.firmwares else ""
    verdict = f"{_VERDICTS[boot.bootability]}{by}"
    return f"{table}, {verdict}" + (f": {quote(boot.why)}" if boot.why != table else "")


def _partition_line(partition: Partition) -> str:
    parts = [
        f"{partition.number}: {_KINDS.get(partition.kind, partition.kind)}",
        f"{format_size(partition.size)} at {format_size(partition.start)}",
    ]
    if partition.active:
        parts.append("active")
    if partition.name:
        parts.append(f"“{quote(partition.name)}”")
    return ", ".join(parts)
