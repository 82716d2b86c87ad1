"""Rules about what stands in the partitions: encryption, volume managers, and whether a system was found at all."""

from __future__ import annotations

from collections.abc import Iterator

from vmferry.errors import quote
from vmferry.guest.evidence import Evidence
from vmferry.guest.facts import VolumeFacts
from vmferry.guest.findings import RuleTable, Seen, Severity
from vmferry.guest.superblocks.linux import HIBERNATION
from vmferry.units import format_size

RULES = RuleTable()

_UNKNOWN = "Unknown OS / Missing OS files."
_AS_IT_IS = (
    "It is imported as it is; EC2 takes it by ImportSnapshot and RegisterImage, which ask nothing of what a disk holds."
)
_KINDS = {
    "luks1": "LUKS1",
    "luks2": "LUKS2",
    "bitlocker": "BitLocker",
    "ldm": "a dynamic disk (LDM)",
    "storage-spaces": "Storage Spaces",
    "raid": "Linux software RAID",
    "lvm": "LVM",
    "zfs": "ZFS",
    "ufs": "UFS",
}
_CHECKS = {
    **dict.fromkeys(
        ("ext2", "ext3", "ext4"), "Check it from a rescue system, where it is not mounted: e2fsck -f DEVICE"
    ),
    "xfs": "Check it from a rescue system, where it is not mounted: xfs_repair DEVICE",
    "btrfs": "Check it from a rescue system, where it is not mounted: btrfs check DEVICE, which says what is wrong and "
    "mends nothing; bring back from a backup what it names",
    **dict.fromkeys(
        ("fat12", "fat16", "fat32"), "Check it on the guest, not mounted: fsck.vfat -a DEVICE, on Windows chkdsk X: /f"
    ),
    "exfat": "Check it on the guest, not mounted: fsck.exfat DEVICE, on Windows chkdsk X: /f",
    "ntfs": "Check it on the guest: chkdsk X: /f, which is done at the next start where X: is in use",
}
"""How a file system is checked, by its kind: with DEVICE as the guest calls it, X: as its letter."""
_HIDDEN = ("encrypted-linux", "encrypted-windows", "dynamic-disk", "storage-spaces", "software-raid", "lvm-incomplete")
"""What hides a system from us, each with a message of its own."""


@RULES.rule(
    "encrypted-linux",
    "a volume is encrypted with LUKS",
    aws=Severity.STOPS,
    vmferry=Severity.SHOULD_MEND,
    remedy="Decrypt it on the guest (cryptsetup reencrypt --decrypt DEVICE), or be ready to type its passphrase on the "
    "console at every start; a key that a TPM holds does not come along: add a passphrase first (cryptsetup "
    "luksAddKey DEVICE).",
    message=_UNKNOWN,
)
def encrypted_linux(evidence: Evidence) -> Iterator[Seen]:
    for volume in _of_kind(evidence, "luks1", "luks2"):
        yield Seen(
            volume.place, f"It is encrypted with {_KINDS[volume.kind or '']}: what is in it cannot be looked at."
        )


@RULES.rule(
    "encrypted-windows",
    "a volume is encrypted with BitLocker",
    aws=Severity.STOPS,
    vmferry=Severity.SHOULD_MEND,
    remedy="Decrypt it on the guest: manage-bde -off C:, and wait until manage-bde -status says 0 %. A key that a TPM "
    "holds does not come along.",
    message=_UNKNOWN,
)
def encrypted_windows(evidence: Evidence) -> Iterator[Seen]:
    for volume in _of_kind(evidence, "bitlocker"):
        yield Seen(volume.place, "It is encrypted with BitLocker (-FVE-FS-): what is in it cannot be looked at.")


@RULES.rule(
    "dynamic-disk",
    "a disk is a dynamic disk of Windows",
    aws=Severity.STOPS,
    vmferry=Severity.SHOULD_MEND,
    remedy="Move the system to a basic disk; dynamic disks are for data only.",
    message=_UNKNOWN,
)
def dynamic_disk(evidence: Evidence) -> Iterator[Seen]:
    for volume in _of_kind(evidence, "ldm"):
        yield Seen(volume.place, "It belongs to a dynamic disk (LDM), whose volumes cannot be looked at.")


@RULES.rule(
    "storage-spaces",
    "a disk belongs to a pool of Storage Spaces",
    aws=Severity.STOPS,
    vmferry=Severity.NOTE,
    remedy="Import all disks of the pool together.",
    message=_UNKNOWN,
)
def storage_spaces(evidence: Evidence) -> Iterator[Seen]:
    for volume in _of_kind(evidence, "storage-spaces"):
        yield Seen(volume.place, "It belongs to a pool of Storage Spaces, which cannot be looked at.")


@RULES.rule(
    "software-raid",
    "a volume belongs to a Linux software RAID",
    aws=Severity.STOPS,
    vmferry=Severity.NOTE,
    remedy="Import all disks of the array together; on the new side a RAID over virtual disks protects from nothing.",
    message=_UNKNOWN,
)
def software_raid(evidence: Evidence) -> Iterator[Seen]:
    for volume in _of_kind(evidence, "raid"):
        yield Seen(volume.place, "It belongs to a Linux software RAID.")


@RULES.rule(
    "lvm-incomplete",
    "a volume group lacks a physical volume, or cannot be read",
    aws=Severity.STOPS,
    vmferry=Severity.WILL_NOT_BOOT,
    remedy="Import all disks of the machine together: pvs on the guest lists those of each volume group.",
    message="Unsupported configuration - Logical volume group activation failed",
)
def lvm_incomplete(evidence: Evidence) -> Iterator[Seen]:
    for volume in _of_kind(evidence, "lvm"):
        if volume.problem:
            yield Seen(volume.place, quote(volume.problem))


@RULES.rule(
    "file-system-unreadable",
    "a file system could not be read",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Check it from a rescue system, where it is not mounted (e2fsck -f, xfs_repair, btrfs check, fsck.vfat; on "
    "Windows chkdsk /f), shut down cleanly, and export again.",
)
def file_system_unreadable(evidence: Evidence) -> Iterator[Seen]:
    lacking = any(volume.problem for volume in _of_kind(evidence, "lvm"))
    for volume in evidence.guest.volumes:
        explained = volume.kind in _KINDS or (lacking and _is_logical(volume))
        if volume.problem and not explained:
            check = _CHECKS.get(volume.kind or "")
            yield Seen(volume.place, quote(volume.problem), check and f"{check}, shut down cleanly, and export again.")


@RULES.rule(
    "no-system",
    "no system was recognised on any disk",
    aws=Severity.STOPS,
    vmferry=Severity.NOTE,
    remedy=_AS_IT_IS,
    message=_UNKNOWN,
    unless=(*_HIDDEN, "no-partition-table", "partition-table-damaged", "disk-sectors-4k", "look-ended-early"),
)
def no_system(evidence: Evidence) -> Iterator[Seen]:
    if evidence.guest.volumes and not evidence.guest.systems:
        seen = ", ".join(_describe(volume) for volume in evidence.guest.volumes[:12])
        yield Seen(
            "the machine",
            f"No system was recognised; seen were {seen}. Looked for were os-release and its elders, and Windows' "
            "registry.",
        )


@RULES.rule(
    "system-of-another-kind",
    "the system is neither a Linux nor a Windows",
    aws=Severity.STOPS,
    vmferry=Severity.NOTE,
    remedy=_AS_IT_IS,
    message=_UNKNOWN,
)
def system_of_another_kind(evidence: Evidence) -> Iterator[Seen]:
    if evidence.system is not None and evidence.system.other:
        yield Seen(evidence.system.root, f"It holds {quote(evidence.system.other)}.")


@RULES.rule(
    "several-systems",
    "more than one system is on the disks",
    aws=Severity.STOPS,
    vmferry=Severity.NOTE,
    remedy="Where another one is meant, leave the other disks out, or make it the boot loader's default.",
    message="Unsupported configuration - Multiple directories found",
)
def several_systems(evidence: Evidence) -> Iterator[Seen]:
    if len(evidence.guest.systems) > 1:
        first, *others = evidence.guest.systems
        also = ", ".join(quote(system.root) for system in others)
        why = f" ({quote(first.chosen_by)})" if first.chosen_by else ""
        yield Seen(first.root, f"This system is taken{why}; others are on {also}.")


@RULES.rule(
    "linux-hibernated",
    "the system is hibernated",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Start it on the old machine, shut it down (systemctl poweroff), and export it again; as it is, it cannot "
    "be prepared.",
)
def linux_hibernated(evidence: Evidence) -> Iterator[Seen]:
    if evidence.linux is not None:
        volumes = (volume.place for volume in evidence.guest.volumes if HIBERNATION in volume.features)
        for place in (*volumes, *evidence.linux.hibernated):
            yield Seen(place, "It holds the memory of the system, with which it does not wake up on other hardware.")


@RULES.rule(
    "not-shut-down-linux",
    "a file system of Linux was not unmounted",
    aws=Severity.NOTE,
    vmferry=Severity.NOTE,
    remedy="Shut the guest down before the export, if what it had in memory matters; else its journal is "
    "replayed at the first start.",
    unless=("linux-hibernated",),
)
def not_shut_down_linux(evidence: Evidence) -> Iterator[Seen]:
    if evidence.linux is not None:
        for volume in evidence.guest.volumes:
            if volume.dirty and volume.kind not in ("ntfs", *_KINDS):
                yield Seen(volume.place, f"The {volume.kind} file system was in use when the disk was taken.")


@RULES.rule(
    "unclean-ntfs",
    "an NTFS volume was not unmounted cleanly",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Shut Windows down fully (shutdown /s /f /t 0) and export again; where it stays so, run chkdsk C: /f first.",
    unless=("windows-hibernated",),
)
def unclean_ntfs(evidence: Evidence) -> Iterator[Seen]:
    for volume in _of_kind(evidence, "ntfs"):
        if volume.dirty:
            yield Seen(
                volume.place, "The NTFS volume is marked as in use: nothing will write to it before it is checked."
            )


@RULES.rule(
    "look-ended-early",
    "not everything could be looked at",
    aws=Severity.NOTE,
    vmferry=Severity.NOTE,
)
def look_ended_early(evidence: Evidence) -> Iterator[Seen]:
    for problem in evidence.guest.problems:
        yield Seen("the machine", quote(problem))


def _of_kind(evidence: Evidence, *kinds: str) -> Iterator[VolumeFacts]:
    return (volume for volume in evidence.guest.volumes if volume.kind in kinds)


def _is_logical(volume: VolumeFacts) -> bool:
    """Whether it is a logical volume whose bytes cannot be read."""
    return volume.kind is None and volume.partition is None and "/" in volume.place


def _describe(volume: VolumeFacts) -> str:
    label = f" “{quote(volume.label)}”" if volume.label else ""
    kind = _KINDS.get(volume.kind or "", volume.kind or "nothing known")
    return f"{quote(volume.place)}: {kind}{label} of {format_size(volume.size)}"
