"""A file that holds one disk. ``open_disk`` is the way in; ``FORMATS`` says what there is, in probe order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from vmferry.blob import Blob, BlobWriter
from vmferry.disk import Disk, DiskFacts, DiskWriter, OrderedDiskWriter, SupportsFacts
from vmferry.errors import UnknownFormatError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.extent import Extent
from vmferry.folder import ALONE, Companions
from vmferry.formats._ends import Ends
from vmferry.formats._foreign import foreign_kind
from vmferry.limits import MAX_PARENTS
from vmferry.registry import About, Registry


class Format(Protocol):
    """How one disk-image format is named, recognised and opened."""

    @property
    def name(self) -> str:
        """Our name, which is the module's: ``vmdk``."""

    @property
    def about(self) -> About:
        """For the documentation."""

    @property
    def ec2_name(self) -> str | None:
        """EC2's name (``VMDK``), or ``None`` where EC2 has none."""

    @property
    def qemu_name(self) -> str:
        """What ``qemu-img -f`` calls it."""

    def probe(self, blob: Blob) -> bool:
        """Whether the bytes say so. Reads a few KiB at the most; never raises for strange content."""

    def open(self, blob: Blob, companions: Companions = ALONE) -> Disk:
        """The disk in ``blob``, which it then owns, as it owns what it takes of ``companions``.

        Every count is bounded before it is used. No name inside is opened: what else is needed (a parent, extent files)
        comes from ``companions`` or the disk is refused with what to supply. A parent is opened by
        ``companions``' order, with ``open_parent``. Raises ``FormatError`` or ``UnsafeDiskError``; ``blob`` and
        companions are left open then.
        """


class Compression(Enum):
    """How hard a writer compresses, where its format can."""

    FAST = "fast"
    """As little time as possible."""
    BALANCED = "balanced"
    """The most for the time: a tenth more bytes than ``best``, several times as fast."""
    BEST = "best"
    """No more bytes than ``qemu-img`` writes."""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What can be chosen about an image to be made."""

    subformat: str | None = None
    """One of the format's ``subformats``; ``None``: the first of them."""
    compression: Compression = Compression.BALANCED

    def choose(self, name: str, subformats: Sequence[str]) -> str:
        """Which of the ``subformats`` of our format ``name`` is meant; ``ValueError`` where it is none of them."""
        chosen = self.subformat or subformats[0]
        if chosen not in subformats:
            raise ValueError(f"{name} has no subformat {chosen!r}; use one of {', '.join(subformats)}")
        return chosen


DEFAULTS = WriteOptions()


@runtime_checkable
class SupportsCreate(Protocol):
    """A format that can be written."""

    @property
    def subformats(self) -> tuple[str, ...]:
        """What ``WriteOptions.subformat`` may say, the default first; empty where there is no choice."""

    @property
    def compressed(self) -> tuple[str, ...]:
        """Those of ``subformats`` for which ``WriteOptions.compression`` counts."""

    def create(
        self, target: BlobWriter, size: int, extents: Iterable[Extent], options: WriteOptions = DEFAULTS
    ) -> DiskWriter | OrderedDiskWriter:
        """A writer of a disk of ``size`` guest bytes whose DATA will lie where ``extents`` say.

        What is written follows from the arguments and the guest's bytes alone: no clock, no chance, no thread's turn.
        A ``DiskWriter``'s layout follows from ``size`` and ``extents`` alone, so that several processes that call this
        with the same arguments on the same target write different slices of one image; ``finish`` of one of them,
        called when all slices are written, completes the image and finishes ``target``. Nothing but DATA ranges is
        written. Raises ``UnsupportedFeatureError`` when the format cannot hold such a disk, ``ValueError`` for a
        subformat that it does not have.
        """


FORMATS: Registry[Format] = Registry("vmferry.formats", "FORMAT", ["vmdk", "vhdx", "qcow2", "vdi", "vhd", "raw"])
"""In probe order: ``raw`` takes anything, so it stands last."""


def detect(blob: Blob) -> Format:
    """The format that the bytes of ``blob`` show; raw where none does. Ask once, at the outermost layer only.

    What a guest wrote into its own disk is never probed: a raw disk can be made to look like anything.

    Raises ``UnsupportedFeatureError`` for what is known and read by no format here (a gzip file, an ISO image): as a
    raw disk it would be of no use. ``UnsafeDiskError`` for what bears the marks of two formats. ``StoreError`` where
    the first or the last bytes cannot be read.
    """
    found = _probe(blob)
    foreign = foreign_kind(blob) if found.name == "raw" else None
    if foreign is not None:
        what, remedy = foreign
        raise UnsupportedFeatureError(
            f"{quote(blob.name)} is {what}, which is no disk image that vmferry reads: {remedy}.", shown=what
        )
    return found


def _probe(blob: Blob) -> Format:
    """The format whose marks the bytes bear; raw where there are none.

    A guest can write the header of any format into its own first sectors, as on a fixed VHD, whose footer stands at the
    end. Raises ``UnsafeDiskError`` for a file that bears the marks of two.
    """
    ends = Ends(blob)
    shown = [candidate for candidate in FORMATS.values() if candidate.probe(ends)]
    if len(shown) > 2:  # raw is always one of them
        names = " and ".join(candidate.name for candidate in shown[:-1])
        raise UnsafeDiskError(
            f"{quote(blob.name)} bears the marks of {names} at once, and what a guest wrote into its disk may pass for "
            "an image's header: say which of them it is.",
        )
    return shown[0]


def by_ec2_name(ec2_name: str) -> Format:
    """The format that EC2 calls ``ec2_name``, in any case. Raises ``UnknownFormatError``."""
    for candidate in FORMATS.values():
        if candidate.ec2_name is not None and candidate.ec2_name == ec2_name.upper():
            return candidate
    known = ", ".join(sorted(f.ec2_name for f in FORMATS.values() if f.ec2_name is not None))
    raise UnknownFormatError(f"The disk-image format {quote(ec2_name)} is not supported here; use one of {known}.")


def open_disk(blob: Blob, declared: Format | None = None, companions: Companions = ALONE) -> Disk:
    """The disk in ``blob``, which the disk then owns: the one gate that every image passes, whoever wants to read it.

    With ``declared`` the bytes are read as that format and as nothing else; when they show another one the error names
    both. A disk declared raw is raw whatever it begins with. ``companions`` are all that may be opened beside ``blob``.

    Raises ``FormatError`` (``detect``'s, too), ``UnsafeDiskError``, ``StoreError``.
    """
    if declared is None:
        declared = detect(blob)
    elif not declared.probe(blob):
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
    disk = declared.open(blob, companions)
    facts = disk.facts if isinstance(disk, SupportsFacts) else DiskFacts()
    if companions.parents and facts.parent is None:
        raise UnknownFormatError(
            f"{quote(blob.name)} has no parent, but {quote(companions.parents[0].name)} was given as one. "
            "Leave it out, or name the image that was made from it.",
        )
    if companions.snapshot is not None and companions.snapshot not in facts.snapshots:
        there = ", ".join(quote(name) for name in facts.snapshots[:8]) or "none"
        raise UnknownFormatError(
            f"{quote(blob.name)} has no internal snapshot {quote(companions.snapshot)}; it has {there}."
        )
    return disk


def open_parent(companions: Companions, declared: str | None = None) -> Disk | None:
    """The parent that was supplied first, which has the others for its own; ``None`` where none was supplied.

    ``declared`` is the parent's format when the child's format or the child itself fixes it, by our name; else the
    parent is probed, once. Raises as ``open_disk`` does.
    """
    if not companions.parents:
        return None
    if len(companions.parents) > MAX_PARENTS:
        raise UnsafeDiskError(f"A chain of {len(companions.parents)} parents is too long; {MAX_PARENTS} are read.")
    first, *others = companions.parents
    chain = Companions(tuple(others), companions.extent_files, companions.beside)
    return open_disk(first, None if declared is None else FORMATS[declared], chain)
