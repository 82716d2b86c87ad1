"""The upload of a disk image and its manifest, as the classic commands show it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import typer

from vmferry.cli._client import ApiError, Clients, api_errors
from vmferry.cli._file_parts import DEFAULT_THREADS
from vmferry.cli._output import show_progress
from vmferry.cli.classic._command import Options
from vmferry.cli.classic._disk_file import DiskFile
from vmferry.cli.classic._manifest import (
    MAX_EXPIRES_DAYS,
    MAX_PART_SIZE,
    Place,
    fetch_manifest,
    file_parts,
    make_manifest,
)
from vmferry.cli.classic._upload import PART_SIZE, FilePart, missing_parts, upload_parts
from vmferry.errors import ConfigError, quote
from vmferry.import_manifest import ImportManifest, render_manifest
from vmferry.units import MIB, round_up

_MAX_THREADS = 64
_MOST_PARTS = 10_000
"""Parts that a file is cut into unasked: their manifest has about 12 MiB."""

_DONE = (
    "The disk image for {task} has been uploaded to Amazon S3\n"
    "where it is being converted into an {what}.  You may monitor the\n"
    "progress of this task by running ec2-describe-conversion-tasks.  When\n"
    "the task is completed, you may use ec2-delete-disk-image to remove the\n"
    "image from S3."
)


def declare_transfer(parser: argparse.ArgumentParser) -> None:
    """The options of commands that upload."""
    declare_owner(parser)
    parser.add_argument(
        "-x",
        "--expires",
        type=_number(1, 365),
        default=MAX_EXPIRES_DAYS,
        metavar="DAYS",
        help=f"how long the manifest's URLs are good (default and most: {MAX_EXPIRES_DAYS})",
    )
    parser.add_argument(
        "--user-threads", type=_number(1, _MAX_THREADS), default=DEFAULT_THREADS, metavar="NUMBER", help="parts at once"
    )
    parser.add_argument(
        "--part-size",
        type=_number(1, MAX_PART_SIZE // MIB),
        metavar="MIB",
        help="of each part (default: 10, or what it takes)",
    )
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True, help="show how far it is")
    parser.add_argument("--dont-verify-format", action="store_true", help="do not look into the file")
    parser.add_argument("--dry-run", action="store_true", help="look at the file only; create and upload nothing")


def declare_owner(parser: argparse.ArgumentParser) -> None:
    """The options of commands that sign for S3."""
    parser.add_argument("-o", "--owner-akid", metavar="KEY", help="the access key that owns the bucket")
    parser.add_argument("-w", "--owner-sak", metavar="KEY", help="its secret")


def check_transfer(options: Options) -> None:
    """Raise a usage error for what cannot be signed."""
    if options.expires > MAX_EXPIRES_DAYS:
        raise typer.BadParameter(
            f"-x {options.expires}: a signature is good for at most {MAX_EXPIRES_DAYS} days, as long as a task lives."
        )


def upload(clients: Clients, options: Options, task_id: str, place: Place, disk: DiskFile) -> None:
    """Put the manifest and every part that is not there yet; then say how it goes on.

    Raises ``ApiError`` with the command that goes on from there.
    """
    path = disk.path
    try:
        manifest = fetch_manifest(clients, place)
        parts = (
            _begin(clients, options, place, disk)
            if manifest is None
            else _left(clients, options, place, disk, manifest)
        )
        _send(clients, options, place, disk, parts)
    except (ApiError, KeyboardInterrupt) as error:
        resume = f"To go on: ec2-resume-import {quote(path)} -t {task_id}"
        if isinstance(error, KeyboardInterrupt):
            print(resume, file=sys.stderr)
            raise
        raise ApiError(f"The upload for {task_id} did not get to its end: {error} | {resume}") from error
    what = "EBS volume" if task_id.startswith("import-vol-") else "EC2 instance"
    print(_DONE.format(task=task_id, what=what))


def _begin(clients: Clients, options: Options, place: Place, disk: DiskFile) -> list[FilePart]:
    """A manifest of its own for a file of which nothing is there."""
    print(f"Creating new manifest at {place.bucket}/{place.key}", flush=True)
    manifest = make_manifest(clients, place, disk, _part_size(options, disk), options.expires)
    print("Uploading the manifest file", flush=True)
    with api_errors():
        clients.s3.put_object(
            Bucket=place.bucket, Key=place.key, Body=render_manifest(manifest), ContentType="application/xml"
        )
    return file_parts(manifest)


def _left(clients: Clients, options: Options, place: Place, disk: DiskFile, manifest: ImportManifest) -> list[FilePart]:
    """The parts that an earlier upload has left over. Raises ``ConfigError`` for a file of another length."""
    parts = file_parts(manifest)
    if manifest.length != disk.size:
        raise ConfigError(
            f"{quote(disk.path)} has {disk.size:,} bytes, and the import was begun with a file of {manifest.length:,}. "
            "Name that file, or cancel the task."
        )
    print(f"Using the manifest at {place.bucket}/{place.key}", flush=True)
    return missing_parts(clients.s3, place.bucket, disk.path, parts, options.user_threads, place.folder)


def _send(clients: Clients, options: Options, place: Place, disk: DiskFile, parts: list[FilePart]) -> None:
    total = sum(part.length for part in parts)
    print(f"Uploading {total} bytes across {len(parts)} parts", flush=True)
    begun = time.monotonic()
    if options.progress:
        with show_progress(f"upload {disk.path.name}", total) as progress:
            upload_parts(clients.s3, place.bucket, disk.path, parts, options.user_threads, progress)
    else:
        upload_parts(clients.s3, place.bucket, disk.path, parts, options.user_threads, lambda _: None)
    rate = total / max(time.monotonic() - begun, 1e-3) / MIB
    print(f"Done uploading.\nAverage speed was {rate:.3f} MBps", flush=True)


def _number(low: int, high: int) -> Callable[[str], int]:
    """An integer from ``low`` to ``high``, as argparse reads it."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"it is a number from {low} to {high}, not {text}")
        return int(text)

    return read


def _part_size(options: Options, disk: DiskFile) -> int:
    """Bytes of each part: what was asked for, else 10 MiB, or more where that made too many."""
    if options.part_size is not None:
        return int(options.part_size) * MIB
    return max(PART_SIZE, round_up(-(-disk.size // _MOST_PARTS), MIB))
