"""libvirt domain XML, with the disks beside it. Source: libvirt's documentation, *Domain XML format*."""

from __future__ import annotations

from vmferry.appliances._contents import read_small
from vmferry.appliances._description import DescribedDrive, Description, assemble
from vmferry.appliances._probing import has_root, need_folder
from vmferry.appliances._units import parse_whole
from vmferry.appliances._xml import Element, anywhere, attribute, children, local_name, parse_xml, text
from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.folder import Folder
from vmferry.limits import MAX_MACHINE_DISKS, MAX_OVF_DESCRIPTOR, MAX_OVF_ITEMS
from vmferry.machine import Appliance, Firmware
from vmferry.registry import About
from vmferry.units import GIB, KIB, MIB, TIB

_UNITS = {
    "b": 1, "bytes": 1, "kb": 10**3, "k": KIB, "kib": KIB, "mb": 10**6, "m": MIB, "mib": MIB,
    "gb": 10**9, "g": GIB, "gib": GIB, "tb": 10**12, "t": TIB, "tib": TIB,
}  # fmt: skip
_FORMATS = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vpc": "vhd", "vhdx": "vhdx"}
"""``driver/@type`` → our name."""
_LAST = 1 << 20


class LibvirtDomain:
    """The libvirt domain with its disks in one folder."""

    name = "libvirt"
    ec2_name = None
    about = About(
        title="libvirt domain XML",
        reads="processors, memory, firmware, cards, the disks that are files, in boot order",
        writes="",
        refuses="disks on block devices, networks or in pools, encrypted disks, disks outside the folder",
        limits=f"{MAX_MACHINE_DISKS} disks; description of 8 MiB",
    )

    def probe(self, blob: Blob) -> bool:
        """Whether it is called ``….xml`` and its root element is domain."""
        return has_root(blob, (".xml",), "domain")

    def open(self, blob: Blob, folder: Folder | None = None) -> Appliance:
        beside = need_folder(blob, folder)
        root = parse_xml(read_small(blob, MAX_OVF_DESCRIPTOR, quote(blob.name)), blob.name)
        if local_name(root) != "domain":
            raise CorruptDiskError(f"{quote(blob.name)} is no libvirt domain: its root is {quote(local_name(root))}.")
        return assemble(blob, beside, _describe(root, blob.name))


PACKAGE = LibvirtDomain()


def _describe(root: Element, name: str) -> Description:
    system = next(iter(children(root, "os")), root)
    kind = next(iter(children(system, "type")), system)
    described = Description(
        name=text(root, "name") or "",
        firmware=_firmware(system),
        guest_os=_guest_os(root),
        hardware_family=attribute(kind, "machine"),
    )
    described.set_cpus(text(root, "vcpu"))
    for memory in children(root, "memory")[:1]:
        unit = _UNITS.get((attribute(memory, "unit") or "KiB").lower(), 0)
        described.set_memory((memory.text or "").strip(), unit)
    devices = [device for parent in children(root, "devices") for device in children(parent, "disk", "interface")]
    if len(devices) > MAX_OVF_ITEMS:
        raise UnsafeDiskError(f"{quote(name)} has more than {MAX_OVF_ITEMS:,} devices; it describes no machine.")
    described.drives = _drives([one for one in devices if local_name(one) == "disk"], described.notes, name)
    for card in (one for one in devices if local_name(one) == "interface"):
        source = next(iter(children(card, "source")), None)
        named = (attribute(source, key) for key in ("network", "bridge", "dev")) if source is not None else ()
        described.add_interface(
            next(filter(None, named), None), _of(card, "model", "type"), _of(card, "mac", "address")
        )
    return described


def _of(parent: Element, child: str, key: str) -> str | None:
    return next((attribute(element, key) for element in children(parent, child)), None)


def _firmware(system: Element) -> Firmware | None:
    said = (attribute(system, "firmware") or "").lower()
    if said == "efi" or _of(system, "loader", "type") == "pflash":
        return Firmware.UEFI
    return Firmware.BIOS if said == "bios" else None


def _guest_os(root: Element) -> str | None:
    """What virt-install and virt-manager note: libosinfo's address of the system."""
    for metadata in children(root, "metadata"):
        for element in anywhere(metadata, "os"):
            return (attribute(element, "id") or "").partition("://")[2] or None
    return None


def _drives(disks: list[Element], notes: list[str], name: str) -> list[DescribedDrive]:
    """Hard disks with a file: those with a boot order first, then as they stand."""
    found: list[tuple[int, DescribedDrive]] = []
    for disk in disks:
        device = (attribute(disk, "device") or "disk").lower()
        target = _of(disk, "target", "dev") or "?"
        if device in ("cdrom", "floppy"):
            continue
        path = _of(disk, "source", "file")
        if device != "disk" or not path:
            raise UnsupportedFeatureError(
                f"{quote(name)}: the disk {quote(target)} is no file ({quote(attribute(disk, 'type') or device)}): "
                "copy it into an image beside the description, and name that there."
            )
        if any(True for part in (disk, *children(disk, "source")) for _ in children(part, "encryption")):
            raise UnsupportedFeatureError(f"{quote(name)}: the disk {quote(target)} is encrypted: decrypt it first.")
        if any(_of(backing, "source", "file") for backing in children(disk, "backingStore")):
            notes.append(f"{quote(path)} holds only what changed since another image: that is given with --parent.")
        bus = (_of(disk, "target", "bus") or "").lower() or None
        kind = _FORMATS.get((_of(disk, "driver", "type") or "").lower())
        controller, unit = _place(disk, target)
        order = parse_whole(_of(disk, "boot", "order")) or _LAST
        found.append((order, DescribedDrive(path, quote(bus) if bus else None, controller, unit, kind)))
    return [drive for _, drive in sorted(found, key=lambda one: one[0])]


def _place(disk: Element, target: str) -> tuple[int, int]:
    """The controller and the place on it: the address where it is a drive's, else the letters of ``vdb``, ``sdaa``."""
    for address in children(disk, "address"):
        if attribute(address, "type") == "drive":
            controller, unit = (parse_whole(attribute(address, key)) or 0 for key in ("controller", "unit"))
            return min(controller, _LAST), min(unit, _LAST)
    place = 0
    for letter in target[2:6]:
        if not "a" <= letter <= "z":
            break
        place = place * 26 + ord(letter) - ord("a") + 1
    return 0, max(place - 1, 0)
