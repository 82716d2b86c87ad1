"""``vmferry prepare``: a guest's disk, made to start on other hardware while it is converted."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import typer

from vmferry.cli._budget import DEFAULT_MEMORY, parse_memory, plan_budget
from vmferry.cli._container import Said, open_container, source_format
from vmferry.cli._destination import open_destination
from vmferry.cli._network import check_network
from vmferry.cli._options import AS_JSON, DISK, EXTENT, PARENT, READ_AS, SNAPSHOT, WORKERS
from vmferry.cli._output import print_json, print_note
from vmferry.cli._target import check_sources, choose_output, find_target_format
from vmferry.cli._writing import (
    Effort,
    InputDisk,
    begin_image,
    file_document,
    pick_disk,
    report_file,
    tell_warnings,
    write_disk,
)
from vmferry.errors import quote
from vmferry.guest.guestfish import PROGRAM as GUESTFISH
from vmferry.guest.guestfish import Guestfish
from vmferry.guest.linux.driver_modules import DRIVERS
from vmferry.guest.linux.network_settings import KEEP
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.preparation import CHANGED, Change, Preparation, Wishes
from vmferry.guest.prepare import prepare_guest
from vmferry.guest.virt_v2v import PROGRAM as VIRT_V2V
from vmferry.guest.virt_v2v import VirtV2v
from vmferry.limits import MAX_FIRSTBOOT
from vmferry.units import format_duration, format_size


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What was done, and what it took."""

    preparation: Preparation
    overlay: OverlayDisk
    bytes_read: int
    seconds: float

    @property
    def by_another(self) -> bool:
        """Whether it was another program, whose word is not taken for it."""
        return any(change.what == CHANGED for change in self.preparation.changes)

    def document(self) -> dict[str, Any]:
        ranges = self.overlay.changed() if self.preparation.changes else ()
        changed = sum(end - start for start, end, is_zero in ranges if not is_zero)
        took = {"bytes_read": self.bytes_read, "bytes_changed": changed, "seconds": round(self.seconds, 3)}
        return {**self.preparation.as_json(), **took}

    def lines(self) -> list[str]:
        changes = self.preparation.changes
        took = f"{format_duration(self.seconds)}, {format_size(self.bytes_read)} read"
        if not changes:
            return [f"{self.preparation.system}: nothing to do, the drivers are there ({took})"]
        what = "prepared" if self.by_another else f"{len(changes)} files changed"
        return [f"{self.preparation.system}: {what} ({took})", *map(_line, changes)]


def prepare_disk(
    source: str = typer.Argument(
        metavar="SRC", help="A disk image, an appliance or a folder that holds a machine: a path, or s3://bucket/key."
    ),
    target: str | None = typer.Argument(
        None,
        metavar="DST",
        help="The disk image to write, a path or s3://bucket/key (default: only say what is changed).",
    ),
    guestfish: str = typer.Option(
        GUESTFISH,
        metavar="PROGRAM",
        help="What writes the files of a Linux on XFS or Btrfs; it takes half a minute. none: nothing.",
    ),
    virt_v2v: str = typer.Option(
        VIRT_V2V,
        metavar="PROGRAM",
        help="What is run for a guest that is not prepared otherwise; it takes minutes. none: nothing.",
    ),
    drivers: str = typer.Option("virtio", metavar="LIST", help=f"What the guest is to start on: {', '.join(DRIVERS)}."),
    network: str = typer.Option(
        KEEP, metavar="CHOICE", help="The guest's own addresses: keep, or dhcp, by which it asks for others."
    ),
    firstboot: Path | None = typer.Option(
        None, metavar="FILE", help="A script that the guest runs when it starts for the first time, once."
    ),
    read_as: str | None = READ_AS,
    to: str | None = typer.Option(None, metavar="FORMAT", help="The format of DST (default: what its suffix says)."),
    disk: int | None = DISK,
    parent: list[str] = PARENT,
    extent: list[str] = EXTENT,
    snapshot: str | None = SNAPSHOT,
    workers: int | None = WORKERS,
    memory: str = typer.Option(DEFAULT_MEMORY, metavar="SIZE", help="How much memory it may take, like 512M or 2G."),
    as_json: bool = AS_JSON,
) -> None:
    """Convert a guest's disk, with the drivers that it needs elsewhere. SRC is never written to."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, with nothing left behind
    wanted = _check_drivers(drivers)
    check_network(network)
    wishes = Wishes(network, _read_script(firstboot))
    said = Said(source_format(read_as), parent, extent, snapshot)
    budget = plan_budget(parse_memory(memory), [source], target or "", workers)
    destination = output = None
    if target is not None:
        destination = open_destination(target, budget.upload)
        check_sources([source], destination)
        output = choose_output(find_target_format(destination, to), None, None)
    with open_container(source, said) as container:
        found = pick_disk(container, disk, as_json=as_json)
        tell_warnings([found], as_json=as_json)
        prepared = _prepare(found, wanted, wishes, Guestfish(guestfish), VirtV2v(virt_v2v))
        for note in () if as_json else prepared.preparation.notes:
            print_note(note)
        if prepared.by_another and not as_json:
            print_note(f"Whether it starts is not known before it does: vmferry boot-check {target or 'DST'}")
        if destination is None or output is None:
            _say(prepared, as_json=as_json)
            return
        effort = Effort(budget.workers, as_json)
        # Without a change it is a conversion: a journal that was replayed to look at the files stays as it was.
        over = replace(found, disk=prepared.overlay) if prepared.preparation.changes else found
        made = write_disk(
            over, partial(begin_image, over.disk, output, destination.create), destination.path.name, effort
        )
        if as_json:
            print_json({**file_document(made, output, destination), "preparation": prepared.document()})
            return
        _say(prepared, as_json=False)
        report_file(made, output, destination, effort)


COMMAND = prepare_disk


def _check_drivers(text: str) -> list[str]:
    wanted = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = next((name for name in wanted if name not in DRIVERS), None)
    if unknown is not None or not wanted:
        raise typer.BadParameter(f"--drivers takes {', '.join(DRIVERS)}, with commas between; not {quote(text)}.")
    return wanted


def _read_script(path: Path | None) -> bytes:
    """The script of the first start; nothing where there is none. Raises Typer's usage error."""
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            script = file.read(MAX_FIRSTBOOT + 1)
    except OSError as error:
        raise typer.BadParameter(f"--firstboot: {quote(path)} cannot be read: {error.strerror}.") from error
    if not 0 < len(script) <= MAX_FIRSTBOOT:
        raise typer.BadParameter(f"--firstboot: {quote(path)} is empty, or has more than {format_size(MAX_FIRSTBOOT)}.")
    return script


def _prepare(
    found: InputDisk, drivers: Sequence[str], wishes: Wishes, guestfish: Guestfish, virt_v2v: VirtV2v
) -> _Prepared:
    begun = time.monotonic()
    overlay, preparation = prepare_guest(found.disk, drivers, int(time.time()), guestfish, virt_v2v, wishes)
    return _Prepared(preparation, overlay, overlay.bytes_read, time.monotonic() - begun)


def _say(prepared: _Prepared, *, as_json: bool) -> None:
    if as_json:
        print_json({"preparation": prepared.document()})
        return
    for line in prepared.lines():
        print(line)


def _line(change: Change) -> str:
    size = format_size(change.after)
    if change.before is not None:
        size = f"{format_size(change.before)} → {size}, the old one is {change.kept_as}"
    return f"  {change.path}: {change.what}, {size}; {change.why}"
