"""``vmferry verify``: whether two disks hold the same, byte for byte, whatever formats they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import typer

from vmferry.cli._container import Said, open_container, source_format
from vmferry.cli._options import AS_JSON, DISK, EXTENT, PARENT, SNAPSHOT, WORKERS
from vmferry.cli._output import print_json, show_progress
from vmferry.cli._receipt import find_disk, is_receipt, open_receipt, show_receipt
from vmferry.cli._source import default_threads
from vmferry.cli._writing import InputDisk, pick_disk
from vmferry.convert import compare_disks, count_data, digest_disk
from vmferry.digest import check_guest_digest, is_guest_digest
from vmferry.errors import DifferentError, quote
from vmferry.units import format_size


def verify_disk(
    first: str = typer.Argument(
        metavar="A",
        help="A disk image, an appliance, a folder that holds a machine, or s3://bucket/key; or an import's receipt.",
    ),
    second: str | None = typer.Argument(
        None, metavar="B", help="What A should hold: another of these, or a digest, guest1:… (default: A's is printed)."
    ),
    read_as: str | None = typer.Option(
        None, "--from", metavar="FORMAT", help="The format of A (default: what it shows)."
    ),
    other_as: str | None = typer.Option(
        None, "--to", metavar="FORMAT", help="The format of B (default: what it shows)."
    ),
    disk: int | None = DISK,
    parent: list[str] = PARENT,
    extent: list[str] = EXTENT,
    snapshot: str | None = SNAPSHOT,
    signer: str | None = typer.Option(
        None, metavar="FINGERPRINT", help="Who must have signed the receipt A: SHA256:… (default: anybody)."
    ),
    workers: int | None = WORKERS,
    as_json: bool = AS_JSON,
) -> None:
    """Compare what two disks hold, or a disk with a digest or a receipt. Exit code 1 when they differ.

    --from, --parent, --extent and --snapshot are about A.
    """
    if is_receipt(first):
        found = open_receipt(first, signer)
        if second is None:
            show_receipt(found, as_json=as_json)
        else:
            _find_in_receipt(found, second, Said(source_format(other_as)), disk, workers, as_json=as_json)
        return
    if signer is not None:
        raise typer.BadParameter("--signer is for receipts. Leave it out.")
    wanted = check_guest_digest(second) if second is not None and is_guest_digest(second) else None
    sources = [(first, Said(source_format(read_as), parent, extent, snapshot))]
    if second is not None and wanted is None:
        sources.append((second, Said(source_format(other_as))))
    elif other_as is not None:
        raise typer.BadParameter("--to is the format of B, and B is no file here. Leave it out.")
    threads = workers or default_threads([source for source, _ in sources])
    with ExitStack() as opened:
        containers = [opened.enter_context(open_container(*source)) for source in sources]
        machines = [one.machine is not None for one in containers]
        disks = [
            pick_disk(one, disk if is_machine or not any(machines) else None, as_json=as_json)
            for one, is_machine in zip(containers, machines, strict=True)
        ]
        if len(disks) == 2:
            _compare(disks, [source for source, _ in sources], threads, as_json=as_json)
        else:
            _digest(disks[0], first, wanted, threads, as_json=as_json)


COMMAND = verify_disk


def _find_in_receipt(
    found: Mapping[str, Any], name: str, said: Said, number: int | None, workers: int | None, *, as_json: bool
) -> None:
    with open_container(name, said) as container:
        disk = pick_disk(container, number, as_json=as_json).disk
        with show_progress("reading", count_data(disk), as_json=as_json) as progress:
            digest = digest_disk(disk, workers=workers or default_threads([name]), progress=progress)
    index = find_disk(found, digest, name)
    if as_json:
        print_json({"disk": index + 1, "snapshot": found["disks"][index]["snapshot"], "digest": digest})
    else:
        signer = found["signed_by"]
        print(f"{quote(name)} is disk {index + 1} of {quote(found['task'])}, byte for byte; signed by {signer}.")


def _compare(inputs: Sequence[InputDisk], names: Sequence[str], threads: int | None, *, as_json: bool) -> None:
    disks, (first, second) = [found.disk for found in inputs], names
    with show_progress("comparing", count_data(*disks), as_json=as_json) as progress:
        difference = compare_disks(*disks, workers=threads, progress=progress)
    sizes = [disk.size for disk in disks]
    if as_json:
        print_json({"identical": difference is None, "first_difference": difference, "virtual_sizes": sizes})
    elif difference is None:
        longer = abs(sizes[0] - sizes[1])
        tail = (
            f"; {quote(first if sizes[0] > sizes[1] else second)} has {longer:,} bytes of zeros more" if longer else ""
        )
        print(f"{quote(first)} and {quote(second)} hold the same: {format_size(min(sizes))}{tail}.")
    if difference is not None:
        raise DifferentError(
            f"{quote(first)} and {quote(second)} differ, first at guest offset {difference:,} "
            f"(sector {difference // 512:,}). Do not trust the copy: make it again."
        )


def _digest(found: InputDisk, name: str, wanted: str | None, threads: int | None, *, as_json: bool) -> None:
    with show_progress("reading", count_data(found.disk), as_json=as_json) as progress:
        digest = digest_disk(found.disk, workers=threads, progress=progress)
    if as_json:
        facts = {"digest": digest, "virtual_size": found.disk.size}
        print_json(facts if wanted is None else {**facts, "identical": digest == wanted})
    elif wanted in (None, digest):
        print(
            digest if wanted is None else f"{quote(name)} holds what the digest says: {format_size(found.disk.size)}."
        )
    if wanted not in (None, digest):
        raise DifferentError(
            f"{quote(name)} has the digest {digest}, not the one that was given: it holds something else, or a disk "
            "of another size. Do not trust the copy: make it again."
        )
