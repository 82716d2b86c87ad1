"""A file that holds a whole VM. ``open_appliance`` is the way in; ``PACKAGES`` says what there is."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from vmferry import wrappers
from vmferry.appliances._probing import Head
from vmferry.appliances._tar import is_tar
from vmferry.blob import Blob
from vmferry.errors import UnknownFormatError, quote
from vmferry.folder import Folder
from vmferry.registry import About, Registry

if TYPE_CHECKING:
    from vmferry.appliances._chunks import ConcatBlob
    from vmferry.appliances._digests import HashedBlob, furthest, verify
    from vmferry.appliances._ova_member import SupportsReadBack
    from vmferry.appliances._ova_targets import TARGETS
    from vmferry.appliances._ova_writer import OvaOptions, OvaWriter, PackedDisk
    from vmferry.appliances._package_names import disk_file_name, package_stem
    from vmferry.appliances._targets import Controller, Manifest, Target
    from vmferry.appliances._xva_writer import XvaWriter
    from vmferry.machine import Appliance

__all__ = [
    "PACKAGES",
    "TARGETS",
    "ConcatBlob",
    "Controller",
    "HashedBlob",
    "Manifest",
    "OvaOptions",
    "OvaWriter",
    "Package",
    "PackedDisk",
    "SupportsReadBack",
    "Target",
    "XvaWriter",
    "detect",
    "disk_file_name",
    "furthest",
    "open_appliance",
    "package_stem",
    "verify",
]

_HOMES = {
    "_chunks": ("ConcatBlob",),
    "_digests": ("HashedBlob", "furthest", "verify"),
    "_ova_member": ("SupportsReadBack",),
    "_ova_targets": ("TARGETS",),
    "_ova_writer": ("OvaOptions", "OvaWriter", "PackedDisk"),
    "_package_names": ("disk_file_name", "package_stem"),
    "_xva_writer": ("XvaWriter",),
    "_targets": ("Controller", "Manifest", "Target"),
}
"""Module → what this one shows of it. Imported when it is asked for: a disk image needs none of it."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Package(Protocol):
    """How one kind of appliance file is named, recognised and opened."""

    @property
    def name(self) -> str:
        """Our name, which is the module's: ``ova``."""

    @property
    def about(self) -> About:
        """For the documentation."""

    @property
    def ec2_name(self) -> str | None:
        """EC2's name for it as a disk container's format: ``OVA``."""

    def probe(self, blob: Blob) -> bool:
        """Whether the first few KiB say so. Never raises for strange content."""

    def open(self, blob: Blob, folder: Folder | None = None) -> Appliance:
        """The machine in ``blob``, with its disks as blobs, read in place. The appliance owns ``blob`` and its disks.

        ``folder`` is where ``blob`` lies, for descriptions of machines whose disks are files beside them. Raises
        ``FormatError`` or ``UnsafeDiskError``; the blob is left open then.
        """


_ARCHIVES = ("xva", "ova")
"""The packages that are tars."""
_DESCRIPTIONS = ("ovf", "vmx", "vbox", "hyperv", "libvirt")
"""Those that are text, or nearly, beside the disks, and are called one of the following."""
_SUFFIXES = (".ovf", ".vmx", ".vbox", ".vmcx", ".xml")
PACKAGES: Registry[Package] = Registry("vmferry.appliances", "PACKAGE", [*_ARCHIVES, *_DESCRIPTIONS])
"""In probe order: an XVA is a tar as an OVA is, and known by its first member."""
_SNAPSHOTS = "snapshots"
"""The folder in which Hyper-V keeps descriptions of a machine as it was."""


def detect(blob: Blob) -> Package | None:
    """The kind of appliance that the bytes of ``blob`` show, or ``None`` where it is a disk image or anything else."""
    head = Head(blob)
    names = _ARCHIVES if is_tar(head) else _DESCRIPTIONS if _may_describe(blob.name) else ()
    return next((PACKAGES[name] for name in names if PACKAGES[name].probe(head)), None)


def open_appliance(blob: Blob, folder: Folder | None = None) -> Appliance:
    """The machine in ``blob``, or the one that it describes, with its disks out of ``folder``, where ``blob`` lies.

    Raises ``UnknownFormatError`` where there is none, and as ``Package.open`` does; ``blob`` is left open then.
    """
    package = detect(blob)
    if package is None and (wrapper := wrappers.detect(blob)) is not None:
        raise UnknownFormatError(
            f"{quote(blob.name)} is a {wrapper.name} file: unpack it first and import the OVA inside.",
            wrapper=wrapper.name,
        )
    if package is None:
        raise UnknownFormatError(
            f"{quote(blob.name)} is not an OVA: it does not begin with a tar member. "
            "Export the machine again as an OVA, or name the disk-image format that it is."
        )
    return package.open(blob, folder)


def find_description(folder: Folder) -> str:
    """The file of ``folder`` that describes the machine in it: by its name (``.vmx`` …) and by its first bytes.

    Hyper-V's descriptions of snapshots do not count. Raises ``UnknownFormatError`` when there is none, or when several
    are there and the caller must name one; ``StoreError``.
    """
    found = [name for name in folder.names() if _counts(name) and _describes(folder, name)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(quote(name) for name in found[:8]) + (" …" if len(found) > 8 else "")
        raise UnknownFormatError(
            f"{quote(folder.name)} holds {len(found)} descriptions of machines; name one: {listed}."
        )
    raise UnknownFormatError(
        f"{quote(folder.name)} holds no description of a machine ({', '.join(_SUFFIXES)}): "
        "name a folder that does, or a disk image in it."
    )


def _may_describe(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES)


def _counts(name: str) -> bool:
    *folders, last = name.lower().split("/")
    return _may_describe(last) and not last.startswith("._") and _SNAPSHOTS not in folders


def _describes(folder: Folder, name: str) -> bool:
    blob = folder.open(name)
    try:
        return detect(blob) is not None
    finally:
        blob.close()
