"""The drivers that a Windows has for disks and networks: which start at boot, whether their files are there, and
whether a device leads to them.

Sources: Microsoft, "HKLM\\SYSTEM\\CurrentControlSet\\Services Registry Tree" and "Specifying Driver Load Order"; and
what virt-v2v's manual and kvm-guest-drivers-windows' .inf files tell of CriticalDeviceDatabase and DriverDatabase.
"""

from __future__ import annotations

from vmferry.guest.files import Files
from vmferry.guest.windows.facts import WINDOWS_DRIVERS, DriverFacts
from vmferry.guest.windows.hive import Key
from vmferry.guest.windows.registry import Registry
from vmferry.guest.windows.version import Version

_DEVICES = {
    "awsnvme": ("PCI\\VEN_1D0F&DEV_8061", "PCI\\VEN_1D0F&DEV_0061", "PCI\\VEN_1D0F&DEV_CD01"),
    "lsi_sas": ("PCI\\VEN_1000&DEV_0054",),
    "msahci": ("PCI\\CC_010601",),
    "netkvm": (
        "PCI\\VEN_1AF4&DEV_1000&SUBSYS_00011AF4&REV_00",
        "PCI\\VEN_1AF4&DEV_1041&SUBSYS_11001AF4&REV_01",
        "PCI\\VEN_1AF4&DEV_1000",
        "PCI\\VEN_1AF4&DEV_1041",
    ),
    "pvscsi": ("PCI\\VEN_15AD&DEV_07C0&SUBSYS_07C015AD", "PCI\\VEN_15AD&DEV_07C0"),
    "storahci": ("PCI\\CC_010601",),
    "stornvme": ("PCI\\CC_010802",),
    "storvsc": ("VMBUS\\{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}",),
    "vioscsi": (
        "PCI\\VEN_1AF4&DEV_1004&SUBSYS_00081AF4&REV_00",
        "PCI\\VEN_1AF4&DEV_1048&SUBSYS_11001AF4&REV_01",
        "PCI\\VEN_1AF4&DEV_1004",
        "PCI\\VEN_1AF4&DEV_1048",
    ),
    "viostor": (
        "PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00",
        "PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01",
        "PCI\\VEN_1AF4&DEV_1001",
        "PCI\\VEN_1AF4&DEV_1042",
    ),
    "vmxnet3ndis6": ("PCI\\VEN_15AD&DEV_07B0",),
    "xenvbd": ("XENBUS\\VEN_XSC000&DEV_VBD&REV_00000001", "XEN\\VBD"),
}
"""Names of devices by which the driver's .inf file is found; of drivers that share one, whichever is the newer's."""
_BOOT = 0
_DATABASE_SINCE = (6, 2)
"""Windows 8: before it, the devices that are needed at boot stand in CriticalDeviceDatabase."""


def find_drivers(files: Files, registry: Registry, version: Version) -> tuple[DriverFacts, ...]:
    """Of ``WINDOWS_DRIVERS``, those that are installed, sorted by name."""
    services = registry.services
    bound = _bound_by_database(registry) if version.pair >= _DATABASE_SINCE else _bound_by_critical_devices(registry)
    found = []
    for name in sorted(WINDOWS_DRIVERS, key=str.lower):
        key = services.key(name)
        if key.exists:
            found.append(_describe(files, registry, key, name, bound=name.lower() in bound))
    return tuple(found)


def starts_at_boot(driver: DriverFacts) -> bool:
    """Whether it is there when Windows looks for its own disk."""
    return driver.start == _BOOT and driver.file_exists and not driver.overridden


def _describe(files: Files, registry: Registry, key: Key, name: str, *, bound: bool) -> DriverFacts:
    path = registry.path(key.text("ImagePath") or f"System32\\drivers\\{name}.sys")
    overrides = key.key("StartOverride")
    return DriverFacts(
        name,
        start=key.number("Start"),
        path=path or key.text("ImagePath") or "",
        file_exists=path is not None and bool(files.size(path)),
        overridden=any((overrides.number(profile) or 0) != _BOOT for profile in overrides.value_names()),
        group=key.text("Group") or "",
        bound=bound,
    )


def _bound_by_critical_devices(registry: Registry) -> set[str]:
    """Services, lower case, that CriticalDeviceDatabase names for some device."""
    devices = registry.control.key("CriticalDeviceDatabase")
    return {(device.text("Service") or "").lower() for device in devices.below()}


def _bound_by_database(registry: Registry) -> set[str]:
    """Services, lower case, for one of whose devices the driver database names an .inf file."""
    databases = [hive.key("DriverDatabase\\DeviceIds") for hive in (registry.system, registry.drivers)]
    return {
        service
        for service, devices in _DEVICES.items()
        if any(database.key(device).value_names() for database in databases for device in devices)
    }
