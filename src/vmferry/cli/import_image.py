"""``vmferry import``: upload, import, follow."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from vmferry.cli._client import Clients, api_errors, open_clients
from vmferry.cli._following import follow_task
from vmferry.cli._output import print_json, show_progress
from vmferry.cli._task_kinds import view_task
from vmferry.errors import BlobNotFoundError, ConfigError, quote

DEFAULT_BUCKET = "vmferry-imports"
"""Where files go when no bucket is named; made when it is not there, but never at AWS."""


def import_machine(
    source: str = typer.Argument(metavar="SRC", help="An OVA or disk image: a file, or s3://bucket/key."),
    bucket: str = typer.Option(None, metavar="NAME", help=f"Bucket to upload a file to (default: {DEFAULT_BUCKET})."),
    key: str = typer.Option(None, metavar="PATH", help="Key to upload it to (default: the file's name)."),
    image_format: str = typer.Option(
        None,
        "--format",
        metavar="FORMAT",
        help="OVA, VMDK, VHD, VHDX or RAW (default: what the bytes show).",
    ),
    description: str = typer.Option(None, metavar="TEXT", help="Description of the task and the AMI."),
    boot_mode: str = typer.Option(None, metavar="MODE", help="legacy-bios or uefi (default: what the disk shows)."),
    snapshot: bool = typer.Option(False, "--snapshot", help="Make a snapshot of one disk, and no AMI."),
    wait: bool = typer.Option(True, help="Follow the import to its end."),
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The data directory of the server to speak to."),
    aws: bool = typer.Option(False, "--aws", help="Speak to AWS itself."),
    as_json: bool = typer.Option(False, "--json", help="The task as JSON; progress as JSON lines on stderr."),
) -> None:
    """Import a machine: upload it, start the import, follow it until there is an AMI (or a snapshot of one disk)."""
    options = {"Description": description or Path(source).name}
    if boot_mode is not None:
        if snapshot:
            raise typer.BadParameter("--boot-mode is an AMI's, and a snapshot has none. Leave it out.")
        options["BootMode"] = boot_mode
    clients = open_clients(data_dir, aws=aws)
    place = _upload(clients, source, bucket, key, as_json=as_json)
    container: dict[str, Any] = {"UserBucket": place}
    if image_format or clients.is_aws:
        container["Format"] = image_format or Path(source).suffix.removeprefix(".").upper()
    kind = _SNAPSHOT if snapshot else _IMAGE
    with api_errors():
        task = kind.start(clients, container, options)
    if wait:
        task = follow_task(clients, task["ImportTaskId"], as_json=as_json)
    _report(task, as_json=as_json)


class _Image:
    """ImportImage."""

    def start(self, clients: Clients, container: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
        # With a token of its own: boto3 repeats a call that got no answer, and that must not make a second task.
        token = str(uuid.uuid4())
        return dict(clients.ec2.import_image(DiskContainers=[container], ClientToken=token, **options))


class _Snapshot:
    """ImportSnapshot."""

    def start(self, clients: Clients, container: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
        token = str(uuid.uuid4())
        return dict(clients.ec2.import_snapshot(DiskContainer=container, ClientToken=token, **options))


_IMAGE, _SNAPSHOT = _Image(), _Snapshot()


def _upload(clients: Clients, source: str, bucket: str | None, key: str | None, *, as_json: bool) -> dict[str, str]:
    """Where the source lies in S3: there already, or after it was put there."""
    if source.startswith("s3://"):
        named, _, path = source.removeprefix("s3://").partition("/")
        return {"S3Bucket": named, "S3Key": path}
    file = Path(source)
    if not file.is_file():
        raise BlobNotFoundError(f"{quote(source)} does not exist, or is not a file. Check the path.")
    if bucket is None and clients.is_aws:
        raise ConfigError("Name a bucket of yours with --bucket: at AWS none is made for you.")
    place = {"S3Bucket": bucket or DEFAULT_BUCKET, "S3Key": key or file.name}
    with api_errors():
        if bucket is None:
            _make_bucket(clients, DEFAULT_BUCKET)
        with show_progress(f"upload {file.name}", file.stat().st_size, as_json=as_json) as progress:
            clients.s3.upload_file(str(file), place["S3Bucket"], place["S3Key"], Callback=progress)
    return place


def _make_bucket(clients: Clients, bucket: str) -> None:
    if bucket not in [found["Name"] for found in clients.s3.list_buckets()["Buckets"]]:
        clients.s3.create_bucket(Bucket=bucket)


def _report(task: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({name: value for name, value in task.items() if name != "ResponseMetadata"})
    else:
        print(view_task(task).result or task["ImportTaskId"])


COMMAND = import_machine
