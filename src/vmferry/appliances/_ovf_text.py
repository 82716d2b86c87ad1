"""An OVF 1.x descriptor being written. Source: DSP0243 1.1, sections 7 to 9; DSP8023 (its schema).

Plain Items only, their children in alphabetical order as the schema has them, sizes in plain bytes, every extension
marked as one that may be left out: what the strictest readers take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape  # xml.sax.saxutils would bring half of the network modules

from vmferry.appliances._ova_targets import TARGETS, Bus
from vmferry.appliances._placement import Fitted, bus_of
from vmferry.appliances._targets import Target
from vmferry.machine import Firmware, Machine, NetworkInterface
from vmferry.units import MIB

_NAMESPACES = {
    "xmlns": "http://schemas.dmtf.org/ovf/envelope/1",
    "xmlns:ovf": "http://schemas.dmtf.org/ovf/envelope/1",
    "xmlns:rasd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
    "xmlns:vmw": "http://www.vmware.com/schema/ovf",
    "xmlns:vssd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
    "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
}
_FIRST_CARD_ADDRESS = 7
_FIRMWARE = {Firmware.BIOS: "bios", Firmware.UEFI: "efi"}


@dataclass(frozen=True, slots=True)
class FileSizes:
    """Bytes of one disk: of its file, of the virtual disk, and of the guest's data, where that is known."""

    file: int
    capacity: int
    populated: int | None = None


def render_ovf(fitted: Fitted, sizes: Sequence[FileSizes], target: Target) -> str:
    """The descriptor, one size for each of the machine's disks. It ends with a line feed."""
    return _Descriptor(fitted, target).render(sizes)


class _Descriptor:
    """The lines of one descriptor."""

    def __init__(self, fitted: Fitted, target: Target) -> None:
        self._machine: Machine = fitted.machine
        self._fitted = fitted
        self._target = target
        self._facts = TARGETS[target]
        self._lines = ['<?xml version="1.0" encoding="UTF-8"?>']
        self._depth = 0
        self._items = 0
        digits = len(str(len(self._machine.disks)))
        self._disk_ids = [f"vmdisk{number + 1:0{digits}d}" for number in range(len(self._machine.disks))]
        """All of one length: XenCenter takes the first disk whose id is a part of the HostResource."""

    def render(self, sizes: Sequence[FileSizes]) -> str:
        version = {"ovf:version": self._facts.version} if self._facts.version else {}
        with self._inside("Envelope", version | _NAMESPACES):
            self._add_files(sizes)
            self._add_disks(sizes)
            self._add_networks()
            with self._inside("VirtualSystem", {"ovf:id": self._machine.name}):
                self._leaf("Info", "A virtual machine")
                self._leaf("Name", self._machine.name)
                self._add_guest()
                self._add_hardware()
        return "\n".join(self._lines) + "\n"

    def _add_files(self, sizes: Sequence[FileSizes]) -> None:
        with self._inside("References"):
            for number, (disk, size) in enumerate(zip(self._machine.disks, sizes, strict=True)):
                self._leaf(
                    "File", None, {"ovf:href": disk.name, "ovf:id": f"file{number + 1}", "ovf:size": str(size.file)}
                )

    def _add_disks(self, sizes: Sequence[FileSizes]) -> None:
        with self._inside("DiskSection"):
            self._leaf("Info", "Virtual disk information")
            for number, (disk, size) in enumerate(zip(self._machine.disks, sizes, strict=True)):
                attributes = {
                    "ovf:capacity": str(size.capacity),
                    "ovf:capacityAllocationUnits": "byte",
                    "ovf:diskId": self._disk_ids[number],
                    "ovf:fileRef": f"file{number + 1}",
                    "ovf:format": disk.format_hint or "",
                }
                if size.populated is not None:
                    attributes["ovf:populatedSize"] = str(min(size.populated, size.capacity))
                self._leaf("Disk", None, attributes)

    def _add_networks(self) -> None:
        names = dict.fromkeys(card.network or "" for card in self._machine.interfaces)
        if not names:
            return
        with self._inside("NetworkSection"):
            self._leaf("Info", "The list of logical networks")
            for name in names:
                with self._inside("Network", {"ovf:name": name}):
                    self._leaf("Description", f"The {name} network")

    def _add_guest(self) -> None:
        guest = self._fitted.guest
        word = {"vmw:osType": guest.word} if guest.word else {}
        with self._inside("OperatingSystemSection", {"ovf:id": str(guest.number)} | word):
            self._leaf("Info", "The kind of installed guest operating system")
            if self._fitted.guest_words:
                self._leaf("Description", self._fitted.guest_words)

    def _add_hardware(self) -> None:
        with self._inside("VirtualHardwareSection"):
            self._leaf("Info", "Virtual hardware requirements")
            with self._inside("System"):
                self._leaf("vssd:ElementName", "Virtual Hardware Family")
                self._leaf("vssd:InstanceID", "0")
                self._leaf("vssd:VirtualSystemIdentifier", self._machine.name)
                self._leaf("vssd:VirtualSystemType", self._machine.hardware_family)
            self._add_processors_and_memory()
            self._add_drives(self._add_controllers())
            for number, card in enumerate(self._machine.interfaces):
                self._add_card(number, card)
            if self._machine.firmware is not None:
                value = _FIRMWARE[self._machine.firmware]
                self._leaf("vmw:Config", None, {"ovf:required": "false", "vmw:key": "firmware", "vmw:value": value})

    def _add_processors_and_memory(self) -> None:
        cpus, mebibytes = self._machine.cpus, self._machine.memory // MIB
        self._item(
            3, f"{cpus} virtual CPU(s)", AllocationUnits="hertz * 10^6", Description="Number of Virtual CPUs",
            VirtualQuantity=cpus,
        )  # fmt: skip
        self._item(
            4, f"{mebibytes}MB of memory", AllocationUnits="byte * 2^20", Description="Memory Size",
            VirtualQuantity=mebibytes,
        )  # fmt: skip

    def _add_controllers(self) -> dict[tuple[str, int], int]:
        """Every controller up to the last that is used, so that each keeps its number; and their ids."""
        ids = {}
        for name in dict.fromkeys(disk.bus or "" for disk in self._machine.disks):
            bus = bus_of(self._target, name)
            for number in range(1 + max(disk.controller for disk in self._machine.disks if disk.bus == name)):
                ids[name, number] = self._add_controller(name, bus, number)
        return ids

    def _add_controller(self, name: str, bus: Bus, number: int) -> int:
        return self._item(
            bus.resource_type,
            f"{bus.title} {number}",
            Address=number,
            Description=bus.title,
            ResourceSubType=self._fitted.scsi_subtype if name == "scsi" else bus.subtype,
        )

    def _add_drives(self, controllers: Mapping[tuple[str, int], int]) -> None:
        for number, disk in enumerate(self._machine.disks):
            connection = f"device={number},bootable={str(number == 0).lower()},mode=w"
            self._item(
                17,
                f"Hard Disk {number + 1}",
                AddressOnParent=disk.unit,
                Connection=connection if self._facts.numbers_drives else None,
                HostResource=f"ovf:/disk/{self._disk_ids[number]}",
                Parent=controllers[disk.bus or "", disk.controller],
            )

    def _add_card(self, number: int, card: NetworkInterface) -> None:
        self._item(
            10,
            f"Ethernet {number + 1}",
            Address=card.mac,
            AddressOnParent=_FIRST_CARD_ADDRESS + number,
            AutomaticAllocation="true",
            Connection=card.network,
            ResourceSubType=card.model,
        )

    def _item(self, resource_type: int, name: str, **fields: str | int | None) -> int:
        """An Item with what ``fields`` say; its id."""
        self._items += 1
        said = fields | {"ElementName": name, "InstanceID": self._items, "ResourceType": resource_type}
        with self._inside("Item"):
            for key in sorted(said):
                if (value := said[key]) is not None:
                    self._leaf(f"rasd:{key}", str(value))
        return self._items

    @contextmanager
    def _inside(self, name: str, attributes: Mapping[str, str] | None = None) -> Iterator[None]:
        self._line(f"<{name}{_attributes(attributes)}>")
        self._depth += 1
        yield
        self._depth -= 1
        self._line(f"</{name}>")

    def _leaf(self, name: str, text: str | None, attributes: Mapping[str, str] | None = None) -> None:
        start = f"<{name}{_attributes(attributes)}"
        self._line(f"{start}/>" if text is None else f"{start}>{escape(text, quote=False)}</{name}>")

    def _line(self, line: str) -> None:
        self._lines.append("  " * self._depth + line)


def _attributes(attributes: Mapping[str, str] | None) -> str:
    return "".join(f' {key}="{escape(value)}"' for key, value in (attributes or {}).items())
