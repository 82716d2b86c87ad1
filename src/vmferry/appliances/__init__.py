"""A file that holds a whole VM. ``open_appliance`` is the way in; ``PACKAGES`` says what there is."""

from __future__ import annotations

from typing import Protocol

from vmferry.appliances._digests import HashedBlob, verify
from vmferry.blob import Blob
from vmferry.errors import UnknownFormatError, quote
from vmferry.folder import Folder
from vmferry.machine import Appliance
from vmferry.registry import About, Registry

__all__ = ["PACKAGES", "HashedBlob", "Package", "detect", "open_appliance", "verify"]

_WRAPPERS = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"\xfd7zXZ\0": ("xz", "unxz"),
    b"BZh": ("bzip2", "bunzip2"),
    b"PK\3\4": ("zip", "unzip"),
}
"""First bytes → what packed the file, and what unpacks it."""


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


PACKAGES: Registry[Package] = Registry("vmferry.appliances", "PACKAGE", ["ova"])


def detect(blob: Blob) -> Package | None:
    """The kind of appliance that the bytes of ``blob`` show, or ``None`` where it is a disk image or anything else."""
    return next((candidate for candidate in PACKAGES.values() if candidate.probe(blob)), None)


def _wrapper(blob: Blob) -> tuple[str, str] | None:
    head = blob.read_at(0, min(blob.size, 8))
    return next((wrapper for magic, wrapper in _WRAPPERS.items() if head.startswith(magic)), None)


def open_appliance(blob: Blob) -> Appliance:
    """The machine in ``blob``. Raises ``UnknownFormatError`` where there is none, and as ``Package.open`` does."""
    package = detect(blob)
    if package is None and (wrapper := _wrapper(blob)) is not None:
        kind, program = wrapper
        raise UnknownFormatError(
            f"{quote(blob.name)} is a {kind} file: unpack it first ({program}) and import the OVA inside.", wrapper=kind
        )
    if package is None:
        raise UnknownFormatError(
            f"{quote(blob.name)} is not an OVA: it does not begin with a tar member. "
            "Export the machine again as an OVA, or name the disk-image format that it is."
        )
    return package.open(blob)
