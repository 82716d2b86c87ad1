"""Whether a disk boots, and with which firmware: what its first sectors tell, not what is promised elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from vmferry.guest.partitions import BIOS_BOOT_TYPE, ESP_TYPE, PartitionTable, read_partition_table
from vmferry.guest.window import Area
from vmferry.machine import Firmware
from vmferry.units import SECTOR

_MBR_ESP = "ef"


class Bootability(IntEnum):
    """How sure it is that a disk boots."""

    NONE = 0
    """Nothing on it can be started."""
    POSSIBLE = 1
    """Boot code, but nothing that it would start for certain: partitioning tools leave that on data disks, too."""
    CERTAIN = 2
    """GRUB, an active partition, or an EFI system partition."""


@dataclass(frozen=True, slots=True)
class BootFacts:
    """What a disk's first sectors tell about booting from it."""

    table: PartitionTable
    bootability: Bootability
    firmwares: tuple[Firmware, ...]
    """Those that it can be started with; cloud images can be with both."""
    why: str
    """The reason for the verdict, a phrase."""


def find_boot_facts(disk: Area) -> BootFacts:
    """Look at the beginning of ``disk``: some hundred KiB are read. Damaged contents give a verdict, never an error.

    Raises as ``read_partition_table``.
    """
    table = read_partition_table(disk)
    if table.sector_size != SECTOR:
        return BootFacts(table, Bootability.NONE, (), table.faults[0])
    ways = []
    if reason := _starts_by_bios(table):
        ways.append((Firmware.BIOS, reason))
    if reason := _starts_by_uefi(table):
        ways.append((Firmware.UEFI, reason))
    if ways:
        why = " and ".join(reason for _, reason in ways)
        return BootFacts(table, Bootability.CERTAIN, tuple(firmware for firmware, _ in ways), why)
    if table.boot_code and not table.faults:
        return BootFacts(table, Bootability.POSSIBLE, (Firmware.BIOS,), "boot code, but no active partition")
    why = table.faults[0] if table.faults else "no boot code" if table.scheme else "no partition table"
    return BootFacts(table, Bootability.NONE, (), why)


def pick_root(facts: Sequence[BootFacts]) -> int:
    """The index of the disk that a machine starts from, of ``facts`` in its boot order: the first of the surest.

    That is the first of all where none boots. ``facts`` are not empty.
    """
    return max(range(len(facts)), key=lambda index: (facts[index].bootability, -index))


def _starts_by_bios(table: PartitionTable) -> str | None:
    if not table.boot_code or not table.partitions:
        return None
    if table.scheme == "gpt" and any(partition.kind == BIOS_BOOT_TYPE for partition in table.partitions):
        return "boot code and a BIOS boot partition"
    if table.grub:
        return "GRUB's boot code"
    if any(partition.active for partition in table.partitions):
        return "boot code and an active partition"
    return None


def _starts_by_uefi(table: PartitionTable) -> str | None:
    kind = ESP_TYPE if table.scheme == "gpt" else _MBR_ESP
    return "an EFI system partition" if any(partition.kind == kind for partition in table.partitions) else None
