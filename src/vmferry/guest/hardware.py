"""The machine that a guest finds itself in, and which of those that we have it starts on as it is."""

from __future__ import annotations

from dataclasses import dataclass

from vmferry.guest.evidence import Evidence
from vmferry.guest.linux.facts import KernelFacts
from vmferry.guest.windows.facts import WindowsFacts
from vmferry.machine import Firmware
from vmferry.units import GIB

BUSES = ("virtio", "virtio-scsi", "nvme", "sata", "ide", "pvscsi", "mptsas", "megasas")
"""Kinds of disks that QEMU shows, the fastest first."""
NETWORK_CARDS = ("virtio", "vmxnet3", "e1000e", "e1000")

_LINUX_DISKS = {
    "virtio": ("virtio_blk", "virtio_pci"),
    "virtio-scsi": ("virtio_scsi", "virtio_pci"),
    "nvme": ("nvme",),
    "sata": ("ahci",),
    "ide": ("ata_piix",),
    "pvscsi": ("vmw_pvscsi",),
    "mptsas": ("mptsas",),
    "megasas": ("megaraid_sas",),
}
_LINUX_CARDS = {"virtio": "virtio_net", "vmxnet3": "vmxnet3", "e1000e": "e1000e", "e1000": "e1000"}
_WINDOWS_DISKS = {
    "virtio": ("viostor",),
    "virtio-scsi": ("vioscsi",),
    "nvme": ("stornvme",),
    "sata": ("storahci", "msahci"),
    "ide": ("atapi", "intelide"),
    "pvscsi": ("pvscsi",),
    "mptsas": ("LSI_SAS",),
}
_WINDOWS_CARDS = {"virtio": "netkvm", "vmxnet3": "vmxnet3ndis6", "e1000e": "e1i65x64", "e1000": "e1express"}
_BY_BIOS_ONLY = frozenset({"ide"})
"""Buses of the old machine type, which OVMF is not built for; NVMe is the other way round."""


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """What a guest is given. The names are ``BUSES``' and ``NETWORK_CARDS``'."""

    firmware: Firmware = Firmware.BIOS
    bus: str = "virtio"
    network_card: str = "virtio"
    memory: int = GIB
    """Bytes."""
    cpus: int = 1
    why: str = ""
    """Why this bus: half a sentence."""


def choose_hardware(evidence: Evidence) -> HardwareProfile:
    """The fastest hardware on which the system starts as it is; SATA and e1000e where nothing is known of it."""
    firmware = evidence.firmwares[0] if evidence.firmwares else Firmware.BIOS
    bus, why = _choose_bus(evidence, firmware)
    return HardwareProfile(firmware, bus, _choose_card(evidence), why=why)


def _choose_bus(evidence: Evidence, firmware: Firmware) -> tuple[str, str]:
    drivers = _boot_drivers(evidence)
    if drivers is None:
        return "sata", "nothing is known of its drivers"
    known = _WINDOWS_DISKS if evidence.windows else _LINUX_DISKS
    for bus in BUSES:
        needed = known.get(bus, ("none",))
        has_all = bool(set(needed) & drivers) if evidence.windows else set(needed) <= drivers
        fits = firmware is Firmware.BIOS if bus in _BY_BIOS_ONLY else bus != "nvme" or firmware is Firmware.UEFI
        if has_all and fits:
            return bus, f"it has {' and '.join(sorted(set(needed) & drivers))} when it starts"
    return "sata", "it has no driver of ours when it starts"


def _boot_drivers(evidence: Evidence) -> frozenset[str] | None:
    """The drivers that the system has before it sees its root; ``None`` where that is not known."""
    if evidence.windows is not None:
        return frozenset(evidence.windows.boot_drivers)
    kernel = _kernel(evidence)
    if kernel is None or kernel.initramfs_problem:
        return None
    return frozenset((*kernel.built_in, *kernel.in_initramfs))


def _choose_card(evidence: Evidence) -> str:
    kernel, windows = _kernel(evidence), evidence.windows
    known: WindowsFacts | KernelFacts | None = windows or kernel
    if known is None:
        return "e1000e"
    names = _WINDOWS_CARDS if windows is not None else _LINUX_CARDS
    drivers = set(windows.drivers) if windows is not None else set()
    if kernel is not None and windows is None:
        drivers = {*kernel.built_in, *kernel.in_initramfs, *kernel.as_module}
    return next((card for card in NETWORK_CARDS if names[card] in drivers), "e1000e")


def _kernel(evidence: Evidence) -> KernelFacts | None:
    kernels = evidence.linux.kernels if evidence.linux else ()
    return next((kernel for kernel in kernels if kernel.default), kernels[0] if kernels else None)
