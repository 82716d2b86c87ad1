"""XVA: a machine as XenServer and XCP-ng export it, a tar of ``ova.xml`` and of chunks of its disks, read in place."""

from __future__ import annotations

from vmferry.appliances._contents import read_small
from vmferry.appliances._description import Description
from vmferry.appliances._tar import TarWalk
from vmferry.appliances._units import parse_whole
from vmferry.appliances._xapi import Record, Records, read_records
from vmferry.appliances._xml import local_name, parse_xml
from vmferry.appliances._xva_chunks import DiskChunks, read_chunks
from vmferry.appliances._xva_disk import XvaDiskBlob
from vmferry.blob import Blob, SliceBlob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, VmferryError, quote
from vmferry.folder import Folder
from vmferry.limits import MAX_DISK_SIZE, MAX_MACHINE_DISKS, MAX_OVF_DESCRIPTOR
from vmferry.machine import Appliance, Firmware, Machine, MachineDisk
from vmferry.registry import About
from vmferry.units import KIB, format_size

_DESCRIPTION = "ova.xml"
_LAST = 1 << 20
"""The highest number of a device: a higher one is taken for it."""


class Xva:
    """The XVA package."""

    name = "xva"
    ec2_name = None
    about = About(
        title="XVA (XenServer, XCP-ng)",
        reads="the machine and its disks, holes kept; SHA-1 and XXH64 of every chunk are verified as it is read",
        writes="as XCP-ng exports it, chunks with XXH64",
        refuses="exports that are cut short, several machines, XVAs of before 2008",
        limits=f"{MAX_MACHINE_DISKS} disks of 64 TiB; description of 8 MiB; 2,097,152 runs of chunks",
    )

    def probe(self, blob: Blob) -> bool:
        """Whether it is a tar whose first member is ``ova.xml``."""
        try:
            first = TarWalk(blob, read_ahead=4 * KIB).next()
        except VmferryError:
            return False
        return first is not None and first.name == _DESCRIPTION

    def open(self, blob: Blob, folder: Folder | None = None) -> Appliance:
        """``folder`` counts for nothing: all that belongs to the machine is in the tar."""
        first = TarWalk(blob, read_ahead=4 * KIB).next()
        if first is None or first.name != _DESCRIPTION:
            raise CorruptDiskError(f"{quote(blob.name)} is no XVA: it does not begin with {_DESCRIPTION}.")
        name = f"{blob.name}:{_DESCRIPTION}"
        content = read_small(SliceBlob(blob, first.offset, first.size, name), MAX_OVF_DESCRIPTOR, quote(name))
        root = parse_xml(content, name)
        if local_name(root) == "appliance":
            raise UnsupportedFeatureError(
                f"{quote(blob.name)} is an XVA of a XenServer of before 2008: import it there, and export it again."
            )
        return _open(blob, read_records(root, name))


PACKAGE = Xva()


def _open(blob: Blob, records: Records) -> Appliance:
    machine = _choose(records.of_class("VM"), blob.name)
    described = _describe(machine, records)
    drives = _drives(machine, records, blob.name)
    if len(drives) > MAX_MACHINE_DISKS:
        raise UnsafeDiskError(
            f"{quote(blob.name)} has {len(drives)} disks, but at most {MAX_MACHINE_DISKS} can be imported: "
            "remove some, or export them one by one."
        )
    chunks = read_chunks(blob, {disk.name for disk in drives})
    blobs: dict[str, Blob] = {}
    for disk in drives:
        found = chunks.get(disk.name)
        if found is None:
            raise CorruptDiskError(
                f"{quote(blob.name)} holds nothing of the disk {quote(disk.name)}: it is cut short, or no more than a "
                "description. Export or upload it again."
            )
        blobs[disk.name] = _disk(blob, found, disk.capacity or 0)
        if not found.kinds.all():
            described.notes.append(f"Chunks of the disk {disk.name} have no digests: they are not verified.")
    return Appliance(
        Machine(
            name=quote(described.name or blob.name.rpartition("/")[2].rpartition(".")[0]),
            cpus=described.cpus,
            memory=described.memory,
            firmware=described.firmware,
            disks=tuple(drives),
            interfaces=tuple(described.interfaces),
            hardware_family=described.hardware_family,
            notes=tuple(described.notes),
        ),
        blobs,
        package=blob,
    )


def _disk(blob: Blob, chunks: DiskChunks, size: int) -> XvaDiskBlob:
    """The disk of ``size`` bytes. Its first and last chunks are always written, so that a cut shows."""
    stored = (chunks.end - 1) * chunks.chunk_size + chunks.last_size
    if stored < size:
        raise CorruptDiskError(
            f"{quote(blob.name)} is cut short: the disk {chunks.ref} has {size:,} bytes, its last chunk ends at "
            f"{stored:,}. Export or upload it again."
        )
    if stored - size >= chunks.chunk_size:
        raise CorruptDiskError(
            f"{quote(blob.name)}: the chunks of the disk {chunks.ref} end at {stored:,}, but it has {size:,} bytes. "
            "Export it again."
        )
    return XvaDiskBlob(blob, chunks, size)


def _choose(machines: list[Record], name: str) -> Record:
    """The machine itself: neither its snapshots nor the host's own, nor a template where there is more than that."""
    found = [one for one in machines if not one.flag("is_control_domain")]
    for kind in ("is_a_snapshot", "is_a_template"):
        found = [one for one in found if not one.flag(kind)] or found
    if not found:
        raise CorruptDiskError(f"{quote(name)} describes no virtual machine: export it again.")
    if len(found) > 1:
        listed = ", ".join(quote(one.text("name_label")) for one in found[:10])
        raise UnsupportedFeatureError(
            f"{quote(name)} describes {len(found)} virtual machines, {listed}: export each into a file of its own."
        )
    return found[0]


def _describe(machine: Record, records: Records) -> Description:
    kind = machine.text("domain_type")
    paravirtual = kind.startswith("pv") if kind not in ("", "unspecified") else not machine.text("HVM_boot_policy")
    firmware = machine.table("HVM_boot_params").get("firmware")
    described = Description(
        name=machine.text("name_label"),
        firmware={"uefi": Firmware.UEFI, "bios": Firmware.BIOS}.get(firmware if isinstance(firmware, str) else ""),
        hardware_family="xen-pv" if paravirtual else "xen-hvm",
    )
    described.set_cpus(machine.text("VCPUs_at_startup") or machine.text("VCPUs_max"))
    described.set_memory(machine.text("memory_static_max") or machine.text("memory_dynamic_max"), 1)
    if paravirtual:
        described.notes.append(
            "The machine is paravirtual (PV) and starts with the host's help: set its HVM boot policy to BIOS order, "
            "install a boot loader and a plain kernel, start it once so, and export it again."
        )
    cards = [records.get(ref, "VIF") for ref in machine.refs("VIFs")] or records.of_class("VIF")
    own = [card for card in cards if card is not None and card.text("VM") in ("", machine.ref)]
    for card in sorted(own, key=lambda one: parse_whole(one.text("device")) or 0):
        network = records.get(card.text("network"), "network")
        described.add_interface(network.text("name_label") if network else None, None, card.text("MAC"))
    return described


def _drives(machine: Record, records: Records, name: str) -> list[MachineDisk]:
    """Its hard disks by their numbers as devices; the one that is bootable, if one alone is, first."""
    found: list[tuple[bool, int, Record]] = []
    own = set(machine.refs("VBDs"))
    for drive in records.of_class("VBD"):
        listed = drive.ref in own or drive.text("VM") == machine.ref
        if listed and drive.text("type").lower() not in ("cd", "floppy") and not drive.flag("empty"):
            image = records.get(drive.text("VDI"), "VDI")
            if image is not None:
                place = min(parse_whole(drive.text("userdevice")) or 0, _LAST)
                found.append((drive.flag("bootable"), place, image))
    alone = sum(bootable for bootable, _, _ in found) == 1
    found.sort(key=lambda one: (alone and not one[0], one[1]))
    disks: dict[str, MachineDisk] = {}
    for _, place, image in found:
        size = parse_whole(image.text("virtual_size")) or 0
        if not 0 < size <= MAX_DISK_SIZE:
            raise UnsafeDiskError(
                f"{quote(name)}: the disk {quote(image.ref)} claims {quote(image.text('virtual_size'))} bytes; "
                f"from 1 byte to {format_size(MAX_DISK_SIZE)} is read. Export the machine again."
            )
        disks.setdefault(image.ref, MachineDisk(image.ref, size, "xen", 0, place, "raw"))
    if not disks:
        raise UnsupportedFeatureError(f"{quote(name)}: the machine has no disk: export it again with its disks.")
    return list(disks.values())
