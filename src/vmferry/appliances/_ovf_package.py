"""An OVF descriptor and what it refers to → an appliance; be they members of a tar or files of a folder."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack

from vmferry.appliances._certificate import check_certificate
from vmferry.appliances._contents import Contents, around, nfc
from vmferry.appliances._digests import UnpackedFile, compare_digest
from vmferry.appliances._manifest import parse_manifest
from vmferry.appliances._ovf import Ovf, OvfDisk, parse_ovf
from vmferry.blob import Blob
from vmferry.errors import UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.folder import Companions
from vmferry.limits import MAX_MACHINE_DISKS, MAX_MANIFEST
from vmferry.machine import Appliance, Digest, Machine, MachineDisk
from vmferry.units import format_size


class OvfPackage:
    """The steps of opening one package, and what was odd on the way. ``alone``: nothing of another machine is in it."""

    def __init__(self, contents: Contents, descriptor: str, package: Blob, *, alone: bool) -> None:
        self._contents = contents
        self._descriptor = descriptor
        self._package = package
        self._alone = alone
        self._base = descriptor[: descriptor.rfind("/") + 1]
        self._label = quote(package.name)
        self._notes: list[str] = []

    def open(self, content: bytes, name: str) -> Appliance:
        """The machine that the descriptor ``content``, to be called ``name``, describes. Its disks are open then.

        Raises as ``Package.open`` does; nothing but the package stays open then.
        """
        digests = self._read_manifest()
        own = digests.get(nfc(self._descriptor))
        if own is not None:
            compare_digest(name, own, hashlib.new(own.algorithm, content, usedforsecurity=False).digest())
        ovf = parse_ovf(content, name)
        with ExitStack() as opened:
            disks, files, blobs = self._open_disks(ovf, opened)
            opened.pop_all()
        kept = {disk: digests[nfc(file)] for disk, file in files.items() if nfc(file) in digests}
        if digests:
            self._notes += [
                f"The manifest has no digest of {quote(file)}: it is not verified."
                for file in dict.fromkeys(files.values())
                if nfc(file) not in digests
            ]
        folder = self._contents.folder
        companions = {
            disk: Companions(beside=around(folder, file))
            for disk, file in files.items()
            if file.lower().endswith(".vmdk")
        }
        return Appliance(self._machine(ovf, disks), blobs, kept, self._package, companions)

    def _read_manifest(self) -> dict[str, Digest]:
        """File → what the manifest says of it, its signature checked where there is one."""
        name = self._of_this_package(".mf")
        certificate = self._of_this_package(".cert")
        if name is None:
            self._notes += [f"The certificate {quote(certificate)} vouches for no manifest."] if certificate else []
            self._notes.append("There is no manifest: the files are not verified.")
            return {}
        content = self._contents.read(name, MAX_MANIFEST)
        if certificate is not None:
            signed = self._contents.read(certificate, MAX_MANIFEST)
            self._notes += check_certificate(signed, content, f"{self._package.name}:{certificate}")
        listed, notes = parse_manifest(content, f"{self._package.name}:{name}")
        self._notes += notes
        base = name[: name.rfind("/") + 1]
        digests = {}
        missing = []
        for file, digest in listed.items():
            member = self._contents.find(file, base)
            if member is None:
                missing.append(file)
            else:
                digests[nfc(member)] = digest
        if missing:
            names = ", ".join(quote(file) for file in missing[:4])
            self._notes.append(f"The manifest lists {len(missing):,} files that are not in the package: {names}.")
        return digests

    def _of_this_package(self, suffix: str) -> str | None:
        """The file with the descriptor's stem and this suffix; in a package of its own, any with the suffix."""
        stem = nfc(self._descriptor[:-4])
        found = self._contents.ending(suffix)
        own = [name for name in found if nfc(name[: -len(suffix)]) == stem]
        return next(iter(own or (found if self._alone else [])), None)

    def _open_disks(self, ovf: Ovf, opened: ExitStack) -> tuple[list[MachineDisk], dict[str, str], dict[str, Blob]]:
        """The disks; and by their names the files that hold them, and their bytes."""
        if len(ovf.disks) > MAX_MACHINE_DISKS:
            raise UnsafeDiskError(
                f"{self._label} has {len(ovf.disks)} disks, but at most {MAX_MACHINE_DISKS} can be imported: "
                "remove some, or import them one by one as disk images."
            )
        disks: list[MachineDisk] = []
        files: dict[str, str] = {}
        blobs: dict[str, Blob] = {}
        for disk in ovf.disks:
            if disk.file is None:
                size = "of unknown size" if disk.capacity is None else f"of {format_size(disk.capacity)}"
                self._notes.append(f"The disk {quote(disk.id)} {size} is empty and has no file; it is left out.")
                continue
            file, blob = self._contents.open(disk.file, self._base)
            opened.callback(blob.close)
            sharing = list(files.values()).count(file)
            key = file if not sharing else f"{file}#{sharing + 1}"
            if sharing:
                self._notes.append(f"The disk {quote(disk.id)} begins as a copy of {quote(file)}, as another one does.")
            stored = blob.packed.size if isinstance(blob, UnpackedFile) else blob.size
            if disk.file.size not in (None, stored):
                self._notes.append(
                    f"The descriptor says {disk.file.size:,} bytes for {quote(file)}, which has {stored:,}."
                )
            files[key], blobs[key] = file, blob
            disks.append(_machine_disk(disk, key))
        if not disks:
            raise UnsupportedFeatureError(
                f"{self._label}: the machine has no disk with contents: export it again with its disks."
            )
        return disks, files, blobs

    def _machine(self, ovf: Ovf, disks: list[MachineDisk]) -> Machine:
        return Machine(
            name=ovf.name or quote(self._descriptor[len(self._base) : -4]),
            cpus=ovf.hardware.cpus,
            memory=ovf.hardware.memory,
            firmware=ovf.firmware,
            disks=tuple(disks),
            interfaces=tuple(ovf.hardware.interfaces),
            guest_os=ovf.guest_os,
            hardware_family=ovf.hardware_family,
            notes=(*self._notes, *ovf.notes),
        )


def _machine_disk(disk: OvfDisk, key: str) -> MachineDisk:
    return MachineDisk(
        name=key,
        capacity=disk.capacity,
        bus=disk.drive.bus,
        controller=disk.drive.controller,
        unit=disk.drive.unit,
        format_hint=quote(disk.format) if disk.format else None,
    )
