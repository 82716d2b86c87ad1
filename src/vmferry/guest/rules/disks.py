"""Rules about partition tables and boot code: what the first sectors of the disks show."""

from __future__ import annotations

from collections.abc import Iterator

from vmferry.guest.boot import Bootability
from vmferry.guest.evidence import Evidence
from vmferry.guest.findings import RuleTable, Seen, Severity
from vmferry.units import TIB, format_size

RULES = RuleTable()

_WINDOWS_LOADER = (
    "Start the old machine from Windows' installation medium, and type in its command prompt: "
    "bootrec /fixmbr && bootrec /fixboot && bootrec /rebuildbcd."
)
_TO_GPT = "Convert it to GPT (mbr2gpt /convert /allowFullOS), or shrink the disk."

_NO_VOLUME = "No valid partitions. Not a valid volume."


@RULES.rule(
    "disk-sectors-4k",
    "the partition table counts in sectors of 4,096 bytes",
    aws=Severity.STOPS,
    vmferry=Severity.WILL_NOT_BOOT,
    remedy="Copy the system to a disk with sectors of 512 bytes on the old hypervisor, and export that.",
    message=_NO_VOLUME,
)
def disk_sectors_4k(evidence: Evidence) -> Iterator[Seen]:
    for number, disk in enumerate(evidence.disks, 1):
        for fault in disk.boot.table.faults:
            if "4,096" in fault:
                yield Seen(f"disk {number}", f"{_sentence(fault)}.")


@RULES.rule(
    "partition-table-damaged",
    "a partition table is not sound",
    aws=Severity.STOPS,
    vmferry=Severity.WILL_NOT_BOOT,
    remedy="Mend it on the old machine: sgdisk --verify /dev/sda, then sgdisk -e /dev/sda.",
    message=_NO_VOLUME,
    unless=("disk-sectors-4k",),
)
def partition_table_damaged(evidence: Evidence) -> Iterator[Seen]:
    for number, disk in enumerate(evidence.disks, 1):
        for fault in disk.boot.table.faults:
            yield Seen(f"disk {number}", f"{_sentence(fault)}.")


@RULES.rule(
    "no-partition-table",
    "no disk has a partition table, nor a file system over all of it",
    aws=Severity.STOPS,
    vmferry=Severity.WILL_NOT_BOOT,
    remedy="If it is a data disk, import it as a snapshot (ImportSnapshot); if not, look whether the right file was "
    "exported, and in the format that was declared.",
    message=_NO_VOLUME,
    unless=("partition-table-damaged", "disk-sectors-4k"),
)
def no_partition_table(evidence: Evidence) -> Iterator[Seen]:
    if not any(disk.boot.table.scheme for disk in evidence.disks) and not any(
        volume.kind for volume in evidence.guest.volumes
    ):
        yield Seen("disk 1", "No partition table was found, and no file system.")


@RULES.rule(
    "no-boot-loader",
    "nothing on any disk starts a system",
    aws=Severity.STOPS,
    vmferry=Severity.WILL_NOT_BOOT,
    remedy="Install the boot loader on the guest: grub-install /dev/sda && update-grub (Red Hat and SUSE: "
    "grub2-install /dev/sda).",
    message="Unknown OS / Missing OS files.",
    unless=("no-partition-table", "partition-table-damaged", "disk-sectors-4k"),
)
def no_boot_loader(evidence: Evidence) -> Iterator[Seen]:
    if all(disk.boot.bootability is Bootability.NONE for disk in evidence.disks):
        reasons = "; ".join(f"disk {number}: {disk.boot.why}" for number, disk in enumerate(evidence.disks, 1))
        remedy = _WINDOWS_LOADER if evidence.windows is not None else None
        yield Seen("the machine", f"No disk shows how it boots ({reasons}).", remedy)


@RULES.rule(
    "mbr-over-2tib",
    "a disk of more than 2 TiB has an MBR, which reaches no further",
    aws=Severity.STOPS,
    vmferry=Severity.SHOULD_MEND,
    remedy="Convert it to GPT (sgdisk -g /dev/sda, with a BIOS boot partition), or shrink the disk.",
    message=_NO_VOLUME,
)
def mbr_over_2tib(evidence: Evidence) -> Iterator[Seen]:
    for number, disk in enumerate(evidence.disks, 1):
        if disk.boot.table.scheme == "mbr" and disk.size > 2 * TIB:
            yield Seen(
                f"disk {number}",
                f"The disk has {format_size(disk.size)} and an MBR, which addresses 2 TiB of it.",
                _TO_GPT if evidence.windows is not None else None,
            )


@RULES.rule(
    "firmware-differs",
    "the descriptor names another firmware than the disk can be started with",
    aws=Severity.NOTE,
    vmferry=Severity.NOTE,
)
def firmware_differs(evidence: Evidence) -> Iterator[Seen]:
    said = evidence.machine.firmware if evidence.machine else None
    found = evidence.root.boot.firmwares
    if said is not None and found and said not in found:
        yield Seen(
            "the machine",
            f"The descriptor says {said.value}, the disk shows {evidence.root.boot.why}: {found[0].value} is used.",
        )


def _sentence(fault: str) -> str:
    return fault[:1].upper() + fault[1:].rstrip(".")
