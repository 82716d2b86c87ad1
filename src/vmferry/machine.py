"""NOUN Machine: what a VM is apart from its disks' bytes; and Appliance, that machine with its disks' blobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from vmferry.blob import Blob
from vmferry.folder import Companions


class Firmware(Enum):
    """What starts the guest. The values are EC2's boot modes."""

    BIOS = "legacy-bios"
    UEFI = "uefi"


@dataclass(frozen=True, slots=True)
class MachineDisk:
    """One hard disk of a machine, in the appliance's words."""

    name: str
    """The key into ``Appliance.blobs``: the file's name inside the package."""
    capacity: int | None = None
    """Bytes, as the descriptor claims; the disk image's own header wins."""
    bus: str | None = None
    """``ide``, ``scsi``, ``sata``, ``nvme``, ``virtio`` …, as far as the descriptor says."""
    controller: int = 0
    """Number of the controller among those of its bus."""
    unit: int = 0
    """Place on its controller."""
    format_hint: str | None = None
    """The descriptor's format URI: a hint only, what the bytes say wins. Or our own name of a format (``raw``),
    where the package fixes it: then the bytes are not asked, for the guest may have written any in its first sector."""


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """One network card."""

    network: str | None = None
    model: str | None = None
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine's hardware. ``disks`` stand in boot order as far as the descriptor tells."""

    name: str
    cpus: int = 1
    memory: int = 1 << 30
    """Bytes."""
    firmware: Firmware | None = None
    """``None`` when the descriptor does not say: then the disk decides."""
    disks: tuple[MachineDisk, ...] = ()
    interfaces: tuple[NetworkInterface, ...] = ()
    guest_os: str | None = None
    """The descriptor's own words for the operating system."""
    hardware_family: str | None = None
    """``vmx-13``, ``virtualbox-2.2`` …"""
    notes: tuple[str, ...] = ()
    """What was odd but harmless, one sentence each."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What the manifest says of one file."""

    algorithm: str
    """A name that ``hashlib.new`` takes: ``sha1``, ``sha256``, ``sha384``, ``sha512``."""
    value: bytes


@dataclass(frozen=True, slots=True)
class Appliance:
    """A machine with its disks' blobs: what a package file holds. Nothing is unpacked."""

    machine: Machine
    blobs: Mapping[str, Blob]
    """File name inside the package → its bytes; every disk of the machine is there."""
    digests: Mapping[str, Digest] = field(default_factory=dict)
    """File name → what the manifest says; empty without a manifest. Descriptor digests are checked when it is opened,
    those of the disks by whoever reads them to the end (``appliances.HashedBlob``)."""
    package: Blob | None = None
    """The package file itself, closed by ``close``."""
    companions: Mapping[str, Companions] = field(default_factory=dict)
    """File name of a disk → what it may need beside itself; nothing for disks that are not named."""

    def close(self) -> None:
        """Close every blob. May be called twice."""
        for blob in self.blobs.values():
            blob.close()
        if self.package is not None:
            self.package.close()
