"""The rules that an OVF 1.x descriptor must keep: those of the schema, and those that ESXi, VirtualBox and XenCenter
insist on. ``broken_rules`` tells which are broken; sources: DSP0243 1.1, DSP8023, VMware's conformance descriptors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from lxml import etree

Element = etree._Element

OVF = "http://schemas.dmtf.org/ovf/envelope/1"
CIM = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
RASD = CIM + "CIM_ResourceAllocationSettingData"
VSSD = CIM + "CIM_VirtualSystemSettingData"

ITEM_FIELDS = (
    "Address", "AddressOnParent", "AllocationUnits", "AutomaticAllocation", "AutomaticDeallocation", "Caption",
    "Connection", "ConsumerVisibility", "Description", "ElementName", "HostResource", "InstanceID", "Limit",
    "MappingBehavior", "OtherResourceType", "Parent", "PoolID", "Reservation", "ResourceSubType", "ResourceType",
    "VirtualQuantity", "Weight",
)  # fmt: skip
"""What CIM's class has, in the order in which the schema demands it."""
CONTROLLERS = ("5", "6", "20")
KNOWN_TO_VIRTUALBOX = ("3", "4", *CONTROLLERS, "10", "14", "15", "16", "17", "23", "35")
MEMORY_UNITS = ("MegaBytes", "MB", "byte * 2^20", "GigaBytes", "GB", "byte * 2^30")
KNOWN_OTHER_STORAGE = ("AHCI", "vmware.sata.ahci", "VirtioSCSI", "virtio-scsi", "NVMe", "vmware.nvme.controller")


def broken_rules(content: bytes) -> list[str]:
    """One sentence for each broken rule; none for a good descriptor."""
    if b"<!DOCTYPE" in content:
        return ["there is a DOCTYPE"]
    root = etree.fromstring(content)
    if root.tag != f"{{{OVF}}}Envelope":
        return ["the root is no Envelope of OVF 1.x"]
    return [broken for rule in RULES for broken in rule(root)]


def ovf(parent: Element, *names: str) -> list[Element]:
    """Children in OVF's namespace."""
    return [child for child in parent if child.tag in {f"{{{OVF}}}{name}" for name in names}]


def said(element: Element, name: str) -> str:
    """An attribute in OVF's namespace; empty where there is none."""
    return element.get(f"{{{OVF}}}{name}", "")


def field(item: Element, name: str) -> str | None:
    """The text of a child in the namespace of resource settings."""
    found = item.find(f"{{{RASD}}}{name}")
    return None if found is None else (found.text or "")


def local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def twice(values: Sequence[str | None]) -> list[str]:
    return [str(value) for value, count in Counter(values).items() if count > 1]


def hardware(root: Element) -> list[Element]:
    return [section for system in ovf(root, "VirtualSystem") for section in ovf(system, "VirtualHardwareSection")]


def items(root: Element) -> list[Element]:
    return [item for section in hardware(root) for item in ovf(section, "Item")]


def files(root: Element) -> list[Element]:
    return [file for references in ovf(root, "References") for file in ovf(references, "File")]


def disks(root: Element) -> list[Element]:
    return [disk for section in ovf(root, "DiskSection") for disk in ovf(section, "Disk")]


def envelope_is_in_order(root: Element) -> Iterator[str]:
    """References, then sections, then one machine, then strings."""
    order = {"References": 0, "VirtualSystem": 2, "VirtualSystemCollection": 2, "Strings": 3}
    places = [order.get(local(child), 1) for child in root]
    if places != sorted(places):
        yield "the envelope's children are out of order"
    if places.count(0) != 1:
        yield "there is not one References"
    if places.count(2) != 1:
        yield "there is not one VirtualSystem"


def sections_stand_in_their_parents(root: Element) -> Iterator[str]:
    parents = {
        "DiskSection": "Envelope", "NetworkSection": "Envelope", "VirtualHardwareSection": "VirtualSystem",
        "OperatingSystemSection": "VirtualSystem", "File": "References", "Disk": "DiskSection",
        "Network": "NetworkSection", "Item": "VirtualHardwareSection", "System": "VirtualHardwareSection",
    }  # fmt: skip
    for element in root.iter(f"{{{OVF}}}*"):
        parent = element.getparent()
        wanted = parents.get(local(element))
        if wanted and (parent is None or local(parent) != wanted):
            yield f"{local(element)} stands outside of {wanted}"


def everything_has_info_first(root: Element) -> Iterator[str]:
    for element in root.iter(f"{{{OVF}}}*"):
        if local(element).endswith("Section") or local(element) == "VirtualSystem":
            first = next(iter(element), None)
            if first is None or first.tag != f"{{{OVF}}}Info" or not first.text:
                yield f"{local(element)} does not begin with Info"


def files_are_named(root: Element) -> Iterator[str]:
    if not files(root):
        yield "there is no File"
    for key in ("id", "href"):
        values = [said(file, key) for file in files(root)]
        if "" in values:
            yield f"a File has no {key}"
        for value in twice(values):
            yield f"two Files have the {key} {value}"
    for file in files(root):
        if said(file, "size") and not re.fullmatch("[0-9]+", said(file, "size")):
            yield "the size of a File is no number"
        if said(file, "chunkSize") or said(file, "compression"):
            yield "a File is in chunks or compressed"


def disks_are_complete(root: Element) -> Iterator[str]:
    for disk in disks(root):
        for key in ("diskId", "capacity", "format", "fileRef"):
            if not said(disk, key):
                yield f"a Disk has no {key}"
        capacity, populated = said(disk, "capacity"), said(disk, "populatedSize")
        if not re.fullmatch("[1-9][0-9]*", capacity):
            yield "the capacity of a Disk is no number, or zero"
        elif populated and int(populated) > int(capacity):
            yield "the populatedSize of a Disk is above its capacity"
        if said(disk, "capacityAllocationUnits") not in ("", "byte"):
            yield "a capacity is not in bytes"
    for key in ("diskId", "fileRef"):
        for value in twice([said(disk, key) for disk in disks(root)]):
            yield f"two Disks have the {key} {value}"


def disks_are_in_the_order_of_files(root: Element) -> Iterator[str]:
    listed = [said(file, "id") for file in files(root)]
    used = [said(disk, "fileRef") for disk in disks(root)]
    if unknown := [one for one in used if one not in listed]:
        yield f"a Disk has the unknown fileRef {unknown[0]}"
    elif used != [one for one in listed if one in used]:
        yield "the Disks are not in the order of their Files"


def machine_is_complete(root: Element) -> Iterator[str]:
    for system in ovf(root, "VirtualSystem"):
        if not said(system, "id"):
            yield "the VirtualSystem has no id"
        if len(ovf(system, "VirtualHardwareSection")) != 1:
            yield "there is not one VirtualHardwareSection"
        order = [local(child) for child in system]
        if "Name" in order and order.index("Name") != 1:
            yield "the VirtualSystem's Name does not follow its Info"
        for section in ovf(system, "OperatingSystemSection"):
            if not re.fullmatch("[0-9]+", said(section, "id")):
                yield "the operating system has no number"


def hardware_is_in_order(root: Element) -> Iterator[str]:
    for section in hardware(root):
        order = {"Info": 0, "System": 1, "Item": 2}
        places = [order.get(local(child), 3) for child in section]
        if places != sorted(places):
            yield "the hardware section's children are out of order"
        systems = ovf(section, "System")
        if len(systems) != 1 or not len(systems[0]):
            yield "there is not one System that says anything"
        for system in systems:
            names = [local(child) for child in system]
            if names != sorted(names):
                yield "the System's children are out of order"
            for name in ("ElementName", "InstanceID", "VirtualSystemType"):
                if not system.findtext(f"{{{VSSD}}}{name}"):
                    yield f"the System has no {name}"


def items_are_complete(root: Element) -> Iterator[str]:
    for item in items(root):
        for name in ("ElementName", "InstanceID", "ResourceType"):
            if not field(item, name):
                yield f"an Item has no {name}"
        names = [local(child) for child in item if str(child.tag).startswith(f"{{{RASD}}}")]
        if names != sorted(names):
            yield "an Item's children are out of order"
        for name in names:
            if name not in ITEM_FIELDS:
                yield f"an Item has the unknown child {name}"
        if (field(item, "ResourceType") or "") not in KNOWN_TO_VIRTUALBOX and said(item, "required") != "false":
            yield f"an Item has the ResourceType {field(item, 'ResourceType')}, which VirtualBox does not know"
    for value in twice([field(item, "InstanceID") for item in items(root)]):
        yield f"two Items have the InstanceID {value}"


def extensions_may_be_left_out(root: Element) -> Iterator[str]:
    for parent in [*hardware(root), *items(root)]:
        for child in parent:
            own = str(child.tag).startswith((f"{{{OVF}}}", f"{{{RASD}}}"))
            if not own and said(child, "required") != "false":
                yield f"the extension {local(child)} is required"


def quantities_make_sense(root: Element) -> Iterator[str]:
    for kind in ("3", "4"):
        found = [item for item in items(root) if field(item, "ResourceType") == kind]
        if len(found) != 1 or not re.fullmatch("[1-9][0-9]*", field(found[0], "VirtualQuantity") or ""):
            yield f"there is not one Item of ResourceType {kind} with a quantity"
        elif kind == "4" and field(found[0], "AllocationUnits") not in MEMORY_UNITS:
            yield "the memory's units are not known to VirtualBox"


def drives_hang_on_controllers(root: Element) -> Iterator[str]:
    kinds = {field(item, "InstanceID"): item for item in items(root)}
    places: list[str | None] = []
    for drive in (item for item in items(root) if field(item, "ResourceType") == "17"):
        parent = kinds.get(field(drive, "Parent"))
        if parent is None or field(parent, "ResourceType") not in CONTROLLERS:
            yield "a drive hangs on no controller"
            continue
        place = field(drive, "AddressOnParent") or ""
        places.append(f"{field(drive, 'Parent')}:{place}")
        if not re.fullmatch("[0-9]+", place):
            yield "a drive has no place on its controller"
        elif (
            field(parent, "ResourceType") == "6"
            and place == "7"
            and "Hyper-V" not in str(field(parent, "ResourceSubType"))
        ):
            yield "a drive has the SCSI controller's own place, 7"
        elif field(parent, "ResourceType") == "5" and int(place) > 1:
            yield "a drive has a place that IDE does not have"
    for value in twice(places):
        yield f"two drives have the place {value}"


def drives_hold_disks(root: Element) -> Iterator[str]:
    held = [field(item, "HostResource") or "" for item in items(root) if field(item, "ResourceType") == "17"]
    wanted = [f"ovf:/disk/{said(disk, 'diskId')}" for disk in disks(root)]
    if sorted(held) != sorted(wanted):
        yield "the drives do not hold each Disk once"
    for disk in disks(root):
        if sum(said(disk, "diskId") in resource for resource in held) > 1:
            yield "a diskId is a part of another one"


def controllers_are_known(root: Element) -> Iterator[str]:
    for item in items(root):
        kind, subtype = field(item, "ResourceType"), field(item, "ResourceSubType")
        if kind == "5" and subtype == "PIIX4":
            yield "the IDE controller is a PIIX4, which ESXi refuses"
        if kind == "20" and subtype not in KNOWN_OTHER_STORAGE:
            yield "a storage controller is not known to VirtualBox"
        if kind in CONTROLLERS and not re.fullmatch("[0-9]+", field(item, "Address") or ""):
            yield "a controller has no address"
    addresses = [
        f"{field(item, 'ResourceType')} {field(item, 'ResourceSubType')} {field(item, 'Address')}"
        for item in items(root)
        if field(item, "ResourceType") in CONTROLLERS
    ]
    for value in twice(addresses):
        yield f"two controllers have the address {value}"


def networks_are_declared(root: Element) -> Iterator[str]:
    sections = ovf(root, "NetworkSection")
    names = [said(network, "name") for section in sections for network in ovf(section, "Network")]
    if "" in names or twice(names) or (sections and not names):
        yield "networks have no names of their own"
    for item in items(root):
        if field(item, "ResourceType") == "10" and field(item, "Connection") not in names:
            yield "a card is connected to a network that is not declared"


RULES: Sequence[Callable[[Element], Iterator[str]]] = (
    envelope_is_in_order, sections_stand_in_their_parents, everything_has_info_first, files_are_named,
    disks_are_complete, disks_are_in_the_order_of_files, machine_is_complete, hardware_is_in_order,
    items_are_complete, extensions_may_be_left_out, quantities_make_sense, drives_hang_on_controllers,
    drives_hold_disks, controllers_are_known, networks_are_declared,
)  # fmt: skip
