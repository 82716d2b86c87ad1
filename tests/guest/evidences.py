"""A machine that preflight has nothing against, and the many ways of breaking it: the facts, without a disk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vmferry.guest.boot import Bootability, BootFacts
from vmferry.guest.evidence import DiskEvidence, Evidence
from vmferry.guest.facts import GuestFacts, SystemFacts, VolumeFacts
from vmferry.guest.linux.facts import InterfaceFacts, KernelFacts, LinuxFacts, MountFacts
from vmferry.guest.partitions import PartitionTable
from vmferry.guest.windows.facts import WindowsFacts
from vmferry.machine import Firmware
from vmferry.units import GIB

ROOT = "disk 1, partition 2"
VOLUME = VolumeFacts(ROOT, 1, 2, 1 << 20, 20 * GIB, "ext4", uuid="6c2b", free=10 * GIB, free_inodes=90_000)
KERNEL = KernelFacts(
    "6.1.0-28-amd64",
    "/boot/vmlinuz-6.1.0-28-amd64",
    "/boot/initrd.img-6.1.0-28-amd64",
    built_in=("sd_mod",),
    in_initramfs=("ahci", "nvme", "virtio_blk", "virtio_pci", "virtio_scsi"),
    as_module=("e1000e", "virtio_net"),
    default=True,
    architecture="x86_64",
)
LINUX = LinuxFacts(
    "debian",
    "12",
    "Debian GNU/Linux 12 (bookworm)",
    architecture="x86_64",
    hostname="web",
    kernels=(KERNEL,),
    boot_loader="grub2",
    boot_config="/boot/grub/grub.cfg",
    command_line="root=UUID=6c2b ro quiet",
    root_volume=ROOT,
    mounts=(MountFacts("UUID=6c2b", "/", "ext4", ("errors=remount-ro",), ROOT),),
    interfaces=(InterfaceFacts("en*", "/etc/systemd/network/80-dhcp.network", "dhcp"),),
    ssh=True,
)
WINDOWS = WindowsFacts(
    "Windows Server 2022 Standard",
    "10.0",
    20348,
    kind="Server",
    architecture="x86_64",
    boot_drivers=("storahci", "stornvme", "vioscsi"),
    drivers=("e1i65x64", "storahci", "stornvme", "vioscsi"),
    remote_desktop=True,
    boot_mode="legacy-bios",
    net_framework=("4.8",),
)
TABLE = PartitionTable("mbr", boot_code=True, grub=True)
BOOT = BootFacts(TABLE, Bootability.CERTAIN, (Firmware.BIOS,), "GRUB's boot code")
DISK = DiskEvidence(40 * GIB, BOOT)


def linux(**changes: Any) -> Evidence:
    """A Linux that differs from the good one in ``changes``."""
    return system(SystemFacts(ROOT, (ROOT,), linux=replace(LINUX, **changes)))


def kernel(**changes: Any) -> Evidence:
    """A Linux whose only kernel differs in ``changes``."""
    return linux(kernels=(replace(KERNEL, **changes),))


def windows(**changes: Any) -> Evidence:
    """A Windows that differs from the good one in ``changes``."""
    return system(SystemFacts(ROOT, (ROOT,), windows=replace(WINDOWS, **changes)), replace(VOLUME, kind="ntfs"))


def volume(**changes: Any) -> Evidence:
    """The good Linux, on a volume that differs in ``changes``."""
    return system(SystemFacts(ROOT, (ROOT,), linux=LINUX), replace(VOLUME, **changes))


def beside(**changes: Any) -> Evidence:
    """The good Linux, with one more volume of such facts."""
    more = VolumeFacts("disk 1, partition 3", 1, 3, **changes)
    return system(SystemFacts(ROOT, (ROOT,), linux=LINUX), VOLUME, more)


def without_system(*volumes: VolumeFacts, **guest: Any) -> Evidence:
    """A disk on which no system was found."""
    return Evidence((DISK,), GuestFacts(volumes, **guest))


def system(found: SystemFacts, *volumes: VolumeFacts) -> Evidence:
    """A machine with one disk that holds ``found``."""
    return Evidence((DISK,), GuestFacts(volumes or (VOLUME,), (found,)))


def disk(
    *, size: int = 40 * GIB, firmwares: tuple[Firmware, ...] = (Firmware.BIOS,), sure: int = 2, **table: Any
) -> Evidence:
    """The good Linux on a disk whose first sectors differ."""
    facts = BootFacts(replace(TABLE, **table), Bootability(sure), firmwares, "as the test says")
    return replace(linux(), disks=(DiskEvidence(size, facts),))
