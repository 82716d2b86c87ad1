"""OVA: a machine in a tar, read in place. Source: OVF specification (DSP0243), section 5.

The descriptor is found wherever it stands, the manifest is checked, disks become blobs that read the tar at an offset.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import unquote

from vmferry.appliances._chunks import ConcatBlob
from vmferry.appliances._manifest import MAX_MANIFEST, parse_manifest
from vmferry.appliances._ovf import MAX_DESCRIPTOR, Ovf, OvfDisk, OvfFile, parse_ovf
from vmferry.appliances._tar import Member, is_tar, read_members
from vmferry.blob import Blob, SliceBlob
from vmferry.errors import CorruptDiskError, FormatError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.machine import Appliance, Digest, Machine, MachineDisk
from vmferry.units import format_size

MAX_DISKS = 64
"""Far more than EC2 takes, so that ``inspect`` can still say what is in a machine."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class Ova:
    """The OVA package."""

    name = "ova"
    ec2_name = "OVA"

    def probe(self, blob: Blob) -> bool:
        return is_tar(blob)

    def open(self, blob: Blob) -> Appliance:
        return _Opening(blob).appliance()


PACKAGE = Ova()


class _Opening:
    """The steps of opening one OVA, and what they have found so far."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._members = read_members(blob)
        self._descriptor = self._find_descriptor()
        self._notes: list[str] = []

    def appliance(self) -> Appliance:
        content = self._read(self._descriptor, MAX_DESCRIPTOR, "descriptor")
        digests = self._manifest_digests(content)
        ovf = parse_ovf(content, f"{self._blob.name}:{self._descriptor.name}")
        disks = [disk for disk in ovf.disks if self._has_contents(disk)]
        if len(disks) > MAX_DISKS:
            raise UnsafeDiskError(f"{quote(self._blob.name)} has {len(disks)} disks; at most {MAX_DISKS} are read.")
        blobs: dict[str, Blob] = {}
        described = []
        for disk in disks:
            assert disk.file is not None
            blob = self._find_file(disk.file)
            member = blob.name.rpartition(":")[2]
            if member in blobs:
                raise UnsupportedFeatureError(f"{quote(self._blob.name)}: two disks share the file {quote(member)}.")
            blobs[member] = blob
            described.append(_machine_disk(disk, member))
        self._note_unlisted(digests, blobs)
        kept = {name: digest for name, digest in digests.items() if name in blobs}
        return Appliance(self._machine(ovf, described), blobs, kept, self._blob)

    def _find_descriptor(self) -> Member:
        found = [member for member in self._members if member.name.lower().endswith(".ovf")]
        if len(found) == 1:
            return found[0]
        if not found:
            raise FormatError(
                f"No OVF descriptor found in {quote(self._blob.name)}: export the machine again as an OVA."
            )
        listed = ", ".join(quote(member.name) for member in found[:4])
        raise FormatError(f"Multiple OVF files in {quote(self._blob.name)} ({listed}): pack one machine into one OVA.")

    def _read(self, member: Member, most: int, what: str) -> bytes:
        if member.size > most:
            raise UnsafeDiskError(
                f"{quote(self._blob.name)}: its {what} {quote(member.name)} claims {format_size(member.size)}; "
                f"at most {format_size(most)} is read."
            )
        return self._blob.read_at(member.offset, member.size)

    def _manifest_digests(self, descriptor: bytes) -> dict[str, Digest]:
        """What the manifest says of each file; the descriptor's own digest is checked here."""
        manifests = [member for member in self._members if member.name.lower().endswith(".mf")]
        if not manifests:
            self._notes.append("There is no manifest: the files' digests are not verified.")
            return {}
        name = f"{self._blob.name}:{manifests[0].name}"
        digests, notes = parse_manifest(self._read(manifests[0], MAX_MANIFEST, "manifest"), name)
        self._notes += notes
        folder = _folder(self._descriptor.name)
        digests = {folder + file: digest for file, digest in digests.items()}
        own = digests.get(self._descriptor.name)
        if own is not None:
            found = hashlib.new(own.algorithm, descriptor, usedforsecurity=False).digest()
            if found != own.value:
                raise CorruptDiskError(
                    f"{quote(self._blob.name)}: the {own.algorithm.upper()} digest of {quote(self._descriptor.name)} is "
                    f"{found.hex()}, but the manifest says {own.value.hex()}. Export or upload it again."
                )
        return digests

    def _has_contents(self, disk: OvfDisk) -> bool:
        if disk.file is None:
            size = format_size(disk.capacity) if disk.capacity is not None else "unknown size"
            self._notes.append(f"The disk {quote(disk.id)} ({size}) is empty and has no file; it is left out.")
        return disk.file is not None

    def _find_file(self, file: OvfFile) -> Blob:
        if file.compression not in (None, "", "identity"):
            raise UnsupportedFeatureError(
                f"{quote(self._blob.name)}: the file {quote(file.href)} is compressed ({quote(file.compression)}): "
                "export without compression of files; streamOptimized disks are compressed already."
            )
        href = self._checked(file.href)
        member = self._match(href) or self._match(unquote(href))
        if member is not None:
            self._note_size(file, member.size)
            return self._slice(member)
        chunks = self._chunks(href)
        if not chunks:
            raise CorruptDiskError(
                f"{quote(self._blob.name)}: the file {quote(file.href)}, which the descriptor refers to, is not in it: "
                "export the machine again."
            )
        return ConcatBlob(
            [self._slice(chunk) for chunk in chunks], f"{self._blob.name}:{_folder(chunks[0].name)}{href}"
        )

    def _checked(self, href: str) -> str:
        """``href`` as a name inside the package, or ``UnsafeDiskError``: no path or address is ever opened."""
        plain = href.removeprefix("./")
        outside = plain.startswith(("/", "\\")) or _SCHEME.match(plain) or "\\" in plain or "\0" in plain
        if outside or not plain or ".." in plain.split("/") or ".." in unquote(plain).split("/"):
            raise UnsafeDiskError(
                f"{quote(self._blob.name)}: the descriptor refers to {quote(href)!r}, which is outside of the package: "
                "export the machine as an OVA with all its disks inside."
            )
        return plain

    def _match(self, href: str) -> Member | None:
        """By the name relative to the descriptor's folder; else by the last component, when one member only has it."""
        wanted = unicodedata.normalize("NFC", _folder(self._descriptor.name) + href)
        for member in self._members:
            if unicodedata.normalize("NFC", member.name) == wanted:
                return member
        last = wanted.rpartition("/")[2]
        found = [m for m in self._members if unicodedata.normalize("NFC", m.name).rpartition("/")[2] == last]
        return found[0] if len(found) == 1 else None

    def _chunks(self, href: str) -> Sequence[Member]:
        """``href.000000000``, ``href.000000001``, … as far as they go on."""
        chunks: list[Member] = []
        while (member := self._match(f"{href}.{len(chunks):09d}")) is not None:
            chunks.append(member)
        return chunks

    def _slice(self, member: Member) -> SliceBlob:
        return SliceBlob(self._blob, member.offset, member.size, f"{self._blob.name}:{member.name}")

    def _note_size(self, file: OvfFile, size: int) -> None:
        if file.size is not None and file.size != size:
            self._notes.append(
                f"The descriptor says that {quote(file.href)} has {file.size:,} bytes; it has {size:,}, which are taken."
            )

    def _note_unlisted(self, digests: dict[str, Digest], blobs: dict[str, Blob]) -> None:
        names = {member.name for member in self._members}
        for missing in sorted(digests.keys() - names - blobs.keys()):
            self._notes.append(f"The manifest lists {quote(missing)}, which is not in the package.")
        if digests:
            for unlisted in sorted(blobs.keys() - digests.keys()):
                self._notes.append(f"The manifest does not list {quote(unlisted)}: its digest is not verified.")

    def _machine(self, ovf: Ovf, disks: list[MachineDisk]) -> Machine:
        return Machine(
            name=ovf.name or self._descriptor.name.rpartition("/")[2][:-4],
            cpus=ovf.cpus,
            memory=ovf.memory,
            firmware=ovf.firmware,
            disks=tuple(disks),
            interfaces=tuple(ovf.interfaces),
            guest_os=ovf.guest_os,
            hardware_family=ovf.hardware_family,
            notes=(*ovf.notes, *self._notes),
        )


def _machine_disk(disk: OvfDisk, member: str) -> MachineDisk:
    return MachineDisk(
        name=member,
        capacity=disk.capacity,
        bus=disk.bus,
        controller=disk.controller,
        unit=disk.unit,
        format_hint=disk.format,
    )


def _folder(name: str) -> str:
    """``a/b.ovf`` → ``a/``; ``b.ovf`` → nothing."""
    return name[: name.rfind("/") + 1]
