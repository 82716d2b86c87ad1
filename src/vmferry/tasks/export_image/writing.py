"""The object of an export that one worker writes: all disks of a machine in an OVA."""

from __future__ import annotations

from collections.abc import Sequence

from vmferry.appliances import OvaWriter, PackedDisk, disk_file_name, package_stem
from vmferry.blob import BlobWriter
from vmferry.convert import copy
from vmferry.disk import Disk, DiskWriter, OrderedDiskWriter
from vmferry.formats import FORMATS, SupportsCreate
from vmferry.machine import Machine
from vmferry.tasks.export_image.listener import Listener

_THREADS = 2
"""Threads of an export: each sends the parts that it completes."""
_OVA_DISKS = "vmdk"


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
