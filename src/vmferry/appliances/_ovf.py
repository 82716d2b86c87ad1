"""The OVF descriptor: XML → what a machine is. Sources: DSP0243 (OVF 1.x, 2.0), and 0.9 as VMware wrote it.

Elements are matched by local name: prefixes and even namespaces vary among producers. Attributes may be qualified or
not.
The parser knows no entities, no DTD and no network, and a DOCTYPE is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lxml import etree

from vmferry.appliances._units import parse_quantity
from vmferry.errors import CorruptDiskError, FormatError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.machine import Firmware, NetworkInterface

MAX_DESCRIPTOR = 8 << 20
_MAX_DEPTH = 64
_MAX_ITEMS = 4096
_MAX_DISKS = 1024

_CPU, _MEMORY, _IDE, _SCSI, _NIC, _DISK, _OTHER_STORAGE = 3, 4, 5, 6, 10, 17, 20
_HOST_RESOURCE = re.compile(r"(?:ovf:)?/{1,2}(disk|file)/(.+)")

_Element = etree._Element  # noqa: SLF001 - lxml has no public name for the type


@dataclass(frozen=True, slots=True)
class OvfFile:
    """A file that the descriptor refers to."""

    id: str
    href: str
    size: int | None
    chunk_size: int | None
    compression: str | None


@dataclass(frozen=True, slots=True)
class OvfDisk:
    """A disk of the machine, with the file that holds it; ``None`` for an empty one."""

    id: str
    file: OvfFile | None
    capacity: int | None
    format: str | None
    bus: str | None
    controller: int
    unit: int


@dataclass(slots=True)
class Ovf:
    """What a descriptor says. ``disks`` stand in the order of their controllers and places."""

    name: str = ""
    cpus: int = 1
    memory: int = 1 << 30
    firmware: Firmware | None = None
    guest_os: str | None = None
    hardware_family: str | None = None
    files: dict[str, OvfFile] = field(default_factory=dict)
    disks: list[OvfDisk] = field(default_factory=list)
    interfaces: list[NetworkInterface] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def parse_ovf(content: bytes, name: str) -> Ovf:
    """Parse a descriptor. Raises ``FormatError`` and its kinds, ``UnsafeDiskError``."""
    root = _parse_xml(content, name)
    if _local(root) != "Envelope":
        raise FormatError(f"{quote(name)} is no OVF descriptor: its root is {quote(_local(root))}, not Envelope.")
    ovf = Ovf(files=_files(root))
    system = _virtual_system(root, name)
    ovf.name = _text(system, "Name") or _attribute(system, "id") or ""
    ovf.guest_os = _guest_os(system)
    hardware = next(_all(system, "VirtualHardwareSection"), None)
    if hardware is None:
        raise FormatError(f"{quote(name)} describes no hardware (VirtualHardwareSection): export the machine again.")
    ovf.hardware_family = next((_content(e) for e in _all(hardware, "VirtualSystemType")), None)
    ovf.firmware = _firmware(system, hardware)
    _read_hardware(ovf, root, hardware, name)
    return ovf


def _parse_xml(content: bytes, name: str) -> _Element:
    if re.search(rb"<\s*!\s*D\s*O\s*C\s*T\s*Y\s*P\s*E", content.replace(b"\0", b""), re.IGNORECASE):
        raise UnsafeDiskError(f"{quote(name)} has a DOCTYPE, which no OVF descriptor needs: remove it or export again.")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise CorruptDiskError(f"{quote(name)} is not well-formed XML: {quote(error)}. Export it again.") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise UnsafeDiskError(f"{quote(name)} has a DOCTYPE, which no OVF descriptor needs: remove it or export again.")
    _check_depth(root, name)
    return root


def _check_depth(root: _Element, name: str) -> None:
    depth = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > _MAX_DEPTH:
            raise UnsafeDiskError(f"{quote(name)} has elements nested over {_MAX_DEPTH} deep; it is no OVF descriptor.")


def _virtual_system(root: _Element, name: str) -> _Element:
    """The one virtual system; OVF 0.9 calls it Content."""
    systems = [*_all(root, "VirtualSystem"), *_all(root, "Content")]
    if len(systems) == 1:
        return systems[0]
    if not systems:
        raise FormatError(f"{quote(name)} describes no virtual machine: export the machine again.")
    listed = ", ".join(quote(_attribute(system, "id") or "?") for system in systems[:8])
    raise UnsupportedFeatureError(
        f"{quote(name)} describes {len(systems)} virtual machines ({listed}): export each into an OVA of its own."
    )


def _files(root: _Element) -> dict[str, OvfFile]:
    files: dict[str, OvfFile] = {}
    for element in _all(root, "File"):
        file_id, href = _attribute(element, "id"), _attribute(element, "href")
        if not file_id or href is None:
            raise FormatError("OVF: a File has no id or no href: export the machine again.")
        size, chunk = _attribute(element, "size"), _attribute(element, "chunkSize")
        files[file_id] = OvfFile(
            id=file_id,
            href=href,
            size=parse_quantity(size, None, f"the size of {quote(href)}") if size else None,
            chunk_size=parse_quantity(chunk, None, f"the chunk size of {quote(href)}") if chunk else None,
            compression=_attribute(element, "compression"),
        )
        if len(files) > _MAX_DISKS:
            raise UnsafeDiskError(f"OVF: more than {_MAX_DISKS:,} files are referred to; it is no appliance.")
    return files


@dataclass(frozen=True, slots=True)
class _Described:
    """A Disk of the DiskSection."""

    id: str
    file_id: str | None
    capacity: int | None
    format: str | None


def _described_disks(root: _Element, notes: list[str]) -> dict[str, _Described]:
    disks: dict[str, _Described] = {}
    for element in _all(root, "Disk"):
        disk_id = _attribute(element, "diskId")
        if not disk_id:
            continue
        if _attribute(element, "parentRef"):
            raise UnsupportedFeatureError(
                f"OVF: the disk {quote(disk_id)} is a delta of another (parentRef): export without delta disks."
            )
        disks[disk_id] = _Described(
            disk_id, _attribute(element, "fileRef"), _capacity(element, disk_id, notes), _attribute(element, "format")
        )
        if len(disks) > _MAX_DISKS:
            raise UnsafeDiskError(f"OVF: more than {_MAX_DISKS:,} disks; it is no appliance.")
    return disks


def _capacity(element: _Element, disk_id: str, notes: list[str]) -> int | None:
    text = _attribute(element, "capacity")
    if not text:
        return None
    if text.startswith("${"):
        notes.append(
            f"The capacity of the disk {quote(disk_id)} is a property ({quote(text)}); the disk's own is taken."
        )
        return None
    return parse_quantity(text, _attribute(element, "capacityAllocationUnits"), f"the capacity of {quote(disk_id)}")


@dataclass(frozen=True, slots=True)
class _Item:
    """An Item of the hardware section, whichever of its three forms."""

    id: str
    kind: int
    subtype: str
    parent: str | None
    address: int
    place: int
    order: int
    element: _Element


def _items(hardware: _Element) -> list[_Item]:
    """The items of the default configuration, without the bounds of ranges."""
    items: list[_Item] = []
    for element in hardware:
        if _local(element) not in ("Item", "StorageItem", "EthernetPortItem"):
            continue
        if _attribute(element, "bound") in ("min", "max") or _attribute(element, "configuration"):
            continue
        kind = _text(element, "ResourceType") or ""
        items.append(
            _Item(
                id=_text(element, "InstanceID") or _text(element, "InstanceId") or "",
                kind=int(kind) if re.fullmatch(r"\d{1,6}", kind, re.ASCII) else 0,
                subtype=(_text(element, "ResourceSubType") or "").lower(),
                parent=_text(element, "Parent"),
                address=_small(_text(element, "Address")),
                place=_small(_text(element, "AddressOnParent")),
                order=len(items),
                element=element,
            )
        )
        if len(items) > _MAX_ITEMS:
            raise UnsafeDiskError(f"OVF: more than {_MAX_ITEMS:,} hardware items; it is no machine.")
    return items


def _small(text: str | None) -> int:
    return int(text) if text and re.fullmatch(r"\d{1,6}", text, re.ASCII) else 0


def _read_hardware(ovf: Ovf, root: _Element, hardware: _Element, name: str) -> None:
    items = _items(hardware)
    described = _described_disks(root, ovf.notes)
    for item in items:
        if item.kind == _CPU:
            ovf.cpus = max(1, min(_small(_text(item.element, "VirtualQuantity")), 4096))
        elif item.kind == _MEMORY:
            quantity, units = _text(item.element, "VirtualQuantity"), _text(item.element, "AllocationUnits")
            ovf.memory = parse_quantity(quantity or "", units, "the memory", default_unit=1 << 20)
        elif item.kind == _NIC:
            ovf.interfaces.append(_interface(item))
    places = _controllers(items)
    drives = [item for item in items if item.kind == _DISK]
    drives.sort(
        key=lambda item: (*places.get(item.parent or "", _Controller(1 << 20, None, 0)).key, item.place, item.order)
    )
    for item in drives:
        disk = _drive(ovf, item, described, places, name)
        if disk is not None:
            ovf.disks.append(disk)


@dataclass(frozen=True, slots=True)
class _Controller:
    """A storage controller: where it stands among all, and its number among those of its bus."""

    rank: int
    bus: str | None
    number: int

    @property
    def key(self) -> tuple[int]:
        return (self.rank,)


def _controllers(items: list[_Item]) -> dict[str, _Controller]:
    """By InstanceID. Buses in the order in which they first appear, then their controllers by address."""
    found = [item for item in items if item.kind in (_IDE, _SCSI, _OTHER_STORAGE)]
    buses = list(dict.fromkeys(_bus(item) for item in found))
    found.sort(key=lambda item: (buses.index(_bus(item)), item.address, item.order))
    controllers: dict[str, _Controller] = {}
    for rank, item in enumerate(found):
        number = sum(_bus(earlier) == _bus(item) for earlier in found[:rank])
        controllers[item.id] = _Controller(rank, _bus(item), number)
    return controllers


def _bus(item: _Item) -> str:
    if item.kind == _IDE:
        return "ide"
    if item.kind == _SCSI:
        return "virtio-scsi" if "virtio" in item.subtype else "scsi"
    for word, bus in (("nvme", "nvme"), ("virtio", "virtio-scsi"), ("ahci", "sata"), ("sata", "sata")):
        if word in item.subtype:
            return bus
    return "sata"


def _drive(
    ovf: Ovf, item: _Item, described: dict[str, _Described], controllers: dict[str, _Controller], name: str
) -> OvfDisk | None:
    """The disk that a drive holds; ``None`` for a drive without one."""
    resource = _text(item.element, "HostResource")
    if not resource:
        return None
    match = _HOST_RESOURCE.fullmatch(resource.strip())
    disk = described.get(match[2]) if match and match[1] == "disk" else None
    if match is not None and match[1] == "file" and match[2] in ovf.files:
        disk = _Described(match[2], match[2], None, None)
    if disk is None:
        raise FormatError(f"{quote(name)}: a drive refers to {quote(resource)}, which is not described: export again.")
    file = None
    if disk.file_id is not None:
        file = ovf.files.get(disk.file_id)
        if file is None:
            raise FormatError(
                f"{quote(name)}: the disk {quote(disk.id)} refers to the file {quote(disk.file_id)}, which is not listed: "
                "export the machine again."
            )
    place = controllers.get(item.parent or "")
    return OvfDisk(
        id=disk.id,
        file=file,
        capacity=disk.capacity,
        format=disk.format,
        bus=place.bus if place else None,
        controller=place.number if place else 0,
        unit=item.place,
    )


def _interface(item: _Item) -> NetworkInterface:
    mac = _text(item.element, "Address")
    return NetworkInterface(
        network=_text(item.element, "Connection"),
        model=_text(item.element, "ResourceSubType"),
        mac=mac if mac and re.fullmatch(r"(?:[0-9A-Fa-f]{2}[:-]?){6}", mac) else None,
    )


def _guest_os(system: _Element) -> str | None:
    section = next((e for e in system.iter() if _local(e) in ("OperatingSystemSection", "OperatingSystem")), None)
    if section is None:
        return None
    return _attribute(section, "osType") or _text(section, "OSType") or _text(section, "Description")


def _firmware(system: _Element, hardware: _Element) -> Firmware | None:
    """VMware's Config key, or VirtualBox's Firmware element."""
    for config in _all(hardware, "Config"):
        if _attribute(config, "key") == "firmware":
            return Firmware.UEFI if (_attribute(config, "value") or "").lower() == "efi" else Firmware.BIOS
    for element in _all(system, "Firmware"):
        return Firmware.UEFI if (_attribute(element, "type") or "").upper().startswith("EFI") else Firmware.BIOS
    return None


def _local(element: _Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _all(parent: _Element, local: str) -> Iterator[_Element]:
    return (element for element in parent.iter() if _local(element) == local)


def _attribute(element: _Element, local: str) -> str | None:
    """An attribute by its local name; the unqualified one first."""
    plain = element.get(local)
    if plain is not None:
        return plain
    return next((str(value) for name, value in element.attrib.items() if str(name).rpartition("}")[2] == local), None)


def _text(parent: _Element, local: str) -> str | None:
    """The text of a direct child."""
    return next((_content(child) for child in parent if _local(child) == local), None)


def _content(element: _Element) -> str | None:
    return element.text.strip() if element.text and element.text.strip() else None
