"""How ``convert`` makes an appliance: the disks of all sources in one OVA or XVA, with a machine around them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import typer

from vmferry import formats
from vmferry.appliances import (
    TARGETS,
    Controller,
    Manifest,
    OvaOptions,
    OvaWriter,
    PackedDisk,
    Target,
    XvaWriter,
    disk_file_name,
    package_stem,
)
from vmferry.blob import BlobWriter
from vmferry.cli._container import Container, Said, open_container
from vmferry.cli._destination import Destination
from vmferry.cli._output import print_json, print_note
from vmferry.cli._writing import (
    Effort,
    InputDisk,
    Made,
    Output,
    begin_image,
    describe_speed,
    open_input,
    tell_warnings,
    write_disk,
)
from vmferry.errors import quote
from vmferry.formats import Compression, SupportsCreate, WriteOptions
from vmferry.guest import Bootability, find_boot_facts
from vmferry.machine import Firmware, Machine, NetworkInterface
from vmferry.units import format_size


@dataclass(frozen=True, slots=True)
class Packing:
    """What was said about an appliance to be made."""

    kind: str
    """``ova`` or ``xva``."""
    target: Target | None
    manifest: Manifest | None
    controller: Controller | None
    name: str | None
    """Of the machine; ``None``: its own, else the file's."""
    compression: Compression | None
    effort: Effort

    @property
    def disk_format(self) -> str:
        """Our name of the format that the disks of an OVA have."""
        return TARGETS[self.target or Target.GENERIC].disk_format

    @property
    def maker(self) -> SupportsCreate:
        """That format as something that is written."""
        made = formats.FORMATS[self.disk_format]
        assert isinstance(made, SupportsCreate)
        return made


def pack_appliance(
    sources: Sequence[str], said: Said, packing: Packing, destination: Destination, number: int | None
) -> None:
    """Make the appliance ``destination`` of every disk of ``sources`` (of disk ``number`` alone, where it is given).

    Raises ``FormatError``, ``UnsafeDiskError``, ``StoreError``.
    """
    if packing.kind == "ova" and packing.compression is not None and not packing.maker.compressed:
        raise typer.BadParameter(
            f"--compress: the disks of such an .ova are {packing.disk_format}, which is not compressed; leave it out."
        )
    with ExitStack() as opened:
        containers = [opened.enter_context(open_container(source, said)) for source in sources]
        disks = [open_input(one, index) for one in containers for index in _chosen(one, number)]
        tell_warnings(disks, as_json=packing.effort.as_json)
        machine = _machine(containers, disks, packing.name or destination.path.stem)
        if packing.name is not None:
            machine = replace(machine, name=packing.name)
        made, notes = _write(machine, disks, packing, destination)
    _report(machine, made, packing, destination, notes)


def _chosen(container: Container, number: int | None) -> Sequence[int]:
    return range(len(container.names)) if number is None else [container.disk_index(number)]


def _machine(containers: Sequence[Container], disks: Sequence[InputDisk], name: str) -> Machine:
    """The first machine that a source describes, else a plain one with a network card; with as many disks, or none."""
    described = next((one.machine for one in containers if one.machine is not None), None)
    machine = described or Machine(name, interfaces=(NetworkInterface(),))
    if len(machine.disks) != len(disks):
        machine = replace(machine, disks=())
    if machine.firmware is None:
        machine = replace(machine, firmware=_firmware(disks))
    return machine


def _firmware(disks: Sequence[InputDisk]) -> Firmware | None:
    """What the first disk that boots for certain boots with; BIOS where it does with either."""
    for found in disks:
        facts = find_boot_facts(found.disk)
        if facts.bootability is Bootability.CERTAIN and facts.firmwares:
            return Firmware.BIOS if Firmware.BIOS in facts.firmwares else facts.firmwares[0]
    return None


def _write(
    machine: Machine, disks: Sequence[InputDisk], packing: Packing, destination: Destination
) -> tuple[list[Made], tuple[str, ...]]:
    """Every disk into the package, one after another; it appears when it is whole."""
    unfinished: BlobWriter | OvaWriter | XvaWriter | None = None
    notes: tuple[str, ...] = ()
    try:
        unfinished = target = destination.create()
        if packing.kind == "xva":
            unfinished = xva = XvaWriter(target, machine, [found.disk.size for found in disks])
            made = _write_xva(xva, disks, packing)
        else:
            unfinished = ova = _begin_ova(target, machine, disks, packing, destination.path)
            made, notes = _write_ova(ova, disks, packing), ova.notes
        unfinished.finish()
    except BaseException:
        if unfinished is not None:
            unfinished.abort()
        raise
    return made, notes


def _write_xva(package: XvaWriter, disks: Sequence[InputDisk], packing: Packing) -> list[Made]:
    return [
        write_disk(found, partial(package.disk, index), f"disk {index + 1}", packing.effort)
        for index, found in enumerate(disks)
    ]


def _begin_ova(
    target: BlobWriter, machine: Machine, disks: Sequence[InputDisk], packing: Packing, path: Path
) -> OvaWriter:
    kind = packing.disk_format
    packed = [
        PackedDisk(disk_file_name(package_stem(path.stem), index, kind), found.disk.size, kind)
        for index, found in enumerate(disks)
    ]
    options = OvaOptions(packing.target or Target.GENERIC, packing.manifest or Manifest.SHA256, packing.controller)
    return OvaWriter(target, machine, packed, options)


def _write_ova(package: OvaWriter, disks: Sequence[InputDisk], packing: Packing) -> list[Made]:
    compression = packing.compression or Compression.BALANCED
    output = Output(formats.FORMATS[packing.disk_format], WriteOptions(None, compression))
    made = []
    for index, found in enumerate(disks):
        begin = partial(begin_image, found.disk, output, partial(package.member, index))
        made.append(write_disk(found, begin, f"disk {index + 1}", packing.effort))
        package.set_sizes(index, capacity=made[-1].size, populated=made[-1].data)
    return made


def _report(
    machine: Machine, made: Sequence[Made], packing: Packing, destination: Destination, notes: Sequence[str]
) -> None:
    if packing.effort.as_json:
        disks = [
            {"virtual_size": one.size, "data": one.data, "seconds": round(one.seconds, 3), "digest": one.digest}
            for one in made
        ]
        facts = {
            "target": destination.name,
            "format": packing.kind,
            "machine": machine.name,
            "size": destination.stored(),
        }
        print_json({**facts, "disks": disks, "notes": list(notes)})
        return
    for note in notes:
        print_note(note)
    disks_text = "1 disk" if len(made) == 1 else f"{len(made)} disks"
    stored = format_size(destination.stored())
    print(f"{quote(destination.name)}: {packing.kind} of {quote(machine.name)}, {disks_text}, {stored}")
    for number, one in enumerate(made, 1):
        print(f"  disk {number}: {format_size(one.size)} virtual; {describe_speed(one)}")
        if one.digest is not None:
            print(f"    guest digest {one.digest}")
