"""Hyper-V's export folder: ``Virtual Machines/GUID.vmcx`` (2016 and later) or ``.xml`` (2008 to 2012 R2), and disks.

Both hold the same tree. Where it is in parts not published, what cannot be found keeps its default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmferry.appliances._contents import read_small
from vmferry.appliances._description import DescribedDrive, Description, assemble
from vmferry.appliances._probing import has_root, is_called, need_folder, read_head
from vmferry.appliances._vmcx import Tree, is_vmcx, read_vmcx
from vmferry.appliances._xml import Element, attribute, local_name, parse_xml
from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, quote
from vmferry.folder import Folder
from vmferry.limits import MAX_MACHINE_DISKS, MAX_OVF_DESCRIPTOR, MAX_OVF_ITEMS
from vmferry.machine import Appliance, Firmware
from vmferry.registry import About
from vmferry.units import MIB

_BUSES = {
    "83f8638b-8dca-4152-9eda-2ca8b33039b4": "ide",
    "d422512d-2bf2-4752-809d-7b82b5fcb1b4": "scsi",
}
"""Kind of an emulated device → the bus that it is a controller of."""
_NUMBERED = re.compile(r"(controller|drive)([0-9]{1,4})", re.IGNORECASE)
_VDEV = re.compile(r"vdev[0-9]{1,6}", re.IGNORECASE)
_GENERATIONS = {"0": Firmware.BIOS, "1": Firmware.UEFI}
"""``properties/subtype``: generation 1, generation 2."""


class HyperV:
    """The Hyper-V export folder."""

    name = "hyperv"
    ec2_name = None
    about = About(
        title="Hyper-V export folder (.vmcx, .xml)",
        reads="processors, memory, generation, cards, the disks on IDE and SCSI as they are now",
        writes="",
        refuses="exports of Hyper-V 2008 R2 with an .exp file, disks outside the folder",
        limits=f"{MAX_MACHINE_DISKS} disks; description of 8 MiB, 65,536 keys",
    )

    def probe(self, blob: Blob) -> bool:
        """Whether it is called ``….vmcx`` and begins as one, or ``….xml`` and its root element is configuration."""
        if is_called(blob, (".vmcx",)):
            return is_vmcx(read_head(blob))
        return has_root(blob, (".xml",), "configuration")

    def open(self, blob: Blob, folder: Folder | None = None) -> Appliance:
        """``folder`` is the export's own, that in which ``Virtual Machines`` and ``Virtual Hard Disks`` lie."""
        beside = need_folder(blob, folder)
        content = read_small(blob, MAX_OVF_DESCRIPTOR, quote(blob.name))
        if is_vmcx(content[:MIB]):
            tree = _node(read_vmcx(content, blob.name), "configuration")
        else:
            tree = _from_xml(parse_xml(content, blob.name))
        described = _describe(tree)
        if not described.drives:
            raise CorruptDiskError(
                f"{quote(blob.name)} names no disk that can be found in it: name the disks (.vhdx) themselves instead."
            )
        return assemble(blob, beside, described)


PACKAGE = HyperV()


def _from_xml(element: Element) -> Tree:
    """Leaves have a type, as ``<size type="integer">1024</size>``; the depth is that of the XML, which is bounded."""
    tree: Tree = {}
    for child in element:
        name = local_name(child)
        if name:
            tree[name] = (child.text or "").strip() if attribute(child, "type") else _from_xml(child)
    return tree


def _node(tree: Tree, *names: str) -> Tree:
    """The node at this path, names compared in any case; an empty one where there is none."""
    for name in names:
        found = tree.get(name)
        if found is None:
            found = next((value for key, value in tree.items() if key.lower() == name.lower()), None)
        if not isinstance(found, dict):
            return {}
        tree = found
    return tree


def _text(tree: Tree, name: str) -> str:
    found = next((value for key, value in tree.items() if key.lower() == name.lower()), "")
    return found if isinstance(found, str) else ""


def _describe(tree: Tree) -> Description:
    properties = _node(tree, "properties")
    described = Description(
        name=_text(properties, "name"),
        firmware=_GENERATIONS.get(_text(properties, "subtype")),
        hardware_family="hyperv",
    )
    described.set_cpus(_text(_node(tree, "settings", "processors"), "count"))
    described.set_memory(_text(_node(tree, "settings", "memory", "bank"), "size"), MIB)
    found = list(_drives(tree, described.notes))
    described.drives = sorted(found, key=lambda one: (one.bus != "ide", one.controller, one.unit))
    described.notes += [
        f"{quote(one.path)} is a checkpoint's: what it was made from is given with --parent, nearest first."
        for one in described.drives
        if one.path.lower().endswith((".avhdx", ".avhd"))
    ]
    for node in list(tree.values())[:MAX_OVF_ITEMS]:
        if isinstance(node, dict) and _text(node, "MacAddress"):
            network = _text(node, "SwitchName") or _text(node, "AltSwitchName")
            described.add_interface(network or None, None, _text(node, "MacAddress"))
    return described


def _controllers(tree: Tree) -> list[tuple[str | None, Tree]]:
    """The nodes of storage controllers with their buses; a device of an unknown kind has none."""
    nodes = {key.strip("_").lower(): node for key, node in tree.items() if isinstance(node, dict)}
    found: list[tuple[str | None, Tree]] = []
    for key, device in _node(tree, "manifest").items():
        if not isinstance(device, dict) or not _VDEV.fullmatch(key):
            continue
        node = nodes.pop(_text(device, "instance").strip("{}_").lower(), None)
        if node is not None:
            found.append((_BUSES.get(_text(device, "device").strip("{}").lower()), node))
    return [*found, *((None, node) for node in nodes.values())]


def _drives(tree: Tree, notes: list[str]) -> Iterator[DescribedDrive]:
    numbers: dict[str | None, int] = {}
    for bus, device in _controllers(tree):
        for controller, inside in _numbered(device, "controller"):
            number = controller if bus == "ide" else numbers.get(bus, 0)
            numbers[bus] = numbers.get(bus, 0) + 1
            for unit, drive in _numbered(inside, "drive"):
                kind, path = _text(drive, "type").upper(), _text(drive, "pathname")
                if kind == "VHD" and path:
                    yield DescribedDrive(path, bus, number, unit)
                elif kind not in ("", "NONE", "ISO", "VHD") and len(notes) < MAX_OVF_ITEMS:
                    notes.append(f"A drive that is no file ({quote(kind)}) is left out.")


def _numbered(node: Tree, word: str) -> list[tuple[int, Tree]]:
    """Children called ``word`` and a number, by their numbers."""
    matches = ((_NUMBERED.fullmatch(key), child) for key, child in node.items() if isinstance(child, dict))
    found = [(int(match[2]), child) for match, child in matches if match and match[1].lower() == word]
    return sorted(found, key=lambda one: one[0])
