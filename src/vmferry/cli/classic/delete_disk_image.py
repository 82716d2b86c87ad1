"""``ec2-delete-disk-image``: remove an uploaded disk image from S3, its parts and then its manifest."""

from __future__ import annotations

import argparse

import typer

from vmferry.cli._client import ApiError, Clients, api_errors
from vmferry.cli.classic._command import Command, Options
from vmferry.cli.classic._manifest import Place, fetch_manifest, in_batches, place_of
from vmferry.cli.classic._tasks import find_task, manifest_url
from vmferry.cli.classic._transfer import declare_owner
from vmferry.errors import BlobNotFoundError, quote

_ACTIVE = ("active", "cancelling")
_AT_ONCE = 1000
"""Objects that one request deletes."""


def _declare(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("-t", "--task", help="the conversion task's id")
    which.add_argument("-u", "--manifest-url", metavar="URL", help="where the manifest lies")
    parser.add_argument("--ignore-active-task", action="store_true", help="delete it even if the task goes on")
    declare_owner(parser)


def _act(clients: Clients, options: Options) -> None:
    url = options.manifest_url
    if options.task is not None:
        task = find_task(clients, options.task)
        if task["State"] in _ACTIVE and not options.ignore_active_task:
            raise ApiError(f"The task {options.task} is still active. Use --ignore-active-task to force the deletion.")
        url = manifest_url(task)
    elif options.ignore_active_task:
        raise typer.BadParameter("--ignore-active-task belongs to --task: of a manifest's URL no task is known.")
    _delete(clients, place_of(clients, url))
    print(f"DELETE-TASK\t{options.task or url.partition('?')[0]}")


def _delete(clients: Clients, place: Place) -> None:
    manifest = fetch_manifest(clients, place)
    if manifest is None:
        raise BlobNotFoundError(
            f"There is no manifest {quote(place.bucket)}/{quote(place.key)}: the disk image was deleted before, or "
            "never uploaded."
        )
    for keys in in_batches([part.key for part in manifest.parts], _AT_ONCE):
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        with api_errors():
            answer = clients.s3.delete_objects(Bucket=place.bucket, Delete=wanted)
        if failed := answer.get("Errors"):
            raise ApiError(f"{quote(failed[0]['Key'])} was not deleted: {quote(failed[0].get('Message'))}")
    with api_errors():
        clients.s3.delete_object(Bucket=place.bucket, Key=place.key)


COMMAND = Command("Delete an uploaded disk image from S3.", _declare, _act)
