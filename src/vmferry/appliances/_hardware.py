"""The hardware section of an OVF descriptor: Items → processors, memory, cards, and drives on their controllers.

Sources: DSP0243 (OVF 1.x, 2.0), section 8; CIM_ResourceAllocationSettingData for the numbers of resource types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vmferry.appliances._units import parse_quantity, parse_whole
from vmferry.appliances._xml import Element, attribute, children, text
from vmferry.errors import UnsafeDiskError, quote
from vmferry.limits import MAX_OVF_ITEMS
from vmferry.machine import NetworkInterface
from vmferry.units import TIB

_MAX_CPUS = 4096
_MAX_MEMORY = 64 * TIB
_CPU, _MEMORY, _IDE, _SCSI, _NIC, _OTHER_STORAGE = 3, 4, 5, 6, 10, 20
_DRIVES = (17, 19, 31)
"""Disk drive; storage extent and logical disk, as some writers call it."""
_LAST = 1 << 20
_OTHER_BUSES = (("nvme", "nvme"), ("virtio", "virtio"), ("ahci", "sata"), ("sata", "sata"))


@dataclass(frozen=True, slots=True)
class Drive:
    """A hard-disk drive, and what it says is in it."""

    resource: str
    """HostResource: ``ovf:/disk/vmdisk1``."""
    bus: str | None
    controller: int
    unit: int


@dataclass(slots=True)
class Hardware:
    """What Items say. ``drives`` stand in the order of their controllers and of their places on them."""

    cpus: int = 1
    memory: int = 1 << 30
    drives: list[Drive] = field(default_factory=list)
    interfaces: list[NetworkInterface] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Item:
    """An Item, StorageItem or EthernetPortItem."""

    id: str
    kind: int | None
    place: int
    element: Element

    def text(self, name: str) -> str | None:
        return text(self.element, name)


@dataclass(frozen=True, slots=True)
class _Controller:
    """A storage controller: ``rank`` among all, ``number`` among those of its bus."""

    rank: int
    bus: str | None
    number: int


def read_hardware(section: Element, configuration: str | None) -> Hardware:
    """What the section says, for one deployment ``configuration``. Raises ``UnsafeDiskError`` for over 4096 Items.

    Values that make no sense are passed over with a note: an import can do without them.
    """
    hardware = Hardware()
    items = _items(section, configuration)
    _read_cpus(hardware, items)
    _read_memory(hardware, items)
    hardware.interfaces = [_interface(item) for item in items if item.kind == _NIC]
    controllers = _controllers(items)
    found = []
    for item in items:
        resource = item.text("HostResource")
        if item.kind in _DRIVES and resource:  # without one it is an empty drive of the deploying platform
            place = controllers.get(item.text("Parent") or "", _Controller(_LAST, None, 0))
            found.append((place.rank, item.place, Drive(resource, place.bus, place.number, item.place)))
    hardware.drives = [drive for _, _, drive in sorted(found, key=lambda one: one[:2])]
    return hardware


def _items(section: Element, configuration: str | None) -> list[_Item]:
    """The Items of a configuration, without the bounds of ranges; one made for it replaces a general one of its id."""
    items: list[_Item] = []
    special: set[str] = set()
    for element in children(section, "Item", "StorageItem", "EthernetPortItem"):
        wanted = (attribute(element, "configuration") or "").split()
        if (wanted and configuration not in wanted) or attribute(element, "bound") in ("min", "max"):
            continue
        if len(items) >= MAX_OVF_ITEMS:
            raise UnsafeDiskError(
                f"The OVF descriptor has more than {MAX_OVF_ITEMS:,} hardware items; it is no machine: export it again."
            )
        item = _Item(
            id=text(element, "InstanceID", "InstanceId") or "",
            kind=parse_whole(text(element, "ResourceType")),
            place=min(parse_whole(text(element, "AddressOnParent")) or 0, _LAST),
            element=element,
        )
        if wanted and item.id:
            special.add(item.id)
        items.append(item)
    return [item for item in items if item.id not in special or attribute(item.element, "configuration")]


def _read_cpus(hardware: Hardware, items: list[_Item]) -> None:
    for item in items:
        if item.kind == _CPU:
            count = parse_whole(item.text("VirtualQuantity"))
            if count is not None and 0 < count <= _MAX_CPUS:
                hardware.cpus = count
            else:
                said = quote(item.text("VirtualQuantity") or "nothing")
                hardware.notes.append(f"The number of processors, {said}, makes no sense; 1 is taken.")
            return


def _read_memory(hardware: Hardware, items: list[_Item]) -> None:
    for item in items:
        if item.kind == _MEMORY:
            quantity, units = item.text("VirtualQuantity"), item.text("AllocationUnits")
            size = parse_quantity(quantity, units, default_unit=1 << 20)
            if size is not None and 0 < size <= _MAX_MEMORY:
                hardware.memory = size
            else:
                said = quote(f"{quantity or 'nothing'} {units or ''}".strip())
                hardware.notes.append(f"The size of the memory, {said}, makes no sense; 1 GiB is taken.")
            return


def _controllers(items: list[_Item]) -> dict[str, _Controller]:
    """By InstanceID. Buses in the order in which they first appear, then their controllers by address."""
    found = [(_bus(item), item) for item in items if item.kind in (_IDE, _SCSI, _OTHER_STORAGE)]
    ranks = {bus: rank for rank, bus in enumerate(dict.fromkeys(bus for bus, _ in found))}
    found.sort(key=lambda one: (ranks[one[0]], min(parse_whole(one[1].text("Address")) or 0, _LAST)))
    controllers: dict[str, _Controller] = {}
    numbers: dict[str | None, int] = {}
    for rank, (bus, item) in enumerate(found):
        controllers[item.id] = _Controller(rank, bus, numbers.get(bus, 0))
        numbers[bus] = numbers.get(bus, 0) + 1
    return controllers


def _bus(item: _Item) -> str | None:
    subtype = (item.text("ResourceSubType") or "").lower()
    if item.kind == _IDE:
        return "ide"
    if item.kind == _SCSI:
        return "virtio" if "virtio" in subtype else "scsi"
    return next((bus for word, bus in _OTHER_BUSES if word in subtype), None if subtype else "sata")


def _interface(item: _Item) -> NetworkInterface:
    network, model, mac = (
        item.text("Connection"),
        item.text("ResourceSubType"),
        text(item.element, "Address", "MACAddress"),
    )
    return NetworkInterface(
        network=quote(network) if network else None,
        model=quote(model) if model else None,
        mac=mac if mac and re.fullmatch(r"(?:[0-9A-Fa-f]{2}[:-]?){6}", mac) else None,
    )
