"""What EC2 itself would say of a file: why its VM Import would refuse it. What vmferry takes is more.

Source: AWS, VM Import/Export User Guide, *Requirements and limitations*; the words in brackets are the service's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmferry.cli._inspection import Found, FoundDisk
from vmferry.guest.findings import RuleSet, Severity
from vmferry.guest.preflight import judge
from vmferry.quotas import AWS
from vmferry.units import GIB, format_size

_TAKEN = {
    "raw": (None,),
    "vmdk": ("streamOptimized",),
    "vhd": ("fixed", "dynamic"),
    "vhdx": ("fixed", "dynamic"),
}
"""Format → the kinds of it that EC2 imports."""


def ec2_refusals(found: Found) -> Iterator[str]:
    """Each reason why EC2 would refuse ``found``, file and guest, as far as metadata tell."""
    yield from file_refusals(found)
    yield from guest_refusals(found)


def file_refusals(found: Found) -> Iterator[str]:
    """Each reason why EC2 would refuse the file, whatever its disks hold."""
    if found.wrapper is not None:
        yield f"it is packed by {found.wrapper} [Unsupported specified file format]"
    if found.container not in (None, "ova"):
        yield f"{found.container} is no container of EC2's: pack the machine into an OVA"
    if len(found.disks) > AWS.disks:
        yield f"it has {len(found.disks)} disks; EC2 imports at most {AWS.disks}"
    if found.machine is not None and len(found.machine.interfaces) > AWS.network_interfaces:
        yield f"it has {len(found.machine.interfaces)} network cards; EC2 keeps one"
    for number, disk in enumerate(found.disks, 1):
        for reason in _disk_refusals(disk):
            yield f"disk {number}: {reason}" if found.container else reason


def guest_refusals(found: Found) -> Iterator[str]:
    """Each reason why EC2 would refuse the machine for what is on its disks; none where not all could be read."""
    for finding in judge(found.evidence, RuleSet.AWS).findings if found.evidence else ():
        if finding.severity is Severity.STOPS:
            words = f" [{finding.message}]" if finding.message else ""
            yield f"{finding.subject}: {finding.fact.rstrip('.')}{words}"


def _disk_refusals(disk: FoundDisk) -> Iterator[str]:
    if disk.format is None or disk.problem is not None:
        yield "it cannot be read"
        return
    kinds = _TAKEN.get(disk.format)
    if kinds is None:
        yield f"{disk.format} is no format of EC2's: convert it to raw, VMDK, VHD or VHDX"
    elif disk.facts.subformat not in kinds and None not in kinds:
        name = disk.format.upper()
        yield f"{disk.facts.subformat} is no kind of {name} that EC2 takes [Unsupported {name} File Format]"
    most = AWS.import_image.size_gib * GIB
    if disk.virtual_size is not None and disk.virtual_size > most:
        yield f"it has {format_size(disk.virtual_size)}; ImportImage takes up to {format_size(most)}"
