"""``vmferry boot-check``: whether a disk, or a machine with its disks, starts; found out by starting it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from vmferry.cli._container import Container, Said, open_container, source_format
from vmferry.cli._options import EXTENT, PARENT, READ_AS, SNAPSHOT
from vmferry.cli._output import print_facts, print_json
from vmferry.disk import Disk
from vmferry.errors import GuestError
from vmferry.guest import find_boot_facts, look, pick_root
from vmferry.guest.boot_check import BUSES, BootOutcome, HardwareProfile, check_boot, choose_hardware, keep_evidence
from vmferry.guest.evidence import DiskEvidence, Evidence
from vmferry.machine import Firmware
from vmferry.units import MIB, format_size

_FIRMWARES = {"bios": Firmware.BIOS, "uefi": Firmware.UEFI}


def check_boot_of(
    source: str = typer.Argument(
        metavar="SRC", help="A disk image, an appliance or a folder that holds a machine: a path, or s3://bucket/key."
    ),
    firmware: str | None = typer.Option(None, metavar="bios|uefi", help="What starts it (default: what it shows)."),
    bus: str | None = typer.Option(
        None, "--bus", metavar="BUS", help=f"What its disks are attached to: {', '.join(BUSES)}."
    ),
    memory: int = typer.Option(1024, metavar="MIB", min=64, max=1 << 20, help="Memory of the machine."),
    cpus: int = typer.Option(1, metavar="NUMBER", min=1, max=64, help="Processors of the machine."),
    seconds: float = typer.Option(600, "--seconds", metavar="SECONDS", min=1, help="How long it may take."),
    expect: str | None = typer.Option(
        None, metavar="TEXT", help="What it must say on its serial port (default: it must show a login prompt)."
    ),
    evidence: Path | None = typer.Option(
        None, metavar="DIR", help="Keep what it said on its serial port, and a picture of its screen, there."
    ),
    read_as: str | None = READ_AS,
    parent: list[str] = PARENT,
    extent: list[str] = EXTENT,
    snapshot: str | None = SNAPSHOT,
    as_json: bool = typer.Option(False, "--json", help="One JSON document."),
) -> None:
    """Start a machine, watch it until it shows a login or fails, and say which (exit code 1).

    Its disks are only read: it runs under QEMU on an overlay that is thrown away, and without a network.
    """
    if bus is not None and bus not in BUSES:
        raise typer.BadParameter(f"There is no bus {bus}; there are {', '.join(BUSES)}.", param_hint="--bus")
    if firmware is not None and firmware not in _FIRMWARES:
        raise typer.BadParameter("The firmware is bios or uefi.", param_hint="--firmware")
    with open_container(source, Said(source_format(read_as), parent, extent, snapshot)) as container:
        disks, hardware = _machine(container)
        hardware = replace(hardware, memory=memory * MIB, cpus=cpus)
        if bus is not None:
            hardware = replace(hardware, bus=bus, why="it was asked for")
        if firmware is not None:
            hardware = replace(hardware, firmware=_FIRMWARES[firmware])
        outcome = check_boot(disks, hardware, seconds=seconds, expect=expect)
    if evidence is not None:
        keep_evidence(outcome, evidence)
    if as_json:
        print_json(_document(outcome))
    else:
        print_facts(_facts(outcome))
    if not outcome.booted:
        raise GuestError(f"It does not start: {outcome.why} {_said(outcome)}")


COMMAND = check_boot_of


def _machine(container: Container) -> tuple[Sequence[Disk], HardwareProfile]:
    """The disks, the one to start from first, and the hardware that suits them."""
    disks = [container.open_disk(index) for index in range(len(container.names))]
    known = [DiskEvidence(disk.size, find_boot_facts(disk)) for disk in disks]
    root = pick_root([disk.boot for disk in known])
    hardware = choose_hardware(Evidence(known, look(disks), container.machine))
    return [disks[root], *(disk for index, disk in enumerate(disks) if index != root)], hardware


def _facts(outcome: BootOutcome) -> Iterator[tuple[str, str]]:
    hardware = outcome.hardware
    yield "boots", "yes" if outcome.booted else "no"
    yield "seen", outcome.why
    yield "reached", outcome.reached.words
    yield (
        "hardware",
        (
            f"{hardware.firmware.value}, {hardware.bus} ({hardware.why}), {format_size(hardware.memory)}, "
            f"{hardware.cpus} CPU{'s' if hardware.cpus > 1 else ''}, {outcome.accel.upper()}"
        ),
    )
    yield "took", f"{outcome.seconds:.1f} s" + (f", {outcome.restarts} restarts" if outcome.restarts else "")


def _document(outcome: BootOutcome) -> dict[str, Any]:
    hardware = outcome.hardware
    return {
        "boots": outcome.booted,
        "reached": outcome.reached.words,
        "seen": outcome.why,
        "seconds": round(outcome.seconds, 1),
        "restarts": outcome.restarts,
        "accelerator": outcome.accel,
        "firmware": hardware.firmware.value,
        "bus": hardware.bus,
        "bus_reason": hardware.why,
        "memory": hardware.memory,
        "cpus": hardware.cpus,
        "last_lines": list(outcome.last_lines),
        "screen": outcome.screen_text,
    }


def _said(outcome: BootOutcome) -> str:
    return f"It said last: {' / '.join(outcome.last_lines[-3:])}" if outcome.last_lines else "It said nothing."
