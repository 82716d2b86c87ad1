"""OVA: a machine in a tar, read in place. Source: OVF specification (DSP0243), section 5.

The descriptor is found wherever it stands and checked against the manifest; disks become blobs that read the tar at an
offset.
"""

from __future__ import annotations

import hashlib
import unicodedata

from vmferry.appliances._contents import Contents
from vmferry.appliances._digests import compare_digest
from vmferry.appliances._manifest import MAX_MANIFEST, parse_manifest
from vmferry.appliances._ovf import Ovf, OvfDisk, parse_ovf
from vmferry.appliances._tar import Member, is_tar, read_members
from vmferry.appliances._xml import MAX_DESCRIPTOR
from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnknownFormatError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.folder import Folder
from vmferry.machine import Appliance, Digest, Machine, MachineDisk
from vmferry.registry import About
from vmferry.units import format_size

MAX_DISKS = 21
"""EC2's limit, the root disk included."""


class Ova:
    """The OVA package."""

    name = "ova"
    ec2_name = "OVA"
    about = About(
        title="OVA",
        reads="OVF 0.9, 1.x and 2.0 in a tar of any dialect",
        writes="",
        refuses="links, sparse members, members outside the archive",
        limits="21 disks; descriptor of 8 MiB",
    )

    def probe(self, blob: Blob) -> bool:
        return is_tar(blob)

    def open(self, blob: Blob, folder: Folder | None = None) -> Appliance:
        return _Opening(blob).appliance()


PACKAGE = Ova()


class _Opening:
    """The steps of opening one OVA, and what was odd on the way."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._contents = Contents(blob, read_members(blob))
        self._descriptor = self._find_descriptor()
        self._folder = self._descriptor.name[: self._descriptor.name.rfind("/") + 1]
        self._notes: list[str] = []

    def appliance(self) -> Appliance:
        content = self._contents.read(self._descriptor, MAX_DESCRIPTOR)
        digests = self._read_manifest()
        name = f"{self._blob.name}:{self._descriptor.name}"
        own = digests.get(_nfc(self._descriptor.name))
        if own is not None:
            compare_digest(name, own, hashlib.new(own.algorithm, content, usedforsecurity=False).digest())
        ovf = parse_ovf(content, name)
        disks, blobs = self._open_disks(ovf)
        kept = {file: digests[_nfc(file)] for file in blobs if _nfc(file) in digests}
        if digests:
            self._notes += [
                f"The manifest has no digest of {quote(file)}: it is not verified."
                for file in blobs
                if file not in kept
            ]
        return Appliance(self._machine(ovf, disks), blobs, kept, self._blob)

    def _find_descriptor(self) -> Member:
        found = self._contents.ending(".ovf")
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(quote(member.name) for member in found[:4])
            raise CorruptDiskError(
                f"Multiple OVF files in {quote(self._blob.name)} ({listed}): pack one machine into one OVA."
            )
        xva = "It looks like an XVA of XenServer. " if "ova.xml" in self._contents else ""
        raise UnknownFormatError(
            f"No OVF descriptor found in {quote(self._blob.name)}. {xva}Export the machine as an OVA, whole."
        )

    def _read_manifest(self) -> dict[str, Digest]:
        """Member → what the manifest says of it. The certificate, which vouches for the manifest, is not checked."""
        self._notes += [
            f"The certificate {quote(member.name)} is not checked." for member in self._contents.ending(".cert")[:1]
        ]
        manifests = self._contents.ending(".mf")
        if not manifests:
            self._notes.append("There is no manifest: the files are not verified.")
            return {}
        own = [member for member in manifests if member.name[:-3] == self._descriptor.name[:-4]]
        manifest = (own or manifests)[0]
        content = self._contents.read(manifest, MAX_MANIFEST)
        listed, notes = parse_manifest(content, f"{self._blob.name}:{manifest.name}")
        self._notes += notes
        folder = manifest.name[: manifest.name.rfind("/") + 1]
        digests = {}
        missing = []
        for file, digest in listed.items():
            member = self._contents.find(file, folder)
            if member is None:
                missing.append(file)
            else:
                digests[_nfc(member.name)] = digest
        if missing:
            names = ", ".join(quote(file) for file in missing[:4])
            self._notes.append(f"The manifest lists {len(missing):,} files that are not in the package: {names}.")
        return digests

    def _open_disks(self, ovf: Ovf) -> tuple[list[MachineDisk], dict[str, Blob]]:
        if len(ovf.disks) > MAX_DISKS:
            raise UnsafeDiskError(
                f"{quote(self._blob.name)} has {len(ovf.disks)} disks, but at most {MAX_DISKS} can be imported: "
                "remove some, or import them one by one as disk images."
            )
        blobs: dict[str, Blob] = {}
        disks = []
        for disk in ovf.disks:
            if disk.file is None:
                size = "of unknown size" if disk.capacity is None else f"of {format_size(disk.capacity)}"
                self._notes.append(f"The disk {quote(disk.id)} {size} is empty and has no file; it is left out.")
                continue
            member, blob = self._contents.open(disk.file, self._folder)
            if member in blobs:
                raise UnsupportedFeatureError(
                    f"{quote(self._blob.name)}: two disks share the file {quote(member)}, which is not supported: "
                    "export the machine again, each disk into a file of its own."
                )
            if disk.file.size not in (None, blob.size):
                self._notes.append(
                    f"The descriptor says {disk.file.size:,} bytes for {quote(member)}, which has {blob.size:,}."
                )
            blobs[member] = blob
            disks.append(_machine_disk(disk, member))
        if not disks:
            raise UnsupportedFeatureError(
                f"{quote(self._blob.name)}: the machine has no disk with contents: export it again with its disks."
            )
        return disks, blobs

    def _machine(self, ovf: Ovf, disks: list[MachineDisk]) -> Machine:
        return Machine(
            name=ovf.name or quote(self._descriptor.name[len(self._folder) : -4]),
            cpus=ovf.hardware.cpus,
            memory=ovf.hardware.memory,
            firmware=ovf.firmware,
            disks=tuple(disks),
            interfaces=tuple(ovf.hardware.interfaces),
            guest_os=ovf.guest_os,
            hardware_family=ovf.hardware_family,
            notes=(*self._notes, *ovf.notes),
        )


def _machine_disk(disk: OvfDisk, member: str) -> MachineDisk:
    return MachineDisk(
        name=member,
        capacity=disk.capacity,
        bus=disk.drive.bus,
        controller=disk.drive.controller,
        unit=disk.drive.unit,
        format_hint=quote(disk.format) if disk.format else None,
    )


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)
