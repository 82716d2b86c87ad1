"""A file that holds one disk. ``open_disk`` is the way in; ``FORMATS`` says what there is, in probe order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from vmferry.blob import Blob, BlobWriter
from vmferry.disk import Disk, DiskWriter
from vmferry.errors import UnknownFormatError, UnsupportedFeatureError, quote
from vmferry.extent import Extent
from vmferry.formats._foreign import foreign_kind
from vmferry.registry import Registry


class Format(Protocol):
    """How one disk-image format is named, recognised and opened."""

    @property
    def name(self) -> str:
        """Our name, which is the module's: ``vmdk``."""

    @property
    def ec2_name(self) -> str | None:
        """EC2's name (``VMDK``), or ``None`` where EC2 has none."""

    @property
    def qemu_name(self) -> str:
        """What ``qemu-img -f`` calls it."""

    def probe(self, blob: Blob) -> bool:
        """Whether the bytes say so. Reads a few KiB at the most; never raises for strange content."""

    def open(self, blob: Blob) -> Disk:
        """The disk in ``blob``, which it then owns. Every count is bounded before it is used, no name inside is opened.

        Raises ``FormatError`` or ``UnsafeDiskError``; the blob is left open then.
        """


@runtime_checkable
class SupportsCreate(Protocol):
    """A format that can be written."""

    def create(self, target: BlobWriter, size: int, extents: Iterable[Extent]) -> DiskWriter:
        """A writer of a disk of ``size`` guest bytes whose DATA will lie where ``extents`` say.

        The layout follows from ``size`` and ``extents`` alone, so that several processes that call this with the same
        arguments on the same target write different slices of one image. Nothing but DATA ranges is written. ``finish``
        of one of them, called when all slices are written, completes the image and finishes ``target``.
        """


FORMATS: Registry[Format] = Registry("vmferry.formats", "FORMAT", ["vmdk", "qcow2", "raw"])
"""In probe order: ``raw`` takes anything, so it stands last."""


def detect(blob: Blob) -> Format:
    """The format that the bytes of ``blob`` show; raw where none does. Ask once, at the outermost layer only.

    What a guest wrote into its own disk is never probed: a raw disk can be made to look like anything.

    Raises ``UnsupportedFeatureError`` for what is known and read by no format here (a VHDX, a gzip file, an ISO image):
    as a raw disk it would be of no use. ``StoreError`` where the first or the last bytes cannot be read.
    """
    found = _probe(blob)
    foreign = foreign_kind(blob) if found.name == "raw" else None
    if foreign is not None:
        what, remedy = foreign
        raise UnsupportedFeatureError(
            f"{quote(blob.name)} is {what}, which vmferry does not read yet: {remedy}.", shown=what
        )
    return found


def _probe(blob: Blob) -> Format:
    return next(candidate for candidate in FORMATS.values() if candidate.probe(blob))


def by_ec2_name(ec2_name: str) -> Format:
    """The format that EC2 calls ``ec2_name``, in any case. Raises ``UnknownFormatError``."""
    for candidate in FORMATS.values():
        if candidate.ec2_name is not None and candidate.ec2_name == ec2_name.upper():
            return candidate
    known = ", ".join(sorted(f.ec2_name for f in FORMATS.values() if f.ec2_name is not None))
    raise UnknownFormatError(f"The disk-image format {quote(ec2_name)} is not supported here; use one of {known}.")


def open_disk(blob: Blob, declared: Format | None = None) -> Disk:
    """The disk in ``blob``, which the disk then owns.

    With ``declared`` the bytes are read as that format and as nothing else; when they show another one the error names
    both. A disk declared raw is raw whatever it begins with.

    Raises ``FormatError`` (``detect``'s, too), ``UnsafeDiskError``, ``StoreError``.
    """
    if declared is None:
        return detect(blob).open(blob)
    if not declared.probe(blob):
        shown = _probe(blob)
        what = f"a {shown.name} image"
        if shown.name == "raw":
            what, _ = foreign_kind(blob) or ("no disk-image header at all", "")
        raise UnknownFormatError(
            f"{quote(blob.name)} was declared as {declared.name}, but its bytes show {what}: "
            f"name the right format, or export the disk again.",
            declared=declared.name,
            shown=shown.name,
        )
    return declared.open(blob)
