"""File trees of Windows systems, after the documented layout of each release."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.guest.hive_builder import HiveOptions, build_hive, expand, merge, nest
from vmferry.guest.facts import VolumeFacts
from vmferry.guest.filesystems.memory import MemoryFileSystem
from vmferry.guest.tree import Tree
from vmferry.guest.windows.facts import WindowsFacts
from vmferry.guest.windows.system import find_windows

SIGNATURE, START = 0xB3EBA8F1, 368050176
PARTITION, DISK = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef"), uuid.UUID("fedcba98-7654-3210-fedc-ba9876543210")
MBR_VOLUMES = (
    VolumeFacts("disk 1, partition 1", 1, 1, 1 << 20, 350 << 20, "ntfs", partition_uuid=f"{SIGNATURE:08x}-01"),
    VolumeFacts("disk 1, partition 2", 1, 2, START, 40 << 30, "ntfs", partition_uuid=f"{SIGNATURE:08x}-02"),
)
GPT_VOLUMES = (
    VolumeFacts("disk 1, partition 1", 1, 1, 1 << 20, 100 << 20, "fat32", partition_uuid=str(DISK)),
    VolumeFacts("disk 1, partition 3", 1, 3, 116 << 20, 40 << 30, "ntfs", partition_uuid=str(PARTITION)),
)
_VERSION = "Microsoft\\Windows NT\\CurrentVersion"
_DRIVERS = "/Windows/System32/drivers"
_MACHINES = {"x86_64": 0x8664, "i386": 0x14C, "aarch64": 0xAA64}


@dataclass
class Release:
    """What one release of Windows has where it has just been installed."""

    version: Mapping[str, Any]
    """Of ``SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion``."""
    drivers: Mapping[str, int]
    """Service → Start."""
    product_type: str = "ServerNT"
    folder: str = "/Windows"
    critical: Mapping[str, str] = field(default_factory=dict)
    """Device → service in CriticalDeviceDatabase."""
    database: tuple[str, ...] = ()
    """Devices in DriverDatabase."""
    languages: tuple[str, ...] = ("en-US",)
    architecture: str = "x86_64"
    hive: HiveOptions = field(default_factory=HiveOptions)


def _ten(product: str, build: str, edition: str, kind: str, release: str) -> dict[str, Any]:
    return {
        "ProductName": product, "CurrentVersion": "6.3", "CurrentMajorVersionNumber": 10,
        "CurrentMinorVersionNumber": 0, "CurrentBuild": build, "CurrentBuildNumber": build, "UBR": 1234,
        "EditionID": edition, "InstallationType": kind, "DisplayVersion": release,
    }  # fmt: skip


_TEN_DRIVERS = {"storahci": 0, "stornvme": 0, "storvsc": 0, "intelide": 3, "pciide": 3, "atapi": 3, "LSI_SAS": 3}
_TEN_DEVICES = ("PCI\\CC_010601", "PCI\\CC_010802", "VMBUS\\{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}")
RELEASES = {
    "xp": Release(
        {"ProductName": "Microsoft Windows XP", "CurrentVersion": "5.1", "CurrentBuildNumber": "2600",
         "CurrentBuild": "1.511.1 () (Obsolete data - do not use)", "CSDVersion": "Service Pack 3",
         "ProductId": "76487-OEM-0011903-00101"},
        {"atapi": 0, "intelide": 0}, "WinNT", critical={"primary_ide_channel": "atapi"}, languages=(),
        architecture="i386", hive=HiveOptions(minor=3, kind=b"lf"),
    ),
    "2003": Release(
        {"ProductName": "Microsoft Windows Server 2003 R2", "CurrentVersion": "5.2", "CurrentBuildNumber": "3790",
         "CSDVersion": "Service Pack 2", "ProductId": "69712-640-3560123-45678"},
        {"atapi": 0, "intelide": 0, "symmpi": 0}, critical={"pci#ven_1000&dev_0030": "symmpi"}, languages=(),
        hive=HiveOptions(minor=3, kind=b"lf"),
    ),
    "7": Release(
        {"ProductName": "Windows 7 Professional", "CurrentVersion": "6.1", "CurrentBuild": "7601",
         "CSDVersion": "Service Pack 1", "EditionID": "Professional", "InstallationType": "Client"},
        {"msahci": 0, "intelide": 3, "LSI_SAS": 0, "iaStorV": 3}, "WinNT",
        critical={"pci#cc_010601": "msahci", "pci#ven_1000&dev_0054": "LSI_SAS"},
    ),
    "2008r2": Release(
        {"ProductName": "Windows Server 2008 R2 Standard", "CurrentVersion": "6.1", "CurrentBuild": "7601",
         "CSDVersion": "Service Pack 1", "EditionID": "ServerStandard", "InstallationType": "Server"},
        {"msahci": 3, "LSI_SAS": 0, "intelide": 0}, critical={"pci#ven_1000&dev_0054": "LSI_SAS"},
    ),
    "2012r2": Release(
        {"ProductName": "Windows Server 2012 R2 Standard", "CurrentVersion": "6.3", "CurrentBuild": "9600",
         "EditionID": "ServerStandard", "InstallationType": "Server Core"},
        _TEN_DRIVERS, database=_TEN_DEVICES,
    ),
    "8.1": Release(
        {"ProductName": "Windows 8.1 Pro", "CurrentVersion": "6.3", "CurrentBuild": "9600",
         "EditionID": "Professional", "InstallationType": "Client"}, _TEN_DRIVERS, "WinNT", database=_TEN_DEVICES,
    ),
    "10": Release(_ten("Windows 10 Pro", "19045", "Professional", "Client", "22H2"), _TEN_DRIVERS, "WinNT",
                  database=_TEN_DEVICES),
    "11": Release(_ten("Windows 10 Pro", "22631", "Professional", "Client", "23H2"), _TEN_DRIVERS, "WinNT",
                  database=_TEN_DEVICES),
    "11-arm": Release(_ten("Windows 10 Pro", "26100", "Professional", "Client", "24H2"), _TEN_DRIVERS, "WinNT",
                      database=_TEN_DEVICES, architecture="aarch64"),
    "2016": Release(_ten("Windows Server 2016 Standard", "14393", "ServerStandard", "Server", "1607"), _TEN_DRIVERS,
                    database=_TEN_DEVICES),
    "2019": Release(_ten("Windows Server 2019 Standard", "17763", "ServerStandard", "Server", "1809"), _TEN_DRIVERS,
                    database=_TEN_DEVICES),
    "2022": Release(_ten("Windows Server 2022 Datacenter", "20348", "ServerDatacenter", "Server Core", "21H2"),
                    _TEN_DRIVERS, database=_TEN_DEVICES),
    "2025": Release(_ten("Windows Server 2025 Standard", "26100", "ServerStandard", "Server", "24H2"), _TEN_DRIVERS,
                    database=_TEN_DEVICES),
}  # fmt: skip


def pe(architecture: str) -> bytes:
    """The head of a program."""
    return (
        b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + b"PE\0\0" + struct.pack("<H", _MACHINES[architecture])
    )


def system_hive(release: Release, more: Mapping[str, Any], control_set: int = 1) -> dict[str, Any]:
    """What SYSTEM holds; ``more`` is put over it: paths beside the control set, or in it where they begin with
    ``Control`` or ``Services``."""
    own: dict[str, Any] = {
        "Control\\ProductOptions": {"ProductType": release.product_type},
        "Control\\ComputerName\\ComputerName": {"ComputerName": "WIN-1"},
        "Control\\Terminal Server": {"fDenyTSConnections": 1},
        "Control\\Terminal Server\\WinStations\\RDP-Tcp": {"PortNumber": 3389},
        "Control\\Session Manager\\Memory Management": {"PagingFiles": ("?:\\pagefile.sys",)},
        "Control\\Nls\\Language": {"InstallLanguage": "0409"},
        "Control\\CrashControl": {"AutoReboot": 1},
        "Services\\Tcpip\\Parameters": {"NV Hostname": "win-1", "Domain": ""},
        "Services\\SharedAccess\\Parameters\\FirewallPolicy": {
            f"{profile}Profile": {"EnableFirewall": 1} for profile in ("Domain", "Standard", "Public")
        },
        "Services\\TermService": {"Start": 3},
    }
    for language in release.languages:
        own[f"Control\\MUI\\UILanguages\\{language}"] = {"LCID": 1033}
    for device, service in release.critical.items():
        own[f"Control\\CriticalDeviceDatabase\\{device}"] = {"Service": service, "ClassGUID": "{4d36e97b}"}
    for name, start in release.drivers.items():
        path = expand(f"System32\\drivers\\{name}.sys")
        own[f"Services\\{name}"] = {"Start": start, "Type": 1, "Group": "SCSI Miniport", "ImagePath": path}
    over = nest(more)
    inside: dict[str, Any] = {name: over.pop(name) for name in ("Control", "Services") if name in over}
    whole: dict[str, Any] = {
        "Select": {"Current": control_set, "Default": control_set, "LastKnownGood": control_set, "Failed": 0},
        f"ControlSet{control_set:03d}": merge(nest(own), inside),
        "Setup": {"SystemSetupInProgress": 0, "OOBEInProgress": 0},
    }
    for device in release.database:
        whole = merge(whole, nest({f"DriverDatabase\\DeviceIds\\{device}": {"mshdc.inf": b"\1\xff\0\0"}}))
    return merge(whole, over)


def virtio(start: int = 0, **more: Any) -> dict[str, Any]:
    """The service of virtio-win's driver of disks, for SYSTEM."""
    path = expand("\\SystemRoot\\System32\\drivers\\viostor.sys")
    own = {"Start": start, "Type": 1, "Group": "SCSI miniport", "ImagePath": path}
    return {"Services\\viostor": {**own, **more}}


VIRTIO_FILE = {f"{_DRIVERS}/viostor.sys": b"MZ"}


def bcd(device: bytes | None, **more: bytes) -> bytes:
    """A boot configuration whose default entry starts from ``device``; ``more`` are elements: ``e16000046=b"\\1"``."""
    loader = "{2b1a0e36-0000-11ee-8000-000000000001}"
    elements: dict[str, Any] = {"12000002": {"Element": "\\Windows\\system32\\winload.efi"}}
    if device is not None:
        elements["21000001"] = {"Element": device}
    elements |= {name[1:]: {"Element": value} for name, value in more.items()}
    content = {
        "Description": {"KeyName": "BCD00000000", "System": 1},
        "Objects\\{9dea862c-5cdd-4e70-acc1-f32b344d4795}\\Elements": {"23000003": {"Element": loader}},
        f"Objects\\{loader}\\Elements": elements,
    }
    return build_hive(content, HiveOptions(kind=b"lf", minor=3, name="BCD"))


def mbr_device(start: int = START, signature: int = SIGNATURE) -> bytes:
    """The device of an element that is a partition of an MBR."""
    return bytes(16) + struct.pack("<IIII", 6, 0, 0x48, 0) + struct.pack("<Q8xIII12x16x", start, 0, 1, signature)


def gpt_device(partition: uuid.UUID = PARTITION) -> bytes:
    """The device of an element that is a partition of a GPT."""
    tail = partition.bytes_le + struct.pack("<II", 0, 0) + DISK.bytes_le + bytes(16)
    return bytes(16) + struct.pack("<IIII", 6, 0, 0x48, 0) + tail


BOOT_DEVICE = bytes(16) + struct.pack("<IIII", 5, 0, 0x48, 0) + bytes(56)
"""The device of an element that is the partition of the boot manager."""


def files(
    release: str,
    system: Mapping[str, Any] | None = None,
    software: Mapping[str, Any] | None = None,
    more: Mapping[str, bytes | str | None] | None = None,
    control_set: int = 1,
) -> dict[str, bytes | str | None]:
    """Drive C: of ``release`` with ``system`` and ``software`` put over its hives, and ``more`` files."""
    known = RELEASES[release]
    config = f"{known.folder}/System32/config"
    own = nest({_VERSION: known.version, f"{_VERSION}\\Winlogon": {"AutoAdminLogon": "0"}})
    return {
        f"{config}/SYSTEM": build_hive(system_hive(known, system or {}, control_set), known.hive),
        f"{config}/SOFTWARE": build_hive(merge(own, nest(software or {})), known.hive),
        f"{known.folder}/System32/ntoskrnl.exe": pe(known.architecture),
        **{f"{known.folder}/System32/drivers/{name}.sys": b"MZ" for name in known.drivers},
        **(more or {}),
    }


def look(
    content: Mapping[str, bytes | str | None],
    volumes: tuple[VolumeFacts, ...] = (),
    **mounts: Mapping[str, bytes | str | None],
) -> WindowsFacts | None:
    """What is found on drive C:, with other file systems mounted: ``efi=`` and ``boot=``."""
    places = {"efi": "/boot/efi", "boot": "/boot"}
    systems = {"/": MemoryFileSystem(content, kind="ntfs", ignores_case=True)}
    for name, inside in mounts.items():
        systems[places[name]] = MemoryFileSystem(inside, kind="fat32" if name == "efi" else "ntfs", ignores_case=True)
    return find_windows(Tree(systems), volumes)


def see(
    release: str,
    system: Mapping[str, Any] | None = None,
    software: Mapping[str, Any] | None = None,
    more: Mapping[str, bytes | str | None] | None = None,
) -> WindowsFacts:
    """What is found in ``files`` of the same arguments."""
    facts = look(files(release, system, software, more))
    assert facts is not None
    return facts
