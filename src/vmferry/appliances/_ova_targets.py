"""The dialects of OVF that are written: one table of what each product takes.

Sources: VMware, *OVF conformance descriptors* (govmomi's fixtures); VirtualBox, ``ovfreader.cpp`` and
``ApplianceImpl*.cpp``; XenServer, XenCenter's ``XenOvfApi`` and its import action; Microsoft, Hyper-V WMI provider
(``Msvm_VirtualSystemSettingData``). Read, not tried on the products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmferry.appliances._targets import Target
from vmferry.machine import Firmware


@dataclass(frozen=True, slots=True)
class Bus:
    """One kind of controller: how an Item says it, how many there may be, and the places on each."""

    resource_type: int
    title: str
    controllers: int
    places: tuple[int, ...]
    subtype: str | None = None


_SCSI_PLACES = tuple(place for place in range(16) if place != 7)
"""7 is the controller itself."""
_IDE = Bus(5, "IDE Controller", 2, (0, 1))
"""Without a subtype: PIIX4, which VirtualBox writes, is refused by ESXi."""
_SCSI = Bus(6, "SCSI Controller", 4, _SCSI_PLACES, "lsilogic")
_SATA = Bus(20, "SATA Controller", 1, tuple(range(30)), "AHCI")

FORMAT_URIS: Mapping[str, str] = {
    "vmdk": "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized",
    "vhd": "http://www.microsoft.com/technet/virtualserver/downloads/vhdspec.mspx",
    "vhdx": "https://learn.microsoft.com/openspecs/windows_protocols/ms-vhdx",
}
"""Our name of a format that goes into a package → what a descriptor calls it."""
VIRTUALBOX_VHD_URI = "http://go.microsoft.com/fwlink/?LinkId=137171"
"""VirtualBox knows a VHD by this one alone."""

APPEND_ONLY = frozenset({"vmdk"})
"""Formats that are written from front to back: the digest of such a file is taken on the way."""


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What one product takes."""

    disk_format: str
    """Our name of the format that its disks have."""
    families: Mapping[Firmware | None, str]
    """``VirtualSystemType`` by firmware; ``None`` where that is not known."""
    buses: Mapping[str, Bus]
    """By the words of ``MachineDisk.bus``."""
    default_bus: str
    scsi_subtypes: Mapping[str, str]
    """``Controller.value`` → the subtype of a SCSI controller; the first is the default."""
    windows_scsi: str | None
    """The ``Controller.value`` that Windows has a driver for, where it lacks one for the default."""
    nics: Mapping[str, str]
    """Family of network cards → how an Item says it; the first is the default."""
    network: str
    """What a card is connected to when nobody says."""
    version: str | None = None
    """``ovf:version`` of the envelope, for those who ask for it."""
    bios_boot_bus: str | None = None
    """The bus of the first disk under a BIOS, where it boots from no other."""
    uefi_lacks: frozenset[str] = field(default_factory=frozenset)
    """Buses that a UEFI machine does not have."""
    numbers_drives: bool = False
    """Whether a drive says in ``Connection`` which device it is, and whether it boots (XenCenter)."""


_LSI = {"lsilogic": "lsilogic", "lsilogicsas": "lsilogicsas"}
_VMWARE_NICS = {"e1000": "E1000", "e1000e": "E1000e", "vmxnet3": "VmxNet3", "pcnet32": "PCNet32"}
_VMX = {None: "vmx-10", Firmware.BIOS: "vmx-10", Firmware.UEFI: "vmx-10"}
"""ESXi 5.5, and all after it. NVMe asks for more: see ``fit``."""

TARGETS: Mapping[Target, TargetFacts] = {
    Target.GENERIC: TargetFacts(
        disk_format="vmdk",
        families=_VMX,
        buses={"scsi": _SCSI, "ide": _IDE, "sata": _SATA},
        default_bus="scsi",
        scsi_subtypes=_LSI,
        windows_scsi="lsilogicsas",
        nics={"e1000": "E1000", "pcnet32": "PCNet32"},
        network="VM Network",
    ),
    Target.ESXI: TargetFacts(
        disk_format="vmdk",
        families=_VMX,
        buses={
            "scsi": _SCSI,
            "ide": _IDE,
            "sata": Bus(20, "SATA Controller", 4, tuple(range(30)), "vmware.sata.ahci"),
            "nvme": Bus(20, "NVMe Controller", 4, tuple(range(15)), "vmware.nvme.controller"),
        },
        default_bus="scsi",
        scsi_subtypes=_LSI | {"pvscsi": "VirtualSCSI"},
        windows_scsi="lsilogicsas",
        nics=_VMWARE_NICS,
        network="VM Network",
    ),
    Target.VIRTUALBOX: TargetFacts(
        disk_format="vmdk",
        families=dict.fromkeys(_VMX, "virtualbox-2.2"),
        buses={"sata": _SATA, "ide": _IDE, "scsi": Bus(6, "SCSI Controller", 1, _SCSI_PLACES, "lsilogic")},
        default_bus="sata",
        scsi_subtypes=_LSI,
        windows_scsi="lsilogicsas",
        nics={"e1000": "E1000", "pcnet32": "PCNet32", "virtio": "virtio"},
        network="NAT",
        version="1.0",
    ),
    Target.XEN: TargetFacts(
        disk_format="vhd",
        families=dict.fromkeys(_VMX, "hvm-3.0-unknown"),
        buses={"scsi": _SCSI, "ide": _IDE},
        default_bus="scsi",
        scsi_subtypes={"lsilogic": "lsilogic"},
        windows_scsi=None,  # the guest sees Xen's own disks, whatever the descriptor says
        nics={"e1000": "E1000"},
        network="Network 0",
        version="1.0",
        numbers_drives=True,
    ),
    Target.HYPERV: TargetFacts(
        disk_format="vhdx",
        families={
            None: "Microsoft:Hyper-V:SubType:1",
            Firmware.BIOS: "Microsoft:Hyper-V:SubType:1",
            Firmware.UEFI: "Microsoft:Hyper-V:SubType:2",
        },
        buses={
            "scsi": Bus(6, "SCSI Controller", 4, tuple(range(64)), "Microsoft:Hyper-V:Synthetic SCSI Controller"),
            "ide": Bus(5, "IDE Controller", 2, (0, 1), "Microsoft:Hyper-V:Emulated IDE Controller"),
        },
        default_bus="scsi",
        scsi_subtypes={},
        windows_scsi=None,
        nics={"synthetic": "Microsoft:Hyper-V:Synthetic Ethernet Port"},
        network="Default Switch",
        bios_boot_bus="ide",
        uefi_lacks=frozenset({"ide"}),
    ),
}


def format_uri(target: Target, name: str) -> str:
    """What a descriptor for ``target`` calls our format ``name``. ``ValueError`` for one that goes into no package."""
    if name not in FORMAT_URIS:
        raise ValueError(f"{name!r} goes into no OVF package; one of {', '.join(FORMAT_URIS)} does")
    return VIRTUALBOX_VHD_URI if (target, name) == (Target.VIRTUALBOX, "vhd") else FORMAT_URIS[name]
