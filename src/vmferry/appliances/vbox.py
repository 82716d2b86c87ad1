"""VBOX: VirtualBox's own description of a machine, with its disks beside it. Source: files of VirtualBox 4 to 7."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vmferry.appliances._contents import read_small
from vmferry.appliances._description import DescribedDrive, Description, assemble
from vmferry.appliances._probing import has_root, need_folder
from vmferry.appliances._units import parse_whole
from vmferry.appliances._xml import Element, attribute, children, local_name, parse_xml
from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.folder import Folder
from vmferry.limits import MAX_MACHINE_DISKS, MAX_OVF_DESCRIPTOR, MAX_OVF_DISKS, MAX_OVF_ITEMS
from vmferry.machine import Appliance, Firmware
from vmferry.registry import About
from vmferry.units import MIB

_BUSES = {
    "piix3": "ide", "piix4": "ide", "ich6": "ide",
    "ahci": "sata", "intelahci": "sata",
    "lsilogic": "scsi", "buslogic": "scsi", "lsilogicsas": "scsi",
    "nvme": "nvme", "virtioscsi": "virtio", "usb": "usb",
}  # fmt: skip
"""``StorageController/@type``, in lower case."""
_LAST = 1 << 20
"""The highest place on a controller: a higher one is taken for it."""
_FORMATS = {"vdi": "vdi", "vmdk": "vmdk", "vhd": "vhd", "raw": "raw"}


class Vbox:
    """The VirtualBox folder."""

    name = "vbox"
    ec2_name = None
    about = About(
        title="VirtualBox folder (.vbox)",
        reads="processors, memory, firmware, cards, the hard disks on any controller as they are now",
        writes="",
        refuses="encrypted machines and disks, disks outside the folder",
        limits=f"{MAX_MACHINE_DISKS} disks; description of 8 MiB",
    )

    def probe(self, blob: Blob) -> bool:
        """Whether it is called ``….vbox`` (or ``.xml``) and its root element is VirtualBox."""
        return has_root(blob, (".vbox", ".xml"), "VirtualBox")

    def open(self, blob: Blob, folder: Folder | None = None) -> Appliance:
        beside = need_folder(blob, folder)
        root = parse_xml(read_small(blob, MAX_OVF_DESCRIPTOR, quote(blob.name)), blob.name)
        if any(local_name(child) == "MachineEncrypted" for child in root):
            raise UnsupportedFeatureError(f"{quote(blob.name)} is encrypted: remove the encryption in VirtualBox.")
        machine = next(iter(children(root, "Machine")), None)
        if machine is None:
            raise CorruptDiskError(
                f"{quote(blob.name)} describes no machine: name the .vbox file of one, or export an OVA."
            )
        return assemble(blob, beside, _describe(machine, blob.name))


PACKAGE = Vbox()


@dataclass(frozen=True, slots=True)
class _Medium:
    """A hard disk of the media registry; ``parents`` are locations, nearest first."""

    location: str
    format: str | None
    parents: tuple[str, ...]


def _describe(machine: Element, name: str) -> Description:
    hardware = next(iter(children(machine, "Hardware")), machine)
    firmware = _first(hardware, "Firmware", "type") or ""
    described = Description(
        name=attribute(machine, "name") or "",
        firmware=Firmware.UEFI if firmware.upper().startswith("EFI") else None,
        guest_os=attribute(machine, "OSType"),
        hardware_family="virtualbox",
    )
    described.set_cpus(_first(hardware, "CPU", "count"))
    described.set_memory(_first(hardware, "Memory", "RAMSize"), MIB)
    if attribute(machine, "stateFile"):
        described.notes.append("The machine was suspended: what was in its memory is lost.")
    media = _media(machine, name)
    for uuid, bus, controller, unit in _attached(machine, hardware):
        medium = media.get(uuid)
        if medium is None:
            raise CorruptDiskError(
                f"{quote(name)}: the disk {quote(uuid)} is not in the machine's own list of media: export an OVA."
            )
        if medium.parents:
            listed = ", ".join(quote(parent) for parent in medium.parents[:4])
            described.notes.append(
                f"{quote(medium.location)} holds only what changed since a snapshot: "
                f"its parents are given with --parent, nearest first: {listed}."
            )
        described.drives.append(DescribedDrive(medium.location, bus, controller, unit, medium.format))
    for adapter in _adapters(hardware, name):
        network = next((attribute(way, "name") or local_name(way) for way in adapter if _is_way(way)), None)
        described.add_interface(network, attribute(adapter, "type"), attribute(adapter, "MACAddress"))
    return described


def _first(parent: Element, child: str, key: str) -> str | None:
    return next((attribute(element, key) for element in children(parent, child)), None)


def _media(machine: Element, name: str) -> dict[str, _Medium]:
    """UUID → the medium; a snapshot's child lies inside its parent."""
    found: dict[str, _Medium] = {}
    lists = [disks for registry in children(machine, "MediaRegistry") for disks in children(registry, "HardDisks")]
    waiting: list[tuple[Element, tuple[str, ...]]] = [
        (disk, ()) for disks in lists for disk in children(disks, "HardDisk")
    ]
    while waiting:
        element, parents = waiting.pop()
        uuid, location = attribute(element, "uuid"), attribute(element, "location")
        if len(found) >= MAX_OVF_DISKS:
            raise UnsafeDiskError(
                f"{quote(name)} lists more than {MAX_OVF_DISKS:,} disks; it describes no machine: name another file."
            )
        if not uuid or not location or uuid in found:
            raise CorruptDiskError(f"{quote(name)}: a disk has no uuid or location, or comes twice: export an OVA.")
        if any((attribute(p, "name") or "").startswith("CRYPT/") for p in children(element, "Property")):
            raise UnsupportedFeatureError(
                f"{quote(name)}: the disk {quote(location)} is encrypted: remove the encryption in VirtualBox."
            )
        found[uuid] = _Medium(location, _FORMATS.get((attribute(element, "format") or "").lower()), parents)
        waiting += [(child, (location, *parents)) for child in children(element, "HardDisk")]
    return found


def _attached(machine: Element, hardware: Element) -> Iterator[tuple[str, str | None, int, int]]:
    """UUID, bus, controller and place of each hard disk; the controllers stand in Hardware since VirtualBox 7."""
    numbers: dict[str | None, int] = {}
    for place in (machine, hardware) if machine is not hardware else (machine,):
        for controllers in children(place, "StorageControllers"):
            for controller in children(controllers, "StorageController"):
                bus = _BUSES.get((attribute(controller, "type") or "").lower())
                number = numbers.get(bus, 0)
                numbers[bus] = number + 1
                yield from _drives(controller, bus, number)


def _drives(controller: Element, bus: str | None, number: int) -> list[tuple[str, str | None, int, int]]:
    found = []
    for device in children(controller, "AttachedDevice"):
        port, slot = (min(parse_whole(attribute(device, key)) or 0, _LAST) for key in ("port", "device"))
        unit = 2 * port + slot if bus == "ide" else port
        if attribute(device, "type") == "HardDisk":
            found += [(attribute(image, "uuid") or "", bus, number, unit) for image in children(device, "Image")]
    return sorted(found, key=lambda one: one[3])


def _adapters(hardware: Element, name: str) -> list[Element]:
    found = [
        adapter
        for network in children(hardware, "Network")
        for adapter in children(network, "Adapter")
        if (attribute(adapter, "enabled") or "").lower() in ("true", "1")
    ]
    if len(found) > MAX_OVF_ITEMS:
        raise UnsafeDiskError(
            f"{quote(name)} has more than {MAX_OVF_ITEMS:,} cards; it describes no machine: name another file."
        )
    return found


def _is_way(element: Element) -> bool:
    """Whether it says what a card is attached to; those that were chosen before stand in DisabledModes."""
    return local_name(element) not in ("", "DisabledModes")
