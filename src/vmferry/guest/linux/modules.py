"""The modules of a kernel, by the names that matter here. Sources: modules.dep(5), the kernel's Kbuild documents."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vmferry.guest.files import Files
from vmferry.guest.linux.facts import DRIVERS

FOLDERS = ("/lib/modules", "/usr/lib/modules")
_MODULE = re.compile(r"([^/]+)\.ko(?:\.gz|\.xz|\.zst|\.bz2)?$")
_OF_VERSION = re.compile(r"(?:^|/)lib/modules/([^/]+)/")
_OLD_NAMES = {
    "pvscsi": "vmw_pvscsi",
    "xen_vbd": "xen_blkfront",
    "xenblk": "xen_blkfront",
    "xen_vnif": "xen_netfront",
    "xennet": "xen_netfront",
    "storvsc": "hv_storvsc",
    "netvsc": "hv_netvsc",
}
"""What drivers were called before they came into the kernel."""
_SYMBOLS = {
    "ahci": "SATA_AHCI",
    "ata_piix": "ATA_PIIX",
    "e1000": "E1000",
    "e1000e": "E1000E",
    "hv_netvsc": "HYPERV_NET",
    "hv_storvsc": "HYPERV_STORAGE",
    "megaraid_sas": "MEGARAID_SAS",
    "mptsas": "FUSION_SAS",
    "mptspi": "FUSION_SPI",
    "nvme": "BLK_DEV_NVME",
    "sd_mod": "BLK_DEV_SD",
    "virtio_blk": "VIRTIO_BLK",
    "virtio_net": "VIRTIO_NET",
    "virtio_pci": "VIRTIO_PCI",
    "virtio_scsi": "SCSI_VIRTIO",
    "vmw_pvscsi": "VMWARE_PVSCSI",
    "vmxnet3": "VMXNET3",
    "xen_blkfront": "XEN_BLKDEV_FRONTEND",
    "xen_netfront": "XEN_NETDEV_FRONTEND",
}
"""Driver → what the kernel's configuration calls it."""


def find_drivers(paths: Iterable[str]) -> tuple[str, ...]:
    """Of ``DRIVERS``, those whose modules are among ``paths``, sorted; ``-`` and ``_`` are the same."""
    found = set()
    for path in paths:
        if match := _MODULE.search(path):
            name = match[1].replace("-", "_")
            found.add(_OLD_NAMES.get(name, name))
    return tuple(name for name in DRIVERS if name in found)


def find_folder(files: Files, version: str) -> str | None:
    """The folder of a version's modules, links followed, or ``None``."""
    paths = (f"{folder}/{version}" for folder in FOLDERS)
    return next((files.find(path) for path in paths if version and files.is_folder(path)), None)


def find_modules(files: Files, folder: str) -> tuple[str, ...]:
    """The drivers that ``modules.dep`` lists: modprobe loads no others."""
    return find_drivers(line.partition(":")[0] for line in files.lines(f"{folder}/modules.dep"))


def find_built_in(files: Files, folder: str | None, version: str) -> tuple[str, ...]:
    """The drivers in the kernel itself: by ``modules.builtin``, or by its configuration where that is older."""
    if folder is not None and files.is_file(f"{folder}/modules.builtin"):
        return find_drivers(files.lines(f"{folder}/modules.builtin"))
    settings = read_config(files, folder, version)
    return tuple(name for name in DRIVERS if settings.get(f"CONFIG_{_SYMBOLS[name]}") == "y")


def read_config(files: Files, folder: str | None, version: str) -> dict[str, str]:
    """The configuration that a kernel was built with; empty where it is not there."""
    for path in (f"/boot/config-{version}", f"{folder}/config"):
        if settings := files.settings(path):
            return settings
    return {}


def of_version(names: Iterable[str], version: str) -> tuple[list[str], set[str]]:
    """The modules in an initramfs that ``version`` loads, and the other versions that have modules in it.

    Those that lie in no version's folder, as ``mkinitrd`` of old has them, are any version's.
    """
    own, others = [], set()
    for name in names:
        match = _OF_VERSION.search(name)
        if match is None or match[1] == version:
            own.append(name)
        elif _MODULE.search(name):
            others.add(match[1])
    return own, others
