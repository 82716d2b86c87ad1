"""Whom an appliance is written for, and what else can be chosen about it."""

from __future__ import annotations

from enum import Enum


class Target(Enum):
    """Whom an appliance is written for."""

    GENERIC = "generic"
    """What ESXi, VirtualBox and virt-v2v take alike."""
    ESXI = "esxi"
    VIRTUALBOX = "virtualbox"
    XEN = "xen"
    HYPERV = "hyperv"


class Manifest(Enum):
    """The digests that go into the manifest; the value is what ``hashlib`` calls them."""

    SHA256 = "sha256"
    SHA1 = "sha1"
    """For vSphere 5.5 and older, and XenCenter; vSphere 7 and newer refuse it."""
    NONE = "none"


class Controller(Enum):
    """What the disks hang on, where the caller chooses."""

    LSILOGIC = "lsilogic"
    LSILOGIC_SAS = "lsilogicsas"
    PVSCSI = "pvscsi"
    AHCI = "ahci"
    IDE = "ide"
    NVME = "nvme"

    @property
    def bus(self) -> str:
        """In the words of ``MachineDisk.bus``."""
        return {"ahci": "sata", "ide": "ide", "nvme": "nvme"}.get(self.value, "scsi")
