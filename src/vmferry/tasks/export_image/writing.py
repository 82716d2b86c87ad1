"""The object of an export: one disk in its format, or all disks of a machine in an OVA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmferry.appliances import OvaWriter, PackedDisk, disk_file_name, package_stem
from vmferry.blob import BlobWriter, KeptBlobWriter
from vmferry.convert import Cancelled, copy, count_granules, find_unit
from vmferry.convert.journal import Journal, copy_rest
from vmferry.disk import Disk, DiskWriter, OrderedDiskWriter
from vmferry.errors import ConflictError, StoreUnavailableError
from vmferry.formats import FORMATS, SupportsCreate
from vmferry.machine import Machine

_THREADS = 2
"""Threads of an export: each sends the parts that it completes."""
_OVA_DISKS = "vmdk"


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how far a copy is, and who may end it."""

    progress: Callable[[int], None]
    cancelled: Cancelled


def write_disk(disk: Disk, name: str, target: KeptBlobWriter, folder: Path, identity: str, listener: Listener) -> None:
    """``disk`` into ``target`` in the format ``name``, which then appears.

    How far that is stands in ``folder``; whoever calls this again with it goes on from there. Where ``identity``, which
    tells the disk's file from itself when it was changed, is another one then, all that was written is removed, and
    ``StoreUnavailableError`` raised: it is worth another try.
    """
    try:
        journal = Journal(folder / "disk", {"disk": identity}, target, None)
    except ConflictError as error:
        target.abort()
        raise StoreUnavailableError("The disk was changed after its export had begun: that begins anew.") from error
    if not journal.offset:
        target.begin()
    writer = _writer(disk, name, target)
    total = count_granules(disk, find_unit(writer))
    copy_rest(disk, writer, journal, total, workers=_THREADS, progress=listener.progress, cancelled=listener.cancelled)
    writer.finish()
    journal.remove()


def write_ova(machine: Machine, disks: Sequence[Disk], target: BlobWriter, listener: Listener) -> None:
    """``machine`` with ``disks`` as an OVA into ``target``, which then appears."""
    stem = package_stem(machine.name)
    packed = [PackedDisk(disk_file_name(stem, i, _OVA_DISKS), disk.size, _OVA_DISKS) for i, disk in enumerate(disks)]
    package = OvaWriter(target, machine, packed)
    for index, disk in enumerate(disks):
        copied = _copy(disk, _writer(disk, _OVA_DISKS, package.member(index)), listener)
        package.set_sizes(index, populated=copied)
    package.finish()


def _writer(disk: Disk, name: str, target: BlobWriter) -> DiskWriter | OrderedDiskWriter:
    made = FORMATS[name]
    assert isinstance(made, SupportsCreate)
    return made.create(target, disk.size, disk.extents())


def _copy(disk: Disk, writer: DiskWriter | OrderedDiskWriter, listener: Listener) -> int:
    """Guest bytes that were copied."""
    result = copy(disk, writer, workers=_THREADS, progress=listener.progress, cancelled=listener.cancelled)
    writer.finish()
    return result.data
