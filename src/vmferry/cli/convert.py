"""``vmferry convert``: a disk from any format to any other, or disks into an appliance."""

from __future__ import annotations

import signal
from collections.abc import Mapping

import typer

from vmferry.appliances import Controller, Manifest, Target
from vmferry.cli._budget import DEFAULT_MEMORY, parse_memory, plan_budget
from vmferry.cli._container import Said, open_container, source_format
from vmferry.cli._destination import open_destination
from vmferry.cli._options import AS_JSON, DISK, EXTENT, PARENT, READ_AS, SNAPSHOT, WORKERS
from vmferry.cli._target import APPLIANCES, check_sources, choose_output, find_target_format
from vmferry.cli._writing import Effort, convert_file, pick_disk, tell_warnings
from vmferry.errors import quote
from vmferry.formats import Compression


def convert_disk(
    paths: list[str] = typer.Argument(
        metavar="SRC... DST",
        help="A disk image, an appliance or a folder that holds a machine: a path, or s3://bucket/key. Last what is to "
        "be written, a path or s3://bucket/key, which appears when it is whole. Several sources go into one .ova or "
        ".xva.",
    ),
    read_as: str | None = READ_AS,
    to: str | None = typer.Option(None, metavar="FORMAT", help="The format of DST (default: what its suffix says)."),
    subformat: str | None = typer.Option(
        None, metavar="KIND", help="The kind of DST: fixed or dynamic, streamOptimized, zlib …"
    ),
    compress: Compression | None = typer.Option(
        None, help="How hard to compress, where DST is compressed (default: balanced)."
    ),
    disk: int | None = DISK,
    parent: list[str] = PARENT,
    extent: list[str] = EXTENT,
    snapshot: str | None = SNAPSHOT,
    target_for: Target | None = typer.Option(None, "--for", help="Whom an .ova is for (default: generic)."),
    manifest: Manifest | None = typer.Option(None, help="The digests in an .ova's manifest (default: sha256)."),
    controller: Controller | None = typer.Option(
        None, help="What an .ova's disks hang on (default: what --for takes)."
    ),
    name: str | None = typer.Option(
        None, metavar="TEXT", help="The machine's name in an .ova or .xva (default: its own, else the file's)."
    ),
    digest: bool = typer.Option(
        False, "--digest", help="Take the digest of what the guest sees, to compare with `vmferry verify`."
    ),
    resume: bool = typer.Option(
        False, "--resume", help="Keep what is done when it ends early, and go on from what an earlier call kept."
    ),
    workers: int | None = WORKERS,
    memory: str = typer.Option(
        DEFAULT_MEMORY,
        metavar="SIZE",
        help="How much memory it may take, like 512M or 2G.",
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Convert a disk. What it holds is checked on the way; DST is replaced only by a whole image."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, with nothing left behind
    if len(paths) < 2:
        raise typer.BadParameter("name what to read and, last, what to write: SRC... DST.")
    *sources, target = paths
    said = Said(source_format(read_as), parent, extent, snapshot)
    budget = plan_budget(parse_memory(memory), sources, target, workers)
    destination = open_destination(target, budget.upload)
    check_sources(sources, destination)
    effort, kind = Effort(budget.workers, as_json, digest), find_target_format(destination, to)
    machine_only = {"--for": target_for, "--manifest": manifest, "--controller": controller}
    if kind in APPLIANCES:
        _refuse({"--resume": resume or None}, "is for disk images; a machine is packed in one go")
        _refuse({"--subformat": subformat}, "is for disk images; the disks of an .ova are as --for asks")
        if kind == "xva":
            _refuse({**machine_only, "--compress": compress}, "is for an .ova; an .xva has no such choice")
        from vmferry.cli._packing import Packing, pack_appliance

        packing = Packing(kind, target_for, manifest, controller, name, compress, effort)
        pack_appliance(sources, said, packing, destination, disk)
        return
    _refuse({**machine_only, "--name": name}, f"is for machines; {quote(destination.path.name)} is to be a disk image")
    if len(sources) > 1:
        raise typer.BadParameter(
            f"{len(sources)} sources go into an .ova or .xva only; {quote(destination.path.name)} holds one disk."
        )
    output = choose_output(kind, subformat, compress)
    with open_container(sources[0], said) as container:
        found = pick_disk(container, disk, as_json=as_json)
        tell_warnings([found], as_json=as_json)
        if not resume:
            convert_file(found, output, destination, effort)
            return
        from vmferry.cli._resuming import describe_conversion, resume_conversion

        resume_conversion(found, output, destination, effort, describe_conversion(sources[0], said, found, output))


COMMAND = convert_disk


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Raise ``typer.BadParameter`` for the first of ``options`` that was given: without effect it is a mistake."""
    given = next((option for option, value in options.items() if value is not None), None)
    if given is not None:
        raise typer.BadParameter(f"{given} {why}. Leave it out.")
