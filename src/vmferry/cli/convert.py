"""``vmferry convert``: one disk, from any format to any format."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from vmferry import appliances, formats
from vmferry.blob import Blob
from vmferry.cli._output import print_json, show_progress
from vmferry.cli._source import check_local, open_source, reads_remotely
from vmferry.convert import CopyResult, copy, plan_slices
from vmferry.disk import Disk
from vmferry.errors import UnsafeDiskError, quote
from vmferry.formats import Format, SupportsCreate
from vmferry.guest import find_boot_facts, pick_root
from vmferry.machine import Appliance
from vmferry.stores.local import create_file
from vmferry.units import format_duration, format_size

_SUFFIXES = {
    ".raw": "raw",
    ".img": "raw",
    ".qcow2": "qcow2",
    ".vmdk": "vmdk",
    ".vhd": "vhd",
    ".vhdx": "vhdx",
    ".ova": "ova",
}
_NAMES = ("raw", "qcow2", "vmdk", "vhd", "vhdx")
_REMOTE_THREADS = 8
"""Threads when the source is in S3: most of them wait for its answers."""


@dataclass(frozen=True, slots=True)
class _Input:
    """The disk to convert."""

    format: Format
    disk: Disk
    file: appliances.HashedBlob | None
    """Its file in an appliance, when the manifest has a digest for it."""


def convert_disk(
    source: str = typer.Argument(metavar="SRC", help="A disk image or an OVA: a file, or s3://bucket/key."),
    target: str = typer.Argument(metavar="DST", help="The file to write; it appears when it is whole."),
    read_as: str | None = typer.Option(
        None, "--from", help="What SRC is: raw, vmdk or qcow2. [default: what it shows]"
    ),
    to: str | None = typer.Option(None, help="raw or qcow2. [default: what DST's suffix says]"),
    disk: int | None = typer.Option(None, help="Which disk of an appliance, from 1. [default: the one that boots]"),
    workers: int | None = typer.Option(None, min=1, help="Threads. [default: one for each core]"),
    as_json: bool = typer.Option(False, "--json", help="The result as JSON; progress as JSON lines on stderr."),
) -> None:
    """Convert a disk. What it holds is checked on the way; DST is replaced only by a whole image."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, with nothing left behind
    path = check_local(target)
    wanted = _target_format(path, to)
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise typer.BadParameter(f"{quote(source)} is source and target; name another target.")
    if workers is None and reads_remotely(source):
        workers = _REMOTE_THREADS
    with _input(open_source(source), _source_format(read_as), disk) as found:
        result = _convert(found, wanted, path, workers, as_json=as_json)
        _report(found, wanted, path, result, as_json=as_json)


COMMAND = convert_disk


def _source_format(name: str | None) -> Format | None:
    if name is None:
        return None
    known = formats.FORMATS.get(name.lower())
    if known is None:
        raise typer.BadParameter(f"{quote(name)} is no format that is read; use one of {', '.join(formats.FORMATS)}.")
    return known


def _target_format(path: Path, to: str | None) -> SupportsCreate:
    name = to.lower() if to else _SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise typer.BadParameter(
            f"the suffix of {quote(path.name)} names no format; say it with --to raw or --to qcow2."
        )
    if name not in (*_NAMES, "ova"):
        raise typer.BadParameter(f"{quote(name)} is no format; use one of {', '.join(_NAMES)}.")
    known: object = formats.FORMATS.get(name)
    if not isinstance(known, SupportsCreate):
        raise typer.BadParameter(f"{name} is not written yet: raw and qcow2 are.")
    return known


@contextmanager
def _input(blob: Blob, declared: Format | None, number: int | None) -> Iterator[_Input]:
    """The disk in ``blob``, or the one that is asked for of those in an appliance."""
    if declared is not None or appliances.detect(blob) is None:
        if number not in (None, 1):
            blob.close()
            raise typer.BadParameter(f"{quote(blob.name)} is one disk; --disk is for appliances.")
        try:
            chosen = declared or formats.detect(blob)
            yield _Input(chosen, formats.open_disk(blob, chosen), None)
        finally:
            blob.close()
        return
    appliance = appliances.open_appliance(blob)
    try:
        yield _pick(appliance, blob.name, number)
    finally:
        appliance.close()


def _pick(appliance: Appliance, name: str, number: int | None) -> _Input:
    """The disk with this number, else the first of those that boot most certainly."""
    names = [described.name for described in appliance.machine.disks]
    if not names:
        raise UnsafeDiskError(f"{quote(name)} has no disk: export the machine again with its disks.")
    if number is not None and not 1 <= number <= len(names):
        raise typer.BadParameter(f"{quote(name)} has disks 1 to {len(names)}: {', '.join(quote(n) for n in names)}.")
    candidates = names if number is None else [names[number - 1]]
    inputs = [_open_member(appliance, member) for member in candidates]
    if len(inputs) == 1:
        return inputs[0]
    return inputs[pick_root([find_boot_facts(found.disk) for found in inputs])]


def _open_member(appliance: Appliance, name: str) -> _Input:
    blob, digest = appliance.blobs[name], appliance.digests.get(name)
    hashed = None if digest is None else appliances.HashedBlob(blob, digest)
    chosen = formats.detect(blob)
    return _Input(chosen, formats.open_disk(hashed or blob, chosen), hashed)


def _convert(found: _Input, wanted: SupportsCreate, path: Path, workers: int | None, *, as_json: bool) -> CopyResult:
    target = create_file(path, sync=False)
    writer = None
    try:
        writer = wanted.create(target, found.disk.size, found.disk.extents())
        planned = plan_slices(found.disk.extents(), found.disk.size, writer.granularity)
        total = sum(piece.data for piece in planned)
        with show_progress(path.name, total, as_json=as_json) as progress:
            result = copy(found.disk, writer, workers=workers, progress=progress)
        if found.file is not None:
            found.file.finish()
        writer.finish()
    except BaseException:
        (writer or target).abort()
        raise
    return result


def _report(found: _Input, wanted: Any, path: Path, result: CopyResult, *, as_json: bool) -> None:
    allocated = path.stat().st_blocks * 512
    rate = result.data / max(result.seconds, 1e-9)
    verified = found.file is not None
    if as_json:
        print_json(
            {
                "target": os.fspath(path),
                "format": wanted.name,
                "source_format": found.format.name,
                "virtual_size": found.disk.size,
                "data": result.data,
                "allocated": allocated,
                "seconds": round(result.seconds, 3),
                "manifest_verified": verified,
            }
        )
        return
    checked = ", manifest verified" if verified else ""
    print(
        f"{quote(path)}: {wanted.name}, {format_size(found.disk.size)} virtual, {format_size(allocated)} allocated; "
        f"{format_size(result.data)} of data in {format_duration(result.seconds)} ({format_size(rate)}/s){checked}"
    )
