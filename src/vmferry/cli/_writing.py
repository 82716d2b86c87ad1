"""How ``convert`` makes its files: one disk into one writer, and what is said of the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from vmferry import appliances
from vmferry.blob import BlobWriter
from vmferry.cli._container import Container
from vmferry.cli._destination import Destination
from vmferry.cli._output import print_json, print_note, show_progress
from vmferry.convert import copy, count_granules, find_unit
from vmferry.digest import DigestTree
from vmferry.disk import Disk, DiskFacts, DiskWriter, OrderedDiskWriter, SupportsFacts, SupportsRounding
from vmferry.errors import quote
from vmferry.formats import Format, SupportsCreate, WriteOptions
from vmferry.units import format_duration, format_size

if TYPE_CHECKING:
    from vmferry.appliances import HashedBlob

Writer = DiskWriter | OrderedDiskWriter


@dataclass(frozen=True, slots=True)
class InputDisk:
    """A disk to convert."""

    name: str
    """Its file's: a path, a URL, or ``appliance.ova:disk1.vmdk``."""
    format: Format
    disk: Disk
    file: HashedBlob | None
    """Its file in an appliance, when the manifest has a digest for it."""
    check_unchanged: Callable[[], None]
    """See ``Container.check_unchanged``."""

    @property
    def facts(self) -> DiskFacts:
        """What its file tells, as far as the format has anything to tell."""
        return self.disk.facts if isinstance(self.disk, SupportsFacts) else DiskFacts()


@dataclass(frozen=True, slots=True)
class Made:
    """An image that was made."""

    source: InputDisk
    size: int
    """Guest bytes: those of the source, or more where the format holds whole units only."""
    data: int
    """Guest bytes that were copied."""
    seconds: float
    digest: str | None
    """The guest digest of the source, where it was asked for."""
    resumed_at: int | None = None
    """The guest offset from which on it was gone on with; ``None`` where it was not."""


@dataclass(frozen=True, slots=True)
class Effort:
    """By how many threads, and for whom it is reported."""

    workers: int | None
    as_json: bool
    digests: bool = False
    """Whether the guest digest is taken on the way."""


@dataclass(frozen=True, slots=True)
class Output:
    """What is to be made: a format that is written, and how."""

    format: Any
    """A ``Format`` that ``SupportsCreate``."""
    options: WriteOptions

    @property
    def maker(self) -> SupportsCreate:
        """The format as something that is written."""
        maker: SupportsCreate = self.format
        return maker


def open_input(container: Container, index: int) -> InputDisk:
    """The disk ``index`` of ``container``; its digest is taken while it is read where a manifest has one."""
    file, name = container.file(index), container.names[index]
    appliance = container.appliance
    digest = None if appliance is None or name is None else appliance.digests.get(name)
    hashed = None if digest is None else appliances.HashedBlob(file, digest)
    disk = container.open_disk(index, hashed)
    return InputDisk(file.name, container.kind(index), disk, hashed, container.check_unchanged)


def pick_disk(container: Container, number: int | None, *, as_json: bool) -> InputDisk:
    """Disk ``number`` of ``container``, from 1; ``None``: the first of those that boot most certainly, which is said
    on stderr unless ``as_json``."""
    if number is not None or len(container.names) == 1:
        return open_input(container, container.disk_index(1 if number is None else number))
    from vmferry.guest import find_boot_facts, pick_root

    inputs = [open_input(container, index) for index in range(len(container.names))]
    index = pick_root([find_boot_facts(found.disk) for found in inputs])
    if not as_json:
        print_note(
            f"It has {len(inputs)} disks; this is disk {index + 1}, {quote(inputs[index].name)}: --disk picks one."
        )
    return inputs[index]


def write_disk(found: InputDisk, begin: Callable[[], Writer], title: str, effort: Effort) -> Made:
    """Copy ``found`` into the image whose writer ``begin`` answers, whole or not at all.

    ``title`` stands before the progress bar. Raises ``BlobChangedError`` where a source was written to meanwhile.
    """
    disk, writer = found.disk, None
    try:  # from the first moment on: Ctrl-C may come as soon as there is a file
        writer = begin()
        tree = DigestTree(disk.size) if effort.digests else None
        total = count_granules(disk, find_unit(writer, tree))
        with show_progress(title, total, as_json=effort.as_json) as progress:
            result = copy(disk, writer, workers=effort.workers, digest=tree, progress=progress)
        if found.file is not None:
            found.file.finish()
        found.check_unchanged()
        writer.finish()
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return Made(found, made_size(writer, disk), result.data, result.seconds, None if tree is None else tree.finish())


def made_size(writer: Writer, disk: Disk) -> int:
    """Guest bytes of the image that ``writer`` makes of ``disk``."""
    return writer.size if isinstance(writer, SupportsRounding) else disk.size


def begin_image(disk: Disk, output: Output, begin: Callable[[], BlobWriter]) -> Writer:
    """The writer of an image of ``disk`` in the blob that ``begin`` answers; that is aborted when there is none."""
    target = None
    try:
        target = begin()
        return output.maker.create(target, disk.size, disk.extents(), output.options)
    except BaseException:
        if target is not None:
            target.abort()
        raise


def convert_file(found: InputDisk, output: Output, destination: Destination, effort: Effort) -> None:
    """Make ``destination``, which appears when it is whole, and say what was made."""
    begin = partial(begin_image, found.disk, output, destination.create)
    report_file(write_disk(found, begin, destination.path.name, effort), output, destination, effort)


def tell_warnings(disks: Sequence[InputDisk], *, as_json: bool) -> None:
    """Say on stderr what was odd about the sources. As JSON it is part of the report."""
    if not as_json:
        for found in disks:
            for warning in found.facts.warnings:
                print_note(warning)


def report_file(made: Made, output: Output, destination: Destination, effort: Effort) -> None:
    """Say what was made, and that it is whole."""
    found, allocated = made.source, destination.stored()
    if effort.as_json:
        print_json(file_document(made, output, destination))
        return
    checked = ", manifest verified" if found.file is not None else ""
    if made.resumed_at:
        checked += f"; the rest of it, from {format_size(made.resumed_at)} on"
    kind = output.format.name + (f" ({output.options.subformat})" if output.options.subformat else "")
    size, stored = format_size(made.size), format_size(allocated)
    stored += " allocated" if destination.is_local else " stored"
    print(f"{quote(destination.name)}: {kind}, {size} virtual, {stored}; {describe_speed(made)}{checked}")
    if made.digest is not None:
        print(f"guest digest {made.digest}")


def file_document(made: Made, output: Output, destination: Destination) -> dict[str, Any]:
    """What ``report_file`` says, for JSON."""
    return {
        "target": destination.name,
        "format": output.format.name,
        "subformat": output.options.subformat,
        "source_format": made.source.format.name,
        "virtual_size": made.size,
        "data": made.data,
        "allocated": destination.stored(),
        "seconds": round(made.seconds, 3),
        "manifest_verified": made.source.file is not None,
        "digest": made.digest,
        "resumed_at": made.resumed_at,
        "warnings": list(made.source.facts.warnings),
    }


def describe_speed(made: Made) -> str:
    """How much was read in how much time."""
    rate = format_size(made.data / max(made.seconds, 1e-9))
    return f"{format_size(made.data)} of data in {format_duration(made.seconds)} ({rate}/s)"
