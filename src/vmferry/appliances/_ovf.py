"""The OVF descriptor: XML → what a machine is. Sources: DSP0243 (OVF 1.x, 2.0), and 0.9 as VMware wrote it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vmferry.appliances._hardware import Drive, Hardware, read_hardware
from vmferry.appliances._units import parse_quantity, parse_whole
from vmferry.appliances._xml import Element, anywhere, attribute, children, local_name, parse_xml, sections, text
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.limits import MAX_OVF_DISKS, MAX_OVF_FILES
from vmferry.machine import Firmware

_MAX_NOTES = 50
_HOST_RESOURCE = re.compile(r"(?:ovf:)?/{0,2}(disk|file)/(.+)")
_PROPERTY = re.compile(r"\$\{(.+)\}")


@dataclass(frozen=True, slots=True)
class OvfFile:
    """A file that the descriptor refers to. ``size`` and ``chunk_size`` are bytes, as claimed."""

    href: str
    size: int | None
    chunk_size: int | None
    compression: str | None


@dataclass(frozen=True, slots=True)
class OvfDisk:
    """A disk of the machine, with the file that holds it; ``None`` for an empty one. ``capacity`` is bytes."""

    id: str
    file: OvfFile | None
    capacity: int | None
    format: str | None
    drive: Drive


@dataclass(frozen=True, slots=True)
class Ovf:
    """What a descriptor says. ``disks`` stand in the order of their controllers and places."""

    name: str
    hardware: Hardware
    firmware: Firmware | None
    guest_os: str | None
    hardware_family: str | None
    disks: list[OvfDisk] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def parse_ovf(content: bytes, name: str) -> Ovf:
    """Parse the descriptor ``content`` out of the file ``name``.

    Raises ``CorruptDiskError`` where it contradicts itself, ``UnsupportedFeatureError`` for several machines and delta
    disks, ``UnsafeDiskError`` for what is beyond the limits.
    """
    root = parse_xml(content, name)
    if local_name(root) != "Envelope":
        raise CorruptDiskError(
            f"{quote(name)} is no OVF descriptor: its root is {quote(local_name(root))}, not Envelope. Export it again."
        )
    system = _virtual_system(root, name)
    hardware_section = next(iter(sections(system, "VirtualHardwareSection")), None)
    if hardware_section is None:
        raise CorruptDiskError(
            f"{quote(name)} describes no hardware (VirtualHardwareSection): export the machine again."
        )
    hardware = read_hardware(hardware_section, _default_configuration(root))
    tables = _Tables(root, name)
    disks = tables.attached(hardware.drives)
    family = (text(element, "VirtualSystemType") for element in children(hardware_section, "System"))
    return Ovf(
        name=quote(text(system, "Name") or attribute(system, "id") or ""),
        hardware=hardware,
        firmware=_firmware(system, hardware_section),
        guest_os=_guest_os(system),
        hardware_family=next((quote(said) for said in family if said), None),
        disks=disks,
        notes=[*hardware.notes, *tables.notes][:_MAX_NOTES],
    )


def _virtual_system(root: Element, name: str) -> Element:
    """The one virtual system, be it in collections; OVF 0.9 calls both Content."""
    systems: list[Element] = []
    collections = [root]
    while collections:
        parent = collections.pop()
        systems += sections(parent, "VirtualSystem")
        collections += sections(parent, "VirtualSystemCollection")
    if not systems:
        raise CorruptDiskError(f"{quote(name)} describes no virtual machine (VirtualSystem): export the machine again.")
    if len(systems) > 1:
        listed = ", ".join(quote(attribute(system, "id") or text(system, "Name") or "?") for system in systems[:10])
        more = f" and {len(systems) - 10} more" if len(systems) > 10 else ""
        raise UnsupportedFeatureError(
            f"{quote(name)} describes {len(systems)} virtual machines, {listed}{more}: "
            "export each into an OVA of its own."
        )
    return systems[0]


def _default_configuration(root: Element) -> str | None:
    """The deployment option that is meant where nobody chooses."""
    configurations = [
        configuration
        for section in sections(root, "DeploymentOptionSection")
        for configuration in children(section, "Configuration")
    ]
    marked = [one for one in configurations if (attribute(one, "default") or "").lower() in ("true", "1")]
    return attribute((marked or configurations)[0], "id") if configurations else None


class _Tables:
    """References and the DiskSection, and how a drive's words are looked up in them."""

    def __init__(self, root: Element, name: str) -> None:
        self.notes: list[str] = []
        self._root = root
        self._name = name
        self._files = self._by_id(
            [f for r in children(root, "References") for f in children(r, "File")], "id", MAX_OVF_FILES
        )
        self._by_href = {href: file for file in self._files.values() if (href := attribute(file, "href"))}
        described = sections(root, "DiskSection") or list(anywhere(root, "DiskSection"))
        self._disks = self._by_id([d for s in described for d in children(s, "Disk")], "diskId", MAX_OVF_DISKS)

    def attached(self, drives: list[Drive]) -> list[OvfDisk]:
        """The disks of ``drives``, each once."""
        disks: dict[str, OvfDisk] = {}
        for drive in drives:
            disk = self._disk(drive)
            if disk.id in disks:
                self.notes.append(f"Two drives hold the disk {quote(disk.id)}; it is taken once.")
            disks.setdefault(disk.id, disk)
        if not drives:
            for disk_id, element in self._disks.items():
                drive = Drive(f"ovf:/disk/{disk_id}", None, 0, len(disks))
                disks[disk_id] = self._described(disk_id, element, drive)
            if disks:
                self.notes.append("The hardware has no drive for the disks; they are taken in the order of their list.")
        elif loose := self._disks.keys() - disks.keys():
            listed = ", ".join(quote(disk_id) for disk_id in sorted(loose)[:4])
            self.notes.append(f"Disks that no drive holds are left out: {listed}.")
        return list(disks.values())

    def _by_id(self, elements: list[Element], key: str, most: int) -> dict[str, Element]:
        if len(elements) > most:
            raise UnsafeDiskError(
                f"{quote(self._name)} lists {len(elements):,} files or disks; at most {most:,} are read."
            )
        found: dict[str, Element] = {}
        for element in elements:
            value = attribute(element, key)
            if not value:
                raise CorruptDiskError(f"{quote(self._name)}: a {local_name(element)} has no {key}: export it again.")
            if value in found:
                raise CorruptDiskError(f"{quote(self._name)} describes {quote(value)} twice: export the machine again.")
            found[value] = element
        return found

    def _disk(self, drive: Drive) -> OvfDisk:
        match = _HOST_RESOURCE.fullmatch(drive.resource)
        kind, key = (match[1], match[2]) if match else ("", "")
        if kind == "disk" and key in self._disks:
            return self._described(key, self._disks[key], drive)
        if kind == "file" and key in self._files:
            return OvfDisk(key, self._file(key), None, None, drive)
        parts = drive.resource.split("/") if not match else []  # oVirt: GROUP/IMAGE
        for part in parts:
            if part in self._disks:
                return self._described(part, self._disks[part], drive)
        raise CorruptDiskError(
            f"{quote(self._name)}: a drive holds {quote(drive.resource)}, which is not described: "
            "export the machine again."
        )

    def _described(self, disk_id: str, element: Element, drive: Drive) -> OvfDisk:
        if attribute(element, "parentRef"):
            raise UnsupportedFeatureError(
                f"{quote(self._name)}: the disk {quote(disk_id)} holds only what differs from another (parentRef): "
                "export the machine without delta disks."
            )
        file_id = attribute(element, "fileRef")
        file = self._file(file_id) if file_id else None
        return OvfDisk(disk_id, file, self._capacity(element, disk_id), attribute(element, "format"), drive)

    def _file(self, file_id: str) -> OvfFile:
        element = self._files.get(file_id, self._by_href.get(file_id))  # by its href: an export domain of oVirt's
        href = attribute(element, "href") if element is not None else None
        if element is None or not href:
            raise CorruptDiskError(
                f"{quote(self._name)}: a disk refers to the file {quote(file_id)}, which References does not list: "
                "export the machine again."
            )
        size, chunk_size = (parse_whole(attribute(element, key)) for key in ("size", "chunkSize"))
        return OvfFile(href, size, chunk_size, attribute(element, "compression"))

    def _capacity(self, element: Element, disk_id: str) -> int | None:
        said = attribute(element, "capacity")
        if not said:
            return None
        if match := _PROPERTY.fullmatch(said):
            said = self._property(match[1])
            if said is None:
                self.notes.append(f"The capacity of the disk {quote(disk_id)} is a property without a value.")
                return None
        capacity = parse_quantity(said, attribute(element, "capacityAllocationUnits"))
        if not capacity:
            raise CorruptDiskError(
                f"{quote(self._name)}: the capacity of the disk {quote(disk_id)}, {quote(said)} "
                f"{quote(attribute(element, 'capacityAllocationUnits') or 'byte')}, is no size from 1 to 2^63 bytes: "
                "export the machine again."
            )
        return capacity

    def _property(self, key: str) -> str | None:
        """The value that a ProductSection gives ``key`` where nobody sets it."""
        for element in anywhere(self._root, "Property"):
            if attribute(element, "key") == key:
                return attribute(element, "value")
        return None


def _guest_os(system: Element) -> str | None:
    """The writer's own words; the numbers are often wrong."""
    for section in sections(system, "OperatingSystemSection"):
        said = attribute(section, "osType") or text(section, "OSType", "Description")
        if said:
            return quote(said)
    return None


def _firmware(system: Element, hardware: Element) -> Firmware | None:
    """VMware's Config key, else VirtualBox's Firmware element."""
    for config in children(hardware, "Config"):
        if attribute(config, "key") == "firmware":
            return _known_firmware(attribute(config, "value"))
    for machine in children(system, "Machine"):
        for element in anywhere(machine, "Firmware"):
            return _known_firmware(attribute(element, "type"))
    return None


def _known_firmware(word: str | None) -> Firmware | None:
    known = (word or "").lower()
    if known.startswith(("efi", "uefi")):
        return Firmware.UEFI
    return Firmware.BIOS if known == "bios" else None
