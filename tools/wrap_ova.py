#!/usr/bin/env python3
"""Wrap raw disks as an OVA, the way VMware exports one.

wrap_ova.py OUT.ova DISK.raw [MORE.raw…] [--name NAME] [--firmware bios|uefi] [--controller ide|sata|scsi]

Inside: OVF 1.1 descriptor, manifest (SHA-256), then one streamOptimized VMDK per disk, made by qemu-img; ustar.
Sources: DMTF DSP0243 1.1 (OVF), DSP0004 CIM schema 2 (resource types); sizes are bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from programs import run
from vmferry.errors import ConfigError, VmferryError, quote

_FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
_CONTROLLERS = {"ide": ("5", None), "sata": ("20", "vmware.sata.ahci"), "scsi": ("6", "lsilogic")}
"""CIM resource type and VMware's subtype."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the OVF says of the machine."""

    name: str = "vmferry-guest"
    firmware: str = "bios"
    controller: str = "scsi"
    cpus: int = 1
    memory_mib: int = 1024


def wrap_ova(out: Path, disks: Sequence[Path], hardware: Hardware | None = None) -> None:
    """Write ``out`` from raw ``disks``; it appears whole or not at all. The VMDKs are made beside it first.

    Raises ``ConfigError`` for a name that may not stand in a file name or XML, or when files cannot be written;
    ``VmferryError`` when qemu-img fails.
    """
    hardware = hardware or Hardware()
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,80}", hardware.name):
        raise ConfigError(f"{quote(hardware.name)} is no name for a machine: use letters, digits, '.', '_' and '-'.")
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".ova-") as name:
            _write(out, disks, hardware, Path(name))
    except OSError as error:
        raise ConfigError(f"{quote(out)} cannot be written: {quote(error)}. Make room, or give the rights.") from error


def _write(out: Path, disks: Sequence[Path], hardware: Hardware, work: Path) -> None:
    vmdks = [work / f"{hardware.name}-disk{i}.vmdk" for i in range(1, len(disks) + 1)]
    for disk, vmdk in zip(disks, vmdks, strict=True):
        run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", disk, vmdk)
    descriptor = work / f"{hardware.name}.ovf"
    capacities = [disk.stat().st_size for disk in disks]
    descriptor.write_text(_envelope(hardware, list(zip(vmdks, capacities, strict=True))))
    manifest = work / f"{hardware.name}.mf"
    manifest.write_text("".join(f"SHA256({file.name})= {_sha256(file)}\n" for file in [descriptor, *vmdks]))
    package = work / "package"
    # ustar holds files below 8 GiB; past that GNU's binary sizes, as VMware's exporter does.
    large = any(vmdk.stat().st_size >= 8 << 30 for vmdk in vmdks)
    with tarfile.open(package, "w", format=tarfile.GNU_FORMAT if large else tarfile.USTAR_FORMAT) as tar:
        for file in [descriptor, manifest, *vmdks]:
            tar.add(file, file.name)
    package.rename(out)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _item(**properties: object) -> str:
    """A ``rasd`` item; CIM wants the properties in the order of their names."""
    body = "".join(f"<rasd:{key}>{properties[key]}</rasd:{key}>" for key in sorted(properties))
    return f"      <Item>{body}</Item>\n"


def _hardware_items(hardware: Hardware, disks: int) -> str:
    kind, subtype = _CONTROLLERS[hardware.controller]
    controller: dict[str, object] = {"Address": 0, "ElementName": "Controller 0", "InstanceID": 3, "ResourceType": kind}
    if subtype:
        controller["ResourceSubType"] = subtype
    items = [
        _item(AllocationUnits="hertz * 10^6", ElementName=f"{hardware.cpus} virtual CPUs", InstanceID=1,
              ResourceType=3, VirtualQuantity=hardware.cpus),
        _item(AllocationUnits="byte * 2^20", ElementName=f"{hardware.memory_mib} MB of memory", InstanceID=2,
              ResourceType=4, VirtualQuantity=hardware.memory_mib),
        _item(**controller),
    ]  # fmt: skip
    items += [
        _item(AddressOnParent=i, ElementName=f"Hard disk {i + 1}", HostResource=f"ovf:/disk/vmdisk{i + 1}",
              InstanceID=10 + i, Parent=3, ResourceType=17)
        for i in range(disks)
    ]  # fmt: skip
    items.append(_item(AutomaticAllocation="true", Connection="VM Network", ElementName="Network adapter 1",
                       InstanceID=9, ResourceSubType="E1000", ResourceType=10))  # fmt: skip
    return "".join(items)


def _envelope(hardware: Hardware, disks: Sequence[tuple[Path, int]]) -> str:
    """The OVF descriptor of a machine with ``disks``: each VMDK and its capacity in bytes."""
    files = "".join(
        f'    <File ovf:href="{vmdk.name}" ovf:id="file{i}" ovf:size="{vmdk.stat().st_size}"/>\n'
        for i, (vmdk, _) in enumerate(disks, 1)
    )
    capacities = "".join(
        f'    <Disk ovf:capacity="{capacity}" ovf:diskId="vmdisk{i}" ovf:fileRef="file{i}" ovf:format="{_FORMAT}"/>\n'
        for i, (_, capacity) in enumerate(disks, 1)
    )
    efi = '      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>\n'
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
  xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>
{files}  </References>
  <DiskSection>
    <Info>Virtual disks</Info>
{capacities}  </DiskSection>
  <NetworkSection>
    <Info>Networks</Info>
    <Network ovf:name="VM Network"><Description>VM Network</Description></Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{hardware.name}">
    <Info>A virtual machine</Info>
    <Name>{hardware.name}</Name>
    <OperatingSystemSection ovf:id="96"><Info>Debian 64-bit</Info></OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System><vssd:ElementName>Virtual Hardware Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>\
<vssd:VirtualSystemIdentifier>{hardware.name}</vssd:VirtualSystemIdentifier>\
<vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>
{_hardware_items(hardware, len(disks))}{efi if hardware.firmware == "uefi" else ""}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("disks", nargs="+", type=Path, metavar="DISK.raw")
    parser.add_argument("--name", default="vmferry-guest")
    parser.add_argument("--firmware", default="bios", choices=["bios", "uefi"])
    parser.add_argument("--controller", default="scsi", choices=sorted(_CONTROLLERS))
    args = parser.parse_args()
    try:
        wrap_ova(args.out, args.disks, Hardware(args.name, args.firmware, args.controller))
    except VmferryError as error:
        print(f"wrap_ova: {error}", file=sys.stderr)
        return 1
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
